"""`python -m bench missing`: whether the time of POST /artifacts/missing tells which bytes another project has."""

import argparse
import hashlib
import http.client
import json
import random
import statistics
import time
import uuid
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

from bench import results
from bench.processes import BenchError, Server, folder
from bench.servers import Cluster, reportd

_API = "/api/v1/reports"
_FILES = 50  # of the other project, and in the larger question
_SHUFFLES = 400
_MOST = 0.95  # of the shuffled calls differ by less than the noise
HEAD = ("files asked for", "another project has them µs", "nobody has them µs", "difference µs", "noise µs", "")


def main(arguments: Sequence[str]) -> int:
    """Exit code 1 when a difference is above the noise, which one in twenty is by chance."""
    parser = argparse.ArgumentParser(prog="python -m bench missing", description=main.__doc__)
    parser.add_argument("--calls", type=int, default=1_000, help="of each kind (default: %(default)s)")
    options = parser.parse_args(arguments)
    with ExitStack() as stack:
        place = stack.enter_context(folder(need=1 << 30))
        database = stack.enter_context(Cluster(place / "postgres")).database("missing")
        ours, theirs = database.token_of("ours"), database.token_of("theirs")
        server = stack.enter_context(reportd(database, place / "reportd"))
        held = _store(server, theirs)
        times = {size: _times(server, ours, held[:size], options.calls) for size in (1, _FILES)}
    rows = {size: compared(*each) for size, each in times.items()}
    print(results.table(HEAD, [(str(size), *row) for size, row in rows.items()]))
    return int(any(row[-1] for row in rows.values()))


def compared(held: Sequence[float], unknown: Sequence[float]) -> tuple[str, ...]:
    """The cells after the first: medians, their difference, and how much they differ when calls change sides."""
    medians = statistics.median(held), statistics.median(unknown)
    mixed, chance = [*held, *unknown], random.Random(1)  # noqa: S311
    differences = []
    for _ in range(_SHUFFLES):
        chance.shuffle(mixed)
        differences.append(abs(statistics.median(mixed[: len(held)]) - statistics.median(mixed[len(held) :])))
    noise = sorted(differences)[int(_SHUFFLES * _MOST)]
    difference = medians[0] - medians[1]
    texts = [f"{1e6 * each:.1f}" for each in (*medians, difference, noise)]
    return *texts, "above the noise" if abs(difference) > noise else ""


def _store(server: Server, token: str) -> list[bytes]:
    """Files of a project."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port)
    run = _json(connection, token, "/suite-runs", {"name": "missing"})["id"]
    case = _json(connection, token, f"/suite-runs/{run}/test-cases", {"name": "missing"})["id"]
    files = [f"{uuid.uuid4()}\n".encode() for _ in range(_FILES)]
    entries = [{"file_index": i, "artifact_type": "log"} for i in range(_FILES)]
    parts = [b'--b\r\nContent-Disposition: form-data; name="metadata"\r\n\r\n' + json.dumps(entries).encode()]
    head = b'--b\r\nContent-Disposition: form-data; name="files"; filename="a.txt"\r\n\r\n'
    parts += [head + data for data in files]
    body = b"\r\n".join([*parts, b"--b--\r\n"])
    path = f"/test-case-results/{case}/artifacts/batch"
    stored = _json(connection, token, path, body, "multipart/form-data; boundary=b")
    if len(stored["artifacts"]) != _FILES:
        raise BenchError(f"the files of the other project were not stored: {stored}")
    return files


def _times(server: Server, token: str, held: Sequence[bytes], calls: int) -> tuple[list[float], list[float]]:
    """Seconds of the same question about bytes that another project has, and about bytes that nobody has, in turn."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port)
    questions = [_question(held), _question([data + b"?" for data in held])]
    spent: tuple[list[float], list[float]] = ([], [])
    for n in range(calls + calls // 10):
        for which in random.sample((0, 1), 2):
            started = time.perf_counter()
            reply = _json(connection, token, "/artifacts/missing", questions[which])
            seconds = time.perf_counter() - started
            if len(reply["missing"]) != len(held):
                raise BenchError("a project is told of the bytes of another one")
            if n >= calls // 10:  # after a warm-up
                spent[which].append(seconds)
    return spent


def _question(files: Sequence[bytes]) -> dict[str, Any]:
    return {"files": [{"checksum": hashlib.sha256(data).hexdigest(), "file_size": len(data)} for data in files]}


def _json(
    connection: http.client.HTTPConnection, token: str, path: str, value: Any, content_type: str = "application/json"
) -> Any:
    body = value if isinstance(value, bytes) else json.dumps(value).encode()
    headers = {"Authorization": f"Bearer {token}", "Content-Type": content_type}
    connection.request("POST", _API + path, body, headers)
    reply = connection.getresponse()
    data = reply.read()
    if reply.status not in (200, 201):
        raise BenchError(f"{path}: {reply.status} {data[:300].decode(errors='replace')}")
    return json.loads(data)
