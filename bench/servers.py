"""The measured server and those it is compared with: each is a context manager for a running Server."""

import importlib.util
import json
import os
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import msgspec
import psycopg

from bench.processes import ENVIRONMENT, BenchError, Server, first_line, free_port, process, python
from server.config import Config
from server.database import migrate
from server.database.embedded import Postgres

_PEER = ("aiofiles", "fastapi", "httptools", "python_multipart", "sqlalchemy", "uvicorn", "uvloop")
_SETTINGS = {
    "max_connections": "100",
    # With wal_level minimal, the 10 million rows are not written to the WAL.
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_wal_size": "8GB",
}


class Cluster:
    """A private PostgreSQL in a folder, running inside the `with` block."""

    def __init__(self, folder: Path) -> None:
        self._postgres = Postgres(folder, settings=_SETTINGS)
        self.log = self._postgres.log
        self.pid = 0

    def __enter__(self) -> "Cluster":
        self._postgres.folder.mkdir(exist_ok=True)
        self._postgres.start()
        self.pid = int((self._postgres.data / "postmaster.pid").read_text().split()[0])
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._postgres.stop()

    def database(self, name: str) -> "Database":
        """A database with the schema and a token. Created, unless the folder has one of this name."""
        self.create(name)
        return Database(self._postgres.dsn(name), self.pid)

    def create(self, name: str) -> dict[str, str]:
        """Creates a database, unless the folder has one of this name; host, port and user of PostgreSQL."""
        with psycopg.connect(self._postgres.dsn("postgres"), autocommit=True) as connection:
            if not connection.execute("SELECT FROM pg_database WHERE datname = %s", [name]).rowcount:
                connection.execute(f'CREATE DATABASE "{name}" TEMPLATE template0')
            return {"host": connection.info.host, "port": str(connection.info.port), "user": connection.info.user}

    def version(self) -> str:
        """PostgreSQL's version."""
        with psycopg.connect(self._postgres.dsn("postgres")) as connection:
            return str(connection.execute("SHOW server_version").fetchall()[0][0])


class Database:
    """A database with reportd's schema and one token."""

    def __init__(self, dsn: str, postgres: int) -> None:
        self.dsn, self.postgres = dsn, postgres
        migrate.apply(dsn)
        name = f"bench {os.getpid()}"
        self.token = self._reportd("token", "create", "--name", name, "--role", "admin")  # of administration's pages

    def token_of(self, project: str) -> str:
        """Creates a project and a token for it."""
        return self._reportd("token", "create", "--name", f"bench {project}", "--project", project)

    def person(self, name: str, *roles: str) -> str:
        """Creates a person with these roles; the generated password."""
        return self._reportd("user", "add", name, "--generate", *[word for role in roles for word in ("--role", role)])

    def _reportd(self, *arguments: str) -> str:
        """Runs a reportd command; its standard output."""
        environment = {**ENVIRONMENT, "REPORTD_DATABASE_DSN": self.dsn}
        command = python("server", *arguments)
        return subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()

    def value(self, query: str) -> Any:
        """Runs a query; the first column of its first row."""
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            row = connection.execute(query.encode()).fetchone()
            return row and row[0]


def has_setting(section: str, key: str) -> bool:
    """Whether this version of reportd has a configuration key."""
    sections = {info.name: info.type for info in msgspec.structs.fields(Config)}
    return key in {info.name for info in msgspec.structs.fields(sections[section])}


def why_no_peer() -> str:
    """Why the FastAPI peer cannot be measured; empty when it can."""
    if importlib.util.find_spec("bench.peer_fastapi") is None:
        return "bench/peer_fastapi.py is missing"
    missing = [name for name in _PEER if importlib.util.find_spec(name) is None]
    return f"not installed: {', '.join(missing)}; see bench/README.md" if missing else ""


def why_no_nginx() -> str:
    """Why nginx cannot be measured; empty when it can."""
    return "" if _nginx() else "nginx is not installed"


