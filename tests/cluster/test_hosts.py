"""The hosts of hosts.py: alone with their files and processes, together on a network that can be cut."""

import os
import signal
import socket
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.cluster.hosts import Host, network
from tests.up_server import CHECKOUT, wait_for

ECHO = """
import socket
server = socket.create_server(("", 7))
while True:
    client, _ = server.accept()
    client.sendall(client.recv(100))
"""


@pytest.fixture
def lan(tmp_path):
    with network(tmp_path, "alpha", "beta", "gamma") as lan:
        yield lan


def reaches(here: Host, there: Host) -> bool:
    ask = f"import socket; s = socket.create_connection(('{there.name}', 7), 0.3); s.sendall(b'x'); s.recv(1)"
    return here.run(sys.executable, "-c", ask, check=False).returncode == 0


def test_each_host_has_its_own_files_names_and_processes(lan, tmp_path):
    alpha, beta, _ = lan.hosts
    for place in ("/etc", "/opt", "/srv", "/usr/local", "/var/lib", "/run", "/dev/shm"):
        alpha.path(f"{place}/of-alpha").write_text("alpha")
        assert alpha.run("cat", f"{place}/of-alpha").stdout == "alpha"
        assert not beta.path(f"{place}/of-alpha").exists() and not Path(f"{place}/of-alpha").exists()
    assert [host.run("hostname").stdout for host in lan.hosts] == ["alpha\n", "beta\n", "gamma\n"]
    sleeping = alpha.start("sleep", "1000", log=tmp_path / "log", user="nobody")
    wait_for(lambda: alpha.processes() == {sleeping.pid: "sleep 1000 "})
    assert Path(f"/proc/{sleeping.pid}").owner() == "nobody" and beta.processes() == {}
    sleeping.send(signal.SIGSTOP)
    wait_for(lambda: ") T " in Path(f"/proc/{sleeping.pid}/stat").read_text())
    sleeping.send(signal.SIGCONT)
    assert sleeping.stop() == -signal.SIGTERM and alpha.processes() == {}


def test_packets_between_two_hosts_vanish_and_come_back(lan, tmp_path):
    alpha, beta, gamma = lan.hosts
    for host in lan.hosts:
        host.start(sys.executable, "-c", ECHO, log=tmp_path / host.name)
        wait_for(lambda host=host: reaches(host, host))
    wait_for(lambda: reaches(alpha, beta) and reaches(beta, alpha))
    alpha.cut_off(beta)
    assert not reaches(alpha, beta) and not reaches(beta, alpha)
    wait_for(lambda: reaches(alpha, gamma) and reaches(gamma, beta))
    alpha.rejoin()
    wait_for(lambda: reaches(alpha, beta) and reaches(beta, alpha))
    beta.unplug()
    assert not reaches(beta, gamma) and not reaches(gamma, beta)
    wait_for(lambda: reaches(alpha, gamma))
    beta.plug_in()
    wait_for(lambda: reaches(beta, gamma) and reaches(alpha, beta))
    with lan.inside(), socket.create_connection((gamma.address, 7), 60) as client:
        client.sendall(b"hello")
        assert client.recv(10) == b"hello"
    with pytest.raises(OSError):
        socket.create_connection((gamma.address, 7), 0.3)


def test_a_host_that_died_boots_with_its_disks(lan, tmp_path):
    alpha, beta, _ = lan.hosts
    beta.start(sys.executable, "-c", ECHO, log=tmp_path / "log")
    wait_for(lambda: reaches(alpha, beta))
    beta.path("/var/lib/kept").write_text("kept")
    beta.path("/run/lost").touch()
    (pid,) = beta.processes()
    with lan.inside(), socket.create_connection((beta.address, 7), 60) as client:
        beta.die()
        assert not beta.is_on and not Path(f"/proc/{pid}").exists()
        client.settimeout(0.3)
        with pytest.raises(TimeoutError):  # no FIN and no RST
            client.recv(1)
    beta.boot()
    assert beta.run("cat", "/var/lib/kept").stdout == "kept" and not beta.path("/run/lost").exists()
    assert not reaches(alpha, beta)
    beta.start(sys.executable, "-c", ECHO, log=tmp_path / "log")
    wait_for(lambda: reaches(alpha, beta))


def test_nothing_is_left_when_the_tests_are_killed(lan, tmp_path):
    """`lan` only skips this test where hosts cannot be made."""
    (tmp_path / "killed").mkdir()
    script = f"""
        from pathlib import Path
        from tests.cluster.hosts import network
        folder = Path({str(tmp_path / "killed")!r})
        with network(folder, "alpha") as lan:
            started = lan.hosts[0].start("sleep", "1000", log=folder / "log")
            print(started.pid, lan.pid, flush=True)
            input()
    """
    line = [sys.executable, "-c", textwrap.dedent(script)]
    with subprocess.Popen(line, cwd=CHECKOUT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as tests:
        pids = tests.stdout.readline().split()
        assert len(pids) == 2 and all(Path(f"/proc/{int(pid)}").exists() for pid in pids)
        os.kill(tests.pid, signal.SIGKILL)
    wait_for(lambda: not any(Path(f"/proc/{int(pid)}").exists() for pid in pids))
    assert list((tmp_path / "killed/hosts").iterdir()) == []
