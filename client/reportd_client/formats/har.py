"""HAR, as browsers and proxies record the requests of a page. It has no tests: each file is one, with its requests."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Callable, Iterator, Optional, Union

from reportd_client.formats import json_file
from reportd_client.formats.junit_case import iso, shortened
from reportd_client.formats.result import Empty, File, Result, Source, Told, Unreadable, plain
from reportd_client.formats.values import dict_of, dicts, duration, number, text_of
from reportd_client.texts import cut

NAME = "har"
_FIRST = re.compile(rb'\{\s*"log"\s*:\s*\{')
_WORDS = (b'"entries"', b'"creator"', b'"pages"')
_URL = 8_192  # characters; data: addresses have whole files
_HEADER = 8_192
_SIZE = 2**53


def looks(head: bytes, path: Path) -> bool:
    """Whether a file that begins with these bytes is of this format."""
    text = json_file.ascii_of(head)
    return _FIRST.match(text) is not None and any(word in text for word in _WORDS)


def read(source: Source) -> Iterator[Result]:
    """The one result of a file. Raises Unreadable, Empty."""
    log, requests = _log_and_requests(source.path, source.note)
    browser = dict_of(log, "browser")
    name = source.path.name
    creator = dict_of(log, "creator")
    metadata = {
        "har": f"{text_of(creator, 'name')} {text_of(creator, 'version')}".strip()[:200],
        "pages": [cut(text_of(page, "title"), 500) for page in dicts(log.get("pages")) if text_of(page, "title")][:50],
    }
    test: dict[str, Any] = {"name": cut(name, 500), "test_id": shortened(name), "status": "Passed"}
    test["browser"] = f"{text_of(browser, 'name')} {text_of(browser, 'version')}".strip()[:255]
    test["started_at"] = min((each["started_at"] for each in requests if each.get("started_at")), default=None)
    test["metadata"] = {key: value for key, value in metadata.items() if value}
    result = Result({key: value for key, value in test.items() if value})
    result.network_logs = requests
    result.told = Told(time=test["started_at"])
    if source.keep_har:
        result.files.append(File({"file_name": name, "artifact_type": "har"}, source.path))
    yield result


def requests_of(path: Path, note: Callable[[str], None]) -> list[dict[str, Any]]:
    """The requests of a file, in the fields of the API. `note` gets sentences about what is missing. Raises Unreadable,
    Empty."""
    return _log_and_requests(path, note)[1]


def _log_and_requests(path: Path, note: Callable[[str], None]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    value, is_cut = json_file.read(path)
    log = dict_of(value, "log")
    if not isinstance(log.get("entries"), list) and not (is_cut and log):
        raise Unreadable(f"{path} is no HAR: it needs a `log` with `entries`")
    entries = [each for each in dicts(log.get("entries")) if json_file.CUT not in each]
    requests = list(filter(None, map(_request, entries)))
    if not requests and is_cut:
        raise Unreadable(f"{path} is cut before the end of its first request")
    if not requests:
        raise Empty(f"{path} is empty: it has no request")
    if is_cut:
        note(f"{path} is cut: {len(requests):,} whole requests were read")
    elif len(requests) < len(entries):
        note(f"{path}: {len(entries) - len(requests):,} entries have no request")
    return plain(log), plain(requests)


def _request(entry: dict[str, Any]) -> Optional[dict[str, Any]]:
    """An entry in the fields of the API; what HAR writes as -1 is unknown."""
    request, response = dict_of(entry, "request"), dict_of(entry, "response")
    url = text_of(request, "url")
    if not url:
        return None
    status = response.get("status")
    fields: dict[str, Any] = {
        "method": text_of(request, "method") or "GET",
        "url": cut(url, _URL),
        "status_code": status if isinstance(status, int) and 100 <= status <= 999 else None,
        "resource_type": text_of(entry, "_resourceType")[:50],
        "request_headers": _headers(request),
        "response_headers": _headers(response),
        "request_size": _size(request.get("bodySize")),
        "response_size": _size(response.get("bodySize"), dict_of(response, "content").get("size")),
        "duration_ms": duration(entry.get("time")),
        "error_text": cut(text_of(response, "_failureText") or text_of(response, "_error")),
        "started_at": iso(text_of(entry, "startedDateTime")),
    }
    return {name: value for name, value in fields.items() if value not in (None, "", {})}


def _size(*values: Any) -> Optional[int]:
    """The first of these numbers of bytes that is known."""
    known = (number(value) for value in values)
    return next((int(value) for value in known if value is not None and value < _SIZE), None)


def _headers(of: dict[str, Any]) -> dict[str, Union[str, list[str]]]:
    """Headers by name; of one that comes several times all values."""
    found: dict[str, list[str]] = {}
    for each in dicts(of.get("headers")):
        found.setdefault(text_of(each, "name"), []).append(cut(text_of(each, "value"), _HEADER))
    return {name: values[0] if len(values) == 1 else values for name, values in found.items() if name}
