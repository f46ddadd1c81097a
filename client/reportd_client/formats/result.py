"""What a reader makes of a report, and how it is written to a spool."""

from __future__ import annotations

import json
import re
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Optional

from reportd_client.entries import Entries
from reportd_client.runs import Recorder

_COLOURS = re.compile(r"\x1b\[[0-9;:?]*[ -/]*[@-~]")
_NAMESPACE = uuid.UUID("3c2f6d5e-7f1b-5a51-9f0c-2f3d0a6c1e11")


class Unreadable(Exception):
    """A file that is no report of the format. The text says what was found."""


class Empty(Unreadable):
    """A report without any test."""


@dataclass
class File:
    """A file of a test: the fields of its artifact, and its path or the reason why there is none."""

    fields: dict[str, Any]
    path: Optional[Path] = None
    refused: Optional[str] = None


@dataclass
class Result:
    """One attempt of a test with everything that belongs to it, in the fields of the API."""

    test: dict[str, Any]
    suite: dict[str, Any] = field(default_factory=dict)
    steps: list[dict[str, Any]] = field(default_factory=list)
    checkpoints: list[dict[str, Any]] = field(default_factory=list)
    console_logs: list[dict[str, Any]] = field(default_factory=list)
    network_logs: list[dict[str, Any]] = field(default_factory=list)
    files: list[File] = field(default_factory=list)


def plain(value: Any) -> Any:
    """A JSON value whose texts have no colour codes of terminals."""
    if isinstance(value, str):
        return _COLOURS.sub("", value) if "\x1b" in value else value
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list) else value


def name_based(*parts: Any) -> str:
    """The same UUID for the same parts: what is sent twice is stored once."""
    return str(uuid.uuid5(_NAMESPACE, json.dumps(parts, sort_keys=True, default=repr)))


def write(recorder: Recorder, run_key: str, result: Result, bytes_of: Callable[[Path], Any]) -> None:
    """Write a result to the spool, hidden and bounded as a recorded test is. `bytes_of`: what is kept of a file."""
    masks, test = recorder.masks, result.test
    ref = name_based(run_key, test, result.steps, result.console_logs, [file.fields for file in result.files])
    entries = Entries(recorder, ref)
    first = {"name": test["name"], "test_id": test["test_id"], "attempt": test.get("attempt") or 1}
    recorder.append({"kind": "begin", "ref": ref, "test": first}, verdict=True)
    for step in result.steps:
        entries.add("steps", masks.step(step))
    for checkpoint in result.checkpoints:
        entries.add("checkpoints", masks.fields(checkpoint, ("expected_value", "actual_value", "message")))
    for entry in result.console_logs:
        entries.add("console_logs", masks.fields(entry, ("message", "source_url")))
    for entry in result.network_logs:
        entries.add("network_logs", masks.network(entry) if isinstance(entry.get("url"), str) else entry)
    for file in result.files:
        kept = {"refused": file.refused} if file.path is None else recorder.writer.store(bytes_of(file.path), True)
        entries.add("artifacts", {**file.fields, **kept})
    values = masks.fields(test, ("error_message", "stack_trace"))
    if values.get("metadata"):
        values["metadata"] = masks.anything(values["metadata"])
    recorder.append({"kind": "test", "ref": ref, "test": values}, verdict=True)
