"""Requests to the server: repeated until they are answered, a few at once."""

from __future__ import annotations

import json
import random
import threading
import time
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Any, Callable, Iterator, Mapping, Optional, Protocol

import urllib3

from reportd_client import limits
from reportd_client.sender.connections import Fatal, explain, pool
from reportd_client.version import VERSION

_AGAIN = {408, 425, 429, *range(502, 600)} - {505}  # also those of proxies and CDNs, such as 524
_BUSY = {429, 503}
_FAULTS = 5  # repetitions after 500, which is a fault of the server and may be one of this very request


class Stopped(Exception):
    """The time to send is over. What is not sent stays in the spool."""


class TestDeleted(Exception):
    """The server does not have this test any more."""

    __test__ = False


class Body(Protocol):
    """A request body that can be sent several times."""

    content_type: str
    length: int

    def chunks(self) -> Iterator[bytes]: ...


@dataclass
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def value(self) -> dict[str, Any]:
        """The JSON object of the body; an empty one when it is something else, such as the page of a proxy."""
        try:
            value = json.loads(self.body)
        except ValueError:
            return {}
        return value if isinstance(value, dict) else {}

    def items(self, name: str) -> list[dict[str, Any]]:
        """A list of the JSON object. Raises Fatal when it has none: the answer is not that of a reportd server."""
        items = self.value.get(name)
        if not isinstance(items, list):
            raise Fatal(f"The answer is not that of a reportd server ({self.text()}): a proxy may have given it")
        return items

    @property
    def replayed(self) -> bool:
        """Whether it is the answer to an earlier request with the same Idempotency-Key."""
        return "Idempotent-Replayed" in self.headers

    @property
    def code(self) -> str:
        return str(self.value.get("code", ""))

    @property
    def problems(self) -> list[dict[str, Any]]:
        """The `errors` of a 422: `path` and `message` of each wrong value."""
        errors = self.value.get("errors")
        return [item for item in errors if isinstance(item, dict)] if isinstance(errors, list) else []

    def text(self) -> str:
        """What a person reads of it."""
        detail = self.value.get("detail")
        if detail:
            problems = [f"{item.get('path')}: {item.get('message')}" for item in self.problems]
            return "; ".join([str(detail), *problems])[:1000]
        page = " with a page that is not the server's: a proxy may have answered" if self.body else ""
        return f"HTTP {self.status}{page}"


@dataclass
class Patience:
    """How long requests are repeated: without end until drain() is called, then for `seconds`, or for `unreached` when
    no request has ever been answered."""

    seconds: float
    unreached: float = limits.UNREACHED_SECONDS
    stop: threading.Event = field(default_factory=threading.Event)
    reached: bool = False
    _drained: Optional[float] = None

    def drain(self) -> None:
        if self._drained is None:
            self._drained = time.monotonic()

    def over(self) -> bool:
        if self.stop.is_set():
            return True
        if self._drained is None:
            return False
        patience = self.seconds if self.reached else min(self.seconds, self.unreached)
        return time.monotonic() - self._drained > patience

    def check(self) -> None:
        if self.over():
            raise Stopped

    def sleep(self, seconds: float) -> None:
        """Wait, unless the time is over before."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self.check()
            self.stop.wait(min(left, 0.1))
        self.check()


class Gate:
    """How many requests may be under way: fewer while the server says that it is busy."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._under_way = 0
        self._limit = limits.REQUESTS
        self._good = 0

    def __enter__(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._under_way < self._limit)
            self._under_way += 1

    def __exit__(self, *error: object) -> None:
        with self._changed:
            self._under_way -= 1
            self._changed.notify()

    def answered(self, busy: bool) -> None:
        with self._changed:
            self._good = 0 if busy else self._good + 1
            if busy:
                self._limit = limits.REQUESTS_WHEN_BUSY
            elif self._good >= limits.GOOD_REPLIES:
                self._limit = limits.REQUESTS
                self._changed.notify_all()


