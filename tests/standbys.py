"""A real standby of a PostgreSQL: a copy that follows its primary, made by pg_basebackup."""

import os
import shlex
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg

from server.database.embedded import Postgres, find_programs
from tests.up_server import PATIENCE

# As of the tests' own PostgreSQL, but a commit is confirmed when it is in the WAL, as in a server that matters. The WAL
# is kept: on a busy machine, a standby may begin to follow its primary late.
FAST = {
    "fsync": "off",
    "full_page_writes": "off",
    "max_connections": "60",
    "shared_buffers": "32MB",
    "wal_keep_size": "512MB",
}


class StandbyServer(Postgres):
    """A standby of `primary`. It can be stopped and started again, suspended, slowed down and promoted."""

    def __init__(self, folder: Path, primary: Postgres, settings: Mapping[str, str] = {}) -> None:
        super().__init__(folder, os.environ.get("TEST_POSTGRES", ""), {**FAST, **settings})
        self._primary = primary

    def _make_data(self, deadline: float) -> None:
        program = find_programs(None, self._programs) / "pg_basebackup"
        source = ["--dbname", f"host={self._primary.socket} port=5432 user=postgres"]
        options = ["--checkpoint=fast", "--no-sync", "--write-recovery-conf", "--pgdata", str(self.data)]
        if account := self._account():
            os.chown(self.folder, *account)
        assert self._spawn(program, *source, *options).wait(max(0, deadline - time.monotonic())) == 0, self._output()

    def _ready(self) -> bool:
        return self.answers()

    def answers(self) -> bool:
        try:
            with psycopg.connect(self.dsn("postgres"), connect_timeout=2):
                return True
        except psycopg.OperationalError:
            return False

    def run(self, sql: str) -> list[tuple]:
        """Runs a statement in the database postgres, and returns its rows, if any."""
        with psycopg.connect(self.dsn("postgres"), autocommit=True) as connection:
            cursor = connection.execute(sql)
            return cursor.fetchall() if cursor.description else []

    def configure(self, **settings: str) -> None:
        """Changes settings. Each process applies them when it comes to it."""
        for name, value in settings.items():
            self.run(f"ALTER SYSTEM SET {name} = '{value}'")
        self.run("SELECT pg_reload_conf()")

    def sleeps(self) -> bool:
        """Whether a statement is in pg_sleep()."""
        return bool(self.run("SELECT 1 FROM pg_stat_activity WHERE wait_event = 'PgSleep'"))

    def promote(self) -> None:
        assert self.run(f"SELECT pg_promote(wait_seconds => {PATIENCE:.0f})") == [(True,)]

    @contextmanager
    def suspended(self) -> Iterator[None]:
        """All its processes are stopped: it accepts connections, and never answers."""
        processes = [self._postmaster(), *_children(self._postmaster())]
        for pid in processes:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in processes:
                with suppress(ProcessLookupError):  # it ends when its client has gone, once the postmaster goes on
                    os.kill(pid, signal.SIGCONT)


@contextmanager
def ended_with_us(server: Postgres) -> Iterator[None]:
    """Ends the server also when this process is killed: the watching shell then reads the end of its input."""
    pid_file = shlex.quote(str(server.data / "postmaster.pid"))  # a test may have started it again
    script = f"read _ || {{ pid=$(head -1 {pid_file}) && kill -QUIT $pid && kill -CONT $pid; }}"
    with subprocess.Popen(["sh", "-c", script], stdin=subprocess.PIPE, start_new_session=True) as watching:
        try:
            yield
        finally:
            watching.communicate(b"\n")


def _children(pid: int) -> list[int]:
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
