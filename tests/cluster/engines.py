"""The engines of a cluster: SeaweedFS, its mounts by FUSE, and HAProxy; and hosts that have such a mount.

The programs `weed` talk to each other by unix sockets in /tmp that are named by their gRPC ports. So two of them must
never have the same ports, not even in two network namespaces, unless each has a /tmp of its own. The ports here are
free ones of this machine, also for servers in another network namespace.
"""

import itertools
import json
import re
import shlex
import socket
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

from tests.chaos.mounts import Namespace, namespace
from tests.cluster.programs import LOOPBACK, Program, ask, free_ports, required
from tests.up_server import CHECKOUT, UpServer, serving, wait_for

_numbers = itertools.count()


class Weed(Program):
    """A server of SeaweedFS: a master, a volume server or a filer. `folder` is for its files."""

    def __init__(self, kind: str, folder: Path, host: str, prefix: Sequence[str], **options: Any) -> None:
        folder.mkdir(parents=True)
        self._port, grpc = free_ports(2)
        self.address = f"{host}:{self._port}.{grpc}"
        self.http = f"{host}:{self._port}"
        self._socket = Path(f"/tmp/seaweedfs-{kind}-grpc-{grpc}.sock")
        own = {"ip": host, "ip.bind": host, "port": self._port, "port.grpc": grpc}
        started = {"master": "/cluster/status", "volume": "/healthz", "filer": "/healthz"}[kind]
        super().__init__(_weed(kind, own | options), folder / "log", lambda: self.ask(started) or True, prefix)

    def ask(self, path: str, body: bytes | None = None) -> bytes:
        return ask(self.http, path, body)

    def end(self) -> None:
        """Kills it for good. Its socket is in a folder that outlives the test."""
        self.kill()
        self._socket.unlink(missing_ok=True)


def _weed(command: str, options: Mapping[str, Any]) -> list[str]:
    return [required("weed"), "-logtostderr=true", command, *(f"-{name}={value}" for name, value in options.items())]