@contextmanager
def reportd(database: Database, folder: Path, **settings: Mapping[str, object]) -> Iterator[Server]:
    """`reportd serve`. The keyword arguments are sections of its configuration. The default is without fsync."""
    folder.mkdir(parents=True, exist_ok=True)
    sections: dict[str, dict[str, object]] = {
        "database": {"dsn": database.dsn},
        "artifacts": {"storage_path": str(folder / "files"), "durability": "none"},
        "log": {"level": "warning"},
    }
    for name, keys in settings.items():
        sections.setdefault(name, {}).update(keys)
    lines = [
        f"[{name}]\n" + "".join(f"{k} = {json.dumps(v)}\n" for k, v in keys.items()) for name, keys in sections.items()
    ]
    config = folder / "config.toml"
    config.write_text("".join(lines))
    # Each run has a new storage folder, which reportd would otherwise refuse for this database.
    database.value("DELETE FROM storage_folder RETURNING id")
    port = free_port()
    with process("reportd", python("server", "serve", "--port", str(port), "--config", str(config))) as running:
        first_line("reportd", running)
        yield Server(
            "reportd",
            port,
            [running.pid],
            database.token,
            database.postgres,
            Path(str(sections["artifacts"]["storage_path"])),
        )


@contextmanager
def _announced(name: str, command: Sequence[str], database: Database | None) -> Iterator[Server]:
    """Runs a server that prints its port when it is ready, and ends when its standard input is closed."""
    with process(name, command) as running:
        port = int(first_line(name, running))
        token, postgres = (database.token, database.postgres) if database else ("", 0)
        yield Server(name, port, [running.pid], token, postgres)


def floor(folder: Path, durable: Database | None = None, files: int = 1) -> AbstractContextManager[Server]:
    """The lower limit of the cost; see floor.py."""
    folder.mkdir(exist_ok=True)
    options = ["--durable", durable.dsn, "--files", str(files)] if durable else []
    return _announced("floor", python("bench.floor", str(folder), *options), durable)


def bare(database: Database, reply: Path | None = None) -> AbstractContextManager[Server]:
    """A bare aiohttp handler; see bare.py."""
    return _announced("bare handler", python("bench.bare", database.dsn, *([str(reply)] if reply else [])), database)


def peer(database: Database, folder: Path, durable: bool = False) -> AbstractContextManager[Server]:
    """The FastAPI peer on the same database; see peer_fastapi.py."""
    folder.mkdir(exist_ok=True)
    options = ["--dsn", database.dsn, "--storage", str(folder), *(["--durable"] if durable else [])]
    return _announced("FastAPI peer", python("bench.peer_fastapi", *options), database)


@contextmanager
def nginx(folder: Path, files: Path, behind: Server | None = None) -> Iterator[Server]:
    """nginx that serves `files`; with `behind`, a proxy to that reportd, which sends files by X-Accel-Redirect."""
    folder.mkdir(exist_ok=True)
    port = free_port()
    upstream = f"upstream reportd {{ server 127.0.0.1:{behind.port}; keepalive 16; }}" if behind else ""
    proxy = "proxy_pass http://reportd; proxy_http_version 1.1; proxy_set_header Connection '';"
    temporary = "".join(
        f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    hidden = f"location /_files/ {{ internal; alias {files}/; }} location / {{ {proxy} }}"
    config = folder / "nginx.conf"
    config.write_text(
        f"daemon off; worker_processes 1; pid {folder}/pid; error_log stderr;\n"
        + ("user root;\n" if os.geteuid() == 0 else "")
        + f"events {{ worker_connections 1024; }}\nhttp {{ access_log off; sendfile on; tcp_nopush on; {temporary}\n"
        + f"keepalive_requests 1000000; default_type image/png; {upstream}\n"
        + f"server {{ listen 127.0.0.1:{port}; {hidden if behind else f'location / {{ alias {files}/; }}'} }} }}\n"
    )
    with process("nginx", [_nginx(), "-p", str(folder), "-c", str(config), "-e", "stderr"]) as running:
        wait_until_listening("nginx", port)
        pids = [running.pid, *(behind.pids if behind else [])]
        yield Server("nginx", port, pids, behind.token if behind else "", behind.postgres if behind else 0)


def _nginx() -> str:
    return shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin") or ""


def wait_until_listening(name: str, port: int) -> None:
    """Waits until a server replies to a request, with any status. Raises BenchError after 30 seconds."""
    for _ in range(600):
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5).close()
        except urllib.error.HTTPError as refused:
            refused.close()
        except OSError:
            time.sleep(0.05)
            continue
        return
    raise BenchError(f"{name} did not start within 30 seconds")
