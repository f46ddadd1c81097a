"""Bodies that nobody would write, sent to a real server: it never answers with a 5xx, and keeps nothing of them but
what it said it would."""

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
from tests.chaos.clients import BASE, check, files, make_cases, picture, staged, stored, without_bytes
from tests.chaos.conftest import SEED
from tests.forms import BOUNDARY, CONTENT_TYPE, a_body, a_field, a_file, a_part, batch, single
from tests.test_access import everything as everything  # a fixture
from tests.up_server import PATIENCE, UpServer, serving, wait_for

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
def nothing_stays(server, dsn) -> Iterator[None]:
    """Afterwards: no file but those of rows, which are whole, and nothing of requests that are over."""
    yield
    storage = server.data / "artifacts"
    wait_for(lambda: not staged(storage), lambda: str(staged(storage)))
    rows = stored(dsn)
    assert sorted(row[3] for row in rows) == files(storage)
    assert without_bytes(storage, rows) == []
    assert server.ask("GET", "/readyz").status == 200
    assert not re.search("request .* failed", log := server.log.read_text()), log  # our word for a 500
    check(storage, dsn)


def examples(count: int, strategy: st.SearchStrategy[Any], run: Callable[[Any], None]) -> None:
    """So many of them, always the same for a seed; what fails is made as small as can be."""
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
    """The endpoint's last word and a body that is right."""
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
    """A few places of it cut out, doubled, swapped, bent or filled with something that means something."""
    where, body = draw(bodies)
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
    return where, body


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
    """The header that says how long a body is, and its bytes; often right. And whether the server waits for more."""
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
    server: UpServer, method: str, path: str, headers: list[str], body: bytes, gone: bool = False
) -> int | None:
    """The status of the first reply; None when the connection was closed without one, as for one that is `gone`."""
    lines = [f"{method} {path} HTTP/1.1", "Host: x", f"Authorization: Bearer {server.token}", *headers, "", ""]
    with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE) as sock:
        said = b""
        with suppress(ConnectionResetError, BrokenPipeError):
            sock.sendall("\r\n".join(lines).encode() + body)
            if gone:
                sock.shutdown(socket.SHUT_WR)
            while b"\r\n" not in said and (more := sock.recv(4096)):
                said += more
    return int(said.split()[1]) if said else None


@pytest.mark.usefixtures("nothing_stays")
def test_multipart_bodies(server, effort, tally):
    (case,) = make_cases(server, 1)
    requests_of = mutated(forms()).flatmap(
        lambda made: st.tuples(st.just(made[0]), st.just(made[1]), TYPES, framed(made[1]))
    )

    def run(request: tuple[str, bytes, str, tuple[str, bytes, bool]]) -> None:
        where, _, content_type, (length, sent, more) = request
        status = exchange(server, "POST", f"{case}/{where}", [f"Content-Type: {content_type}", length], sent, gone=more)
        tally.add(str(status or "gone"))
        assert (status is None and more) or status < 500, request

    examples(effort.times(250, 8000), requests_of, run)
    assert tally.figures["201"] and tally.figures["400"] and tally.figures["422"]


# --- JSON --------------------------------------------------------------------------------------------------

