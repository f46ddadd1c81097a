"""Requests of tools: repeated where that is safe, with replies as values and everything else as one exception."""

from __future__ import annotations

import json
import os
import random
import threading
import time
import uuid
import warnings
from datetime import datetime
from pathlib import Path
from typing import Any, Iterator, Mapping, Optional, Union
from urllib.parse import quote, urlencode

import urllib3

from reportd_client import limits
from reportd_client.notes import ReportdWarning
from reportd_client.sender.body import Json
from reportd_client.sender.connections import Fatal, explain, pool
from reportd_client.sender.http import Answer, Body
from reportd_client.settings import API
from reportd_client.version import VERSION

Moment = Union[datetime, str, int, None]  # ISO 8601, or milliseconds since 1970
Query = Mapping[str, Union[str, int, float, bool, datetime, None]]

UNREACHABLE = "unreachable"  # the code when no reply came; those of replies are in docs/api.md
_AGAIN = {408, 429, 502, 503, 504}
_LOST = {0, 502, 504}  # the server may have done it
_MAX_REPLY = 256 << 20
_CHUNK = 256 << 10
_PER_PAGE = 500
_LIMIT = 100


class ApiError(Exception):
    """A call that failed. `sentence` says why.

    `code` is the API's, and `unreachable` when no reply came; `status` is that of HTTP, or 0. `errors` has the path and
    the message of each wrong value, `reply` is the whole JSON object, with `failed` when all files were refused.
    """

    def __init__(self, sentence: str, code: str, status: int = 0, reply: Optional[Mapping[str, Any]] = None) -> None:
        self.sentence, self.code, self.status, self.reply = sentence, code, status, dict(reply or {})
        self.request_id: Optional[str] = self.reply.get("request_id")
        self.errors: list[dict[str, str]] = list(self.reply.get("errors") or ())
        self.retry_after: Optional[float] = None  # seconds
        known = f" ({status} {code}, request {self.request_id})" if self.request_id else f" ({code})"
        super().__init__(sentence + known)


def at(*parts: str) -> str:
    """A path of the API. A part is always one part, whatever is in it."""
    return root(*API.strip("/").split("/"), *parts)


def root(*parts: str) -> str:
    """A path of the server."""
    return "/" + "/".join(quote(str(part), safe="") for part in parts)


