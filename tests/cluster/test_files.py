"""deploy/cluster/: files that their programs take, that agree with each other, and that the guide names."""

import re
import shutil
import subprocess
import tomllib
from itertools import pairwise
from pathlib import Path

import pytest

from server import config
from server.database.hosts import hosts_of
from tests.cluster.guide import HOSTS_PAGE, README, SEAWEEDFS, blocks
from tests.cluster.programs import required
from tests.test_deploy import ANALYZE, DEPLOY, installed
from tests.up_server import ENVIRONMENT

CLUSTER = DEPLOY / "cluster"
HAPROXY = (CLUSTER / "haproxy.cfg").read_text("utf-8")
PATRONI = (CLUSTER / "patroni.yml").read_text("utf-8")
GUIDE = README.read_text("utf-8")
WEED = SEAWEEDFS.parent
PAGES = [GUIDE, SEAWEEDFS.read_text("utf-8")]
FILES = [path for path in CLUSTER.rglob("*") if path.is_file()]
# Where the guide installs what the units need.
DROP_INS = {"etcd.conf": "etcd", "patroni.conf": "patroni", "reportd.conf": "reportd"}


def number(text: str, key: str) -> int:
    return int(re.search(rf"{key}[ :=]+(\d+)", text)[1])


def sessions(hosts: int) -> int:
    """How many sessions the servers on so many hosts have at most. Those that wait for the standby with a commit are
    given up and replaced, until Patroni gives up the standby: in the first loop after the end of its key in etcd."""
    given = config.load(CLUSTER / "config.toml", environ={})
    times = (number(PATRONI, "ttl") + number(PATRONI, "loop_wait")) / (0.9 * given.database.command_timeout)
    return (1 + int(times)) * hosts * given.server.workers * given.database.pool_size


