"""Hosts for tests: Linux namespaces on one private network. Nothing of the real network or of /etc is changed.

    with network(tmp_path, "alpha", "beta") as lan:      # 192.0.2.11 and 192.0.2.12
        alpha, beta = lan.hosts
        server = alpha.start("etcd", "--name", "alpha", log=tmp_path / "etcd.log", user="etcd")
        server.send(signal.SIGSTOP)                       # one process; Host.processes() has the ids of all
        alpha.run("sh", "-ec", "echo x > /etc/reportd/x") # beta does not see it
        with lan.inside():                                # sockets of this thread and of its children
            urllib.request.urlopen("http://192.0.2.12:8000/readyz")
        alpha.cut_off(beta); alpha.rejoin()               # packets between the two vanish without an error
        alpha.unplug(); alpha.plug_in()                   # the cable to all
        alpha.die(); alpha.boot()                         # a power cut: all processes at once; the disks stay

Each host has its own process ids, host name, network, /run, /dev/shm, and its own copy of /etc, /opt, /root, /srv,
/usr/local and /var (an overlay in memory, which `boot` finds again). Everything else is that of the machine, but for
its watchdog and its command modprobe.

A host lives as long as its process 1, which ends when a pipe from the test process closes. The kernel then kills all
processes of the host and removes its network and mounts. So nothing is left, even when the test process is killed.
"""

import ctypes
import os
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from tests.cluster.processes import Process, first_child
from tests.up_server import PATIENCE, wait_for

_OWN = ("etc", "opt", "root", "srv", "usr/local", "var")  # of each host; the rest is shared with the machine
_NOWHERE = "02:00:00:00:00:00"  # a hardware address that no host has
_CLONE_NEWNET = 0x40000000
_LAN = """
mount -t tmpfs -o mode=755 hosts "$1"
ip link set lo up
ip link add switch type bridge
ip addr add 192.0.2.254/24 dev switch
ip link set switch up
echo ready
cat || true
"""
_BOOT = """
hostname "$1"
disk="$2/$1"
shift 2
for own in "$@"; do
    mkdir -p "$disk/$own/files" "$disk/$own/work"
    mount -t overlay -o "lowerdir=/$own,upperdir=$disk/$own/files,workdir=$disk/$own/work" overlay "/$own"
done
mount -t tmpfs -o mode=755 tmpfs /run
mount -t tmpfs -o mode=1777 tmpfs /dev/shm
mkdir -m 1777 /run/lock
for machine in /dev/watchdog* /sbin/modprobe; do
    [ ! -e "$machine" ] || mount --bind /bin/true "$machine"
done
ip link set lo up
echo ready
cat || true
"""


