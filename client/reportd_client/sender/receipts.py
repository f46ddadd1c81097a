"""What the sender writes down: before a request what it will send together, after it what the server has stored.

Lines of receipts.jsonl, each synced: `{"run": id}`; `{"group": 3, "refs": […]}` before the tests of a group are sent;
`{"alone": [ref]}` before a test is sent without what belongs to it, `{"tests": {ref: id}}` when it is stored, and
`{"done": key}` of each request with what belongs to it; `{"complete": [refs]}`; `{"shard": {…}}` when the server knows
that the shard runs; `{"finished": 1}`.
"""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from typing import Any, BinaryIO, Iterator


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The whole lines of a JSON Lines file; none when it does not exist."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return
    for line in data.split(b"\n")[:-1]:
        try:
            value = json.loads(line)
        except ValueError:  # torn by a crash; what follows is whole
            continue
        if isinstance(value, dict):
            yield value


class Receipts:
    """The receipts of one spool. Thread-safe."""

    def __init__(self, folder: Path) -> None:
        self._path, self._refused_path = folder / "receipts.jsonl", folder / "refused.jsonl"
        self._lock = threading.Lock()
        self.run: str | None = None
        self.alone: set[str] = set()  # tests that are stored, or perhaps stored, without what belongs to them
        self.ids: dict[str, str] = {}  # of those that are stored and not complete
        self.groups: dict[int, list[str]] = {}  # of earlier senders
        self.done: set[str] = set()
        self.complete: set[str] = set()
        self.shard: dict[str, Any] | None = None
        self.finished = False
        self.refused: list[str] = []
        for line in read_lines(self._path):
            self._take(line)
            if "group" in line:
                self.groups[line["group"]] = line["refs"]
        self.refused = [str(line.get("text")) for line in read_lines(self._refused_path)]
        self.last_group = max(self.groups, default=0)
        self._stream = _appending(self._path)

    def _take(self, line: dict[str, Any]) -> None:
        self.run = line.get("run", self.run)
        self.shard = line.get("shard", self.shard)
        self.ids.update(line.get("tests", {}))
        self.alone.update(line.get("alone", ()))
        self.finished = self.finished or "finished" in line
        if "done" in line:
            self.done.add(line["done"])
        for ref in line.get("complete", ()):
            self.complete.add(ref)
            self.ids.pop(ref, None)

    def write(self, line: dict[str, Any]) -> None:
        """Append a line and sync it. Raises OSError."""
        data = json.dumps(line, separators=(",", ":")).encode() + b"\n"
        with self._lock:
            self._take(line)
            self._stream.write(data)
            os.fsync(self._stream.fileno())

    def new_group(self, refs: list[str]) -> int:
        with self._lock:
            self.last_group += 1
            number = self.last_group
        self.write({"group": number, "refs": refs})
        return number

    def refuse(self, test_id: str | None, what: str, reason: str) -> None:
        """Write down what will never be sent. Also what a sender before has refused is written once."""
        text = f"{f'{test_id}: ' if test_id else ''}{what}: {reason}"
        with self._lock:
            if text in self.refused:
                return
            self.refused.append(text)
            with self._refused_path.open("ab") as stream:
                line = {"test_id": test_id, "what": what, "reason": reason, "text": text}
                stream.write(json.dumps(line).encode() + b"\n")

    def close(self) -> None:
        self._stream.close()


def _appending(path: Path) -> BinaryIO:
    """The file, opened to append whole lines: a torn last line gets its end first."""
    stream = path.open("ab", buffering=0)
    if stream.tell():
        with path.open("rb") as existing:
            existing.seek(-1, os.SEEK_END)
            if existing.read(1) != b"\n":
                stream.write(b"\n")
    return stream