@dataclass
class SeaweedFS:
    """A running SeaweedFS that syncs each file before it says that the file is stored."""

    folder: Path
    master: Weed
    filer: Weed
    volumes: list[Weed]

    def volumes_known(self) -> int:
        """How many volume servers the master counts as living."""
        topology = json.loads(self.master.ask("/dir/status"))["Topology"]
        return sum(len(rack["DataNodes"]) for center in topology["DataCenters"] or () for rack in center["Racks"])

    def shell(self, command: str) -> str:
        """What an administrative command prints."""
        arguments = [required("weed"), "shell", f"-master={self.master.address}", f"-filer={self.filer.address}"]
        done = subprocess.run(arguments, input=f"{command}\n", capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done
        return done.stdout + done.stderr

    @contextmanager
    def mounted(self, at: Path, own: Namespace, path: str = "/", **options: Any) -> Iterator["Mount"]:
        """Mounts a folder of it at a path of a namespace, until the block ends."""
        mount = Mount(self, at, own, path, options)
        try:
            mount.start()
            yield mount
        finally:
            mount.kill()
            mount.detach()


@contextmanager
def seaweedfs(
    folder: Path, volumes: int = 1, replication: str = "000", host: str = LOOPBACK, prefix: Sequence[str] = ()
) -> Iterator[SeaweedFS]:
    """SeaweedFS with so many volume servers, until the block ends. `replication`: 001 is two copies of each file.

    `host`: the address on which all listen, in the network namespace of `prefix`.
    """
    with ExitStack() as stack:

        def start(kind: str, name: str, **options: Any) -> Weed:
            weed = Weed(kind, folder / name, host, prefix, **options)
            stack.callback(weed.end)
            weed.start()
            return weed

        files = {"mdir": folder / "master", "defaultReplication": replication, "volumeSizeLimitMB": 512}
        # Otherwise the master sends statistics to its makers.
        master = start("master", "master", peers="none", telemetry="false", **files)
        ours = {"master": master.address}
        found = []
        for number in range(volumes):
            own = {"dir": folder / f"volume-{number}", "max": 100, "preStopSeconds": 0}
            found.append(start("volume", f"volume-{number}", **ours, **own))
        own = {"defaultStoreDir": folder / "filer", "defaultReplicaPlacement": replication}
        filer = start("filer", "filer", **ours, **own)
        weed = SeaweedFS(folder, master, filer, found)
        wait_for(lambda: weed.volumes_known() == volumes)
        applied = weed.shell("fs.configure -locationPrefix=/ -fsync=true -apply")
        assert '"fsync":true' in "".join(applied.split()), applied
        yield weed


class Mount(Program):
    """A mount by FUSE. pause() stalls it. After kill() its paths fail, until start() mounts it anew."""

    def __init__(self, weed: SeaweedFS, at: Path, own: Namespace, path: str, options: Mapping[str, Any]) -> None:
        self.at, self._own = at, own
        self.outside = own.outside(at)
        cache = weed.folder / f"mount-{next(_numbers)}"
        cache.mkdir()
        how = {"filer": weed.filer.address, "filer.path": path, "dir": at, "cacheDir": cache} | options
        command = _weed("mount", {**how, "dirAutoCreate": "true", "localSocket": cache / "socket"})
        super().__init__(command, cache / "log", self._is_mounted, own.prefix)

    def _is_mounted(self) -> bool:
        lines = Path(f"/proc/{self.pid}/mounts").read_text().splitlines()
        return any(line.split()[1] == str(self.at) and line.split()[2].startswith("fuse") for line in lines)

    def start(self) -> None:
        self.detach()
        super().start()

    def detach(self) -> None:
        """Unmounts it for all who open a path from now on. Nothing if it is not mounted."""
        self._own.run(f"umount --lazy {shlex.quote(str(self.at))}")


@dataclass
class Host:
    """What a process sees as a host: a name, a boot id, and mounts of its own, one of them at `mount`."""

    folder: Path
    own: Namespace
    mount: Mount

    @contextmanager
    def serving(self, name: str, dsn: str, token: str, *options: str, **environment: str) -> Iterator[UpServer]:
        """Runs `reportd serve` on this host, with the folder `name` of the mount as its storage folder.

        `data`/artifacts of the server is the storage folder as the test sees it. Without hard links, as SeaweedFS
        needs it: its mounts may lose the other names of a file when one is removed.
        """
        data = self.folder / f"{name}-{next(_numbers)}"
        data.mkdir()
        (data / "artifacts").symlink_to(self.mount.outside / name)
        own = {"REPORTD_ARTIFACTS_STORAGE_PATH": str(self.mount.at / name), "REPORTD_ARTIFACTS_HARD_LINKS": "false"}
        with serving(data, dsn, token, *options, prefix=self.own.prefix, **(own | environment)) as server:
            yield server


@contextmanager
def host(folder: Path, weed: SeaweedFS, name: str) -> Iterator[Host]:
    """A host with the whole of SeaweedFS mounted, until the block ends."""
    folder.mkdir()
    with namespace() as own:
        (folder / "boot_id").write_text(f"{uuid4()}\n")
        boot_id = f"mount --bind {shlex.quote(str(folder / 'boot_id'))} /proc/sys/kernel/random/boot_id"
        own.run_or_fail(f"hostname {name}", boot_id)
        with weed.mounted(folder / "shared", own) as mount:
            yield Host(folder, own, mount)


def _configuration(address: str, stats: Path, servers: Mapping[str, str], check_timeout: str) -> str:
    """deploy/cluster/haproxy.cfg with these addresses, without TLS, and without what needs a system's folders."""
    deployed = (CHECKOUT / "deploy/cluster/haproxy.cfg").read_text("utf-8")
    settings, _, reports = deployed.partition("\nfrontend local\n")
    reports = "listen reports\n" + reports.partition("\nlisten reports\n")[2]
    kept = [line for line in reports.splitlines() if not re.match(r" +(bind|server) ", line)]
    kept[1:1] = [f"    bind {address}", *([f"    timeout check {check_timeout}"] if check_timeout else [])]
    kept += [f"    server {name} {where}" for name, where in servers.items()]  # last: default-server is for those below
    settings = re.sub(r"^ +(log|user|group|chroot|stats socket) .*$", "", settings, flags=re.MULTILINE)
    settings = settings.replace("\nglobal\n", f"\nglobal\n    stats socket {stats} mode 600 level admin\n")
    return "\n".join([settings, *kept, ""])


class HAProxy(Program):
    """A running HAProxy in front of `servers`: the address (host:port) of each by its name."""

    def __init__(
        self, folder: Path, servers: Mapping[str, str], host: str, prefix: Sequence[str], check_timeout: str
    ) -> None:
        folder.mkdir()
        self.address = f"{host}:{free_ports(1)[0]}"
        self._socket, config = folder / "socket", folder / "haproxy.cfg"
        config.write_text(_configuration(self.address, self._socket, servers, check_timeout))
        super().__init__(
            [required("haproxy"), "-db", "-f", str(config)], folder / "log", lambda: self.states() and True, prefix
        )

    def states(self) -> dict[str, str]:
        """UP or DOWN for each server."""
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(str(self._socket))
            sock.sendall(b"show stat\n")
            names, *rows = (line.split(",") for line in sock.makefile().read().strip().splitlines())
        found = [dict(zip(names, row, strict=False)) for row in rows]
        return {each["svname"]: each["status"].split()[0] for each in found if each["type"] == "2"}

    def wait_until_up(self, *names: str) -> None:
        """Waits until HAProxy sends requests to these servers, or to all."""
        wait_for(lambda: all(self.states()[name] == "UP" for name in names or self.states()), self.log.read_text)

    def before(self, server: UpServer) -> UpServer:
        """The server as its clients see it, through HAProxy."""
        return replace(server, url=f"http://{self.address}")


@contextmanager
def haproxy(
    folder: Path,
    servers: Mapping[str, str],
    host: str = LOOPBACK,
    prefix: Sequence[str] = (),
    check_timeout: str = "",
) -> Iterator[HAProxy]:
    """HAProxy, until the block ends; wait_until_up() says that the servers answer.

    With a `check_timeout` like "60s" a server that is slow is not DOWN, only one that refuses connections or says so.
    """
    proxy = HAProxy(folder, servers, host, prefix, check_timeout)
    try:
        proxy.start()
        yield proxy
    finally:
        proxy.kill()
