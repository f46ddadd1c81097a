"""deploy/: units that systemd takes, keys and options that exist, an nginx that starts, and a guide that names them."""

import os
import re
import shlex
import shutil
import socket
import subprocess
import tempfile
import tomllib
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest

from server import config
from server.commands.main import _parser
from server.http import accept
from tests.api.test_accel_redirect import NGINX, PAGE
from tests.up_server import ENVIRONMENT, wait_for

DEPLOY = Path(__file__).parent.parent / "deploy"
UNITS = sorted(path for path in DEPLOY.iterdir() if path.suffix in {".service", ".socket", ".timer"})
SERVICES = [path for path in UNITS if path.suffix == ".service"]
ANALYZE = shutil.which("systemd-analyze")
EXPOSURE = 2.0
# One address of each network that a server should not be led to.
INTERNAL = ["169.254.169.254", "10.0.0.1", "172.16.0.1", "192.168.0.1", "100.100.100.200", "168.63.129.16", "224.0.0.1"]
INTERNAL += ["192.0.0.192", "fe80::1", "fd00:ec2::254", "fec0::1", "ff02::1"]
GUIDE = (DEPLOY / "README.md").read_text("utf-8")
installed = pytest.mark.skipif(not ANALYZE, reason="systemd is not installed")


def commands(unit: Path) -> list[list[str]]:
    """The arguments of `reportd` in a unit."""
    lines = re.findall(r"^Exec\w+=-?(/opt/reportd/venv/bin/reportd .+)$", unit.read_text("utf-8"), re.MULTILINE)
    return [shlex.split(line)[1:] for line in lines]


