"""result.json: the fields of the API in a file, or a list of such objects. client/schema/result.json describes it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Iterator, Optional

from reportd_client.formats.result import Empty, File, Result, Unreadable, plain
from reportd_client.texts import artifact_type_of

MAX_FILE = 256 << 20
_LISTS = ("checkpoints", "console_logs", "network_logs")
_SENT_FROM_ANYWHERE = (".png", ".jpg", ".jpeg", ".gif", ".webp", ".webm", ".mp4", ".txt", ".log", ".zip", ".har")


def read(path: Path) -> tuple[list[Result], list[str]]:
    """The results of a file, and notes about what is missing. Raises Unreadable, Empty."""
    values, notes = _values(path)
    results = [result for value in values for result in [_result(path, value, notes)] if result is not None]
    if not results:
        raise Empty(f"{path} is empty: it has no test")
    return results, notes


def is_result(path: Path) -> bool:
    """Whether a file in a folder looks like this format: an object with a list of steps comes early."""
    with path.open("rb") as stream:
        head = stream.read(64 << 10).lstrip(b"\xef\xbb\xbf \t\r\n")
    return head[:1] in (b"{", b"[") and b'"steps"' in head


def _values(path: Path) -> tuple[list[Any], list[str]]:
    try:
        if path.stat().st_size > MAX_FILE:
            raise Unreadable(f"{path} is larger than {MAX_FILE >> 20} MiB")
        text = _text(path.read_bytes())
    except OSError as error:
        raise Unreadable(f"Cannot read {path}: {error.strerror}") from None
    if not text.strip():
        raise Empty(f"{path} is empty")
    try:
        value = json.loads(text)
    except RecursionError:
        raise Unreadable(f"{path} is nested too deeply") from None
    except ValueError as error:
        whole = list(_whole_values(text))
        if not whole:
            raise Unreadable(f"{path} is no JSON: {error}") from None
        return whole, [f"{path} is cut: {len(whole)} whole results were read"]
    return (value if isinstance(value, list) else [value]), []


def _text(data: bytes) -> str:
    encoding = json.detect_encoding(data)
    return data.decode(encoding, "replace").lstrip("\ufeff")


def _whole_values(text: str) -> Iterator[Any]:
    """The values of a list whose end is missing."""
    decoder, at = json.JSONDecoder(), text.find("[") + 1
    if not text.lstrip().startswith("["):
        return
    while True:
        while text[at : at + 1] in (" ", "\t", "\r", "\n", ","):
            at += 1
        try:
            value, at = decoder.raw_decode(text, at)
        except (ValueError, RecursionError):
            return
        yield value


def _result(path: Path, value: Any, notes: list[str]) -> Optional[Result]:
    if not isinstance(value, dict) or not isinstance(value.get("steps"), list):
        raise Unreadable(f"{path} is no result.json: it needs an object with a list `steps`")
    value = plain(value)
    steps = _steps(path, value["steps"], notes)
    test = dict(value["test"]) if isinstance(value.get("test"), dict) else {}
    test["name"] = str(test.get("name") or test.get("test_id") or path.stem)
    test["test_id"] = str(test.get("test_id") or test["name"])
    if not test.get("status"):
        test["status"] = "Failed" if any(step.get("status") == "Failed" for step in steps) else "Passed"
    result = Result(test, value["suite"] if isinstance(value.get("suite"), dict) else {}, steps)
    for name in _LISTS:
        setattr(result, name, [entry for entry in value.get(name) or () if isinstance(entry, dict)])
    result.files = [*_screenshots(path, steps), *_artifacts(path, value.get("artifacts"))]
    return result


def _steps(path: Path, given: list[Any], notes: list[str]) -> list[dict[str, Any]]:
    """The steps, numbered where they are not. A number that comes twice would be refused with all others."""
    steps: list[dict[str, Any]] = []
    seen: set[str] = set()
    for i, item in enumerate(given, 1):
        if not isinstance(item, dict):
            notes.append(f"{path}: step {i} is no object")
            continue
        step = {"step_number": i, **item}
        position = (step.get("iteration_number") or 1, step["step_number"])
        if repr(position) in seen:
            notes.append(f"{path}: step {position[1]} of iteration {position[0]} comes twice: the first was kept")
            continue
        seen.add(repr(position))
        steps.append(step)
    return steps


def _screenshots(path: Path, steps: list[dict[str, Any]]) -> Iterator[File]:
    for step in steps:
        name = step.get("screenshot_path")
        if isinstance(name, str) and name:
            category = "error" if step.get("status") == "Failed" else "after"
            place = {key: step[key] for key in ("step_number", "iteration_number") if step.get(key) is not None}
            yield _file(path, name, {"artifact_type": "screenshot", "artifact_category": category, **place})


def _artifacts(path: Path, given: Any) -> Iterator[File]:
    for item in given if isinstance(given, list) else ():
        if isinstance(item, dict) and isinstance(item.get("path"), str):
            fields = {name: value for name, value in item.items() if name != "path"}
            yield _file(path, item["path"], {"artifact_type": artifact_type_of(item["path"]), **fields})


def _file(report: Path, name: str, fields: dict[str, Any]) -> File:
    """A file that a report names. Outside of the report's folder only pictures and the like are sent, and only when
    their whole path is given: a report must not fetch the files of the machine that sends it."""
    fields = {"file_name": os.path.basename(name.replace("\\", "/")) or "file", **fields}
    try:
        folder, path = report.parent.resolve(), (report.parent / name).resolve()
        inside = folder in path.parents
        whole = os.path.isabs(name) and path == Path(name) and path.suffix.lower() in _SENT_FROM_ANYWHERE
        if not inside and (not whole or any(part.startswith(".") for part in path.parts)):
            return File(fields, refused=f"{name} is outside of the folder of {report.name}")
        if not path.is_file():
            return File(fields, refused="No such file")
    except (OSError, ValueError, RuntimeError):
        return File(fields, refused="Cannot be read")
    return File(fields, path)
