"""The row about another product: SQUAD, Linaro's Software Quality Dashboard, as PyPI has it, on the same PostgreSQL."""

import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from bench.load import Load
from bench.measure import Contenders, Measured, in_turn, make_run, measure, values_of
from bench.processes import CHECKOUT, ENVIRONMENT, BenchError, Server, free_port, process
from bench.results import WHOLE, Row
from bench.run import Run
from bench.servers import Cluster, wait_until_listening

ENVIRONMENT_OF_SQUAD = CHECKOUT / ".venv-squad"  # its own: it needs other versions of libraries
_SIZE = 200_000
_RUNS_OF_A_BUILD = 10
# SQUAD downloads the scripts of its pages when it is imported. Without this, it does not start on a closed network.
_WITHOUT_DOWNLOADS = """
import sys, types
setup = types.ModuleType("squad.frontend.setup")
setup.setup_staticfiles = lambda: None
sys.modules[setup.__name__] = setup
"""
_FIRST_OBJECTS = """
from django.contrib.auth.models import User
from rest_framework.authtoken.models import Token
from squad.core.models import Group
Group.objects.create(slug="bench").projects.create(slug="bench", name="bench")
print(Token.objects.create(user=User.objects.create_superuser("bench", "bench@example.com", "bench")).key)
"""


def test_run(run: Run) -> list[Row]:
    """A test result with a file of 200 KB in one request, compared with SQUAD."""
    row = Row(
        "squad", "test result with a file of 200 KB, SQUAD's over ours", "CPU ms", "SQUAD", inverted=True, part=WHOLE
    )
    if not (ENVIRONMENT_OF_SQUAD / "bin" / "squad").exists():
        row.missing = "not installed; see bench/README.md"
        return [row]
    with ExitStack() as stack:
        ours, folder = run.ours(stack)
        try:
            theirs = stack.enter_context(_squad(run.cluster, folder / "squad"))
        except (BenchError, subprocess.TimeoutExpired) as error:  # no fault of reportd: the other rows go on
            row.missing = f"did not start: {str(error).splitlines()[-1][:80]}"
            return [row]

        def bundle(count: int) -> Measured:
            path = f"{make_run(ours)}/bundle"
            return measure(ours, Load(ours.port, "bundle", [path], count, ours.token, files=1, size=_SIZE))

        def submit(count: int) -> Measured:
            builds = -(-count // _RUNS_OF_A_BUILD)
            paths = [f"/api/submit/bench/bench/{os.urandom(8).hex()}/linux" for _ in range(builds)]
            token = f"Auth-Token: {theirs.token}\r\n"
            load = Load(theirs.port, "attachment", paths, count, headers=token, files=1, size=_SIZE, sample=0)
            return measure(theirs, load)

        contenders: Contenders = {"ours": bundle, "squad": submit}
        found = in_turn(run.rounds, run.count(40), contenders)
    each = values_of(found, Measured.per_request)
    return [row.fill(each["ours"], each["squad"])]


@contextmanager
def _squad(cluster: Cluster, folder: Path) -> Iterator[Server]:
    """`squad` with one worker of four threads, and a token that may submit test runs."""
    (folder / "site").mkdir(parents=True)
    (folder / "site" / "sitecustomize.py").write_text(_WITHOUT_DOWNLOADS, "utf-8")
    where = ":".join(f"{name.upper()}={value}" for name, value in cluster.create("squad").items())
    settings = {
        "DATABASE": f"ENGINE=django.db.backends.postgresql:NAME=squad:{where}",
        "ENV": "production",
        "HOME": str(folder),
        "PYTHONPATH": str(folder / "site"),
        "SECRET_KEY": "bench",
        "SQUAD_STORAGE_DIR": str(folder / "files"),
        "XDG_DATA_HOME": str(folder),
    }
    _administer(settings, "migrate", "-v", "0")
    token = _administer(settings, "shell", "-c", _FIRST_OBJECTS).split()[-1]
    port = free_port()
    # With threads, gunicorn keeps connections open.
    command = [str(ENVIRONMENT_OF_SQUAD / "bin" / "squad"), "--fast", "--bind", f"127.0.0.1:{port}", "--threads", "4"]
    with process("SQUAD", command, settings) as running:
        wait_until_listening("SQUAD", port)
        yield Server("SQUAD", port, [running.pid], token, cluster.pid)


def _administer(settings: Mapping[str, str], *arguments: str) -> str:
    """Runs `squad-admin`; its standard output."""
    command = [str(ENVIRONMENT_OF_SQUAD / "bin" / "squad-admin"), *arguments]
    environment = {**ENVIRONMENT, **settings}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    if done.returncode:
        raise BenchError(f"squad-admin {arguments[0]} ended with {done.returncode}: {done.stderr[-1000:]}")
    return done.stdout
