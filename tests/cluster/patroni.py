"""A PostgreSQL cluster on loopback: two nodes of Patroni and three of etcd, with the programs of Debian.

All processes are in one pid namespace, which the kernel ends with the test process. A node is a folder: its processes
are those whose working directory is in it, whoever started them.
"""

import json
import os
import shutil
import subprocess
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.programs import free_ports, required
from tests.up_server import wait_for

PROGRAMS = Path("/usr/lib/postgresql/15/bin")
# The interface of etcd's version 2. With that of version 3, a leader of Debian's Patroni 3.0.2 that was stopped for
# longer than `ttl` may overwrite the key of its successor: both take writes, and those of the successor are lost.
_CONFIG = """
scope: reports
name: {name}
restapi: {{listen: '127.0.0.1:{rest}', connect_address: '127.0.0.1:{rest}'}}
etcd: {{hosts: [{etcd}]}}
bootstrap:
  dcs:
    ttl: 20
    loop_wait: 5
    retry_timeout: 7
    synchronous_mode: true
    postgresql: {{use_pg_rewind: true, use_slots: true}}
  initdb: [{{encoding: UTF8}}, {{locale: C}}, data-checksums]
postgresql:
  listen: '127.0.0.1:{port}'
  connect_address: '127.0.0.1:{port}'
  bin_dir: {programs}
  data_dir: {folder}/data
  pgpass: {folder}/pgpass
  authentication: {{superuser: {{username: postgres}}, replication: {{username: postgres}}}}
  pg_hba: ['host all all 127.0.0.1/32 trust', 'host replication all 127.0.0.1/32 trust']
  parameters: {{max_connections: 100, shared_buffers: 64MB, unix_socket_directories: ''}}
"""


@dataclass(frozen=True)
class Node:
    """A node of Patroni, which may be down."""

    name: str
    folder: Path
    port: int  # of PostgreSQL
    rest: int  # of Patroni's REST API

    def ask(self, path: str, body: Any = None) -> Any:
        """The JSON reply of the REST API; None when it refuses or does not answer."""
        data = None if body is None else json.dumps(body).encode()
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.rest}/{path}", data, timeout=30) as reply:
                text = reply.read()
        except OSError:
            return None
        return json.loads(text) if text.startswith(b"{") else text.decode()

    def processes(self, program: str = "") -> list[int]:
        """Those of one program, like postgres, or all."""
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                is_own = (entry / "cwd").readlink().is_relative_to(self.folder)
                if is_own and program in ("", (entry / "comm").read_text().strip()):
                    found.append(int(entry.name))
            except OSError:  # it has just ended, or is a kernel thread
                continue
        return found

    def signal(self, number: int, program: str = "") -> None:
        """To each of these processes, also to those that are started meanwhile."""
        reached: set[int] = set()
        while new := set(self.processes(program)) - reached:
            for pid in new:
                try:
                    os.kill(pid, number)
                except ProcessLookupError:
                    continue
            reached |= new


class Patroni:
    """A running cluster."""

    def __init__(self, nodes: Sequence[Node], prefix: Sequence[str]) -> None:
        self.nodes = nodes
        self.prefix = prefix

    def dsn(self, database: str = "reportd") -> str:
        hosts = ",".join(f"127.0.0.1:{node.port}" for node in self.nodes)
        return f"postgresql://postgres@{hosts}/{database}?target_session_attrs=read-write&sslmode=disable"

    def start(self, node: Node) -> None:
        self.run(node.folder, "patroni", str(node.folder / "patroni.yml"))

    def run(self, folder: Path, *command: str) -> None:
        """Starts a program in a folder of its own, with its output in the file `log` there.

        In the background of a shell: nsenter would wait for it, and stop itself when the program is stopped.
        """
        script = f'"$@" >>{folder}/log 2>&1 &'
        line = [*self.prefix, "env", f"--chdir={folder}", "sh", "-c", script, "sh", *command]
        subprocess.run(line, check=True, stdin=subprocess.DEVNULL)

    def members(self, by: Sequence[Node]) -> dict[str, str]:
        """The role of each member that runs, as the first of these nodes sees it that answers."""
        for node in by:
            if (reply := node.ask("cluster")) is not None:
                return {each["name"]: each["role"] for each in reply["members"] if each["state"] in _RUNNING}
        return {}

    def leader(self, *without: Node) -> Node:
        """The leader, once there is one which is not in `without`."""
        others = [node for node in self.nodes if node not in without]

        def found() -> Node | None:
            roles = self.members(others)
            return next((node for node in others if roles.get(node.name) == "leader"), None)

        return wait_for(found, self.explain)

    def wait_until_whole(self) -> None:
        """Returns when there is a leader with a synchronous standby: only then may the leader be lost."""
        wait_for(lambda: sorted(self.members(self.nodes).values()) == ["leader", "sync_standby"], self.explain)

    def switch_over(self) -> None:
        """Asks for the change of leader, and returns when it has taken place."""
        leader = self.leader()
        (other,) = (node for node in self.nodes if node is not leader)
        wait_for(
            lambda: leader.ask("switchover", {"leader": leader.name, "candidate": other.name}) or self.leader() is other
        )
        wait_for(lambda: self.leader() is other, self.explain)

    def explain(self) -> str:
        return "\n".join((node.folder / "log").read_text(errors="replace")[-3000:] for node in self.nodes)