class Server:
    """The server of a run. Raises SettingsError."""

    def __init__(self, url: str, token: Optional[str], patience: Patience, say: Callable[[str], None]) -> None:
        self.url, self.patience = url, patience
        self._token, self._say, self._gate = token, say, Gate()
        self._counting = threading.Lock()
        self._pool = pool(url, say)
        self.bytes_sent = self.requests = 0
        self.last_problem = ""
        self._too_large: Optional[tuple[int, Answer]] = None  # the shortest body that got 413, and that answer

    @property
    def most_file_bytes(self) -> int:
        """How many bytes of files one request should have: half of a size that was refused leaves space for JSON."""
        return min(limits.GROUP_FILE_BYTES, self._too_large[0] // 2 if self._too_large else limits.GROUP_FILE_BYTES)

    def call(
        self,
        method: str,
        path: str,
        body: Optional[Body] = None,
        key: Optional[str] = None,
        *,
        divisible: bool = False,
        question: bool = False,
    ) -> Answer:
        """The answer, when it is one that a repetition would not change. Raises Stopped, Fatal.

        `divisible`: what is sent can also be sent in parts. It is not sent, and the answer is 413, when a body of its
        size has been refused before: the limit is that of a proxy, and the same for every request.
        `question`: it stores nothing, and a 2xx that says nothing is an answer, too.
        """
        if divisible and body is not None and self._too_large and body.length >= self._too_large[0]:
            return self._too_large[1]
        answer = self._call(method, path, body, key, question)
        if answer.status == 413 and body is not None and (not self._too_large or body.length < self._too_large[0]):
            self._too_large = (body.length, answer)
        return answer

    def _call(self, method: str, path: str, body: Optional[Body], key: Optional[str], question: bool) -> Answer:
        delay, faults = limits.FIRST_RETRY, 0
        while True:
            with self._gate:
                self.patience.check()
                answer = self._once(method, path, body, key)
            if answer is not None:
                self._gate.answered(answer.status in _BUSY)
                _check(answer, self.url, self._token)
                if answer.status < 300 and not answer.value and not question:
                    raise Fatal(
                        f"{self.url} does not answer as a reportd server: a proxy may have answered, or REPORTD_URL is "
                        "wrong"
                    )
                faults += answer.status == 500
                if not _again(answer) and (answer.status != 500 or faults > _FAULTS):
                    self.patience.reached = True
                    return answer
                self.last_problem = f"{self.url} answers: {answer.text()}"
            self.patience.sleep(_retry_after(answer) or delay * random.uniform(0.5, 1.5))  # noqa: S311
            delay = min(delay * 2, limits.LAST_RETRY)

    def _once(self, method: str, path: str, body: Optional[Body], key: Optional[str]) -> Optional[Answer]:
        headers = {"User-Agent": f"reportd-client/{VERSION}", "Accept": "application/json"}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        if body is not None:
            headers.update({"Content-Type": body.content_type, "Content-Length": str(body.length)})
        if key is not None:
            headers["Idempotency-Key"] = key
        try:
            reply = self._pool.request(
                method,
                self.url + path,
                body=body.chunks() if body is not None else None,
                headers=headers,
                preload_content=False,
                enforce_content_length=True,  # urllib3 1.26 takes half of a reply for all of it
                retries=False,
                redirect=False,
            )
            try:
                data = reply.read(limits.MAX_REPLY)
            finally:
                reply.release_conn()
        except (urllib3.exceptions.HTTPError, OSError) as error:
            self.last_problem = explain(error, self.url)
            return None
        with self._counting:
            self.bytes_sent += body.length if body is not None else 0
            self.requests += 1
        return Answer(reply.status, reply.headers, data)


def _again(answer: Answer) -> bool:
    if answer.status == 409:
        return answer.code == "idempotency_in_progress"
    return answer.status in _AGAIN and "failed" not in answer.value  # with `failed`: a batch, each file has its reason


def _check(answer: Answer, url: str, token: Optional[str]) -> None:
    """Raises Fatal for what no repetition changes and concerns every request."""
    named = f"the token {token[:8]}…" if token else "no token: set REPORTD_TOKEN"
    if answer.status == 401:
        raise Fatal(f"{url} does not accept {named}. It needs a token with the role uploader", 6)
    if answer.status == 403:
        reason = answer.text().rstrip(".")
        needed = "" if "needs the role" in reason else ". It needs the role uploader"
        raise Fatal(f"{url} refuses {named}: {reason}{needed}", 6)
    if answer.status == 407:
        raise Fatal("The proxy wants a password. Put it into the proxy's address, or the server into NO_PROXY", 1)
    if 300 <= answer.status < 400:
        raise Fatal(f"{url} redirects to {answer.headers.get('Location')}: set REPORTD_URL to the right address", 1)
    if answer.code == "idempotency_key_reused":
        raise Fatal("A fault of reportd-client: it used an Idempotency-Key twice. Please report it, with this spool")


def _retry_after(answer: Optional[Answer]) -> Optional[float]:
    """The seconds of Retry-After, at most five minutes."""
    text = answer.headers.get("Retry-After", "").strip() if answer is not None else ""
    if not text:
        return None
    if text.isdecimal():
        return min(float(text), 300.0) or None
    try:
        return min(max(0.0, parsedate_to_datetime(text).timestamp() - time.time()), 300.0) or None
    except (TypeError, ValueError):
        return None