STEP = {"step_number": 1, "iteration_number": 1, "step_type": "click", "action": "Click", "status": "Passed"}
STEP |= {"duration_ms": 5, "screenshot_path": "a/b.png", "started_at": "2025-01-01T12:00:00Z", "error_message": "x"}
RUN = {"name": "x", "run_key": "k", "tags": ["a"], "metadata": {"a": 1}, "branch": "main", "build_url": "http://x"}
CASE = {"name": "x", "test_id": "x", "duration_ms": 5, "attempt": 1, "stack_trace": "x", "completed_at": "2025-01-01"}
CHECKPOINT = {"checkpoint_number": 1, "name": "x", "status": "Passed", "expected_value": "1", "step_number": 1}
CONSOLE = {"level": "warn", "message": "x", "line_number": 3, "logged_at": "2025-01-01T00:00:00+05:00"}
NETWORK = {"method": "GET", "url": "http://x/?token=1", "status_code": 200, "request_headers": {"a": ["b"], "c": "d"}}
NETWORK |= {"response_size": -1, "request_size": 1, "duration_ms": 0.5}
VALID: list[tuple[str, str, Any]] = [
    ("POST", "{base}/suite-runs", RUN),
    ("PATCH", "{run}", {"status": "Passed", "metadata": {"a": None}, "finished_at": "2025-01-01T00:00:00Z"}),
    ("POST", "{run}/test-cases", CASE),
    ("POST", "{run}/test-cases/bulk", {"test_cases": [{"name": "a"}, CASE]}),
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


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths of all that is in a JSON value."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(found for key, each in inside for found in places(each, (*path, key)))]


def changed(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    """The value with something else at a path."""
    if not path:
        return new
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = changed(copy[path[0]], path[1:], new)
    return copy


@st.composite
def json_requests(draw: Any) -> tuple[str, str, bytes]:
    """A right request with odd values in some places, fields that do not belong there, or bytes that are no JSON."""
    method, path, value = draw(st.sampled_from(VALID))
    for _ in range(draw(st.integers(0, 3))):
        value = changed(value, draw(st.sampled_from(places(value))), draw(VALUES))
    if isinstance(value, dict):
        value = {**value, **draw(st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=2))}
    body = json.dumps(value, ensure_ascii=draw(st.booleans())).encode("utf-8", "surrogatepass")
    if draw(st.integers(0, 9)) == 0:
        _, body = draw(mutated(st.just(("", body))))
    if draw(st.integers(0, 30)) == 0:
        body = b"[" * 100_000
    return method, path, body


@pytest.mark.usefixtures("nothing_stays")
def test_json_bodies(server, effort, tally):
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
    assert tally.figures["201"] and tally.figures["400"] and tally.figures["422"]


# --- the OpenAPI document ----------------------------------------------------------------------------------


def things(server: UpServer) -> dict[str, str]:
    """Ids to ask for, all of them of new things."""
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


# Everyone who calls, and what they do for sure: an admin for all projects, those of the project, and nobody.
CALLERS: dict[str, Role | None] = {"admin of all": Role.ADMIN, **{role.word: role for role in Role}, "nobody": None}


@pytest.mark.parametrize("caller", CALLERS)
@pytest.mark.usefixtures("nothing_stays")
def test_what_the_openapi_document_says(server, make_token, everything, effort, tally, caller):
    """By everyone: nothing else comes back, and nothing is done that the caller may not do."""
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
        known = things(server)
        may = route.access.public is True or (role is not None and role >= route.least_role)
        changes = may and route.method != "GET"
        before = everything(), files(server.data / "artifacts")
        times = effort.times(8, 250) if caller == "admin of all" else effort.times(4, 80)
        told = one_operation(operation, server, token, known, times)
        for status, number in told.items():
            tally.add(str(status), number)
        if not may:
            assert not [status for status in told if status < 400], (operation.label, told)
        if role is None and route.access.public is not True:
            assert told.keys() == {401}, (operation.label, told)
        assert changes or (everything(), files(server.data / "artifacts")) == before, operation.label
    assert count == len(ROUTES) == sum(len(methods) for methods in document["paths"].values())
    tally.note("operations", count)


def one_operation(operation: Any, server: UpServer, token: str, ids: dict[str, str], times: int) -> Counter[int]:
    """How often each status came back."""
    checks = [not_a_server_error, response_schema_conformance, status_code_conformance, content_type_conformance]
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    told: Counter[int] = Counter()

    def run(case: schemathesis.Case) -> None:
        # Random ids are never those of anything.
        case.path_parameters = {name: ids.get(name, value) for name, value in (case.path_parameters or {}).items()}
        reply = case.call(server.url, headers=headers, timeout=PATIENCE)
        told[reply.status_code] += 1
        case.validate_response(reply, checks=checks)

    examples(times, operation.as_strategy(), run)
    return told
