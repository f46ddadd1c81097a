"""Programs in the hosts of hosts.py."""

import os
import signal
import subprocess
from contextlib import suppress
from pathlib import Path

from tests.up_server import PATIENCE, wait_for


class Process:
    """A program in a host. `pid` is its id on this machine, so that os.kill and /proc work; its output is in `log`."""

    def __init__(self, entered: subprocess.Popen[bytes], log: Path) -> None:
        self._entered, self.log = entered, log  # nsenter, which waits for the program
        self.pid = int(wait_for(self._program, self.output))

    def _program(self) -> str:
        assert not self.ended(), f"ended with {self._entered.returncode}: {self.output()}"
        return first_child(self._entered.pid)

    def output(self) -> str:
        return self.log.read_text("utf-8", "replace")

    def ended(self) -> bool:
        return self._entered.poll() is not None

    def send(self, number: int) -> None:
        """Sends it to the program alone, not to its child processes."""
        if not self.ended():
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)
            if number != signal.SIGSTOP:
                self._entered.send_signal(signal.SIGCONT)  # nsenter stops itself together with the program

    def wait(self) -> int:
        return self._entered.wait(PATIENCE)

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Sends the signal and returns the exit code. Kills the program after PATIENCE."""
        self.send(number)
        try:
            return self.wait()
        except subprocess.TimeoutExpired:
            self.send(signal.SIGKILL)
            raise


def first_child(pid: int) -> str:
    """Its process id, or "" while there is none."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/task/{pid}/children").read_text().partition(" ")[0]
    return ""
