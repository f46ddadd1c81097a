"""result.json: the fields of the API in a file, or a list of such objects. client/schema/result.json describes it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Iterator

from reportd_client.formats import json_file
from reportd_client.formats.files import file_of
from reportd_client.formats.result import Empty, File, Result, Source, Unreadable, plain
from reportd_client.texts import artifact_type_of

NAME = "result"
_LISTS = ("checkpoints", "console_logs", "network_logs")


def looks(head: bytes, path: Path) -> bool:
    """Whether a file that begins with these bytes is of this format: an object with a list of steps comes early."""
    return json_file.begins_json(head) and b'"steps"' in json_file.ascii_of(head)


def read(source: Source) -> Iterator[Result]:
    """The results of a file. Raises Unreadable, Empty."""
    values, notes = _values(source.path)
    results = [_result(source, value, notes) for value in values]
    if not results:
        raise Empty(f"{source.path} is empty: it has no test")
    for note in notes:
        source.note(note)
    for result in results:
        source.suite = {**result.suite, **source.suite}
    yield from results


def _values(path: Path) -> tuple[list[Any], list[str]]:
    value, is_cut = json_file.read(path)
    values = value if isinstance(value, list) else [value]
    if not is_cut:
        return values, []
    whole = [each for each in values if not (isinstance(each, dict) and json_file.CUT in each)]
    if not whole:
        raise Unreadable(f"{path} is cut before the end of its first result")
    return whole, [f"{path} is cut: {len(whole):,} whole results were read"]


def _result(source: Source, value: Any, notes: list[str]) -> Result:
    path = source.path
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
    result.files = [*_screenshots(source, steps), *_artifacts(source, value.get("artifacts"))]
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


def _screenshots(source: Source, steps: list[dict[str, Any]]) -> Iterator[File]:
    for step in steps:
        name = step.get("screenshot_path")
        if isinstance(name, str) and name:
            category = "error" if step.get("status") == "Failed" else "after"
            place = {key: step[key] for key in ("step_number", "iteration_number") if step.get(key) is not None}
            fields = {"artifact_type": "screenshot", "artifact_category": category, **place}
            yield file_of(source.path, name, fields, source.files)


def _artifacts(source: Source, given: Any) -> Iterator[File]:
    for item in given if isinstance(given, list) else ():
        if isinstance(item, dict) and isinstance(item.get("path"), str):
            fields = {name: value for name, value in item.items() if name != "path"}
            fields = {"artifact_type": artifact_type_of(item["path"]), **fields}
            yield file_of(source.path, item["path"], fields, source.files)
