"""One attempt of a delivery: an HTTP request to the target, with bounds for its time, its addresses and its reply."""

import asyncio
import math
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from server import __version__
from server.hooks import WebhookConfig
from server.storage.threads import Threads
from server.webhooks import signature
from server.webhooks.addresses import may_connect

_SECONDS = 15.0  # of an attempt, from resolving the name until the end of the reply; the specification says 15 to 30
_MOST_REPLY = 4 << 10  # bytes of the reply that are read
_MOST_SHOWN = 500  # characters of the reply that are stored
_REDIRECTS = {301, 302, 303, 307, 308}


@dataclass(frozen=True, slots=True)
class Answer:
    """The outcome of an attempt. `status` None: there was no reply, and `text` says why."""

    status: int | None
    text: str
    retry_after: float | None = None  # seconds

    @property
    def delivered(self) -> bool:
        return self.status is not None and 200 <= self.status < 300


class Target:
    """Sends to one webhook. It has its own thread for name lookups: one that hangs holds up no other target."""

    def __init__(self, hook: WebhookConfig) -> None:
        self.hook = hook
        self._lookups = Threads(1, "webhook")

    async def send(self, delivery_id: UUID, body: str) -> Answer:
        """Attempt a delivery. Raises nothing: whatever goes wrong is an Answer without a status."""
        blocked: list[str] = []
        try:
            async with asyncio.timeout(_SECONDS):
                return await self._post(delivery_id, body.encode(), blocked)
        except TimeoutError:
            return Answer(None, f"No reply within {_SECONDS:g} seconds.")
        except (aiohttp.ClientError, OSError, ValueError) as error:
            if blocked:
                return Answer(None, _refused(self.hook.host, blocked))
            return Answer(None, _reason(error))

    def close(self) -> None:
        self._lookups.end(0)

    async def _post(self, delivery_id: UUID, body: bytes, blocked: list[str]) -> Answer:
        hook = self.hook
        signed = signature.headers(signature.message_id(delivery_id), int(time.time()), body, hook.keys())
        headers = {
            **signed,
            "Content-Type": "application/json",
            "User-Agent": f"reportd/{__version__}",
            "Accept-Encoding": "identity",
        }
        connector = aiohttp.TCPConnector(
            resolver=_Resolver(self._lookups),
            socket_factory=lambda info: self._open(info, blocked),
            use_dns_cache=False,
            force_close=True,
        )
        async with (
            aiohttp.ClientSession(
                connector=connector,
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=None),  # send() has one, which also bounds the end of the session
                auto_decompress=False,  # a small reply could be a large one
            ) as session,
            session.post(hook.url, data=body, headers=headers, allow_redirects=False) as reply,
        ):
            text = _text(await _beginning(reply.content))
            if reply.status in _REDIRECTS:
                text = f"Redirects are not followed. Change the URL in the configuration. {text}"
            return Answer(reply.status, text, _retry_after(reply.headers))

    def _open(self, info: Any, blocked: list[str]) -> socket.socket:
        """The socket for an address, which aiohttp connects next. Checked here, not when the name is resolved: nothing
        comes between, and addresses in the URL are checked, too. Raises OSError."""
        family, kind, protocol, _, address = info
        if not self.hook.may_be_anywhere and not may_connect(address[0], self.hook.allow):
            blocked.append(str(address[0]))
            raise OSError(f"{address[0]} is not a public address")
        return socket.socket(family, kind, protocol)


class _Resolver(AbstractResolver):
    """Looks names up in a thread of the target, not in the event loop's own threads, which others need."""

    def __init__(self, threads: Threads) -> None:
        self._threads = threads

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        flags = socket.AI_ADDRCONFIG
        call = self._threads.submit(socket.getaddrinfo, host, port, family, socket.SOCK_STREAM, 0, flags)
        found = await asyncio.wrap_future(call)
        return [
            ResolveResult(
                hostname=host,
                host=str(address[0]),
                port=port,
                family=family,
                proto=protocol,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for family, _, protocol, _, address in found
        ]

    async def close(self) -> None:
        """The threads are the target's."""


async def _beginning(content: aiohttp.StreamReader) -> bytes:
    """The first bytes of the reply. The rest is not read: closing the connection ends it."""
    found = b""
    while len(found) < _MOST_REPLY and (chunk := await content.read(_MOST_REPLY - len(found))):
        found += chunk
    return found


def _text(reply: bytes) -> str:
    """The reply for people: one line, without control characters."""
    found = reply.decode("utf-8", "replace")
    return " ".join("".join(each if each.isprintable() else " " for each in found).split())[:_MOST_SHOWN]


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """The seconds in Retry-After; None without it, and for a date, which few servers send."""
    try:
        seconds = float(headers.get("Retry-After", ""))
    except ValueError:
        return None
    return seconds if math.isfinite(seconds) and seconds >= 0 else None


def _refused(host: str, addresses: list[str]) -> str:
    found = ", ".join(dict.fromkeys(addresses))
    return f"{host} is at {found}, which is no public address. Add it to `allow` of this webhook if that is meant."


def _reason(error: Exception) -> str:
    """Why there was no reply, for the operator. Without the URL, whose path often is a secret."""
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return "The name of the host cannot be resolved."
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return _text(f"The TLS certificate is not valid: {error.certificate_error}".encode())
    if isinstance(error, aiohttp.ClientSSLError):
        return _text(f"TLS failed: {error.os_error.strerror or error.os_error}".encode())
    if isinstance(error, aiohttp.ClientConnectorError):
        return _text(f"Cannot connect: {error.os_error.strerror or error.os_error}".encode())
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return "The target closed the connection without a reply."
    if isinstance(error, aiohttp.ClientResponseError):
        return "The reply is not valid HTTP."
    return f"Failed: {type(error).__name__}."
