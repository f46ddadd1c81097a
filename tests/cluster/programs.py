"""Programs that a test starts, kills, pauses and starts again. They end with the test process, also a killed one."""

import contextlib
import http.client
import os
import shutil
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.up_server import CHECKOUT, wait_for

LOOPBACK = "127.0.0.1"
_UNTIL_WE_END = ["setpriv", "--pdeathsig", "KILL", "--"]


def found(program: str) -> str | None:
    """The path of a program, or None where it is not installed."""
    return shutil.which(program, path=f"{Path(sys.executable).parent}:{os.environ['PATH']}:/usr/sbin:/sbin")


def required(program: str) -> str:
    """The path of a program. Skips the test without it; fails it if REQUIRE_ENGINES is in the environment."""
    path = found(program)
    if not path:
        (pytest.fail if os.environ.get("REQUIRE_ENGINES") else pytest.skip)(f"no {program} is installed")
    return path


def free_ports(count: int, address: str = LOOPBACK) -> list[int]:
    """Different ports on which nobody listens now."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server((address, 0))) for _ in range(count)]
        return [sock.getsockname()[1] for sock in sockets]


def ask(address: str, path: str, body: bytes | None = None) -> bytes:
    """The body of a reply from `address`, a host with its port. Raises HTTPError for a status that is not 2xx."""
    with urllib.request.urlopen(f"http://{address}{path}", body, timeout=10) as reply:
        return reply.read()


class Program:
    """A command whose output goes to `log`. start() waits until `has_started()` is true.

    Call start() in the main thread: the kernel ends the program together with the thread that started it.
    """

    def __init__(
        self, command: Sequence[str], log: Path, has_started: Callable[[], object], prefix: Sequence[str] = ()
    ) -> None:
        self.log = log
        self._command, self._has_started = [*_UNTIL_WE_END, *prefix, *command], has_started
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        return self._process.pid

    def start(self) -> None:
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, cwd=CHECKOUT, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        wait_for(self._started, self._explanation)

    def _started(self) -> object:
        assert self._process.poll() is None, self._explanation()
        with contextlib.suppress(OSError, http.client.HTTPException):
            return self._has_started()
        return None

    def _explanation(self) -> str:
        output = self.log.read_text(errors="replace")[-4000:]
        return f"{self._command}: exit code {self._process.poll()}, output: {output}"

    def kill(self) -> None:
        """Kills it, also when it is paused or has ended. Nothing if it was never started."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def pause(self) -> None:
        """Like a program that hangs: its connections stay open."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.kill(self.pid, signal.SIGCONT)
