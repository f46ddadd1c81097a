"""The demo's requests to a server, and the sentences for what a server refuses."""

import asyncio
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

import aiohttp
import orjson

from server.commands.console import Refused

BASE = "/api/v1/reports"
_TIMEOUT = aiohttp.ClientTimeout(total=120, connect=10)
_TRIES = 6
_BUSY = (429, 503)  # nothing is stored, so the request can be sent again
Part = tuple[str, bytes, str]  # file name, content, type


class Client:
    """A session with one server. Use as an async context manager."""

    def __init__(self, url: str, token: str) -> None:
        self.url = url
        self._token = token

    async def __aenter__(self) -> "Client":
        headers = {"Authorization": f"Bearer {self._token}"}
        self._http = aiohttp.ClientSession(headers=headers, timeout=_TIMEOUT)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.close()

    async def get(self, path: str) -> Any:
        return await self.call("GET", path)

    async def post(self, path: str, body: Any) -> Any:
        return await self.call("POST", BASE + path, body)

    async def patch(self, path: str, body: Any) -> Any:
        return await self.call("PATCH", BASE + path, body)

    async def send_files(self, case_id: str, files: Sequence[Part], entries: Sequence[dict[str, Any]]) -> list[Any]:
        """Send files in one batch; the artifacts, in this order. Raises Refused unless all are stored."""
        metadata = orjson.dumps([{**entry, "file_index": i} for i, entry in enumerate(entries)]).decode()

        def form() -> aiohttp.FormData:
            data = aiohttp.FormData({"metadata": metadata})
            for name, content, mime_type in files:
                data.add_field("files", content, filename=name, content_type=mime_type)
            return data

        sent = await self.call("POST", f"{BASE}/test-case-results/{case_id}/artifacts/batch", form=form)
        if sent["failed"]:
            refused = sent["failed"][0]
            raise Refused(f"{self.url} has refused the file {refused['file_name']}: {refused['error']}")
        return list(sent["artifacts"])

    async def status(self, path: str) -> int:
        """The status of the reply to a GET, without following redirects."""
        try:
            async with self._http.get(self.url + path, allow_redirects=False) as reply:
                return reply.status
        except (aiohttp.ClientError, TimeoutError):
            return 0

    async def call(self, method: str, path: str, body: Any = None, form: Any = None) -> Any:
        """The JSON of a 2xx reply. Repeats a request that a busy server has refused. Raises Refused."""
        for attempt in range(1, _TRIES + 1):
            sent = {"data": form()} if form else {} if body is None else _json(body)
            try:
                async with self._http.request(method, self.url + path, allow_redirects=False, **sent) as reply:
                    content, wait = await reply.read(), reply.headers.get("Retry-After", "1")
            except (aiohttp.ClientError, OSError, ValueError) as error:  # OSError: also a timeout
                raise Refused(f"{self.url} does not answer: {str(error) or type(error).__name__}.") from None
            if reply.status not in _BUSY or attempt == _TRIES:
                break
            await asyncio.sleep(min(10, int(wait) if wait.isdigit() else 1))
        if 200 <= reply.status < 300:
            try:
                return orjson.loads(content or b"null")
            except ValueError:
                raise self.stranger() from None
        raise Refused(self._sentence(method, path, reply.status, content))

    def stranger(self) -> Refused:
        return Refused(f"{self.url} is not a reportd server.")

    def _sentence(self, method: str, path: str, status: int, content: bytes) -> str:
        try:
            detail = str(orjson.loads(content)["detail"])
        except (ValueError, TypeError, KeyError):
            detail = "the reply is not one of reportd"
        if status == 401:
            return f"{self.url} rejects this token: {_line(detail)}"
        if status == 403 and method == "DELETE":
            return f"{self.url} does not let this token delete: only an admin's token may. {_line(detail)}"
        if "project: does not exist" in detail:
            return (
                f"{self.url} has no project for the demo. Create its three projects with `reportd token create --name "
                "demo-1 --project shop`, and the same for shop-app and back-office; or use a token of one project, "
                "which then gets the whole demo."
            )
        return f"{self.url} has answered {status} to {method} {path.partition('?')[0]}: {_line(detail)}"


def _json(body: Any) -> dict[str, Any]:
    return {"data": orjson.dumps(body), "headers": {"Content-Type": "application/json"}}


def _line(text: str) -> str:
    """One printable line of at most 300 characters: the text of a server that may be any."""
    return "".join(c if c.isprintable() else " " for c in text)[:300]


async def runs_tagged(client: Client, tag: str) -> list[dict[str, Any]]:
    """All runs with a tag, the newest first."""
    found: list[dict[str, Any]] = []
    cursor = ""
    while True:
        page = await client.get(f"{BASE}/suite-runs?limit=500&tag={quote(tag)}{cursor}")
        found += page["items"]
        if not page["next_cursor"]:
            return found
        cursor = f"&cursor={quote(page['next_cursor'])}"
