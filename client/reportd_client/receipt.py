"""What has become of a run."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from typing import Optional, TextIO

_SHOWN = 5


class EXIT(IntEnum):
    """The exit codes of reportd-send, beside 0 for all sent."""

    USAGE = 1
    NOTHING = 2
    UNREADABLE = 3
    REFUSED = 4
    NOT_SENT = 5
    NO_RIGHT = 6
    NEW_FAILURES = 7  # of `finish`


@dataclass
class Receipt:
    """What has become of a run. `spool` is where the rest is kept, None when all has been sent."""

    tests: int = 0
    tests_new: int = 0
    files: int = 0
    files_new: int = 0
    bytes_sent: int = 0
    requests: int = 0
    seconds: float = 0.0
    refused: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    run_id: Optional[str] = None
    run_url: Optional[str] = None
    spool: Optional[Path] = None
    message: Optional[str] = None
    code: int = 0  # the exit code of reportd-send

    @property
    def complete(self) -> bool:
        return self.spool is None and not self.refused and self.run_id is not None

    def line(self) -> bytes:
        """As the sender prints it at its end."""
        values = {**vars(self), "spool": str(self.spool) if self.spool else None}
        return json.dumps(values).encode() + b"\n"

    @classmethod
    def read(cls, line: bytes, folder: Path) -> Receipt:
        """From the last line that a sender prints; a sender that was killed prints none."""
        try:
            values = json.loads(line.splitlines()[-1])
            receipt = cls(**values)
            receipt.spool = Path(values["spool"]) if values.get("spool") else None
            return receipt
        except (IndexError, KeyError, TypeError, ValueError):
            kept = folder if folder.exists() else None
            return cls(
                spool=kept,
                code=5 if kept else 0,
                message=f"The sender ended early. {resume_hint(folder)}" if kept else None,
            )


def resume_hint(folder: Path) -> str:
    return f"What is left is in {folder}. Send it with: reportd-send resume {folder}"


def sentence(receipt: Receipt) -> str:
    """`118 tests, 342 files (61 new) sent in 4.1 s · 1 refused · address of the run`."""
    known = f" ({receipt.tests_new} new)" if receipt.tests_new != receipt.tests else ""
    tests, files = _counted(receipt.tests, "test"), _counted(receipt.files, "file")
    parts = [f"{tests}{known}, {files} ({receipt.files_new} new) sent in {receipt.seconds:.1f} s"]
    if receipt.refused:
        parts.append(f"{len(receipt.refused)} refused")
    if receipt.run_url:
        parts.append(receipt.run_url)
    return " · ".join(parts)


def _counted(number: int, what: str) -> str:
    return f"{number} {what if number == 1 else f'{what}s'}"


def exit_code(receipt: Receipt) -> int:
    return receipt.code or (EXIT.REFUSED if receipt.refused else 0)


def show(receipt: Receipt, to: Optional[TextIO] = None) -> None:
    """Print the summary of one run, at most 20 lines. `to`: instead of standard output."""
    to = to or sys.stdout
    if receipt.run_id is not None:
        print(sentence(receipt), file=to)
    for text in receipt.notes:
        print(f"  {text}", file=to)
    for text in receipt.refused[:_SHOWN]:
        print(f"  refused: {text}", file=to)
    if len(receipt.refused) > _SHOWN:
        print(f"  and {len(receipt.refused) - _SHOWN} more", file=to)
    if receipt.message:
        print(receipt.message, file=sys.stderr if receipt.code else to)