class Connection:
    """Thread-safe. Raises SettingsError."""

    def __init__(self, url: str, token: Optional[str], retry_seconds: float) -> None:
        self.url = url[: -len(API)]
        self._token, self._retry_seconds = token, retry_seconds
        self._pool = pool(url, lambda text: warnings.warn(text, ReportdWarning, stacklevel=4))
        self._stop = threading.Event()
        self.session: dict[str, str] = {}  # headers of a person who has logged in

    def close(self) -> None:
        """Close the connections, and end the waiting of other threads."""
        self._stop.set()
        self._pool.clear()

    # --- kinds of calls ---

    def get(self, path: str, query: Optional[Query] = None) -> Any:
        return _json(self.call("GET", path, query))

    def once(self, path: str, body: Optional[Mapping[str, object]] = None) -> Any:
        """A POST that is not repeated: the server may have done it although no reply came."""
        return _json(self.call("POST", path, body=None if body is None else Json(body), once=True))

    def create(self, path: str, body: Union[Mapping[str, object], Body], key: Optional[str]) -> Any:
        """A POST that the server does once, however often it arrives with the same key."""
        headers = {"Idempotency-Key": key or str(uuid.uuid4())}
        return _json(self.call("POST", path, body=_body(body), headers=headers))

    def change(self, method: str, path: str, body: Mapping[str, object], query: Optional[Query] = None) -> Any:
        """A PUT or PATCH, or a POST that changes nothing: its result is the same when it is repeated."""
        return _json(self.call(method, path, query, Json(body)))

    def delete(self, path: str) -> None:
        self.call("DELETE", path)

    def numbered(self, path: str, query: Query) -> Iterator[Any]:
        """The items of a list that has `page` and `total`."""
        page = 0
        while True:
            page += 1
            found: dict[str, Any] = self.get(path, {**query, "page": page, "per_page": _PER_PAGE})
            yield from found["items"]
            if not found["items"] or page * found["per_page"] >= found["total"]:
                return

    def chained(self, path: str, query: Query) -> Iterator[Any]:
        """The items of a list that has `cursor`."""
        cursor: Optional[str] = None
        while True:
            found: dict[str, Any] = self.get(path, {"limit": _LIMIT, **query, "cursor": cursor})
            yield from found["items"]
            cursor = found["next_cursor"]
            if cursor is None:
                return

    def download(self, path: str, to: Union[str, os.PathLike[str]]) -> Path:
        """Write the bytes to a file, which appears when it is whole. Raises OSError when it cannot be written."""
        self.call("GET", path, to=Path(to))
        return Path(to)

    # --- one call ---

    def call(
        self,
        method: str,
        path: str,
        query: Optional[Query] = None,
        body: Optional[Body] = None,
        headers: Optional[Mapping[str, str]] = None,
        *,
        once: bool = False,
        to: Optional[Path] = None,
    ) -> Answer:
        """The answer to a request, repeated for `retry_seconds` unless `once`. Raises ApiError."""
        end, delay, lost = time.monotonic() + self._retry_seconds, limits.FIRST_RETRY, False
        while True:
            try:
                return self._once(method, path + _text(query), body, headers or {}, to)
            except ApiError as error:
                if lost and method == "DELETE" and error.status == 404:
                    return Answer(204, {}, b"")  # an earlier try has deleted it
                wait = error.retry_after or delay * random.uniform(0.5, 1.5)  # noqa: S311
                if once or not _may_pass(error) or time.monotonic() + wait > end or self._stop.wait(wait):
                    raise
                lost = lost or error.status in _LOST
                delay = min(delay * 2, limits.LAST_RETRY)

    def _once(
        self, method: str, path: str, body: Optional[Body], headers: Mapping[str, str], to: Optional[Path]
    ) -> Answer:
        sent = {"User-Agent": f"reportd-client/{VERSION}", "Accept": "application/json", **self.session, **headers}
        if self._token and not self.session:
            sent["Authorization"] = f"Bearer {self._token}"
        if body is not None:
            sent.update({"Content-Type": body.content_type, "Content-Length": str(body.length)})
        try:
            reply = self._pool.request(
                method,
                self.url + path,
                body=body.chunks() if body is not None else None,
                headers=sent,
                preload_content=False,
                enforce_content_length=True,
                retries=False,
                redirect=False,
            )
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise self._no_reply(error) from error
        try:
            if to is not None and reply.status == 200:
                _save(self._chunks(reply), to)
                return Answer(200, reply.headers, b"")
            data = b"".join(self._bounded(reply))
        finally:
            reply.release_conn()
        answer = Answer(reply.status, reply.headers, data)
        if to is None and 200 <= answer.status < 300:
            return answer
        raise _refusal(answer)

    def _no_reply(self, error: BaseException) -> ApiError:
        try:
            return ApiError(explain(error, self.url), UNREACHABLE)
        except Fatal as fatal:  # a certificate or a proxy: no repetition changes it
            return ApiError(str(fatal), "settings")

    def _chunks(self, reply: Any) -> Iterator[bytes]:
        try:
            yield from reply.stream(_CHUNK)
        except (urllib3.exceptions.HTTPError, OSError) as error:
            reply.close()
            raise self._no_reply(error) from error

    def _bounded(self, reply: Any) -> Iterator[bytes]:
        size = 0
        for chunk in self._chunks(reply):
            size += len(chunk)
            if size > _MAX_REPLY:
                reply.close()
                raise ApiError(f"The reply has more than {_MAX_REPLY >> 20} MiB", "reply_too_large", reply.status)
            yield chunk


def _save(chunks: Iterator[bytes], path: Path) -> None:
    part = path.with_name(f".{path.name[:100]}-{uuid.uuid4().hex[:8]}.part")
    try:
        with part.open("xb") as file:
            for chunk in chunks:
                file.write(chunk)
        part.replace(path)
    finally:
        if part.exists():
            part.unlink()


def _json(answer: Answer) -> Any:
    try:
        return json.loads(answer.body)
    except ValueError:
        raise ApiError("The reply is no JSON: a proxy may have answered", "not_reportd", answer.status) from None


def _body(value: Union[Mapping[str, object], Body]) -> Body:
    return Json(value) if isinstance(value, Mapping) else value


def _text(query: Optional[Query]) -> str:
    """The query with its question mark; without what is None."""
    words = {True: "true", False: "false"}
    given = {name: value for name, value in (query or {}).items() if value is not None}
    texts = {
        name: words[value] if isinstance(value, bool) else value.isoformat() if isinstance(value, datetime) else value
        for name, value in given.items()
    }
    return f"?{urlencode(texts)}" if texts else ""


def _may_pass(error: ApiError) -> bool:
    """Whether the same request may succeed later."""
    return error.code in (UNREACHABLE, "idempotency_in_progress", "not_ready") or error.status in _AGAIN


def _refusal(answer: Answer) -> ApiError:
    value, location = answer.value, answer.headers.get("Location")
    if 300 <= answer.status < 400:
        return ApiError(f"The server redirects to {location}: give the right address", "redirect", answer.status)
    if answer.status == 202:
        error = ApiError("The picture is not made yet", "not_ready", 202)
    elif isinstance(value.get("detail"), str):
        error = ApiError(value["detail"], answer.code, answer.status, value)
    else:
        error = ApiError(answer.text(), "not_reportd", answer.status, value)
    after = answer.headers.get("Retry-After", "")
    error.retry_after = float(after) if after.isdecimal() else None
    return error
