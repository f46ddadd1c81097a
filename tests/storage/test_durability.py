"""The order of the system calls of an upload, recorded by strace on a real server."""

import re
import shutil
from dataclasses import dataclass

import pytest

from server.database.queries import SQL
from tests.makers import png
from tests.up_server import serving, wait_for

BASE = "/api/v1/reports"
CALLS = "fdatasync,fsync,link,linkat,sendto,sendmsg,write,writev"

pytestmark = pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")


@dataclass
class Call:
    """One system call. `began` and `ended` are line numbers of the trace."""

    name: str
    arguments: str
    began: int
    ended: int


def calls_of(trace: str) -> list[Call]:
    """Parses the output of `strace -f`, which splits a call in two lines when another thread runs meanwhile."""
    found, open_calls = [], {}
    for number, line in enumerate(trace.splitlines()):
        if again := re.match(r"(\d+) +<\.\.\. (\w+) resumed>(.*)", line):
            call = open_calls.pop((again[1], again[2]))
            call.arguments += again[3]
            call.ended = number
        elif first := re.match(r"(\d+) +(\w+)\((.*)", line):
            call = Call(first[2], first[3], number, number)
            found.append(call)
            if first[3].endswith("<unfinished ...>"):
                open_calls[first[1], first[2]] = call
    return found


def test_the_parser_joins_calls_that_strace_splits():
    trace = """1 fsync(3</a>) = 0
2 fdatasync(4</b> <unfinished ...>
1 sendto(5, "x", 1, 0, NULL, 0) = 1
2 <... fdatasync resumed>) = 0
1 +++ exited with 0 +++"""
    read = [(call.name, call.began, call.ended) for call in calls_of(trace)]
    assert read == [("fsync", 0, 0), ("fdatasync", 1, 3), ("sendto", 2, 2)]


@pytest.fixture
def traced(tmp_path, dsn, make_token):
    """(server, calls_during): a server under strace. calls_during(send) is the reply of send(url), and the calls."""
    output = tmp_path / "trace"
    # -D: the server is our child process, and strace a detached grandchild. Signals of the test reach the server.
    prefix = ["strace", "-D", "-f", "-y", "-s", "64", "-e", f"trace={CALLS}", "-o", str(output)]
    with serving(tmp_path / "data", dsn, make_token(), prefix=prefix) as server:
        # The last statement of the first sweep: its transactions must not be taken for that of the upload.
        wait_for(lambda: SQL.usage.growth[:20] in output.read_text())
        run = server.ask_json("POST", f"{BASE}/suite-runs", {"name": "nightly"}, status=201)["id"]
        case = server.ask_json("POST", f"{BASE}/suite-runs/{run}/test-cases", {"name": "x"}, status=201)["id"]
        url = f"{BASE}/test-case-results/{case}/artifacts"

        def calls_during(send) -> tuple[dict, list[Call]]:
            before = output.stat().st_size
            reply = send(url)
            # strace writes a call after it has ended, perhaps after its data has arrived here
            wait_for(lambda: "HTTP/1.1 201" in output.read_text()[before:])
            return reply, calls_of(output.read_text()[before:])

        yield server, calls_during


def check_order(calls: list[Call], storage, artifacts: list[dict]) -> None:
    """Asserts the order for each artifact: sync of the file, hard link, sync of the folder, COMMIT, reply."""
    (reply,) = [call for call in calls if "HTTP/1.1 201" in call.arguments]
    (commit,) = [call for call in calls if "COMMIT" in call.arguments]
    assert commit.ended < reply.began
    synced = {
        re.search(r"<(.*?)>", call.arguments)[1]: call
        for call in calls
        if call.name in {"fdatasync", "fsync"} and call.arguments.endswith("= 0")
    }
    linked = {}
    for call in calls:
        if call.name in {"link", "linkat"} and call.arguments.endswith("= 0"):
            source, target = re.findall(r'"(.*?)"', call.arguments)
            linked[target] = source, call
    for artifact in artifacts:
        final = storage / artifact["storage_path"].removeprefix("artifacts/")
        staged, link = linked[str(final)]
        assert synced[staged].name == "fdatasync" and synced[staged].ended < link.began
        folder = synced[str(final.parent)]  # the last one of this folder
        assert link.ended < folder.began and folder.ended < commit.began
        # The parent of a new folder must be synced, too: otherwise a power failure could lose the folder itself.
        for above in final.parent.relative_to(storage).parents:
            assert synced[str(storage / above)].ended < commit.began


def test_a_single_upload_is_synced_then_committed_then_acknowledged(traced):
    server, calls_during = traced
    form = [("artifact_type", "screenshot"), ("step_number", "1")]
    reply, calls = calls_during(lambda url: server.send(url, ("file", "a.png", png(20, 20), "image/png"), *form))
    check_order(calls, server.data / "artifacts", [reply])


def test_every_file_of_a_batch_is_synced_then_committed_then_acknowledged(traced):
    server, calls_during = traced
    entries = ",".join(
        f'{{"file_index": {n}, "artifact_type": "screenshot", "step_number": {n}, "iteration_number": {1 + n % 2}}}'
        for n in range(5)
    )
    files = [("files", "a.png", png(40, 40, seed=n), "image/png") for n in range(5)]
    reply, calls = calls_during(lambda url: server.send(f"{url}/batch", *files, ("metadata", f"[{entries}]")))
    assert len(reply["artifacts"]) == 5
    check_order(calls, server.data / "artifacts", reply["artifacts"])
