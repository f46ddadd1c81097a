"""The files that a command's paths, folders and patterns name."""

from __future__ import annotations

import glob
import os
import re
from pathlib import Path
from typing import Callable, Iterator, Sequence

from reportd_client.formats.result import Unreadable

_HEAD = 64 << 10
# Of reports in a folder, which may have a thousand pictures.
_ENDS = (".json", ".jsonl", ".ndjson", ".xml", ".zip", ".tap", ".trx", ".har")
_ATTACHMENT = re.compile(r"[0-9a-fA-F-]{32,36}-attachment\b")  # of Allure, which may be a report of its own kind
_SKIPPED = ("node_modules", ".git", ".venv", "__pycache__")


def find(given: Sequence[str], missing: Callable[[str], None], may_be_report: Callable[[Path], bool]) -> Iterator[Path]:
    """The files of paths and patterns, each once. In folders only those that look like reports. `missing` gets a
    sentence for each path that does not exist."""
    seen: set[Path] = set()
    for text in given:
        paths = [Path(text)] if Path(text).exists() else list(map(Path, sorted(glob.glob(text, recursive=True))))
        if not paths:
            missing(f"There is no {text}")
        for path in paths:
            for file in _in_folder(path, may_be_report) if path.is_dir() else [path]:
                if file.resolve() not in seen:
                    seen.add(file.resolve())
                    yield file


def _in_folder(folder: Path, may_be_report: Callable[[Path], bool]) -> Iterator[Path]:
    for root, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if name not in _SKIPPED)
        for name in sorted(names):
            path = Path(root, name)
            if name.lower().endswith(_ENDS) and not is_attachment(name) and path.is_file() and may_be_report(path):
                yield path


def is_attachment(name: str) -> bool:
    return _ATTACHMENT.match(name) is not None


def head(path: Path) -> bytes:
    """The beginning of a file, by which its format is recognised. Raises Unreadable."""
    try:
        with path.open("rb") as stream:
            return stream.read(_HEAD)
    except OSError as error:
        raise Unreadable(f"Cannot read {path}: {error.strerror}") from None
