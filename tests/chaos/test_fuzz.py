"""Fuzzed request bodies, sent to a real server: it never replies with a 5xx, and stores only what it acknowledged."""

import json
import re
import socket
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from server.auth.roles import Role
from server.routes import ROUTES
from tests.chaos.clients import BASE, check, files, make_cases, picture, rows_without_file, stored
from tests.chaos.conftest import SEED
from tests.forms import BOUNDARY, CONTENT_TYPE, a_body, a_field, a_file, a_part, batch, single
from tests.test_access import snapshot as snapshot  # a fixture
from tests.up_server import PATIENCE, UpServer, serving, staged, wait_for

PICTURE = picture("fuzz", 8)
TOKENS = [
    b"",
    b"\r\n",
    b"--",
    b"\0",
    b"\xff",
    b"\r",
    b"\n\n",
    f"--{BOUNDARY}".encode(),
    f"\r\n--{BOUNDARY}--".encode(),
    f"\r\n--{BOUNDARY}\r\n\r\n".encode(),
    b'Content-Disposition: form-data; name="files"; filename="a.png"\r\n',
    b"Content-Transfer-Encoding: base64\r\n",
    b"Content-Type: multipart/mixed; boundary=x\r\n",
    b'name="metadata"',
    b"filename*=UTF-8''%ff%00",
    b"9" * 400,
]


@pytest.fixture
def server(tmp_path, dsn, make_token) -> Iterator[UpServer]:
    with serving(tmp_path / "data", dsn, make_token(), REPORTD_LOG_LEVEL="warning") as server:
        yield server


@pytest.fixture
def no_orphans(server, dsn) -> Iterator[None]:
    """Asserts after the test that each file has a row and each row its complete file, and that nothing is staged."""
    yield
    storage = server.data / "artifacts"
    wait_for(lambda: not staged(storage), lambda: str(staged(storage)))
    rows = stored(dsn)
    assert sorted(row[3] for row in rows) == files(storage)
    assert rows_without_file(storage, rows) == []
    assert server.ask("GET", "/readyz").status == 200
    assert not re.search("request .* failed", log := server.log.read_text()), log  # the log line of a 500
    check(storage, dsn)


def examples(count: int, strategy: st.SearchStrategy[Any], run: Callable[[Any], None]) -> None:
    """Runs `count` generated examples. The same seed draws the same ones; a failing example is shrunk."""
    wrapped = seed(SEED)(
        settings(
            max_examples=count,
            deadline=None,
            database=None,
            phases=[Phase.explicit, Phase.generate, Phase.shrink],
            suppress_health_check=list(HealthCheck),
        )(given(strategy)(run))
    )
    wrapped()


# --- multipart ---------------------------------------------------------------------------------------------


def forms() -> st.SearchStrategy[tuple[str, bytes]]:
    """The end of the endpoint's path and a valid body."""
    metadata = '[{"file_index": 0, "artifact_type": "screenshot"}, {"file_index": 1, "artifact_type": "log"}]'
    late = a_body(a_file(PICTURE, name="files"), a_file(b"text", "a.txt", "files"), a_field("metadata", metadata))
    odd = a_body(a_field("artifact_type", "log"), a_part(b"text", "content-disposition:form-data;name=file;filename=a"))
    return st.sampled_from(
        [
            ("artifacts/batch", batch([(PICTURE, "a.png"), (b"text", "b.txt")])),
            ("artifacts/batch", late),
            ("artifacts", single(PICTURE, step_number=3)),
            ("artifacts", odd),
        ]
    )


@st.composite
def mutated(draw: Any, bodies: st.SearchStrategy[tuple[str, bytes]]) -> tuple[str, bytes]:
    """Up to four random edits of a body: a slice removed, repeated, reversed or truncated, or a token put in."""
    endpoint, body = draw(bodies)
    for _ in range(draw(st.integers(0, 4))):
        first, second = sorted(draw(st.tuples(*[st.integers(0, len(body))] * 2)))
        token = draw(st.one_of(st.sampled_from(TOKENS), st.binary(max_size=20)))
        middle = body[first:second]
        body = draw(
            st.sampled_from(
                [
                    body[:first] + body[second:],
                    body[:second] + middle + body[second:],
                    body[:first] + token + body[first:],
                    body[:first] + token + body[second:],
                    body[:first] + middle[::-1] + body[second:],
                    body[:second],
                ]
            )
        )
    return endpoint, body


