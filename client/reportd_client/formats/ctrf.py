"""CTRF, the common JSON of reporters for many test runners."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Iterator, Optional

from reportd_client.formats import json_file
from reportd_client.formats.embedded import decoded, file_with
from reportd_client.formats.failure import error_of
from reportd_client.formats.files import file_of
from reportd_client.formats.junit_case import shortened
from reportd_client.formats.output import add_output
from reportd_client.formats.result import Empty, Result, Source, Told, Unreadable, plain
from reportd_client.formats.tree import Node, place, place_screenshots
from reportd_client.formats.values import dict_of, dicts, duration, moment, number, text_of
from reportd_client.texts import artifact_type_of, cut, image_suffix

NAME = "ctrf"
_STATUSES = {"passed": "Passed", "failed": "Failed", "skipped": "Skipped", "pending": "Skipped"}
_SECONDS = 1e11  # what is less cannot be milliseconds since 1970
_UNTOLD = "The report does not say how this attempt failed"
_MAX_UNTOLD = 20
_RUN = {
    "branch": "branchName",
    "commit_sha": "commit",
    "build_url": "buildUrl",
    "environment": "testEnvironment",
    "platform": "osPlatform",
}
_NOTHING: tuple[Any, ...] = (None, "", [], {})
_METADATA = ("type", "device", "threadId", "labels", "parameters", "extra", "ai")


def looks(head: bytes, path: Path) -> bool:
    """Whether a file that begins with these bytes is of this format."""
    text = json_file.ascii_of(head)
    is_named = b'"reportFormat"' in text and b'"CTRF"' in text
    return text[:1] == b"{" and (is_named or all(word in text for word in (b'"results"', b'"tool"', b'"tests"')))


def read(source: Source) -> Iterator[Result]:
    """The results of a file. Raises Unreadable, Empty."""
    value, is_cut = json_file.read(source.path)
    results = dict_of(value, "results")
    if not isinstance(results.get("tests"), list) and not (is_cut and results):
        raise Unreadable(f"{source.path} is no CTRF: it needs `results` with a list of `tests`")
    results = plain(results)
    _add_run(source, results)
    count = 0
    for test in dicts(results.get("tests")):
        if json_file.CUT not in test:
            count += 1
            yield from _attempts(source, test)
    if not count and is_cut:
        raise Unreadable(f"{source.path} is cut before the end of its first test")
    if not count:
        raise Empty(f"{source.path} is empty: it has no test")
    if is_cut:
        source.note(f"{source.path} is cut: {count:,} whole tests were read")


def _add_run(source: Source, results: dict[str, Any]) -> None:
    environment, tool = dict_of(results, "environment"), dict_of(results, "tool")
    found = {name: text_of(environment, theirs)[:500] for name, theirs in _RUN.items()}
    found["started_at"] = _moment(dict_of(results, "summary").get("start")) or ""
    source.suite.update({name: text for name, text in found.items() if text})
    metadata = {
        "tool": f"{text_of(tool, 'name')} {text_of(tool, 'version')}".strip()[:200],
        "environment": {name: item for name, item in environment.items() if name not in _RUN.values()},
    }
    source.suite["metadata"] = {name: item for name, item in metadata.items() if item}


def _moment(value: Any) -> Optional[str]:
    """Reporters write milliseconds, and seconds."""
    time = number(value)
    return moment(time * 1000 if time is not None and time < _SECONDS else time)


# --- a test ---


def _attempts(source: Source, test: dict[str, Any]) -> Iterator[Result]:
    """The attempts that are told, those that are only counted, and the last."""
    before = dicts(test.get("retryAttempts"))
    retries = number(test.get("retries")) or 0
    if not before and (test.get("flaky") is True or text_of(test, "status") == "failed"):
        before = [{"status": "failed", "message": _UNTOLD}] * int(min(retries, _MAX_UNTOLD))
    for attempt in before:
        yield _result(source, test, attempt)
    yield _result(source, test, test)


def _result(source: Source, test: dict[str, Any], of: dict[str, Any]) -> Result:
    """One attempt: `of` has its own fields, `test` those that all have."""
    result = Result(_fields(test, of), told=Told(time=_moment(of.get("start"))))
    steps = dicts(of.get("steps"))
    place(result, [Node(text_of(step, "name"), {"status": _status(step)}) for step in steps])
    for name in ("stdout", "stderr"):
        lines = of.get(name)
        texts = [each for each in lines if isinstance(each, str)] if isinstance(lines, list) else [text_of(of, name)]
        add_output(result, name, "".join(_ended(text) for text in texts).splitlines())
    result.files += _files(source, of)
    place_screenshots(result)
    return result


def _ended(text: str) -> str:
    """Pieces of output are not always lines."""
    return text if text.endswith("\n") else text + "\n"


def _fields(test: dict[str, Any], of: dict[str, Any]) -> dict[str, Any]:
    status, raw = _status(of), text_of(of, "rawStatus")
    name = text_of(test, "name").strip() or "(without a name)"
    suites = _suites(test.get("suite"))
    fields: dict[str, Any] = {"name": cut(name, 500), "test_id": shortened(" › ".join([*suites, name]))}
    fields.update(status=status, started_at=_moment(of.get("start")), duration_ms=duration(of.get("duration")))
    if status == "Failed":
        trace, snippet = text_of(of, "trace"), text_of(of, "snippet").strip("\n")
        trace = trace if not snippet or snippet in trace else f"{trace}\n\n{snippet}"
        fields.update(error_of(trace, text_of(of, "message")))
    else:
        fields["error_message"] = cut(text_of(of, "message")) if status != "Passed" else None
    fields["browser"] = text_of(test, "browser")[:255]
    tags = test.get("tags")
    fields["tags"] = [cut(tag, 100) for tag in tags if isinstance(tag, str) and tag] if isinstance(tags, list) else []
    line = test.get("line")
    metadata = {key: test[key] for key in _METADATA if test.get(key) not in _NOTHING}
    if isinstance(metadata.get("extra"), dict):
        metadata["extra"] = {key: item for key, item in metadata["extra"].items() if item not in _NOTHING}
    metadata["suite"] = " / ".join(suites)[:1000]
    metadata["location"] = ":".join(filter(None, (text_of(test, "filePath"), str(line or ""))))[:1000]
    metadata["outcome"] = raw if raw not in ("passed", "failed", "skipped") else ""
    fields["metadata"] = {key: item for key, item in metadata.items() if item not in _NOTHING}
    return {key: item for key, item in fields.items() if item not in _NOTHING}


def _status(of: dict[str, Any]) -> str:
    word = text_of(of, "status")
    if word == "other" and text_of(of, "rawStatus") == "todo":
        return "Skipped"
    return _STATUSES.get(word, "Pending")


def _suites(value: Any) -> list[str]:
    """A list, or the same in one text: `chromium > cart.spec.js > Cart`."""
    suites = value if isinstance(value, list) else value.split(" > ") if isinstance(value, str) else []
    return [each.strip() for each in suites if isinstance(each, str) and each.strip()]


def _files(source: Source, of: dict[str, Any]) -> Iterator[Any]:
    for each in dicts(of.get("attachments")):
        path, kind = text_of(each, "path"), text_of(each, "contentType")
        if path:
            fields: dict[str, Any] = {"artifact_type": artifact_type_of(path)}
            if kind.startswith("image/") and fields["artifact_type"] == "other" and "svg" not in kind:
                fields["artifact_type"] = "screenshot"
            name = text_of(each, "name")
            fields.update({"description": cut(name, 500)} if name and not path.endswith(name) else {})
            yield file_of(source.path, path, fields, source.files)
    screenshot = text_of(of, "screenshot")
    if screenshot:
        data = decoded(screenshot.partition(";base64,")[2] or screenshot)
        yield file_with(data, f"screenshot{image_suffix(data or b'')}", {"artifact_type": "screenshot"}, 0)
