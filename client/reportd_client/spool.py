"""The spool: the folder in which a run is written down before it is sent.

    run.json            format, spool id, fields of the run, address of the server; never the token
    w-<pid>-<n>.jsonl   the records of one writing process: `crc32 length json` in each line
    files/              screenshots and other files: `<sha256>`, or `link-…` for a hard link to a large file
    receipts.jsonl      written by the sender: what will be sent together, and what the server has stored
    refused.jsonl       written by the sender: what will never be sent, and why
    lock, log, stop     of the sender

Records: `begin` of a test, `add` of an entry to it, `test` with its verdict, `crash` of a process during a test, `run`
with what is known only later (metadata, how many tests there are, errors outside of them), `end` of the run. A record
is appended by one `write` and not synced: the spool survives the process, not a power cut.
"""

from __future__ import annotations

import json
import time
import uuid
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Iterator

from reportd_client.system import System

FORMAT = 1
LISTS = ("steps", "checkpoints", "console_logs", "network_logs", "artifacts")
_CHUNK = 1 << 20


class SpoolError(Exception):
    """A folder that is no spool, or one of another format."""


class Spool:
    """The paths of one spool, and its run.json."""

    def __init__(self, folder: Path, about: dict[str, Any]) -> None:
        self.folder, self.about = folder, about
        self.files = folder / "files"
        self.id = str(about["spool_id"])

    @classmethod
    def create(cls, root: Path, about: dict[str, Any]) -> Spool:
        """A new spool below `root`. Raises OSError."""
        spool_id = str(uuid.UUID(bytes=System.urandom(16), version=4))
        folder = root / f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime(System.now() / 1000))}-{spool_id[:8]}"
        (folder / "files").mkdir(parents=True)
        about = {"format": FORMAT, "spool_id": spool_id, "created_at": System.now(), **about}
        unfinished = folder / "run.json.new"
        unfinished.write_text(json.dumps(about, default=repr), "utf-8")
        unfinished.replace(folder / "run.json")
        return cls(folder, about)

    @classmethod
    def open(cls, folder: Path) -> Spool:
        """An existing spool. Raises SpoolError."""
        try:
            about = json.loads((folder / "run.json").read_text("utf-8"))
        except FileNotFoundError:
            raise SpoolError(f"{folder} is no spool: it has no run.json") from None
        except (OSError, ValueError) as error:
            raise SpoolError(f"Cannot read {folder / 'run.json'}: {error}") from None
        if not isinstance(about, dict) or about.get("format") != FORMAT or not isinstance(about.get("run"), dict):
            raise SpoolError(f"{folder} was written by another version of reportd-client. Send it with that version")
        return cls(folder, about)


def spools_in(root: Path) -> list[Path]:
    """The folders of the spools at or below `root`, the oldest first."""
    if (root / "run.json").is_file():
        return [root]
    return sorted(path.parent for path in root.glob("*/run.json"))


def encode(record: dict[str, Any]) -> bytes:
    """The line of a record. Values that JSON does not have become text."""
    try:
        body = json.dumps(record, separators=(",", ":"), allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError):
        body = json.dumps(_plain(record, 20), separators=(",", ":")).encode()
    return b"%08x %d %s\n" % (zlib.crc32(body), len(body), body)


def _plain(value: Any, depth: int) -> Any:
    """The value as JSON can have it: what it cannot have becomes its repr."""
    if value is None or isinstance(value, (bool, str, int)):
        return value
    if isinstance(value, dict) and depth:
        return {str(name): _plain(item, depth - 1) for name, item in value.items()}
    if isinstance(value, (list, tuple)) and depth:
        return [_plain(item, depth - 1) for item in value]
    if isinstance(value, float) and value - value == 0:  # neither infinite nor NaN
        return value
    try:
        return repr(value)
    except Exception:
        return f"<{type(value).__name__}>"


def decode(line: bytes) -> dict[str, Any] | None:
    """The record of a line without its newline; None when the line is torn."""
    crc, _, rest = line.partition(b" ")
    length, _, body = rest.partition(b" ")
    if not length.isdigit() or int(length) != len(body) or crc != b"%08x" % zlib.crc32(body):
        return None
    record = json.loads(body)
    return record if isinstance(record, dict) else None


@dataclass(frozen=True)
class Located:
    """A record, and where it is: file, first byte, byte after the last."""

    file: Path
    start: int
    end: int
    record: dict[str, Any]


class Follower:
    """Reads what has been appended to the record files of a spool since the last time."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._read: dict[Path, int] = {}  # bytes read of each file, up to the last whole line
        self.torn = 0  # lines that a killed process or a full disk left

    def poll(self) -> Iterator[Located]:
        """The new records. A last line that has no end yet is read again the next time."""
        for file in sorted(self._folder.glob("w-*.jsonl")):
            yield from self._records(file)

    def unfinished(self) -> int:
        """How many files end in the middle of a record. Of use when their writers have ended."""
        return sum(file.stat().st_size > at for file, at in self._read.items())

    def _records(self, file: Path) -> Iterator[Located]:
        at = self._read.setdefault(file, 0)
        if file.stat().st_size <= at:
            return
        with file.open("rb") as stream:
            stream.seek(at)
            rest = b""
            while chunk := stream.read(_CHUNK):
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    end = at + len(line) + 1
                    record = decode(line)
                    if record is not None:
                        yield Located(file, at, end, record)
                    elif line:
                        self.torn += 1
                    at = self._read[file] = end


def read_range(file: Path, start: int, end: int) -> Iterator[dict[str, Any]]:
    """The records between two positions that Follower gave."""
    with file.open("rb") as stream:
        stream.seek(start)
        for line in stream:
            start += len(line)
            if start > end:
                return
            record = decode(line.rstrip(b"\n"))
            if record is not None:
                yield record
