"""`systemctl` for the hosts of hosts.py, where systemd does not run. It runs the programs of the very unit files.

Honoured are commands, users, environments, credentials, sockets, readiness, dependencies, the order of starting,
restarts, stopping, folders and drop-ins. Not honoured is what the kernel would do for systemd: see IGNORED. A unit with
a key that is in neither list is refused, so that no line of a unit goes by unnoticed.

Each running unit has a supervisor, a process of this file: its state is in /run/units, its output in /var/log/units.
"""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.cluster.unit_process import UnitProcess

FOLDERS = [Path("/etc/systemd/system"), Path("/lib/systemd/system")]
STATES, LOGS, ENABLED = Path("/run/units"), Path("/var/log/units"), Path("/etc/systemd/system/multi-user.target.wants")
LISTS = {"Environment", "EnvironmentFile", "LoadCredential", "ListenStream", "StateDirectory"}
LISTS |= {"ExecStartPre", "ExecStart", "ExecStartPost", "ExecStopPost", "ExecReload", "Wants", "Requires", "After"}
KNOWN = LISTS | {
    "Type",
    "User",
    "Group",
    "PIDFile",
    "KillMode",
    "Restart",
    "RestartSec",
    "TimeoutStartSec",
    "TimeoutSec",
}
KNOWN |= {
    "TimeoutStopSec",
    "PrivateTmp",
    "SuccessExitStatus",
    "ConditionPathExists",
    "ConditionFileNotEmpty",
    "Backlog",
}
KNOWN |= {"RestartPreventExitStatus", "StateDirectoryMode", "UMask", "WorkingDirectory"}
# Sandbox, limits of resources, addresses; what is only text; what needs a boot.
IGNORED = re.compile(
    "Description|Documentation|Alias|WantedBy|Before|Conflicts|StartLimit.*|NotifyAccess|WatchdogSec|Limit.*|MemoryMax"
    "|OOMPolicy|NoNewPrivileges|CapabilityBoundingSet|AmbientCapabilities|Protect.*|Private(Devices|Mounts|Users|IPC)"
    "|LockPersonality|MemoryDenyWriteExecute|RemoveIPC|Restrict(Namespaces|Realtime|SUIDSGID|AddressFamilies)"
    "|IPAddress.*|SystemCall.*|ReadWritePaths|BindReadOnlyPaths|Nice|IOSchedulingClass|CPUWeight|PermissionsStartOnly"
    "|DeferAcceptSec|NoDelay|KeepAlive|KeepAliveTimeSec|On(Calendar|BootSec)|RandomizedDelaySec|Persistent|Unit"
)


def read(name: str) -> dict[str, list[str]]:
    """The settings of a unit with its drop-ins. An empty value removes those before it."""
    for folder in FOLDERS:
        if (folder / name).exists():
            files = [folder / name]
            break
    else:
        sys.exit(f"Unit {name} not found.")
    files += sorted(file for folder in FOLDERS for file in (folder / f"{name}.d").glob("*.conf"))
    found: dict[str, list[str]] = {}
    for file in files:
        text = re.sub(r"\\\n\s*", " ", file.read_text("utf-8"))
        for line in text.splitlines():
            if not line.strip() or line.lstrip()[0] in "#;[":
                continue
            key, _, value = line.partition("=")
            if IGNORED.fullmatch(key):
                continue
            if key not in KNOWN:
                sys.exit(f"{file}: {key} is not honoured by tests/cluster/systemctl.py")
            if not value.strip():
                found[key] = []
            elif key in LISTS:
                found.setdefault(key, []).append(_expanded(value.strip(), name))
            else:
                found[key] = [_expanded(value.strip(), name)]
    return found


def _expanded(value: str, name: str) -> str:
    known = {"%H": os.uname().nodename, "%p": name.rpartition(".")[0], "%n": name, "%d": f"/run/credentials/{name}"}
    return re.sub("%[Hpnd]", lambda found: known[found[0]], value)


def state(name: str) -> str:
    file = STATES / name
    return file.read_text().partition(" ")[0] if file.exists() else "inactive"