class Host:
    """A host that is on. Its commands run as root unless `user` is given."""

    def __init__(self, lan: "Lan", name: str, address: str) -> None:
        self._lan, self.name, self.address = lan, name, address
        self._holder: subprocess.Popen[bytes] | None = None
        self._init = 0
        self._own: set[int] = set()  # the processes that make the host
        self._cut: set[tuple[Host, str]] = set()

    @property
    def is_on(self) -> bool:
        return self._holder is not None

    def boot(self) -> None:
        """Turns the host on, with the disks of before and no process but its first. Does nothing when it is on."""
        if self.is_on:
            return
        isolated = "--net --mount --propagation=private --ipc --uts --pid --fork --kill-child --mount-proc"
        enter = ["nsenter", f"--target={self._lan.pid}", "--mount", "--", "unshare", *isolated.split()]
        self._holder, error = _hold([*enter, "sh", "-ec", _BOOT, "sh", self.name, str(self._lan.folder), *_OWN])
        if error is not None:
            self._holder = None
            pytest.fail(f"{self.name} does not start: {error}")
        self._init = int(first_child(self._holder.pid))
        self._own = {self._init, int(wait_for(lambda: first_child(self._init)))}
        self._lan.run("ip", "link", "add", self.name, "type", "veth", "peer", "name", "eth0", "netns", str(self._init))
        self._lan.run("ip", "link", "set", self.name, "master", "switch", "up")
        self.run("ip", "addr", "add", f"{self.address}/24", "dev", "eth0")
        number = int(self.address.rpartition(".")[2])  # the same after each boot: others remember hardware addresses
        self.run("ip", "link", "set", "eth0", "address", f"02:00:00:00:01:{number:02x}", "up")
        names = "".join(f"{host.address} {host.name}\n" for host in self._lan.hosts)
        self.path("/etc/hosts").write_text(f"127.0.0.1 localhost\n{names}")

    def die(self) -> None:
        """A power cut: the others get no goodbye, and all processes end at once. Memory is lost, disks are kept."""
        if self._holder is None:
            return
        self.unplug()  # first: the kernel would close the connections of killed processes in good order
        with suppress(ProcessLookupError):
            os.kill(self._init, signal.SIGKILL)
        _release(self._holder)
        self._holder = None
        self._cut.clear()
        self._lan.run("ip", "link", "del", self.name, check=False)  # the kernel may have removed it with the host

    def unplug(self) -> None:
        """Pulls the network cable. Connections hang."""
        self._lan.run("ip", "link", "set", self.name, "down")

    def plug_in(self) -> None:
        self._lan.run("ip", "link", "set", self.name, "up")

    def cut_off(self, *others: "Host") -> None:
        """Packets between this host's addresses and those of the others vanish, in both directions. Broadcasts and
        multicasts pass."""
        for other in others:
            for here, there in ((self, other), (other, self)):
                for address in there.addresses():
                    here._neighbour("replace", address, "lladdr", _NOWHERE, "nud", "permanent")
                    self._cut.add((here, address))

    def rejoin(self) -> None:
        """Ends what `cut_off` of this host began."""
        for here, address in self._cut:
            if here.is_on:
                here._neighbour("del", address)
        self._cut.clear()

    def _neighbour(self, action: str, address: str, *options: str) -> None:
        self.run("ip", "neigh", action, address, *options, "dev", "eth0")

    def addresses(self) -> list[str]:
        """Its IPv4 addresses on the LAN: its own, and a virtual one if it has it now."""
        lines = self.run("ip", "-4", "-oneline", "addr", "show", "dev", "eth0").stdout.splitlines()
        return [line.split()[3].partition("/")[0] for line in lines]

    def prefix(self, user: str = "", folder: str = "/") -> list[str]:
        """To be put before a command that is to run in the host."""
        entered = ["nsenter", f"--target={self._init}", "--net", "--mount", "--ipc", "--uts", "--pid"]
        who = ["setpriv", f"--reuid={user}", f"--regid={self._group(user)}", "--init-groups", "--"] if user else []
        return [*entered, f"--wdns={folder}", "--", *who]

    def _group(self, user: str) -> str:
        return self.run("id", "--group", user).stdout.strip()

    def run(
        self, *command: str, user: str = "", folder: str = "/", given: str = "", check: bool = True, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Runs a command to its end, with `given` as its stdin. Fails with its output unless `check` is False."""
        line = [*self.prefix(user, folder), *command]
        env = {**os.environ, **environment}
        done = subprocess.run(line, input=given, capture_output=True, text=True, env=env, timeout=PATIENCE)
        assert not check or done.returncode == 0, (self.name, command, done.returncode, done.stdout, done.stderr)
        return done

    def start(self, *command: str, log: Path, user: str = "", folder: str = "/", **environment: str) -> Process:
        """Starts a program. Its stdout and stderr are appended to `log`, a file outside of the host."""
        with log.open("ab") as output:
            entered = subprocess.Popen(
                [*self.prefix(user, folder), *command],
                env={**os.environ, **environment},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        self._lan.started.append(entered)
        return Process(entered, log)

    def path(self, path: str) -> Path:
        """Where the test finds this file of the host, as long as it is on."""
        return Path(f"/proc/{self._init}/root") / path.lstrip("/")

    def processes(self, word: str = "") -> dict[int, str]:
        """The command lines that have this word, by process id on this machine."""
        found, here = {}, Path(f"/proc/{self._init}/ns/pid").readlink()
        for folder in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):  # it has just ended
                if (folder / "ns/pid").readlink() == here and int(folder.name) not in self._own:
                    found[int(folder.name)] = (folder / "cmdline").read_text("utf-8", "replace").replace("\0", " ")
        return {pid: line for pid, line in found.items() if word in line and line}

    def send(self, number: int, word: str = "") -> list[int]:
        """Sends the signal to all processes, or to those whose command line has this word. Returns their ids."""
        pids = list(self.processes(word))
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, number)
        return pids


class Lan:
    """The network of the hosts. The test itself has the address 192.0.2.254, see `inside`."""

    def __init__(self, folder: Path, pid: int, names: Sequence[str]) -> None:
        self.folder, self.pid = folder, pid
        self.started: list[subprocess.Popen[bytes]] = []
        self.hosts = [Host(self, name, f"192.0.2.{number}") for number, name in enumerate(names, 11)]

    def run(self, *command: str, check: bool = True) -> None:
        """Runs a command in the network of the switch."""
        done = subprocess.run(
            ["nsenter", f"--net=/proc/{self.pid}/ns/net", *command], capture_output=True, text=True, timeout=PATIENCE
        )
        assert not check or done.returncode == 0, (command, done.stderr)

    def reap(self) -> None:
        """Waits for the programs that were started; their hosts have died."""
        for entered in self.started:
            entered.kill()
            entered.wait(PATIENCE)

    @contextmanager
    def inside(self) -> Iterator[None]:
        """Meanwhile sockets that this thread opens are on the LAN, as are threads and processes that it starts.

        A socket stays where it was opened.
        """
        with Path("/proc/thread-self/ns/net").open() as outside, Path(f"/proc/{self.pid}/ns/net").open() as there:
            _enter(there.fileno())
            try:
                yield
            finally:
                _enter(outside.fileno())


@contextmanager
def network(folder: Path, *names: str) -> Iterator[Lan]:
    """Boots hosts with these names. Skips the test where namespaces or overlays are not permitted."""
    works = ["unshare", "--net", "--mount", "--pid", "--fork", "--mount-proc", "true"]
    if os.geteuid() != 0 or subprocess.run(works, capture_output=True).returncode:
        pytest.skip("hosts in namespaces need root")
    disks = folder / "hosts"
    disks.mkdir()
    unshared = ["unshare", "--net", "--mount", "--propagation=private", "sh", "-ec", _LAN, "sh", str(disks)]
    holder, error = _hold(unshared)
    if error is not None:
        pytest.skip(f"no bridge between namespaces: {error}")
    with ExitStack() as stack:
        stack.callback(_release, holder)
        lan = Lan(disks, holder.pid, names)
        stack.callback(lan.reap)
        for host in lan.hosts:
            stack.callback(host.die)
            host.boot()
        yield lan


def _hold(command: list[str]) -> tuple[subprocess.Popen[bytes], str | None]:
    """Starts a process that lives until its stdin is closed. The second value is its error, or None."""
    holder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    if holder.stdout.readline() == b"ready\n":
        return holder, None
    error = holder.stderr.read().decode()
    _release(holder)
    return holder, error


def _release(holder: subprocess.Popen[bytes]) -> None:
    holder.communicate(timeout=PATIENCE)


def _enter(descriptor: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(descriptor, _CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")
