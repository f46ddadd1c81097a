"""Settings: an argument, else the environment, else the default."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Mapping, Optional
from urllib.parse import urlsplit

from reportd_client import shards
from reportd_client.limits import DRAIN_SECONDS

API = "/api/v1/reports"
SENDERS = ("process", "thread", "none")
_TRUE, _FALSE = ("1", "true", "yes", "on"), ("0", "false", "no", "off", "")


class SettingsError(ValueError):
    """A setting that cannot be used. The text names the setting and what is allowed."""


@dataclass(frozen=True)
class Settings:
    """`token` is in no repr: it must not reach a log or an error message."""

    url: Optional[str] = None
    project: Optional[str] = None
    name: Optional[str] = None
    run_key: Optional[str] = None
    branch: Optional[str] = None
    commit: Optional[str] = None
    build_url: Optional[str] = None
    environment: Optional[str] = None
    shard: Optional[str] = None  # `2/5`
    spool: Optional[str] = None
    drain: float = DRAIN_SECONDS
    strict: bool = False
    sender: str = "process"
    mask: str = ""

    @property
    def on(self) -> bool:
        """Whether anything is recorded: there is a server, or a spool that a later `reportd-send resume` sends."""
        return self.url is not None or (self.sender == "none" and self.spool is not None)


def read(arguments: Mapping[str, Any], environment: Mapping[str, str] | None = None) -> Settings:
    """The settings. An argument of None is absent. Raises SettingsError."""
    values = os.environ if environment is None else environment

    def text(name: str) -> str | None:
        given = arguments.get(name)
        return str(given) if given is not None else values.get(f"REPORTD_{name.upper()}", "").strip() or None

    url = text("url")
    return Settings(
        url=base_url(url) if url else None,
        drain=_seconds("drain", text("drain")),
        strict=_flag("strict", text("strict")),
        shard=shard_of(shard) if (shard := text("shard")) else None,
        sender=_one_of("sender", text("sender") or "process", SENDERS),
        mask=values.get("REPORTD_MASK", ""),
        **{name: text(name) for name in _TEXTS},
    )


_TEXTS = ("project", "name", "run_key", "branch", "commit", "build_url", "environment", "spool")


def base_url(url: str) -> str:
    """The address of the API, from that of the server with or without the path of the API. Raises SettingsError."""
    try:
        parts = urlsplit(url.strip())
        port_is_number = parts.port is None or parts.port > 0
    except ValueError:
        port_is_number = False
    if not port_is_number or parts.scheme not in ("http", "https") or not parts.hostname:
        raise SettingsError("REPORTD_URL must be an address like https://reports.example.com")
    if parts.username or parts.password:
        raise SettingsError("REPORTD_URL must not contain a password: put the token into REPORTD_TOKEN")
    path = parts.path.rstrip("/")
    return f"{parts.scheme}://{parts.netloc}{path if path.endswith(API) else path + API}"


def token_of(environment: Mapping[str, str]) -> str | None:
    """The token, from REPORTD_TOKEN or the file REPORTD_TOKEN_FILE. Raises SettingsError."""
    token = environment.get("REPORTD_TOKEN", "").strip()
    path = environment.get("REPORTD_TOKEN_FILE", "").strip()
    if not token and path:
        try:
            token = Path(path).read_text("ascii").strip()
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or "it is not a text of ASCII characters"
            raise SettingsError(f"Cannot read REPORTD_TOKEN_FILE ({path}): {reason}") from None
    if token and not (token.isascii() and token.isprintable() and " " not in token):
        raise SettingsError("The token has characters that no token has. Check REPORTD_TOKEN or REPORTD_TOKEN_FILE")
    return token or None


def _seconds(name: str, text: str | None) -> float:
    if text is None:
        return DRAIN_SECONDS
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= 86_400:
        raise SettingsError(f"REPORTD_{name.upper()} must be a number of seconds from 0 to 86400, not {text!r}")
    return seconds


def shard_of(text: str) -> str:
    """The shard `2/5`. Raises SettingsError."""
    found = shards.parse(text)
    if found is None:
        raise SettingsError(
            f"The shard (--shard, REPORTD_SHARD) must be like 2/5, the second of five and at most {shards.MOST}, not "
            f"{text!r}"
        )
    return f"{found[0]}/{found[1]}"


def flag(name: str, environment: Mapping[str, str]) -> bool:
    return _flag(name, environment.get(f"REPORTD_{name.upper()}"))


def _flag(name: str, text: str | None) -> bool:
    word = (text or "").strip().lower()
    if word not in (*_TRUE, *_FALSE):
        raise SettingsError(f"REPORTD_{name.upper()} must be 1 or 0, not {text!r}")
    return word in _TRUE


def _one_of(name: str, text: str, allowed: tuple[str, ...]) -> str:
    if text not in allowed:
        raise SettingsError(f"REPORTD_{name.upper()} must be one of {', '.join(allowed)}, not {text!r}")
    return text
