"""The processes of one unit, as systemctl.py runs them."""

import ctypes
import grp
import os
import pwd
import re
import select
import shlex
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_PR_SET_CHILD_SUBREAPER = 36
_SILENT = {"keepalived.service"}  # it reports that it is ready to process 1 alone
_FIRST_SOCKET = 3  # file descriptors of sockets begin here


class UnitProcess:
    """Starts, watches and restarts a service. Every process of the unit stays below this one."""

    def __init__(self, name: str, settings: dict[str, list[str]], state: Path) -> None:
        self.name, self._settings, self._state = name, settings, state
        self._stopping = self._restarting = self._reloading = False
        self._main = 0
        self._notify = f"/run/units/{name}.notify"

    def _one(self, key: str, default: str = "") -> str:
        return (self._settings.get(key) or [default])[-1]

    def run_until_stopped(self, listen_streams: list[str]) -> int:
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        signal.signal(signal.SIGTERM, self._stop)
        signal.signal(signal.SIGUSR1, self._restart)
        signal.signal(signal.SIGHUP, self._reload)
        self._sockets = [_listening(stream) for stream in listen_streams]  # with the options of reportd.socket
        numbers = [listening.fileno() for listening in self._sockets]
        assert numbers == list(range(_FIRST_SOCKET, _FIRST_SOCKET + len(numbers))), numbers
        self._messages = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        Path(self._notify).unlink(missing_ok=True)
        self._messages.bind(self._notify)
        Path(self._notify).chmod(0o777)
        self._prepare()
        while True:
            self._restarting = False
            status = self._once()
            if self._restarting and not self._stopping:
                continue
            if self._stopping or self._one("Type") == "oneshot" or not self._is_restarted_after(status):
                break
            self._report("retrying")
            until = time.monotonic() + float(self._one("RestartSec", "0.1").removesuffix("s"))
            while time.monotonic() < until and not self._stopping:
                time.sleep(0.05)
            if self._stopping:
                break
        if self._stopping or status == 0:
            self._state.unlink(missing_ok=True)
        else:
            self._report("failed")
        return 0

    def _report(self, state: str) -> None:
        new = self._state.with_suffix(".new")
        new.write_text(f"{state} {os.getpid() if state != 'failed' else ''}")
        new.replace(self._state)

    def _stop(self, *_: object) -> None:
        self._stopping = True

    def _restart(self, *_: object) -> None:
        self._restarting = True

    def _reload(self, *_: object) -> None:
        self._reloading = True

    def _is_restarted_after(self, status: int) -> bool:
        how = self._one("Restart", "no")
        return how == "always" or (how == "on-failure" and status != 0) or (how == "on-abnormal" and status < 0)

    def _prepare(self) -> None:
        """Folders, credentials and the environment."""
        self._user = pwd.getpwnam(self._one("User", "root"))
        self._group = grp.getgrnam(self._one("Group")) if self._one("Group") else grp.getgrgid(self._user.pw_gid)
        for name in " ".join(self._settings.get("StateDirectory", [])).split():
            folder = Path("/var/lib") / name
            folder.mkdir(parents=True, exist_ok=True)
            folder.chmod(int(self._one("StateDirectoryMode", "755"), 8))
            shutil.chown(folder, self._user.pw_name, self._group.gr_name)
        credentials = Path("/run/credentials") / self.name
        for line in self._settings.get("LoadCredential", []):
            name, _, source = line.partition(":")
            credentials.mkdir(parents=True, exist_ok=True)
            copy = credentials / name
            copy.unlink(missing_ok=True)
            shutil.copy(source, copy)
            copy.chmod(0o400)
            shutil.chown(copy, self._user.pw_name)
        keep = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}
        self._env = {**keep, "USER": self._user.pw_name, "HOME": self._user.pw_dir, "NOTIFY_SOCKET": self._notify}
        for line in self._settings.get("Environment", []):
            self._env.update(word.partition("=")[::2] for word in shlex.split(line))
        for file in self._settings.get("EnvironmentFile", []):
            if file.startswith("-") and not Path(file[1:]).exists():
                continue
            lines = Path(file.lstrip("-")).read_text().splitlines()
            found = [line.partition("=")[::2] for line in lines if re.match(r"\w+=", line)]
            self._env.update({name: (shlex.split(value) or [""])[0] for name, value in found})

    def _once(self) -> int:
        """From the start to the end of the service: its exit code, negative after a signal."""
        try:
            for line in self._settings.get("ExecStartPre", []):
                if (status := self._run(line)) and not line.startswith("-"):
                    return status
            started = time.monotonic()
            process = self._launch(self._one("ExecStart"), sockets=True)
            kind = self._one("Type", "simple")
            if kind == "notify" and self.name in _SILENT:
                kind = "simple"
            if kind in ("oneshot", "forking") and ((status := process.wait()) or kind == "oneshot"):
                return status
            self._main = int(Path(self._one("PIDFile")).read_text()) if kind == "forking" else process.pid
            while kind == "notify" and not self._is_ready():
                if (status := self._ended()) is not None:
                    return status
                if self._stopping or time.monotonic() > started + 900:
                    return self._end()
            for line in self._settings.get("ExecStartPost", []):
                if self._run(line):
                    return self._end() or 1
            self._report("active")
            while not self._stopping and not self._restarting:
                if (status := self._ended()) is not None:
                    return status
                if self._reloading:
                    self._reloading = False
                    self._env["MAINPID"] = str(self._main)
                    for line in self._settings.get("ExecReload", []):
                        assert self._run(line) == 0, line
                    self._report("active")
                self._is_ready()  # takes further messages
            return self._end()
        finally:
            self._kill_all(signal.SIGKILL)
            for line in self._settings.get("ExecStopPost", []):
                self._run(line)

    def _run(self, line: str) -> int:
        """The exit code of a command that comes before or after the service."""
        try:
            return self._launch(line).wait()
        except FileNotFoundError as error:
            print(error, flush=True)
            return 203

    def _launch(self, line: str, sockets: bool = False) -> subprocess.Popen[bytes]:
        flags = re.match(r"[-+!@:]*", line)[0]
        words: list[str] = []
        for word in shlex.split(line[len(flags) :]):
            variable = re.fullmatch(r"\$(\w+)", word)  # alone, a variable is split into words
            words += shlex.split(self._env.get(variable[1], "")) if variable else [self._filled(word)]
        is_root, is_private = not self._user.pw_uid or "+" in flags, self._needs_own_tmp()
        if is_private and not is_root:
            ids = [f"--reuid={self._user.pw_uid}", f"--regid={self._group.gr_gid}", "--init-groups"]
            words = ["setpriv", *ids, "--", *words]
        if is_private:
            words = [
                "unshare",
                "--mount",
                "sh",
                "-ec",
                'mount -t tmpfs -o mode=1777 tmpfs /tmp; exec "$@"',
                "sh",
                *words,
            ]
        handed = self._sockets if sockets else []

        def become() -> None:
            if not is_root and not is_private:
                os.initgroups(self._user.pw_name, self._group.gr_gid)
                os.setgid(self._group.gr_gid)
                os.setuid(self._user.pw_uid)
            os.umask(int(self._one("UMask", "022"), 8))

        given = {**self._env, **({"LISTEN_FDS": str(len(handed))} if handed else {})}
        if handed:  # LISTEN_PID must be the program's own, which only a shell in between knows
            words = ["sh", "-c", 'export LISTEN_PID=$$; exec "$@"', "sh", *words]
        passed = [listening.fileno() for listening in handed]
        return subprocess.Popen(words, env=given, cwd="/", preexec_fn=become, pass_fds=passed, stdin=subprocess.DEVNULL)

    def _needs_own_tmp(self) -> bool:
        # reportd keeps nothing in /tmp, but the tests' Python may be there.
        return self._one("PrivateTmp") in ("yes", "true") and not self.name.startswith("reportd")

    def _filled(self, word: str) -> str:
        return re.sub(r"\$\{(\w+)\}", lambda found: self._env.get(found[1], ""), word)

    def _is_ready(self) -> bool:
        """Waits a moment for a message of the service."""
        with suppress(InterruptedError):
            if select.select([self._messages], [], [], 0.05)[0]:
                return b"READY=1" in self._messages.recv(4096)
        return False

    def _ended(self) -> int | None:
        """Collects processes that have ended: the exit code of the main one, None while it runs."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return 0
            if pid == self._main:
                return os.waitstatus_to_exitcode(status)
            if pid == 0:
                return None

    def _end(self) -> int:
        """Stops the service as KillMode says."""
        if self._one("KillMode", "control-group") == "control-group":
            self._kill_all(signal.SIGTERM)
        with suppress(ProcessLookupError):
            os.kill(self._main, signal.SIGTERM)
        until = time.monotonic() + 90
        while (status := self._ended()) is None and time.monotonic() < until:
            time.sleep(0.02)
        return status or 0

    def _kill_all(self, number: int) -> None:
        if number == signal.SIGKILL and self._one("KillMode") == "process":
            return
        while pids := list(_below(os.getpid())):
            for pid in pids:
                with suppress(ProcessLookupError):
                    os.kill(pid, number)
            if number != signal.SIGKILL:
                return
            with suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
            time.sleep(0.02)


def _below(pid: int) -> Iterator[int]:
    with suppress(OSError):
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            yield int(child)
            yield from _below(int(child))


def _listening(stream: str) -> socket.socket:
    address, _, port = stream.rpartition(":")
    listening = socket.create_server((address, int(port)), backlog=4096)
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, 5)
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listening