@installed
def test_systemd_takes_the_units(tmp_path):
    program = tmp_path / "reportd"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    for unit in UNITS:  # verify looks for the programs
        text = unit.read_text("utf-8").replace("/opt/reportd/venv/bin/reportd", str(program))
        (tmp_path / unit.name).write_text(text)
    drop_in = tmp_path / "reportd.service.d/webhooks.conf"
    drop_in.parent.mkdir()
    shutil.copy(DEPLOY / drop_in.name, drop_in)
    done = subprocess.run(
        [str(ANALYZE), "verify", "--man=no", "--generators=no", *(str(tmp_path / unit.name) for unit in UNITS)],
        env={**ENVIRONMENT, "SYSTEMD_UNIT_PATH": f"{tmp_path}:"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    ours = [line for line in done.stderr.splitlines() if "reportd" in line]
    assert ours == [] and done.returncode == 0, done.stderr


def test_the_memory_limit_of_the_service_is_above_the_bounds_of_its_workers():
    """The sum in the comment of MemoryMax, with a quarter more; see docs/scaling.md."""
    settings = tomllib.loads((DEPLOY / "config.toml").read_text("utf-8"))["server"]
    server = config.ServerConfig()
    assert not {"body_memory", "reply_memory", "max_connections"} & settings.keys()
    mib = 1 << 20
    bounds = (
        70 * mib + 5 * server.body_memory + 2 * server.reply_memory + 130 * mib + accept._MOST_BY_DEFAULT * (14 << 10)
    )
    (limit,) = re.findall(r"^MemoryMax=(\d+)G$", (DEPLOY / "reportd.service").read_text("utf-8"), re.MULTILINE)
    assert 1.2 * settings["workers"] * bounds <= int(limit) << 30


@installed
@pytest.mark.parametrize("service", SERVICES, ids=lambda path: path.name)
def test_the_services_may_do_little(service):
    line = [str(ANALYZE), "security", "--offline=true", "--no-pager", f"--threshold={EXPOSURE * 10:.0f}", str(service)]
    done = subprocess.run(line, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout
    assert float(re.search(r"Overall exposure level for \S+: (\S+)", done.stdout)[1]) <= EXPOSURE


def test_the_commands_of_the_units_exist():
    for service in SERVICES:
        assert commands(service)
        for command, *options in commands(service):
            written = re.findall(r"^ReadWritePaths=(.+)$", service.read_text("utf-8"), re.MULTILINE)
            assert options == [*written, "--config", "%d/config.toml"]
            _parser().parse_args([command, *options])


def test_the_services_differ_only_where_they_must():
    one, *others = (
        {line for line in path.read_text("utf-8").partition("\nNoNew")[2].splitlines() if line and line[0] != "#"}
        for path in (DEPLOY / f"{name}.service" for name in ("reportd", "reportd-check", "reportd-backup"))
    )
    only = {"SystemCallFilter=sched_setaffinity setpriority", "[Install]", "WantedBy=multi-user.target"}
    for other in others:
        assert one - other == only and other - one == set()


@pytest.mark.parametrize("address", INTERNAL)
def test_the_drop_in_for_webhooks_keeps_internal_addresses_closed(address):
    """systemd allows what IPAddressAllow has, then refuses what IPAddressDeny has; an empty line removes the former
    ones. Loopback stays open for the database."""
    lines = re.findall(r"^IPAddress(\w+)=(.*)$", (DEPLOY / "webhooks.conf").read_text("utf-8"), re.MULTILINE)
    assert lines[0] == ("Deny", "") and {kind for kind, _ in lines} == {"Deny"}
    named = {"link-local": ["169.254.0.0/16", "fe80::/64"], "multicast": ["224.0.0.0/4", "ff00::/8"]}
    networks = [ip_network(each) for _, texts in lines for text in texts.split() for each in named.get(text, [text])]
    found = ip_address(address)
    assert any(found in network for network in networks) and not any(ip_address("1.1.1.1") in each for each in networks)


def test_a_stop_is_given_the_time_that_the_configuration_promises():
    given = config.load(DEPLOY / "config.toml", environ={})
    unit = (DEPLOY / "reportd.service").read_text("utf-8")
    (seconds,) = re.findall(r"^TimeoutStopSec=(\d+)$", unit, re.MULTILINE)
    assert int(seconds) >= given.server.shutdown_timeout + 30 + 10
    (state,) = re.findall(r"^StateDirectory=(\w+)$", unit, re.MULTILINE)
    assert Path(given.artifacts.storage_path).is_relative_to(f"/var/lib/{state}")


def test_nginx_takes_its_example_and_sends_downloads_as_documented(tmp_path):
    text = (DEPLOY / "nginx.conf").read_text("utf-8")
    given = config.load(DEPLOY / "config.toml", environ={})
    assert f"location {given.artifacts.accel_redirect} {{\n" in text
    assert f"alias {given.artifacts.storage_path}/;\n" in text
    per_batch = given.artifacts.batch_max_files * given.artifacts.max_file_size
    (size,) = re.findall(r"client_max_body_size (\d+)m;", text)
    assert per_batch < int(size) << 20 < 1.1 * per_batch
    lines = r"^ +((?:add_header|etag|error_page|internal|proxy_set_header X-Accel)\b.*?;)"
    assert set(re.findall(lines, PAGE, re.MULTILINE)) <= set(re.findall(lines, text, re.MULTILINE))
    if not NGINX:
        pytest.skip("nginx is not installed")
    certificate = tmp_path / "certificate.pem"
    key = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=reports.example"]
    subprocess.run([*key, "-keyout", certificate, "-out", certificate], check=True, capture_output=True, timeout=120)
    text = re.sub(r"/etc/letsencrypt/live/\S+\.pem", str(certificate), text)
    text = text.replace("/var/log/nginx/", f"{tmp_path}/")
    text = re.sub(r"listen (\S*?)(443|80)\b", lambda found: f"listen {found[1]}{int(found[2]) + 8000}", text)
    places = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    folders = "".join(f"{name}_temp_path {tmp_path}/{name};" for name in places)
    whole = f"pid {tmp_path}/pid; events {{}} http {{ access_log off; {folders} {text} }}"
    (tmp_path / "nginx.conf").write_text(whole)
    done = subprocess.run(
        [NGINX, "-t", "-e", f"{tmp_path}/error.log", "-c", f"{tmp_path}/nginx.conf", "-p", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(not NGINX, reason="nginx is not installed")
def test_nginx_logs_no_evidence_link():
    """Neither of a page nor of an image, which nginx sends from another location."""
    text = (DEPLOY / "nginx.conf").read_text("utf-8")
    (chosen,) = re.findall(r"^map .*?^}", text, re.MULTILINE | re.DOTALL)
    (logged,) = set(re.findall(r"^ +(access_log .+;)$", text, re.MULTILINE))
    assert text.count(logged) == text.count("server_name")
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:  # a socket's path may be of 100 characters at most
        places = "".join(
            f"{name}_temp_path {folder}/{name};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        user = "user root;" if os.geteuid() == 0 else ""
        files = "location ~ artifacts/ { rewrite ^ /_files/x last; } location /_files/ { internal; return 204; }"
        server = f"listen unix:{folder}/socket; {logged.replace('/var/log/nginx', folder)} {files}"
        (Path(folder) / "nginx.conf").write_text(
            f"daemon off; pid {folder}/pid; error_log {folder}/error.log; {user} events {{}}"
            f" http {{ {places} {chosen} server {{ {server} location / {{ return 204; }} }} }}"
        )
        line = [NGINX, "-e", f"{folder}/error.log", "-c", f"{folder}/nginx.conf", "-p", folder]
        with subprocess.Popen(line) as process:
            try:
                wait_for(lambda: (Path(folder) / "pid").exists() and (Path(folder) / "pid").read_text())
                for path in ("/shared/rpl_a", "/shared/rpl_b/artifacts/1", "//shared/c", "/first/artifacts/2", "/last"):
                    with socket.socket(socket.AF_UNIX) as client:
                        client.settimeout(30)
                        client.connect(f"{folder}/socket")
                        client.sendall(f"GET {path} HTTP/1.0\r\n\r\n".encode())
                        assert b" 204 " in client.recv(1000), path
                log = Path(folder) / "access.log"
                wait_for(lambda: "/last" in log.read_text(), log.read_text)
            finally:
                process.terminate()
        lines = re.findall(r'"GET (\S+) HTTP', log.read_text())
        assert lines == ["/first/artifacts/2", "/last"]


def test_the_guide_names_every_file_and_every_path_that_the_units_need():
    for path in DEPLOY.iterdir():
        assert path.name == "README.md" or path.name in GUIDE, path.name
    for place in ("/etc/reportd/config.toml", "/opt/reportd/venv", "/var/lib/reportd"):
        assert place in GUIDE
    mentioned = set(re.findall(r"\bdeploy/([\w.-]+\.\w+)", GUIDE + PAGE))
    assert mentioned and all((DEPLOY / name).exists() for name in mentioned)


@pytest.mark.skipif(not shutil.which("bash"), reason="bash checks the guide's lines")
def test_the_guides_commands_are_shell():
    blocks = re.findall(r"```bash\n(.*?)```", GUIDE, re.DOTALL)
    assert len(blocks) > 5
    for block in blocks:
        done = subprocess.run(["bash", "-n"], input=block, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, (block, done.stderr)
        for line in re.findall(r"/opt/reportd/venv/bin/reportd (.+)", block):
            arguments = shlex.split(line.partition("|")[0].partition(" > ")[0].partition(")")[0], comments=True)
            _parser().parse_args([os.path.expandvars(argument) for argument in arguments])
