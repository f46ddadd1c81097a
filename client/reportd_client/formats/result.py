"""What a reader makes of a report, and how it is written to a spool."""

from __future__ import annotations

import json
import re
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Optional, Union

from reportd_client.entries import Entries
from reportd_client.mask import typed_secret, without_secrets
from reportd_client.runs import Recorder

_COLOURS = re.compile("[\x1b\u241b]" + r"\[[0-9;:?]*[ -/]*[@-~]")  # the second in XML, see markup.ESCAPE
_FORBIDDEN = re.compile("[\0\ud800-\udfff]")  # what no text in a database may have
_WORDS = ("name", "test_id", "status", "step_type", "level", "method", "started_at", "completed_at")
_NAMESPACE = uuid.UUID("3c2f6d5e-7f1b-5a51-9f0c-2f3d0a6c1e11")


class Unreadable(Exception):
    """A file that is no report of the format. The text says what was found."""


class Empty(Unreadable):
    """A report without any test."""


@dataclass
class File:
    """A file of a test: the fields of its artifact, and its path, its bytes, or the reason why there is none.

    `make`: makes the bytes or the path when the file is written, since reports are read twice; the path holds until the
    next one is made. Raises Unreadable with the reason. `hides`: it is text in which credentials are hidden.
    """

    fields: dict[str, Any]
    path: Optional[Path] = None
    refused: Optional[str] = None
    data: Optional[bytes] = None
    make: Optional[Callable[[], Union[bytes, Path]]] = None
    hides: bool = False

    def bytes_or_path(self) -> Union[bytes, Path]:
        """Raises Unreadable."""
        found = self.make() if self.make is not None else self.data if self.path is None else self.path
        if self.refused is not None or found is None:
            raise Unreadable(self.refused or "No such file")
        return found


@dataclass
class Told:
    """What an entry of a report tells of itself, when the report does not say which attempt it is. See attempts.py."""

    time: Optional[str] = None  # sorts as text
    silent: bool = False  # it has no verdict, which may mean that it passed
    of_teardown: bool = False
    again: bool = False  # the same test again is its next attempt, whatever the result before


@dataclass
class Result:
    """One attempt of a test with everything that belongs to it, in the fields of the API.

    `secrets`: texts that are hidden wherever they are, beside those that its steps typed into password fields.
    """

    test: dict[str, Any]
    suite: dict[str, Any] = field(default_factory=dict)
    steps: list[dict[str, Any]] = field(default_factory=list)
    checkpoints: list[dict[str, Any]] = field(default_factory=list)
    console_logs: list[dict[str, Any]] = field(default_factory=list)
    network_logs: list[dict[str, Any]] = field(default_factory=list)
    files: list[File] = field(default_factory=list)
    told: Optional[Told] = None
    secrets: set[str] = field(default_factory=set)


@dataclass
class Source:
    """A report file, and what its reader finds out about it. `note`: something of it is missing. `remark`: something
    that is worth to know, and no loss."""

    path: Path
    files: Optional[Path] = None  # where attachments are that have been moved
    note: Callable[[str], None] = lambda text: None
    remark: Callable[[str], None] = lambda text: None
    keep_har: bool = False  # send a HAR file itself, too, which holds what the server hides
    names: set[str] = field(default_factory=set)  # of the run
    # Fields of the run. Those in `checkout`, like `branch`, are what a CI knows better where there is one.
    suite: dict[str, Any] = field(default_factory=dict)
    # Of pytest's files, which have an entry for each rerun, without its verdict: whether there are any.
    has_reruns: Optional[bool] = None


def plain(value: Any) -> Any:
    """A JSON value whose texts have no colour codes of terminals, no NUL and no half of a surrogate pair."""
    if isinstance(value, str):
        return _FORBIDDEN.sub("\ufffd", _COLOURS.sub("", value) if "\x1b" in value or "\u241b" in value else value)
    if isinstance(value, dict):
        return {plain(name): plain(item) for name, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list) else value


def name_based(*parts: Any) -> str:
    """The same UUID for the same parts: what is sent twice is stored once."""
    return str(uuid.uuid5(_NAMESPACE, json.dumps(parts, sort_keys=True, default=repr)))


def write(recorder: Recorder, run_key: str, result: Result, bytes_of: Callable[[Path], Any]) -> None:
    """Write a result to the spool, hidden and bounded as a recorded test is. `bytes_of`: what is kept of a file."""
    masks, test = recorder.masks, result.test
    ref = name_based(run_key, test, result.steps, result.console_logs, [file.fields for file in result.files])
    secrets = _secrets(result)
    entries = Entries(recorder, ref)
    first = {"name": test["name"], "test_id": test["test_id"], "attempt": test.get("attempt") or 1}
    recorder.append({"kind": "begin", "ref": ref, "test": first}, verdict=True)

    def add(to: str, entry: dict[str, Any]) -> None:
        entries.add(to, _without(entry, secrets))

    for step in result.steps:
        add("steps", masks.step(step))
    for checkpoint in result.checkpoints:
        add("checkpoints", masks.fields(checkpoint, ("expected_value", "actual_value", "message")))
    for entry in result.console_logs:
        add("console_logs", masks.fields(entry, ("message", "source_url")))
    for entry in result.network_logs:
        add("network_logs", masks.network(entry) if isinstance(entry.get("url"), str) else entry)
    for file in result.files:
        entries.add("artifacts", {**file.fields, **_kept(recorder, file, secrets, bytes_of)})
    values = masks.fields(test, ("error_message", "stack_trace"))
    if values.get("metadata"):
        values["metadata"] = masks.anything(values["metadata"])
    recorder.append({"kind": "test", "ref": ref, "test": _without(values, secrets)}, verdict=True)


def _without(values: dict[str, Any], secrets: list[str]) -> dict[str, Any]:
    """Without these texts, but in fields whose words are given: a password may be `test` or `Passed`."""
    kept = {name: values[name] for name in _WORDS if name in values}
    return {**without_secrets(values, secrets), **kept} if secrets else values


def _secrets(result: Result) -> list[str]:
    """What is hidden in all texts of a result, the longest first: error messages and traces quote what was typed."""
    typed = {typed_secret(step) for step in result.steps} | result.secrets
    return sorted(filter(None, typed), key=len, reverse=True)


def _kept(recorder: Recorder, file: File, secrets: list[str], bytes_of: Callable[[Path], Any]) -> dict[str, Any]:
    try:
        made = file.bytes_or_path()
    except Unreadable as error:
        return {"refused": str(error)}
    if isinstance(made, Path):
        return recorder.writer.store(bytes_of(made), True)
    if file.hides:
        text = recorder.masks.text(made.decode("utf-8", "replace"))
        made = str(without_secrets(text, secrets)).encode("utf-8", "replace")
    return recorder.writer.store(made, True)
