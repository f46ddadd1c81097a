"""Does the steps of deploy/cluster/README.md in hosts of hosts.py: the very code blocks, in the order of the page.

Before each block the page says where it is run ("On alpha and beta: …"). What cannot be done here is replaced by
commands of the same name, in /usr/local/bin of each host:

- `systemctl`: systemctl.py beside this file, which runs the programs of the unit files.
- `apt-get`: nothing. The programs are those of this machine; the test is skipped without them.
- `git clone` and `pull`, `python3 -m venv`, `pip install`: /opt/reportd/src is this checkout, and
  /opt/reportd/venv/bin/reportd runs it with the Python of the tests. tests/test_package.py installs the package.
  SeaweedFS's `weed` is that of the tests' environment.
- `ssh` and `scp`: what they would do on the other host is done there when the block has ended.

The disk at /srv/brick, which the page takes for granted, is a folder in memory.
"""

import os
import re
import shlex
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.hosts import Host, Lan
from tests.cluster.programs import found
from tests.up_server import CHECKOUT, PATIENCE

README = CHECKOUT / "deploy/cluster/README.md"
HOSTS_PAGE = CHECKOUT / "deploy/cluster/hosts.md"
SEAWEEDFS = CHECKOUT / "deploy/cluster/seaweedfs/README.md"
_HOST = "(?:alpha|beta|gamma|delta)"
_WHERE = re.compile(rf"\b[Oo]n\s+({_HOST}(?:(?:,\s+then\s+on\s+|,\s+|\s+and\s+){_HOST})*):")
_REPORTD = f"""#!/bin/sh
cd {shlex.quote(str(CHECKOUT))} && exec {shlex.quote(sys.executable)} -m server "$@"
"""
_REPLACED = {
    "systemctl": f'exec {sys.executable} {CHECKOUT}/tests/cluster/systemctl.py "$@"',
    "apt-get": "",
    "git": f"[ $1 = pull ] || {{ [ $1 = clone ]; mkdir -p /opt/reportd; ln -sfn '{CHECKOUT}' /opt/reportd/src; }}",
    "python3": """[ "$1 $2" = "-m venv" ]
mkdir -p "$3/bin" && ln -sf /bin/true "$3/bin/pip"
ln -sf /usr/local/share/reportd /usr/local/share/weed "$3/bin/"
""",
    "ssh": 'host=$1; shift; echo "umask 077; $*" >> "$MAIL/$host"',
    "scp": r"""[ "$1" != -p ] || shift
for last; do :; done
for file; do
    [ "$file" != "$last" ] || break
    target=${last#*:}
    case $target in */) target=$target$(basename "$file") ;; esac
    echo "base64 -d > '$target' <<'END' && chmod $(stat -c %a "$file") '$target'" >> "$MAIL/${last%%:*}"
    base64 "$file" >> "$MAIL/${last%%:*}"
    echo END >> "$MAIL/${last%%:*}"
done""",
}


@dataclass(frozen=True)
class Block:
    """A code block of the page, and the hosts on which it is run."""

    hosts: tuple[str, ...]
    in_order: bool  # "On alpha, then on beta"; else at the same time
    text: str


def blocks(section: str, page: Path = README) -> list[Block]:
    """Those of a section of the page that say where they are run."""
    text = page.read_text("utf-8")
    (part,) = re.findall(rf"^## {re.escape(section)}\n(.*?)(?=^## |\Z)", text, re.DOTALL | re.MULTILINE)
    found, end = [], 0
    for block in re.finditer(r"^( *)```bash\n(.*?)^ *```$", part, re.DOTALL | re.MULTILINE):
        where = _WHERE.findall(part[end : block.start()])
        end = block.end()
        if where:
            lines = [line.removeprefix(block[1]) for line in block[2].splitlines()]
            hosts = tuple(re.findall(_HOST, where[-1]))
            found.append(Block(hosts, "then" in where[-1], "\n".join(lines)))
    return found


class Guide:
    """Follows the page. `transcript` has the blocks and what they printed."""

    def __init__(self, lan: Lan) -> None:
        self._hosts = {host.name: host for host in lan.hosts}
        self._mail = lan.folder / "mail"
        self.transcript: list[str] = []
        for host in lan.hosts:
            self.prepare(host)
            host.run("mkdir", "-p", str(self._mail), "/srv/brick")

    def prepare(self, host: Host) -> None:
        """What a host has before the first step, or after a boot: its disk for files, and the replaced commands."""
        brick = self._mail.parent / host.name / "brick"
        host.run("mkdir", "-p", str(brick), "/srv/brick")
        host.run("mount", "--bind", str(brick), "/srv/brick")
        host.run("systemd-tmpfiles", "--create", "haproxy.conf", "postgresql-common.conf", check=False)
        host.path("/usr/local/share/reportd").write_text(_REPORTD)
        host.path("/usr/local/share/reportd").chmod(0o755)
        if weed := found("weed"):  # 150 MB: not copied
            host.path("/usr/local/share/weed").touch()
            host.run("mount", "--bind", weed, "/usr/local/share/weed")
        for name, script in _REPLACED.items():
            command = host.path(f"/usr/local/bin/{name}")
            command.write_text(f"#!/bin/sh\nset -e\n{script}\n")
            command.chmod(0o755)
        for place in (CHECKOUT, Path(sys.executable).parent, Path(sys.base_prefix)):  # the user reportd runs Python
            for folder in (place, *place.parents):
                if not folder.stat().st_mode & 1:
                    host.run("chmod", "o+x", str(folder))

    def note(self, line: str) -> None:
        self.transcript.append(f"\n# {line}")

    def follow(self, block: Block) -> None:
        """Runs a block on each of its hosts. Fails with its output."""
        hosts = [self._hosts[name] for name in block.hosts]
        with ThreadPoolExecutor(1 if block.in_order else len(hosts)) as threads:
            list(threads.map(lambda host: self.run(host, block.text), hosts))
        for mail in list(self._here(self._mail).iterdir()):
            script = mail.read_text()
            mail.unlink()
            self.run(self._hosts[mail.name], script, shown=False)

    def _here(self, path: Path) -> Path:
        """A path in the memory of the hosts, as the test finds it."""
        return next(host for host in self._hosts.values() if host.is_on).path(str(path))

    def run(self, host: Host, script: str, shown: bool = True) -> str:
        """Runs lines as a person pastes them into a root's shell, and returns what they printed."""
        env = {
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": "/root",
            "LANG": "C.UTF-8",
        }
        env |= {"MAIL": str(self._mail), **{key: os.environ[key] for key in ("SSL_CERT_FILE",) if key in os.environ}}
        done = subprocess.run(
            [*host.prefix(folder="/root"), "bash", "-eo", "pipefail", "-c", script],
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=2 * PATIENCE,
        )
        if shown:
            lines = script.splitlines()
            self.transcript += [f"root@{host.name}:~# {lines[0]}", *lines[1:], done.stdout.rstrip()]
        assert done.returncode == 0, f"{host.name}: {script}\n{done.stdout}"
        return done.stdout
