"""Output of `reportd check`: each finding as soon as it is found, then a summary; progress on a terminal.

Keeps counts, never lists: there may be ten million artifacts, files or findings.
"""

import json
import sys
import threading
import time
from dataclasses import asdict, dataclass, field
from typing import Any

# In the order of the summary. The first four are about rows, which the check never changes; the others about files.
KINDS = {
    "missing_file": "artifacts whose file is missing",
    "not_a_file": "artifacts whose path is not a regular file",
    "wrong_size": "artifacts whose file has the wrong size",
    "wrong_hash": "artifacts whose file has the wrong SHA-256",
    "file_without_row": "files without an artifact row",
    "unknown_file": "files at paths that reportd never uses; never removed",
    "held_up_removal": "files of deleted artifacts that wait longer than --grace",
    "stale_staging": "staged files of server processes that have ended",
    "unused_content": "content entries that no artifact shares",
    "wrong_content": "content entries whose SHA-256 is not their name",
}
_MAX_PRINTED = 1000  # findings of each kind, in text output
_PROGRESS_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Finding:
    """One problem. `size` in bytes: the size in the row, or of the file when there is no row."""

    kind: str
    path: str
    size: int
    artifact_id: str | None = None
    found: str | None = None  # the wrong size, or the wrong SHA-256
    removed: bool = False


@dataclass(slots=True)
class Tally:
    """Counts of the check. Sizes in bytes; `stored_bytes` counts files that share an inode once."""

    artifacts: int = 0
    artifact_bytes: int = 0
    stored_bytes: float = 0.0
    files: int = 0
    content_entries: int = 0
    pending_removal: int = 0
    younger_than_grace: int = 0
    findings: dict[str, int] = field(default_factory=dict)
    finding_bytes: dict[str, int] = field(default_factory=dict)
    removed: int = 0
    unreadable: int = 0


class Report:
    """Counts and prints findings. `as_json`: one JSON object per line, each finding and then the summary."""

    def __init__(self, as_json: bool) -> None:
        self.tally = Tally()
        self.plain: dict[str, Any] = {}  # the summary
        self._as_json = as_json
        self._lock = threading.RLock()  # worker threads report errors and findings, too
        self._shows_progress = sys.stderr.isatty()
        self._phase, self._began, self._shown = "", 0.0, 0.0

    def finding(self, finding: Finding) -> None:
        """Count and print one finding; as text, at most 1000 of a kind are printed."""
        with self._lock:
            self._count(finding)
            self._print_finding(finding)

    def _count(self, finding: Finding) -> None:
        tally = self.tally
        tally.findings[finding.kind] = tally.findings.get(finding.kind, 0) + 1
        tally.finding_bytes[finding.kind] = tally.finding_bytes.get(finding.kind, 0) + finding.size
        tally.removed += finding.removed

    def _print_finding(self, finding: Finding) -> None:
        if self._as_json:
            plain = {key: value for key, value in asdict(finding).items() if value is not None}
            self._print_json({"finding": plain.pop("kind"), **plain})
            return
        number = self.tally.findings[finding.kind]
        if number <= _MAX_PRINTED:
            notes = [
                f"{finding.size} bytes",
                f"found: {finding.found}" if finding.found else "",
                f"artifact {finding.artifact_id}" if finding.artifact_id else "",
                "removed" if finding.removed else "",
            ]
            self._print(f"{finding.kind:16}  {printable(finding.path)}  ({', '.join(filter(None, notes))})")
        elif number == _MAX_PRINTED + 1:
            self._print(f"{finding.kind:16}  … more of them are only counted; --json prints all")

    def _print_json(self, value: dict[str, Any]) -> None:
        self._print(json.dumps(value, separators=(",", ":")))

    def unreadable(self, error: OSError, path: str = "") -> None:
        """Report a file or folder that could not be read or removed. The check continues, but is then incomplete."""
        with self._lock:
            self.tally.unreadable += 1
            if self.tally.unreadable > _MAX_PRINTED:
                return
            self._clear()
            place = printable(path or str(error.filename or ""))
            print(f"reportd: {place}: {error.strerror or type(error).__name__}", file=sys.stderr, flush=True)

    def summary(self, failure: str | None = None) -> int:
        """Print the summary; the exit code: 0 no findings, 1 findings, 2 the check is incomplete."""
        tally = self.tally
        if failure is None and tally.unreadable:
            failure = f"{tally.unreadable} files or folders could not be read or removed."
        code = 2 if failure is not None else 1 if tally.findings else 0
        self.plain = self._plain(failure)
        if self._as_json:
            self._print_json({"summary": self.plain, "exit_code": code})
        else:
            self._print("\n".join(self._lines()))
            if failure is not None:
                self._print(f"The check is incomplete: {failure}")
            elif tally.findings:
                number = sum(tally.findings.values())
                self._print(f"{number} findings, {tally.removed} of them removed, {number - tally.removed} left.")
            else:
                self._print("Rows and files agree.")
        return code

    def progress(self, phase: str, done: int, total: int | None = None) -> None:
        """Show progress, at most twice a second, and only when standard error is a terminal."""
        if not self._shows_progress:
            return
        now = time.monotonic()
        if phase != self._phase:
            self._phase, self._began = phase, now
        if now - self._shown >= _PROGRESS_SECONDS:
            self._shown = now
            rate = done / max(now - self._began, 0.001)
            percent = f" ({min(99, 100 * done // total)} %)" if total else ""
            print(f"\r\033[K{phase}: {done:,}{percent}, {rate:,.0f}/s", end="", file=sys.stderr, flush=True)

    def _plain(self, failure: str | None) -> dict[str, Any]:
        plain = asdict(self.tally)
        stored = round(plain["stored_bytes"])
        saved = max(0, self.tally.artifact_bytes - stored)
        return {**plain, "stored_bytes": stored, "saved_bytes": saved, "complete": failure is None, "failure": failure}

    def _lines(self) -> list[str]:
        tally = self.tally
        stored = round(tally.stored_bytes)
        lines: list[tuple[str, int | str, int | str]] = [
            ("artifacts", tally.artifacts, tally.artifact_bytes),
            ("disk space that they take", "", stored),
            ("disk space saved by hard links", "", max(0, tally.artifact_bytes - stored)),
            ("files", tally.files, ""),
            ("content entries", tally.content_entries, ""),
            ("files of deleted artifacts, not removed yet", tally.pending_removal, ""),
            ("files that are younger than --grace or being uploaded", tally.younger_than_grace, ""),
            *(
                (KINDS[kind], tally.findings[kind], tally.finding_bytes[kind])
                for kind in KINDS
                if kind in tally.findings
            ),
        ]
        return [
            f"{'':58}{'number':>14}{'bytes':>22}",
            *(f"{a:58}{_grouped(b):>14}{_grouped(c):>22}" for a, b, c in lines),
        ]

    def _print(self, line: str) -> None:
        self._clear()
        print(line, flush=True)

    def _clear(self) -> None:
        if self._shows_progress:
            print("\r\033[K", end="", file=sys.stderr, flush=True)


def printable(path: str) -> str:
    """A path as one printable line."""
    return path if path.isascii() and path.isprintable() else json.dumps(path)


def _grouped(value: int | str) -> str:
    return f"{value:,}" if isinstance(value, int) else value
