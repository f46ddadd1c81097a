"""What commands print beside their result."""

from __future__ import annotations

import json
import shutil
import sys
import threading
from pathlib import Path
from types import TracebackType
from typing import Optional, TextIO

UNREACHED = 10.0  # seconds without any answer, after which a command gives up
_SECONDS = 0.5


class Progress:
    """One line on a terminal, rewritten while a command works; nothing elsewhere. A context manager."""

    _shown: Optional[Progress] = None

    def __init__(self, off: bool = False, stream: Optional[TextIO] = None) -> None:
        self._stream = stream or sys.stderr
        self._on = not off and self._stream.isatty()
        self._lock = threading.RLock()
        self._line = ""
        self._over = threading.Event()
        self._thread: Optional[threading.Thread] = None

    def __enter__(self) -> Progress:
        Progress._shown = self
        return self

    def __exit__(
        self, kind: Optional[type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        self._over.set()
        if self._thread is not None:
            self._thread.join()
        self.show("")
        Progress._shown = None

    def show(self, text: str) -> None:
        """Show this line instead of the one before."""
        if not self._on:
            return
        with self._lock:
            width = max(shutil.get_terminal_size().columns - 1, 10)
            if text[:width] != self._line:
                self._erase()
                self._line = text[:width]
                self._stream.write(self._line)
                self._stream.flush()

    def print(self, text: str) -> None:
        """Print a line above."""
        with self._lock:
            line = self._line
            self._erase()
            self._stream.write(f"{text}\n")
            self.show(line)

    def _erase(self) -> None:
        if self._line:
            self._stream.write(f"\r{' ' * len(self._line)}\r")  # no control sequence: not every terminal knows them
        self._line = ""

    def follow(self, spool: Path, tests: Optional[int] = None) -> None:
        """From now on, show how many of the tests in a spool have been sent. `tests`: how many there are, if known."""
        if self._on:
            of = "" if tests is None else f" of {tests:,}"
            self.show(f"0{of} tests sent")
            self._thread = threading.Thread(target=self._follow, args=(spool, of), daemon=True)
            self._thread.start()

    def _follow(self, spool: Path, of: str) -> None:
        place = sent = 0
        while not self._over.wait(_SECONDS):
            try:
                with (spool / "receipts.jsonl").open("rb") as stream:
                    stream.seek(place)
                    for line in stream:
                        if not line.endswith(b"\n"):
                            break
                        place += len(line)
                        sent += len(json.loads(line).get("complete", ()))
            except (OSError, ValueError):  # not there yet or not any more
                continue
            self.show(f"{sent:,}{of} tests sent")


def say(text: str) -> None:
    """One line for people, who read it in the log of a CI job."""
    line = f"reportd-send: {text}"
    if Progress._shown is not None:
        Progress._shown.print(line)
    else:
        print(line, file=sys.stderr)
