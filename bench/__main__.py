"""`python -m bench`: starts everything it needs, measures, prints one table. `--only ROW` for one row.

CPU s/GB is the server's own CPU time, user and system, for 10⁹ bytes of requests: steadier than throughput on
machines that are shared. Storage lies in memory where the machine has /dev/shm, so that write-back does not blur it.
"""

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict
from pathlib import Path

from bench.load import Load, Result
from bench.servers import Server, cpu_seconds, floor, reportd

ROUNDS = 3


def _send(load: Load) -> Result:
    """The load as a process of its own."""
    command = [sys.executable, "-m", "bench.load"]
    done = subprocess.run(command, input=json.dumps(asdict(load)), check=True, stdout=subprocess.PIPE, text=True)
    return Result(**json.loads(done.stdout))


def _measured(server: Server, load: Load) -> tuple[float, float, Result]:
    """CPU seconds per GB of the server and of its PostgreSQL, and what came back."""
    before = cpu_seconds(server.pid), server.postgres_pid and cpu_seconds(server.postgres_pid, children=True)
    result = _send(load)
    own = cpu_seconds(server.pid) - before[0]
    postgres = cpu_seconds(server.postgres_pid, children=True) - before[1] if server.postgres_pid else 0.0
    return own / result.request_bytes * 1e9, postgres / result.request_bytes * 1e9, result


def _upload(files: int, size: int, requests: int) -> list[str]:
    """A row: our server and the floor in turn, so that both meet the same machine."""
    ours: list[tuple[float, float, Result]] = []
    theirs: list[tuple[float, float, Result]] = []
    with _folder() as folder, _folder() as floor_folder, reportd(folder) as server, floor(floor_folder) as limit:
        _measured(server, _load(server, files, size, 10))  # warm up
        for _ in range(ROUNDS):
            ours.append(_measured(server, _load(server, files, size, requests)))
            theirs.append(
                _measured(limit, Load(limit.port, ["/"], requests=requests, files=files, size=size, sample=0))
            )
    cpu = statistics.median(item[0] for item in ours)
    postgres = statistics.median(item[1] for item in ours)
    least = statistics.median(item[0] for item in theirs)
    mbs = statistics.median(item[2].request_bytes / item[2].seconds / 1e6 for item in ours)
    p50 = statistics.median(item[2].p50 for item in ours) * 1000
    p99 = statistics.median(item[2].p99 for item in ours) * 1000
    return [
        f"{files} × {size // 1000} KB",
        f"{cpu:.2f} CPU s/GB (+{postgres:.2f} PostgreSQL)",
        f"floor {least:.2f}",
        f"{cpu / least:.2f}",
        f"{mbs:.0f} MB/s, p50 {p50:.1f} ms, p99 {p99:.1f} ms",
    ]


def _load(server: Server, files: int, size: int, requests: int) -> Load:
    paths = [f"{case}/artifacts/batch" for case in server.make_cases(200)]
    return Load(server.port, paths, server.token, requests=requests, files=files, size=size)


def _folder() -> AbstractContextManager[Path]:
    class Folder(AbstractContextManager[Path]):
        def __enter__(self) -> Path:
            memory = Path("/dev/shm")
            self.path = Path(tempfile.mkdtemp(prefix="reportd-bench-", dir=memory if memory.is_dir() else None))
            self.path.chmod(0o755)
            return self.path

        def __exit__(self, *_: object) -> None:
            shutil.rmtree(self.path, ignore_errors=True)

    return Folder()


ROWS: dict[str, Callable[[], list[str]]] = {
    "batch": lambda: _upload(10, 200_000, 40),
    "large": lambda: _upload(1, 8_000_000, 10),
    "small": lambda: _upload(1, 2_000, 500),
}


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--only", choices=list(ROWS))
    only = parser.parse_args().only
    print(f"{'figure':14} {'ours':38} {'compared with':14} {'ratio':6} more")
    for name, row in ROWS.items():
        if only in (None, name):
            figure, ours, compared, ratio, more = row()
            print(f"{figure:14} {ours:38} {compared:14} {ratio:6} {more}", flush=True)


if __name__ == "__main__":
    main()
