"""Entries of console and network logs in the body of a request, and their redaction."""

from collections.abc import Callable, Iterator
from typing import Annotated, Any, TypeVar

from msgspec import Meta, Struct

from server.background import aside
from server.http.fields import FreeText, HeaderMap, Instant, Level, Measured, Natural, Positive, Text50
from server.http.repair import FREE_TEXT, MEASURED, SIZE
from server.redact.patterns import Patterns
from server.redact.rules import redact_text, redact_url

ByteCount = Annotated[int, Meta(ge=-1, le=2**63 - 1, extra=SIZE)]  # HAR sends -1 for an unknown size
T = TypeVar("T")
Texts = list[str | None]


class NewConsoleEntry(Struct, omit_defaults=True):
    level: Level
    message: FreeText
    source_url: FreeText | None = None
    line_number: Measured | None = None
    column_number: Measured | None = None
    step_number: Natural | None = None
    iteration_number: Positive | None = None
    logged_at: Instant | None = None


class NewNetworkEntry(Struct, omit_defaults=True):
    method: Annotated[str, Meta(min_length=1, max_length=20)]
    url: Annotated[str, Meta(min_length=1, max_length=1 << 20, extra=FREE_TEXT)]
    status_code: Annotated[int, Meta(ge=0, le=999, extra=MEASURED)] | None = None
    resource_type: Text50 | None = None
    request_headers: HeaderMap | None = None
    response_headers: HeaderMap | None = None
    request_size: ByteCount | None = None
    response_size: ByteCount | None = None
    duration_ms: Measured | None = None
    error_text: FreeText | None = None
    step_number: Natural | None = None
    iteration_number: Positive | None = None
    started_at: Instant | None = None


async def redact_console(entries: list[NewConsoleEntry], patterns: Patterns, size: int) -> None:
    """Redacts credentials in URLs and matches of the configured patterns. `size`: bytes of the body."""
    await _redact(entries, patterns, size, _redact_console, _console_texts, _set_console)


async def redact_network(entries: list[NewNetworkEntry], patterns: Patterns, size: int) -> None:
    """Redacts credentials in headers and URLs, and matches of the configured patterns. `size`: bytes of the body."""
    await _redact(entries, patterns, size, _redact_network, _network_texts, _set_network)


async def _redact(
    entries: list[T],
    patterns: Patterns,
    size: int,
    redact: Callable[[list[T]], None],
    texts_of: Callable[[list[T]], list[Texts]],
    replace: Callable[[list[T], list[Texts]], None],
) -> None:
    """Redacts credentials, and then the matches of the configured patterns in `texts_of(entries)`, one call of hide()
    for each list of texts: each call has a limit."""
    await aside(size, redact, entries)
    if patterns.any:
        texts = await aside(size, texts_of, entries)
        hidden = [await patterns.hide(some) for some in texts]
        await aside(size, replace, entries, hidden)


def _redact_console(entries: list[NewConsoleEntry]) -> None:
    for item in entries:
        item.message = redact_text(item.message)
        item.source_url = item.source_url and redact_url(item.source_url)


def _console_texts(entries: list[NewConsoleEntry]) -> list[Texts]:
    return [[item.message for item in entries], [item.source_url for item in entries]]


def _set_console(entries: list[NewConsoleEntry], hidden: list[Texts]) -> None:
    for item, message, url in zip(entries, *hidden, strict=True):
        item.message, item.source_url = message or "", url


def _redact_network(entries: list[NewNetworkEntry]) -> None:
    """Headers are redacted as they are decoded."""
    for item in entries:
        item.url = redact_url(item.url)
        item.error_text = item.error_text and redact_text(item.error_text)


def _network_texts(entries: list[NewNetworkEntry]) -> list[Texts]:
    requests, responses = ([text for each in maps for text in _values(each)] for maps in _headers(entries))
    return [[item.url for item in entries], [item.error_text for item in entries], requests, responses]


def _set_network(entries: list[NewNetworkEntry], hidden: list[Texts]) -> None:
    urls, errors, *values = hidden
    requests, responses = (
        [_with_values(each, texts) for each in maps]
        for maps, texts in zip(_headers(entries), map(iter, values), strict=True)
    )
    for item, url, error, sent, received in zip(entries, urls, errors, requests, responses, strict=True):
        item.url, item.error_text, item.request_headers, item.response_headers = url or "", error, sent, received


def _headers(entries: list[NewNetworkEntry]) -> tuple[list[HeaderMap | None], list[HeaderMap | None]]:
    return [item.request_headers for item in entries], [item.response_headers for item in entries]


def _values(headers: HeaderMap | None) -> Iterator[str | None]:
    """All values, those of lists one by one."""
    for value in headers.value.values() if headers is not None else ():
        yield from [value] if isinstance(value, str) else value


def _with_values(headers: HeaderMap | None, texts: Iterator[str | None]) -> HeaderMap | None:
    """The headers with other values, in the order of _values()."""
    if headers is None:
        return None

    def other(value: str | list[str]) -> Any:
        return next(texts) if isinstance(value, str) else [next(texts) for _ in value]

    return HeaderMap.of({name: other(value) for name, value in headers.value.items()})
