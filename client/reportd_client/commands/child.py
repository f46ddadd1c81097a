"""A command that runs as if nobody had started it for somebody else: its output, signals and exit code are its own."""

from __future__ import annotations

import os
import signal
import subprocess
from typing import Mapping, Optional, Sequence

# A terminal sends these to all processes of the foreground, so the command has them already.
_TYPED = [getattr(signal, name) for name in ("SIGINT", "SIGQUIT") if hasattr(signal, name)]
_PASSED = ("SIGINT", "SIGQUIT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2")


def run_child(command: Sequence[str], environment: Mapping[str, str]) -> int:
    """The exit code of a command, 128 and its number for a signal as in a shell. Raises OSError when it cannot start.

    It gets the input, the outputs and all other open files of this process. A signal that this process ignores is
    ignored by the command, too; others are passed on, and this process waits for what the command makes of them.
    """
    child: Optional[subprocess.Popen[bytes]] = None
    early: list[int] = []

    def pass_on(number: int, frame: object) -> None:
        if child is None:
            early.append(number)
        elif os.name != "nt" and not (number in _TYPED and _is_in_foreground()):  # a console of Windows does it itself
            child.send_signal(number)

    numbers = [getattr(signal, name) for name in _PASSED if hasattr(signal, name)]
    former = {number: signal.getsignal(number) for number in numbers}
    former = {number: action for number, action in former.items() if action not in (signal.SIG_IGN, None)}
    if hasattr(signal, "SIGCHLD") and signal.getsignal(signal.SIGCHLD) == signal.SIG_IGN:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # otherwise the exit code is lost and counts as 0
    try:
        for number in former:
            signal.signal(number, pass_on)
        child = subprocess.Popen(command, env=environment, close_fds=False)  # noqa: S603
        for number in early:
            child.send_signal(number)
        code = child.wait()
    finally:
        for number, action in former.items():
            signal.signal(number, action)
    return code if code >= 0 else 128 - code


def _is_in_foreground() -> bool:
    """Whether the keys of a terminal send signals to this process and the command."""
    try:
        terminal = os.open(os.ctermid(), os.O_RDONLY | os.O_NOCTTY)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:
        return False
    finally:
        os.close(terminal)
