"""Questions to the server: what a command reads of a run that others have sent."""

from __future__ import annotations

from typing import Any, Iterator, Mapping, Optional, Union
from urllib.parse import urlencode

from reportd_client.sender.connections import Fatal
from reportd_client.sender.http import Server

_PAGE = 100


class Questions:
    """Raises Stopped when the server does not answer in time, Fatal when it refuses."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def get(self, path: str, query: Optional[Mapping[str, Union[str, int]]] = None) -> Optional[dict[str, Any]]:
        """The JSON object of the reply; None for 404: there is no such thing, or the server is too old to have it."""
        answer = self._server.call("GET", f"{path}?{urlencode(query)}" if query else path)
        if answer.status == 404:
            return None
        if answer.status != 200:
            raise Fatal(f"{self._server.url} refuses {path}: {answer.text()}")
        return answer.value

    def runs(self, most: int, **filters: str) -> Iterator[dict[str, Any]]:
        """The newest runs, at most `most`. A server that is older than a filter ignores it."""
        cursor, seen = "", 0
        while seen < most:
            page = self.get("/suite-runs", {"limit": _PAGE, "cursor": cursor, **filters}) or {}
            items = page.get("items")
            if not isinstance(items, list):
                raise Fatal(f"{self._server.url} does not answer as a reportd server: a proxy may have answered")
            yield from items[: most - seen]
            seen, cursor = seen + len(items), page.get("next_cursor") or ""
            if not cursor:
                return
