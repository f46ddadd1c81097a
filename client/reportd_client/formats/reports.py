"""The report files of one command: found, recognised, and read twice, so that nothing of them is kept in memory."""

from __future__ import annotations

import glob
import hashlib
import os
from pathlib import Path
from types import ModuleType
from typing import Any, Iterator, Optional, Sequence

from reportd_client.formats import junit, result_json
from reportd_client.formats.attempts import Attempts
from reportd_client.formats.result import Empty, Result, Source, Unreadable

FORMATS: dict[str, ModuleType] = {format.NAME: format for format in (result_json, junit)}
_HEAD = 64 << 10
_ENDS = (".json", ".xml")  # of reports in a folder, which may have a thousand pictures
_SKIPPED = ("node_modules", ".git", ".venv", "__pycache__")


class Reports:
    """What the paths have. First look(), then results()."""

    def __init__(self, format: Optional[str] = None, files: Optional[Path] = None) -> None:
        self.count = 0
        self.suite: dict[str, Any] = {}
        self.notes: list[str] = []  # what is missing
        self.unreadable: list[str] = []
        self.empty: list[str] = []
        self.remark: Optional[str] = None
        self._format, self._files = format, files
        self._read: list[tuple[Source, ModuleType]] = []
        self._attempts = Attempts()
        self._digest = hashlib.sha256()

    def look(self, paths: Sequence[str]) -> None:
        """Read all files once."""
        for path in self._find(paths):
            try:
                self._look(path)
            except Empty as error:
                self.empty.append(str(error))
            except Unreadable as error:
                self.unreadable.append(str(error))
        self._attempts.settle()
        self.remark = self._attempts.note()
        names = {name for source, _ in self._read for name in source.names}
        if len(names) == 1:
            self.suite.setdefault("name", names.pop()[:500])

    def _look(self, path: Path) -> None:
        format = FORMATS[self._format] if self._format else _format_of(path)
        source, count = Source(path, self._files, self.notes.append), 0
        try:
            for result in format.read(source):
                count += 1
                self._attempts.see(source, result)
        finally:
            if count:  # those before an error are read again, too
                self.count += count
                self._read.append((source, format))
                self._take(source)

    def _take(self, source: Source) -> None:
        """Fields of the run, of the file that has them first; the earliest time."""
        began = [suite["started_at"] for suite in (source.suite, self.suite) if suite.get("started_at") is not None]
        self.suite = {**source.suite, **self.suite}
        if began and all(isinstance(each, str) for each in began):
            self.suite["started_at"] = min(began)
        source.note = lambda text: None
        with source.path.open("rb") as stream:
            file = hashlib.sha256()
            while chunk := stream.read(1 << 20):
                file.update(chunk)
        self._digest.update(file.digest())

    def results(self) -> Iterator[Result]:
        """All results, each with its attempt."""
        for source, format in self._read:
            try:
                for result in format.read(source):
                    placed = self._attempts.place(result)
                    if placed is not None:
                        yield placed
            except Unreadable:
                pass  # as the first time, which has said it

    def key(self) -> str:
        """Outside of a CI the same files meet in the same run."""
        return f"files:{self._digest.hexdigest()[:40]}"

    # --- files ---

    def _find(self, given: Sequence[str]) -> Iterator[Path]:
        """The files of the paths and patterns, each once. In folders only those that look like reports."""
        seen: set[Path] = set()
        for text in given:
            paths = [Path(text)] if Path(text).exists() else list(map(Path, sorted(glob.glob(text, recursive=True))))
            if not paths:
                self.empty.append(f"There is no {text}")
            for path in paths:
                for file in [path] if not path.is_dir() else self._in_folder(path):
                    if file.resolve() not in seen:
                        seen.add(file.resolve())
                        yield file

    def _in_folder(self, folder: Path) -> Iterator[Path]:
        for root, folders, names in os.walk(folder):
            folders[:] = sorted(name for name in folders if name not in _SKIPPED)
            for name in sorted(names):
                path = Path(root, name)
                if name.lower().endswith(_ENDS) and path.is_file() and (self._format or _may_be_report(path)):
                    yield path


def _may_be_report(path: Path) -> bool:
    try:
        return _looks(_head(path)) is not None
    except Unreadable:
        return True  # reading it says why


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            return stream.read(_HEAD)
    except OSError as error:
        raise Unreadable(f"Cannot read {path}: {error.strerror}") from None


def _looks(head: bytes) -> Optional[ModuleType]:
    return next((format for format in FORMATS.values() if format.looks(head)), None)


def _format_of(path: Path) -> ModuleType:
    """The format of a file. Raises Unreadable, Empty."""
    head = _head(path)
    if not head.strip():
        raise Empty(f"{path} is empty")
    found = _looks(head)
    if found is None and (result_json.begins_json(head) or path.suffix.lower() == ".json"):
        return result_json  # which says what is wrong
    if found is None:
        raise Unreadable(f"{path} is of no format that is known: {', '.join(FORMATS)}")
    return found