def start(name: str, trail: tuple[str, ...] = (), wait: bool = True) -> int:
    """Starts what the unit wants, then the unit, and waits until it is active. 0 unless it failed."""
    if state(name) == "active" or name in trail or not name.endswith((".service", ".socket", ".timer")):
        return 0
    settings = read(name)
    for wanted in " ".join(settings.get("Wants", []) + settings.get("Requires", [])).split():
        if start(wanted, (*trail, name)) and wanted in " ".join(settings.get("Requires", [])):
            return 1
    for kind, test in (("ConditionPathExists", Path.exists), ("ConditionFileNotEmpty", Path.exists)):
        if not all(test(Path(path)) for path in settings.get(kind, [])):
            return 0
    STATES.mkdir(exist_ok=True)
    LOGS.mkdir(exist_ok=True)
    if name.endswith((".socket", ".timer")):  # the supervisor of the service opens the socket; no timer elapses here
        (STATES / name).write_text("active")
        return 0
    if state(name) == "inactive":
        (STATES / name).write_text("activating")
        with (LOGS / f"{name}.log").open("ab") as log:
            line = [sys.executable, __file__, "supervise", name]
            subprocess.Popen(line, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
    while state(name) == "activating" and wait:
        time.sleep(0.02)
    if state(name) in ("failed", "retrying"):
        print(
            f"Job for {name} failed:\n{(LOGS / f'{name}.log').read_text('utf-8', 'replace')[-2000:]}", file=sys.stderr
        )
    return int(state(name) in ("failed", "retrying"))


def stop(name: str) -> int:
    file = STATES / name
    if not file.exists():
        return 0
    _, _, pid = file.read_text().partition(" ")
    if pid:
        os.kill(int(pid), signal.SIGTERM)
        while file.exists():
            time.sleep(0.02)
    file.unlink(missing_ok=True)
    return 0


def restart(name: str, wait: bool) -> int:
    """A unit with a socket keeps its supervisor, which holds the socket: connections wait in its queue."""
    if state(name) != "active" or not _listen_streams(name):
        stop(name)
        return start(name, wait=wait)
    return _ask_supervisor(name, signal.SIGUSR1)


def reload(name: str) -> int:
    return _ask_supervisor(name, signal.SIGHUP)


def _ask_supervisor(name: str, number: int) -> int:
    """Waits until the unit is active again."""
    supervisor = (STATES / name).read_text().partition(" ")[2]
    (STATES / name).write_text(f"activating {supervisor}")
    os.kill(int(supervisor), number)
    while state(name) == "activating":
        time.sleep(0.02)
    return int(state(name) != "active")


def supervise(name: str) -> int:
    """Runs the unit until it is stopped or ends for good."""
    unit = UnitProcess(name, read(name), STATES / name)
    try:
        return unit.run_until_stopped(_listen_streams(name))
    except BaseException:
        (STATES / name).write_text("failed")
        raise


def _listen_streams(name: str) -> list[str]:
    socket = f"{name.rpartition('.')[0]}.socket"
    return read(socket).get("ListenStream", []) if state(socket) == "active" else []


def enable(name: str) -> int:
    ENABLED.mkdir(exist_ok=True, parents=True)
    (ENABLED / name).unlink(missing_ok=True)
    (ENABLED / name).touch()  # a link is from the machine's own systemd
    return 0


def main(arguments: list[str]) -> int:
    verb, *names = [argument for argument in arguments if not argument.startswith("--")]
    names = [name if "." in name else f"{name}.service" for name in names]
    if verb in ("daemon-reload", "status"):
        return 0
    if verb == "default":  # at the boot of the host
        ours = sorted(file for file in ENABLED.iterdir() if not file.is_symlink())
        return max([start(file.name) for file in ours], default=0)
    if verb == "is-active":
        print(*map(state, names), sep="\n")
        return int({state(name) for name in names} != {"active"})
    begin = partial(start, wait="--no-block" not in arguments)
    actions: dict[str, list[Callable[[str], int]]] = {
        "start": [begin],
        "stop": [stop],
        "restart": [partial(restart, wait="--no-block" not in arguments)],
        "reload": [reload],
        "enable": [enable, begin] if "--now" in arguments else [enable],
        "disable": [lambda name: (ENABLED / name).unlink(missing_ok=True) or 0, stop],
        "supervise": [supervise],
    }
    return max(action(name) for action in actions[verb] for name in names)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