TYPES = st.one_of(
    st.just(CONTENT_TYPE),
    st.sampled_from(
        [
            f'multipart/form-data; boundary="{BOUNDARY}"',
            f"multipart/form-data; boundary={BOUNDARY[:-1]}",
            f"multipart/form-data; boundary={BOUNDARY}; boundary=x",
            "multipart/form-data; boundary=",
            "multipart/form-data; boundary=" + "x" * 200,
            "multipart/mixed; boundary=x",
            "multipart/form-data",
            "application/json",
            "",
        ]
    ),
)


@st.composite
def framed(draw: Any, body: bytes) -> tuple[str, bytes, bool]:
    """A framing header, the bytes to send, and whether the server may wait for more. The framing is often right."""
    kind = draw(st.sampled_from(["right"] * 6 + ["long", "short", "chunked", "broken chunks"]))
    if kind == "right":
        return f"Content-Length: {len(body)}", body, False
    if kind in {"long", "short"}:
        change = draw(st.integers(1, 50))
        length = max(0, len(body) + (change if kind == "long" else -change))
        return f"Content-Length: {length}", body, kind == "long"
    size = draw(st.integers(1, 2000))
    pieces = [body[at : at + size] for at in range(0, len(body), size)]
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
    if kind == "broken chunks":
        at = draw(st.integers(0, len(chunks) - 1))
        chunks = chunks[:at] + draw(st.binary(max_size=5)) + chunks[at + 1 :]
    return "Transfer-Encoding: chunked", chunks, kind == "broken chunks"


def exchange(
    server: UpServer, method: str, path: str, headers: list[str], body: bytes, half_close: bool = False
) -> int | None:
    """The status of the first reply; None when the server closed the connection without one.

    `half_close` shuts down the sending side, for requests that the server would wait for.
    """
    lines = [f"{method} {path} HTTP/1.1", "Host: x", f"Authorization: Bearer {server.token}", *headers, "", ""]
    with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE) as sock:
        received = b""
        with suppress(ConnectionResetError, BrokenPipeError):
            sock.sendall("\r\n".join(lines).encode() + body)
            if half_close:
                sock.shutdown(socket.SHUT_WR)
            while b"\r\n" not in received and (more := sock.recv(4096)):
                received += more
    return int(received.split()[1]) if received else None


@pytest.mark.usefixtures("no_orphans")
def test_fuzzed_multipart_bodies_never_get_a_5xx(server, effort, tally):
    (case,) = make_cases(server, 1)
    requests_of = mutated(forms()).flatmap(
        lambda made: st.tuples(st.just(made[0]), st.just(made[1]), TYPES, framed(made[1]))
    )

    def run(request: tuple[str, bytes, str, tuple[str, bytes, bool]]) -> None:
        endpoint, _, content_type, (length, sent, waits) = request
        headers = [f"Content-Type: {content_type}", length]
        status = exchange(server, "POST", f"{case}/{endpoint}", headers, sent, half_close=waits)
        tally.add(str(status or "no reply"))
        assert (status is None and waits) or status < 500, request

    examples(effort.times(250, 8000), requests_of, run)
    assert tally.values["201"] and tally.values["400"] and tally.values["422"]


# --- JSON --------------------------------------------------------------------------------------------------

