"""A site on a network that can be cut: PostgreSQL, SeaweedFS and HAProxy on a host each, and two hosts of reportd."""

import itertools
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg

from server.database import migrate
from tests.chaos.mounts import Namespace
from tests.cluster.engines import HAProxy, Mount, haproxy, seaweedfs
from tests.cluster.hosts import Host, network
from tests.cluster.patroni import PROGRAMS
from tests.cluster.programs import required
from tests.people import an_admin
from tests.up_server import CHECKOUT, UpServer, serving, wait_for

_numbers = itertools.count()
_DATA = "/var/lib/reports"


@dataclass(frozen=True)
class Site:
    """`mounts` and `servers` are by the name of their host; `outside` is what clients see."""

    dsn: str
    database: Host
    files: Host
    hosts: Mapping[str, Host]
    mounts: Mapping[str, Mount]
    servers: Mapping[str, UpServer]
    serve: Callable[[str], UpServer]  # starts a further server on the host of this name
    proxy: HAProxy
    outside: UpServer

    @property
    def storage(self) -> Path:
        return self.mounts["alpha"].outside / "reports"


@contextmanager
def site(folder: Path, **environment: str) -> Iterator[Site]:
    """Runs a site until the block ends, in which this thread and its children are on the site's network."""
    for program in ("weed", "fusermount3", "haproxy", str(PROGRAMS / "postgres")):
        required(program)
    with ExitStack() as stack:
        lan = stack.enter_context(network(folder, "database", "files", "front", "alpha", "beta"))
        stack.enter_context(lan.inside())
        database, files, front, *rest = lan.hosts
        dsn = postgresql(database, folder)
        token = an_admin(dsn)
        weed = stack.enter_context(seaweedfs(folder / "weed", host=files.address, prefix=files.prefix()))
        hosts = {host.name: host for host in rest}
        mounts = {}
        for host in rest:
            mounts[host.name] = stack.enter_context(weed.mounted(folder / f"mount-{host.name}", _Inside(host)))

        def serve(name: str) -> UpServer:
            data, mount = folder / f"{name}-{next(_numbers)}", mounts[name]
            data.mkdir()
            (data / "artifacts").symlink_to(mount.outside / "reports")
            own = {
                "REPORTD_ARTIFACTS_STORAGE_PATH": str(mount.at / "reports"),
                "REPORTD_SERVER_TRUSTED_PROXIES": front.address,
            }
            prefix = hosts[name].prefix(folder=str(CHECKOUT))
            options = ("--host", hosts[name].address)
            return stack.enter_context(serving(data, dsn, token, *options, prefix=prefix, **own, **environment))

        servers = {name: serve(name) for name in hosts}
        addresses = {name: server.url.removeprefix("http://") for name, server in servers.items()}
        proxy = stack.enter_context(haproxy(folder / "haproxy", addresses, front.address, front.prefix()))
        proxy.wait_until_up()
        yield Site(dsn, database, files, hosts, mounts, servers, serve, proxy, proxy.before(servers["alpha"]))


def postgresql(host: Host, folder: Path) -> str:
    """Starts PostgreSQL with a migrated database; its DSN."""
    host.run("install", "--directory", "--owner=postgres", _DATA)
    options = ["--auth=trust", "--username=postgres", "--encoding=UTF8", "--locale=C", "--no-sync"]
    host.run(str(PROGRAMS / "initdb"), "-D", f"{_DATA}/data", *options, user="postgres")
    with host.path(f"{_DATA}/data/pg_hba.conf").open("a") as rules:
        rules.write("host all all 192.0.2.0/24 trust\n")
    settings = [f"listen_addresses={host.address}", "unix_socket_directories=", "fsync=off"]
    line = [str(PROGRAMS / "postgres"), "-D", f"{_DATA}/data", *(word for each in settings for word in ("-c", each))]
    program = host.start(*line, user="postgres", log=folder / "postgres.log")
    address = f"postgresql://postgres@{host.address}"
    wait_for(lambda: _answers(f"{address}/postgres"), program.output)
    with psycopg.connect(f"{address}/postgres", autocommit=True) as connection:
        connection.execute("CREATE DATABASE reportd")
    migrate.apply(f"{address}/reportd")
    return f"{address}/reportd"


def _answers(dsn: str) -> bool:
    try:
        psycopg.connect(dsn, connect_timeout=2).close()
    except psycopg.OperationalError:
        return False
    return True


class _Inside(Namespace):
    """A host of hosts.py, for mounts."""

    def __init__(self, host: Host) -> None:
        self.prefix = host.prefix(folder=str(CHECKOUT))
        self._root = host.path("/")
