"""The programs of a cluster that a test kills under load, each with the way to bring it back."""

import os
import random
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.cluster.engines import HAProxy, Host, SeaweedFS, haproxy, host, seaweedfs
from tests.cluster.patroni import Patroni
from tests.cluster.programs import Program, required
from tests.up_server import UpServer, end

_LONGEST_PAUSE = 2.0  # seconds that a program is away
SETTINGS = {
    "REPORTD_DATABASE_CONNECT_TIMEOUT": "3",
    "REPORTD_DATABASE_COMMAND_TIMEOUT": "8",
    "REPORTD_ARTIFACTS_FILE_TIMEOUT": "5",
}


@dataclass
class Hosts:
    """Two hosts with a mount of SeaweedFS and a server of reportd each, behind HAProxy."""

    weed: SeaweedFS
    hosts: Sequence[Host]
    dsn: str
    token: str
    servers: list[UpServer] = field(default_factory=list)
    proxy: HAProxy | None = None

    @property
    def outside(self) -> UpServer:
        return self.proxy.before(self.servers[0])

    def serve(self, number: int, stack: ExitStack, port: int = 0) -> UpServer:
        serving = self.hosts[number].serving("reports", self.dsn, self.token, "--port", str(port), **SETTINGS)
        return stack.enter_context(serving)

    def victims(self, stack: ExitStack) -> dict[str, Callable[[random.Random], None]]:
        """By name: what kills a program of that kind, waits for a moment, and starts it again."""

        def server(chance: random.Random) -> None:
            number = chance.randrange(2)
            killed = self.servers[number]
            os.killpg(killed.process.pid, signal.SIGKILL)
            end(killed.process)
            time.sleep(chance.uniform(0, _LONGEST_PAUSE))
            self.servers[number] = self.serve(number, stack, killed.port)

        def one_of(programs: Sequence[Program]) -> Callable[[random.Random], None]:
            return lambda chance: _kill_and_start(chance.choice(programs), chance)

        return {
            "reportd": server,
            "mount": one_of([each.mount for each in self.hosts]),
            "volume server": one_of(self.weed.volumes),
            "filer": one_of([self.weed.filer]),
        }


def _kill_and_start(program: Program, chance: random.Random) -> None:
    program.kill()
    time.sleep(chance.uniform(0, _LONGEST_PAUSE))
    program.start()


def of_the_database(cluster: Patroni) -> dict[str, Callable[[random.Random], None]]:
    """The leader and the standby with all their processes, and PostgreSQL of the leader alone."""

    def leader(chance: random.Random) -> None:
        cluster.wait_until_whole()
        node = cluster.leader()
        node.signal(signal.SIGKILL)
        cluster.leader(node)
        cluster.start(node)

    def standby(chance: random.Random) -> None:
        leader = cluster.leader()
        (node,) = (each for each in cluster.nodes if each is not leader)
        node.signal(signal.SIGKILL)
        time.sleep(chance.uniform(0, _LONGEST_PAUSE))
        cluster.start(node)

    def postgresql(chance: random.Random) -> None:
        cluster.leader().signal(signal.SIGKILL, "postgres")

    return {"leader": leader, "standby": standby, "PostgreSQL": postgresql}


@contextmanager
def two_hosts(folder: Path, dsn: str, token: str) -> Iterator[tuple[Hosts, ExitStack]]:
    """Two hosts and their SeaweedFS with three volume servers, which keep two copies of each file."""
    for program in ("weed", "fusermount3", "haproxy"):
        required(program)
    with ExitStack() as stack:
        weed = stack.enter_context(seaweedfs(folder / "weed", volumes=3, replication="001"))
        each = [stack.enter_context(host(folder / name, weed, name)) for name in ("alpha", "beta")]
        hosts = Hosts(weed, each, dsn, token)
        hosts.servers = [hosts.serve(number, stack) for number in range(2)]
        names = zip(("alpha", "beta"), hosts.servers, strict=True)
        addresses = {name: f"127.0.0.1:{server.port}" for name, server in names}
        hosts.proxy = stack.enter_context(haproxy(folder / "haproxy", addresses))
        hosts.proxy.wait_until_up()
        yield hosts, stack