@installed
@pytest.mark.parametrize("files", ["glusterfs-files.service", "seaweedfs/seaweedfs-files.service"])
def test_systemd_takes_the_units_and_drop_ins(files, tmp_path):
    """With Debian's units for etcd and Patroni, as far as they are installed."""
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)

    def put(source: Path, name: str) -> None:
        text = re.sub(
            r"(?<=[=+-])/\S+/(reportd|glusterfs|patroni|etcd|modprobe|weed|haproxy)\b", str(program), source.read_text()
        )
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)

    for unit in ("reportd.service", "reportd.socket"):
        put(DEPLOY / unit, unit)
    put(CLUSTER / files, "reportd-files.service")
    for unit in WEED.glob("*.service"):
        if unit.name != "seaweedfs-files.service":
            put(unit, unit.name)
    put(CLUSTER / "reportd-socket.conf", "reportd.socket.d/cluster.conf")
    for file, unit in DROP_INS.items():
        packaged = Path(f"/lib/systemd/system/{unit}.service")
        if unit == "reportd" or packaged.exists():
            if unit != "reportd":
                put(packaged, packaged.name)
            put(CLUSTER / file, f"{unit}.service.d/cluster.conf")
    units = [str(path) for path in tmp_path.iterdir() if path.suffix in {".service", ".socket"}]
    done = subprocess.run(
        [str(ANALYZE), "verify", "--man=no", "--generators=no", *units],
        env={**ENVIRONMENT, "SYSTEMD_UNIT_PATH": f"{tmp_path}:"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    ours = [line for line in done.stderr.splitlines() if str(tmp_path) in line or "reportd" in line or "weed" in line]
    assert ours == [] and done.returncode == 0, done.stderr


def test_haproxy_takes_its_configuration_without_a_warning(tmp_path):
    required("haproxy")
    pem = tmp_path / "reports.pem"
    line = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=x", "-keyout", pem, "-out", pem]
    subprocess.run(line, check=True, capture_output=True, timeout=120)
    (tmp_path / "haproxy.cfg").write_text(HAPROXY.replace("/etc/haproxy/reports.pem", str(pem)))
    check = [required("haproxy"), "-c", "-f", str(tmp_path / "haproxy.cfg")]
    done = subprocess.run(check, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and "WARNING" not in done.stdout + done.stderr, done.stderr


def test_haproxy_takes_the_filers_way_to_the_database_without_a_warning(tmp_path):
    text = (WEED / "haproxy.cfg").read_text("utf-8")
    line = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=x"]
    subprocess.run(
        [*line, "-keyout", tmp_path / "key", "-out", tmp_path / "ca.pem"], check=True, capture_output=True, timeout=120
    )
    for name, new in {"/etc/ssl/cluster": str(tmp_path), " alpha:": " 192.0.2.11:", " beta:": " 192.0.2.12:"}.items():
        assert name in text
        text = text.replace(name, new)
    (tmp_path / "haproxy.cfg").write_text(text)
    check = [required("haproxy"), "-c", "-f", str(tmp_path / "haproxy.cfg")]
    done = subprocess.run(check, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and "WARNING" not in done.stdout + done.stderr, done.stderr


def test_seaweedfs_syncs_keeps_two_copies_and_tells_its_makers_nothing():
    units = {unit.name: unit.read_text("utf-8") for unit in WEED.glob("*.service")}
    assert "-telemetry=false" in units["seaweedfs-master.service"]
    assert "-defaultReplication=001" in units["seaweedfs-master.service"]
    assert "-defaultReplicaPlacement=001" in units["seaweedfs-filer.service"]
    assert (
        "\n    -dir=" in units["seaweedfs-files.service"]
        and " -writebackCache" not in units["seaweedfs-files.service"].partition("ExecStart=")[2]
    )
    assert "fs.configure -locationPrefix=/ -fsync=true -apply" in PAGES[1]
    (store,) = tomllib.loads((WEED / "filer.toml").read_text()).items()
    assert store[0] == "postgres2" and f"127.0.0.1:{store[1]['port']}\n" in (WEED / "haproxy.cfg").read_text()
    assert f"hostssl {store[1]['database']} {store[1]['username']} " in PATRONI
    assert sessions(2) + 2 * store[1]["connection_max_open"] < number(PATRONI, "max_connections") * 0.9


def test_the_limits_of_the_files_agree():
    given = config.load(CLUSTER / "config.toml", environ={})
    servers = re.findall(r"^ +server \w+ ([\d.]+):8000", HAPROXY, re.MULTILINE)
    assert given.server.trusted_proxies == ["127.0.0.0/8", *servers]
    for drop_in in ("reportd.conf", "reportd-socket.conf"):
        assert re.search(rf"^IPAddressAllow=.*{' '.join(servers)}$", (CLUSTER / drop_in).read_text(), re.MULTILINE)
    for count, text in ((len(servers), PATRONI), (len(servers) + 1, HOSTS_PAGE.read_text("utf-8"))):
        assert str(sessions(count)) in text and sessions(count) < number(PATRONI, "max_connections") * 0.9
    ttl, pause, retry = (number(PATRONI, key) for key in ("ttl", "loop_wait", "retry_timeout"))
    assert pause + 2 * retry <= ttl  # otherwise Patroni may lose its lease while it retries
    for side in ("client", "server"):
        assert number(HAPROXY, f"timeout {side}") > given.server.body_timeout
    assert number(HAPROXY, "timeout http-keep-alive") == given.server.idle_timeout
    assert given.artifacts.file_timeout > number(GUIDE, "network.ping-timeout")
    assert given.server.allowed_hosts == re.findall(r"hdr Host (\S+)", HAPROXY)


def test_patroni_uses_the_interface_of_etcd_that_compares():
    assert re.search("^etcd:$", PATRONI, re.MULTILINE) and "\netcd3:" not in PATRONI
    assert "ETCD_ENABLE_V2=true" in (CLUSTER / "etcd.conf").read_text()


def test_a_dsn_of_two_hosts_uses_tls_and_the_one_that_takes_writes():
    dsn = config.load(CLUSTER / "config.toml", environ={}).database.dsn
    assert hosts_of(dsn) == [("alpha", 5432), ("beta", 5432)]
    assert "target_session_attrs=read-write" in dsn and "sslmode=verify-full" in dsn


def test_haproxy_passes_on_no_header_of_a_client_that_reportd_would_believe():
    listed = HAPROXY[HAPROXY.index("listen reports") :]
    for header in ("X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host"):
        assert re.search(rf"^ +http-request set-header {header} \S+$", listed, re.MULTILINE)  # set, never add
    assert "retry-on conn-failure\n" in listed  # anything else could send an upload twice
    assert "%HP" not in HAPROXY and "%r" not in HAPROXY.replace("%rt", "") and "httplog" not in HAPROXY


def test_no_password_is_in_the_files():
    for path in FILES:
        for line in path.read_text("utf-8").splitlines():
            assert not re.search(r"pass(word)?\s*[:=]\s*[\"']?\w", line, re.IGNORECASE), (path.name, line)
    assert tomllib.loads((CLUSTER / "config.toml").read_text())["database"]["dsn"].count(":PASSWORD@") == 1


def test_the_guide_is_short_and_names_every_file():
    assert GUIDE.count("\n") < 300
    for path in FILES:
        assert path.name == "README.md" or path.name in PAGES[path.parent == WEED], path.name
    steps = [int(step) for step in re.findall(r"^(\d)\. ", GUIDE, re.MULTILINE)]
    assert all(later == earlier + 1 for earlier, later in pairwise(steps)) and len(blocks("Install")) > 10


@pytest.mark.skipif(not shutil.which("bash"), reason="bash checks the guide's lines")
def test_the_guides_commands_are_shell():
    for block in re.findall(r"```bash\n(.*?)```", "".join([*PAGES, HOSTS_PAGE.read_text("utf-8")]), re.DOTALL):
        done = subprocess.run(["bash", "-n"], input=block, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, (block, done.stderr)
