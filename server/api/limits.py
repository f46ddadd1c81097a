"""What this server accepts and offers, so that a client can ask once instead of finding out by refusals."""

from dataclasses import dataclass

from aiohttp import web

from server import __version__
from server.auth.roles import Word
from server.http import reply
from server.http.reply import Response
from server.services import CALL, SERVICES

# Names of what later versions added to the protocol. A name, once here, stays: clients look for it.
FEATURES = ("bundle", "known", "parent_step_number", "shards")


@dataclass(slots=True)
class Limits:
    version: str
    features: list[str]
    max_file_size: int
    batch_max_files: int
    allowed_types: list[str]
    json_body_max: int
    project: str | None
    role: Word
    caller: str | None


async def show(request: web.Request) -> Response:
    """Shows the limits of this server, its optional features, and the caller's project and role.

    Sizes are in bytes. A file whose type is not in `allowed_types` is refused, unless that has
    `application/octet-stream`. `project` is null for a caller with several projects or all; `role` is then the highest
    of its roles. `caller` is the name of the token or of the person. A server that replies 404 has none of the
    `features`.
    """
    config, caller = request.app[SERVICES].config, request[CALL].known_caller
    return reply.ok(
        Limits(
            __version__,
            list(FEATURES),
            config.artifacts.max_file_size,
            config.artifacts.batch_max_files,
            list(config.artifacts.allowed_types),
            config.api.max_json_size,
            caller.project,
            caller.role.word,
            caller.name,
        )
    )