_RUNNING = {"running", "streaming"}


@contextmanager
def patroni() -> Iterator[Patroni]:
    """Runs a cluster until the block ends. Skips the test without the programs, or without root."""
    for program in ("etcd", "patroni", str(PROGRAMS / "postgres")):
        required(program)
    if os.geteuid() != 0:
        pytest.skip("a pid namespace needs root")
    memory = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(prefix="reportd-patroni-", dir=memory if os.access(memory, os.W_OK) else None))
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder)
        ports = free_ports(10)
        nodes = [Node(name, folder / name, ports.pop(), ports.pop()) for name in ("alpha", "beta")]
        etcd = [(folder / f"etcd{number}", ports.pop(), ports.pop()) for number in range(3)]
        for own in (folder, *(node.folder for node in nodes), *(own for own, _, _ in etcd)):
            own.mkdir(exist_ok=True)
            shutil.chown(own, "postgres", "postgres")
        cluster = Patroni(nodes, ())
        user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
        cluster.prefix = [*stack.enter_context(_namespace()), *user]
        _start_etcd(cluster, etcd)
        addresses = ", ".join(f"'127.0.0.1:{client}'" for _, client, _ in etcd)
        for node in nodes:
            text = _CONFIG.format(**node.__dict__, etcd=addresses, programs=PROGRAMS)
            (node.folder / "patroni.yml").write_text(text)
            cluster.start(node)
        cluster.wait_until_whole()
        yield cluster


def _start_etcd(cluster: Patroni, members: Sequence[tuple[Path, int, int]]) -> None:
    everybody = ",".join(f"{folder.name}=http://127.0.0.1:{peer}" for folder, _, peer in members)
    # Slower than the defaults of 100 and 1000 ms: a busy machine would miss them without a fault.
    pace = ("--heartbeat-interval=300", "--election-timeout=3000")
    for folder, client, peer in members:
        options = [f"--name={folder.name}", f"--data-dir={folder}/data", f"--initial-cluster={everybody}", *pace]
        options.append("--enable-v2=true")
        for what, port in (("client", client), ("peer", peer)):
            options.append(f"--listen-{what}-urls=http://127.0.0.1:{port}")
            word = "advertise-client" if what == "client" else "initial-advertise-peer"
            options.append(f"--{word}-urls=http://127.0.0.1:{port}")
        cluster.run(folder, "etcd", *options)


@contextmanager
def _namespace() -> Iterator[list[str]]:
    """A pid namespace; the prefix of a command that is to run in it. All its processes end with the block, or with this
    process. bash is its first one, since it collects the processes whose parents have ended."""
    command = ["setpriv", "--pdeathsig=KILL", "unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]
    script = "echo ready; read -r _"
    with subprocess.Popen([*command, "bash", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        try:
            assert holder.stdout.readline() == b"ready\n"
            (first,) = Path(f"/proc/{holder.pid}/task/{holder.pid}/children").read_text().split()
            yield ["nsenter", f"--target={first}", "--pid", "--mount", "--"]
        finally:
            holder.stdin.close()
            holder.wait()
