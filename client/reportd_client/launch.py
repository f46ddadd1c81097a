"""Starts the sender of a spool and waits for it, within bounds. The test process itself never opens a connection."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Callable, Optional

from reportd_client.limits import LAST_REQUEST_SECONDS
from reportd_client.notes import Notes
from reportd_client.receipt import Receipt
from reportd_client.sender.receipts import read_lines
from reportd_client.settings import Settings
from reportd_client.spool import Follower

_KILL_SECONDS = 2.0
_POLL_SECONDS = 0.05
_START = "from reportd_client.sender.__main__ import main; main()"


class Launched:
    """A sender that runs. `result` waits at most some seconds for the receipt, `kill` ends what does not end."""

    def __init__(
        self, folder: Path, drain: float, result: Callable[[float], Optional[bytes]], kill: Callable[[], None]
    ) -> None:
        self._folder, self._drain, self._result, self._kill = folder, drain, result, kill

    def finish(self) -> Receipt:
        """After the end of the run is written: wait until all is sent, at most `drain` and the last requests' time."""
        line = self._result(self._drain + 1)
        if line is None:
            self._stop()
            line = self._result(LAST_REQUEST_SECONDS + 1)
        if line is None:
            self._kill()
        return Receipt.read(line or b"", self._folder)

    def _stop(self) -> None:
        try:
            (self._folder / "stop").touch()
        except OSError:
            pass

    def flush(self, seconds: float) -> bool:
        """Wait until the tests that have ended so far are on the server: whether they are."""
        wanted = _ended(self._folder)
        deadline = time.monotonic() + seconds
        while not wanted <= _complete(self._folder):
            if time.monotonic() > deadline:
                return False
            time.sleep(_POLL_SECONDS)
        return True


def _ended(folder: Path) -> set[str]:
    return {found.record["ref"] for found in Follower(folder).poll() if found.record["kind"] == "test"}


def _complete(folder: Path) -> set[str]:
    return {ref for line in read_lines(folder / "receipts.jsonl") for ref in line.get("complete", ())}


def launch(folder: Path, token: str | None, settings: Settings, notes: Notes) -> Launched | None:
    """Start a sender: a process of its own, or a thread where none can be started."""
    if settings.sender == "process":
        try:
            return _process(folder, token, settings)
        except OSError as error:
            notes.problem("process", f"Cannot start a process for sending ({error.strerror}): a thread sends")
    return _thread(folder, token, settings)


def _process(folder: Path, token: str | None, settings: Settings) -> Launched:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("COV_CORE_", "PYTEST_"))}
    if token is not None:  # never an argument: the list of processes shows arguments to everybody
        environment["REPORTD_TOKEN"] = token
    # The tests may put their own modules first on the path, or be in a folder with a module named like one of Python's.
    package = str(Path(__file__).parent.parent)
    start = f"import sys; sys.path[:1] = []; sys.path.append({package!r}); {_START}"
    command = [sys.executable, "-c", start, str(folder), "--drain", str(settings.drain), "--parent", str(os.getpid())]
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(  # noqa: S603
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            env=environment,
            cwd=str(folder.parent),
            start_new_session=True,
        )
    return Launched(folder, settings.drain, lambda seconds: _output(process, seconds), lambda: _killed(process))


def _output(process: subprocess.Popen[bytes], seconds: float) -> bytes | None:
    """What the process printed, once it has ended; None while it runs."""
    try:
        return process.communicate(timeout=seconds)[0]
    except subprocess.TimeoutExpired:
        return None
    except (OSError, ValueError):  # a test has closed all file descriptors, or has waited for all children
        return b""


def _killed(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    _output(process, _KILL_SECONDS)


def _thread(folder: Path, token: str | None, settings: Settings) -> Launched:
    from reportd_client.sender.http import Patience
    from reportd_client.sender.main import send

    answer: list[bytes] = []
    ended = threading.Event()

    def work() -> None:
        try:
            answer.append(send(folder, token, Patience(settings.drain)).line())
        finally:
            ended.set()

    def result(seconds: float) -> bytes | None:
        return (answer[0] if answer else b"") if ended.wait(seconds) else None

    threading.Thread(target=work, name="reportd-sender", daemon=True).start()
    return Launched(folder, settings.drain, result, lambda: None)