STEP = {"step_number": 1, "iteration_number": 1, "step_type": "click", "action": "Click", "status": "Passed"}
STEP |= {"duration_ms": 5, "screenshot_path": "a/b.png", "started_at": "2025-01-01T12:00:00Z", "error_message": "x"}
RUN = {"name": "x", "run_key": "k", "tags": ["a"], "metadata": {"a": 1}, "branch": "main", "build_url": "http://x"}
CASE = {"name": "x", "test_id": "x", "duration_ms": 5, "attempt": 1, "stack_trace": "x", "completed_at": "2025-01-01"}
CHECKPOINT = {"checkpoint_number": 1, "name": "x", "status": "Passed", "expected_value": "1", "step_number": 1}
CONSOLE = {"level": "warn", "message": "x", "line_number": 3, "logged_at": "2025-01-01T00:00:00+05:00"}
NETWORK = {"method": "GET", "url": "http://x/?token=1", "status_code": 200, "request_headers": {"a": ["b"], "c": "d"}}
NETWORK |= {"response_size": -1, "request_size": 1, "duration_ms": 0.5}
BUNDLE = {
    "tests": [
        {
            "client_ref": "7b0c4b8e-30a5-4b0f-9a53-0f1f6a7f2c11",
            "test": CASE,
            "steps": [STEP],
            "console_logs": [CONSOLE],
            "network_logs": [NETWORK],
            "artifacts": [
                {"known": True, "checksum": "0" * 64, "file_size": 1, "file_name": "a.png", "artifact_type": "log"}
            ],
        }
    ]
}
VALID: list[tuple[str, str, Any]] = [
    ("POST", "{base}/suite-runs", RUN),
    ("PATCH", "{run}", {"status": "Passed", "metadata": {"a": None}, "finished_at": "2025-01-01T00:00:00Z"}),
    ("POST", "{run}/test-cases", CASE),
    ("POST", "{run}/test-cases/bulk", {"test_cases": [{"name": "a"}, CASE]}),
    ("POST", "{run}/bundle", BUNDLE),
    ("POST", "{base}/artifacts/missing", {"files": [{"checksum": "0" * 64, "file_size": 1}]}),
    ("PATCH", "{case}", {"status": "Failed", "error_message": "x"}),
    ("POST", "{case}/steps", {"steps": [STEP, {**STEP, "step_number": 2}]}),
    ("POST", "{case}/steps/bulk", {"steps": [STEP]}),
    ("PUT", "{case}/steps", {"steps": [STEP]}),
    ("PUT", "{case}/steps?prune=true", {"steps": []}),
    ("POST", "{case}/checkpoints", {"checkpoints": [CHECKPOINT]}),
    ("POST", "{case}/console-logs", {"entries": [CONSOLE], "first_sequence": 1}),
    ("POST", "{case}/network-logs", {"entries": [NETWORK]}),
]
NAMES = sorted(set(RUN) | set(STEP) | set(CASE) | set(CHECKPOINT) | set(CONSOLE) | set(NETWORK))
ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([0, -1, 2**31, 2**63, -(2**63) - 1, 10**30, 1e308, 0.1, -0.0]),
    st.floats(),
    st.text(max_size=20),
    st.sampled_from(["", "\0", "\ud800", "x" * 501, "9999-12-31T23:59:59Z", "Infinity", "é" * 300, "2025-02-30"]),
)
VALUES = st.recursive(
    ODD,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.sampled_from(NAMES), inner, max_size=4)),
    max_leaves=8,
)


