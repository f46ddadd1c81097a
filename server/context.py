"""What handlers reach through `request` and `request.app`: typed keys, and who is calling."""

import logging
from dataclasses import dataclass
from types import SimpleNamespace
from uuid import UUID

from aiohttp import web

from server.config import Config
from server.db import Pool
from server.uploads.storage import Storage

CONFIG = web.AppKey("config", Config)
POOL = web.AppKey("pool", Pool)
SQL = web.AppKey("sql", SimpleNamespace)
STORAGE = web.AppKey("storage", Storage)

LOG = logging.getLogger("reportd")


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sent a request. `project_id` None: every project. `shape` None: the configured one."""

    id: UUID
    project_id: UUID | None
    project: str | None
    shape: str | None


# Whoever calls when no token is asked for: sees everything.
ANYONE = Caller(UUID(int=0), None, None, None)

CALLER = web.RequestKey("caller", Caller)
REQUEST_ID = web.RequestKey("request_id", str)
BODY_HASH = web.RequestKey("body_hash", bytes)