def paths_in(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths of all values inside a JSON value, itself included."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(found for key, each in inside for found in paths_in(each, (*path, key)))]


def with_value_at(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    """A copy of the value with `new` at a path."""
    if not path:
        return new
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = with_value_at(copy[path[0]], path[1:], new)
    return copy


@st.composite
def json_requests(draw: Any) -> tuple[str, str, bytes]:
    """A valid request with odd values, with unexpected fields, or with a body that is not JSON."""
    method, path, value = draw(st.sampled_from(VALID))
    for _ in range(draw(st.integers(0, 3))):
        value = with_value_at(value, draw(st.sampled_from(paths_in(value))), draw(VALUES))
    if isinstance(value, dict):
        value = {**value, **draw(st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=2))}
    body = json.dumps(value, ensure_ascii=draw(st.booleans())).encode("utf-8", "surrogatepass")
    if draw(st.integers(0, 9)) == 0:
        _, body = draw(mutated(st.just(("", body))))
    if draw(st.integers(0, 30)) == 0:
        body = b"[" * 100_000
    return method, path, body


@pytest.mark.usefixtures("no_orphans")
def test_fuzzed_json_bodies_never_get_a_5xx(server, effort, tally):
    (case,) = make_cases(server, 1)
    run_id = server.ask_json("GET", case)["suite_run_id"]
    known = {"base": BASE, "case": case, "run": f"{BASE}/suite-runs/{run_id}"}

    def run(request: tuple[str, str, bytes]) -> None:
        method, path, body = request
        headers = ["Content-Type: application/json", f"Content-Length: {len(body)}"]
        status = exchange(server, method, path.format(**known), headers, body)
        tally.add(str(status))
        assert status is not None and status < 500, request

    examples(effort.times(400, 10_000), json_requests(), run)
    assert tally.values["201"] and tally.values["400"] and tally.values["422"]


# --- the OpenAPI document ----------------------------------------------------------------------------------


def make_ids(server: UpServer) -> dict[str, str]:
    """Path parameters with the ids of newly created objects."""
    (case,) = make_cases(server, 1)
    form = [("file", "a.txt", b"text", "text/plain"), ("artifact_type", "log")]
    artifact = server.send(f"{case}/artifacts", *form)["id"]
    (step,) = server.ask_json("POST", f"{case}/steps", {"steps": [STEP]}, status=201)["step_ids"]
    run = server.ask_json("GET", case)["suite_run_id"]
    link = server.ask_json("POST", "/api/v1/reports/links", {"suite_run_id": run}, status=201)
    return {
        "case_id": case.rpartition("/")[2],
        "suite_id": run,
        "artifact_id": artifact,
        "step_id": step,
        "link_id": link["id"],
        "link": link["url"].rpartition("/")[2],
    }


# The kinds of caller: an admin of all projects, each role in one project, and a request without a token.
CALLERS: dict[str, Role | None] = {"admin of all": Role.ADMIN, **{role.word: role for role in Role}, "nobody": None}


@pytest.mark.parametrize("caller", CALLERS)
@pytest.mark.usefixtures("no_orphans")
def test_replies_match_the_openapi_document(server, make_token, snapshot, effort, tally, caller):
    """For each kind of caller: replies match the document, and GETs and forbidden requests change nothing."""
    document = server.ask_json("GET", "/api/v1/openapi.json")
    schema = schemathesis.openapi.from_dict(document)
    role, token = CALLERS[caller], server.token
    if caller != "admin of all":
        token = "" if role is None else make_token(project="default", role=role.word)
    rows = {(route.method, route.path): route for route in ROUTES}
    count = 0
    for found in schema.get_all_operations():
        count += 1
        operation = found.ok()
        route = rows[operation.method.upper(), operation.path]
        ids = make_ids(server)
        may = route.access.public is True or (role is not None and role >= route.least_role)
        changes = may and route.method != "GET"
        before = snapshot(), files(server.data / "artifacts")
        times = effort.times(8, 250) if caller == "admin of all" else effort.times(4, 80)
        statuses = fuzz_operation(operation, server, token, ids, times)
        for status, number in statuses.items():
            tally.add(str(status), number)
        if not may:
            assert not [status for status in statuses if status < 400], (operation.label, statuses)
        if role is None and route.access.public is not True:
            assert statuses.keys() == {401}, (operation.label, statuses)
        assert changes or (snapshot(), files(server.data / "artifacts")) == before, operation.label
    assert count == len(ROUTES) == sum(len(methods) for methods in document["paths"].values())
    tally.record("operations", count)


def fuzz_operation(operation: Any, server: UpServer, token: str, ids: dict[str, str], times: int) -> Counter[int]:
    """Sends generated requests to one operation and checks each reply; how often each status came back."""
    checks = [not_a_server_error, response_schema_conformance, status_code_conformance, content_type_conformance]
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    statuses: Counter[int] = Counter()

    def run(case: schemathesis.Case) -> None:
        # Random ids do not exist: use the ids of real objects.
        case.path_parameters = {name: ids.get(name, value) for name, value in (case.path_parameters or {}).items()}
        reply = case.call(server.url, headers=headers, timeout=PATIENCE)
        statuses[reply.status_code] += 1
        case.validate_response(reply, checks=checks)

    examples(times, operation.as_strategy(), run)
    return statuses
