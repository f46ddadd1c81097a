"""Two servers on two hosts, with one database and one folder: what one has done counts on the other."""

import json
import re
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from http.cookies import SimpleCookie
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest

from server.http.authenticate import COOKIE
from tests.chaos.clients import BASE, Batch, Ledger, call_at_once, make_cases, picture, stored
from tests.forms import CONTENT_TYPE, single
from tests.people import LOGIN, PASSWORD
from tests.up_server import Reply, UpServer, wait_for

RUNS = f"{BASE}/suite-runs"
ROUNDS = 30
FORGOTTEN_SECONDS = 5.5  # by when a token that was revoked elsewhere is refused: 5 s in memory, and a reply


@pytest.fixture(scope="module")
def dsn(postgres) -> Iterator[str]:
    """One database for all tests of this file."""
    with psycopg.connect(postgres.dsn("postgres"), autocommit=True) as connection:
        connection.execute("CREATE DATABASE two_hosts TEMPLATE template_reportd")
        yield postgres.dsn("two_hosts")
        connection.execute("DROP DATABASE two_hosts WITH (FORCE)")


@pytest.fixture(scope="module")
def servers(hosts, dsn) -> Iterator[SimpleNamespace]:
    """A server on alpha and one on beta. Their token is set by each test."""
    with ExitStack() as stack:
        alpha, beta = (stack.enter_context(host.serving("two_hosts", dsn, "")) for host in hosts)
        yield SimpleNamespace(alpha=alpha, beta=beta)


@pytest.fixture
def pair(servers, make_token) -> SimpleNamespace:
    servers.alpha.token = servers.beta.token = make_token()
    return servers


def on_both(pair: SimpleNamespace, send: Callable[[UpServer], Any]) -> list[Any]:
    """What `send` returns on alpha and on beta, at the same moment."""
    return call_at_once(partial(send, pair.alpha), partial(send, pair.beta))


def upload(server: UpServer, case: str, content: bytes, name: str = "a.png", **headers: str) -> Reply:
    return server.ask("POST", f"{case}/artifacts", single(content, name), Content_Type=CONTENT_TYPE, **headers)


def downloaded(server: UpServer, artifact: dict[str, Any]) -> bytes:
    reply = server.ask("GET", artifact["download_url"])
    assert reply.status == 200, reply
    return reply.body


# --- uploads -------------------------------------------------------------------------------------------------


def test_the_same_name_from_both_at_once_gives_two_files(pair, tally):
    """No file system of this kind lets only one of two mounts make a name. Names come from rows, under a lock."""
    (case,) = make_cases(pair.alpha, 1)
    for number in range(ROUNDS):
        contents = [picture(f"{number} of {server.port}") for server in (pair.alpha, pair.beta)]
        replies = on_both(pair, lambda server: upload(server, case, picture(f"{number} of {server.port}")))  # noqa: B023
        assert [reply.status for reply in replies] == [201, 201], [reply.body for reply in replies]
        saved = [reply.json() for reply in replies]
        assert len({each["storage_path"] for each in saved}) == 2, saved
        for reader in (pair.alpha, pair.beta):
            assert [downloaded(reader, each) for each in saved] == contents
    tally.record("pairs", ROUNDS)


def test_the_same_batch_with_and_without_a_key_is_saved_once(pair, dsn, tally):
    ledger, cases = Ledger(tally), make_cases(pair.alpha)
    for number in range(2 * len(cases)):
        item = Batch(f"twin {number}", cases[number % len(cases)], key=f"key-{number}" if number % 2 else "")
        replies = call_at_once(*[partial(item.send, server) for server in (pair.alpha, pair.beta)] * 2)
        assert {reply.status for reply in replies} <= ({201, 409} if item.key else {201}), replies
        assert all("Retry-After" in reply.headers for reply in replies if reply.status == 409)
        ids = {tuple(saved["id"] for saved in reply.json()["artifacts"]) for reply in replies if reply.status == 201}
        assert len(ids) == 1, ids
        assert ledger.send(pair.beta, item)
    ledger.download(pair.alpha)
    ledger.download(pair.beta)
    ours = [row for row in stored(dsn) if row[0] in {case.rpartition("/")[2] for case in cases}]
    assert len(ours) == len({row[3] for row in ours}) == 3 * 2 * len(cases)


def test_the_same_bytes_from_both_are_linked_or_stored_twice_and_removed_one_by_one(pair):
    cases = make_cases(pair.alpha, 2)
    for number in range(10):
        content = picture(f"shared {number}")
        replies = call_at_once(
            partial(upload, pair.alpha, cases[0], content), partial(upload, pair.beta, cases[1], content)
        )
        assert [reply.status for reply in replies] == [201, 201], [reply.body for reply in replies]
        mine, theirs = (reply.json() for reply in replies)
        assert pair.beta.ask("DELETE", f"{BASE}/artifacts/{mine['id']}").status == 204
        assert pair.alpha.ask("GET", mine["download_url"]).status == 404
        assert downloaded(pair.alpha, theirs) == downloaded(pair.beta, theirs) == content


def test_a_run_key_is_one_run(pair):
    for number in range(ROUNDS):
        body = json.dumps({"name": "x", "run_key": f"build-{number}"}).encode()
        replies = on_both(pair, lambda server: server.ask("POST", RUNS, body))  # noqa: B023
        assert sorted(reply.status for reply in replies) == [200, 201], [reply.body for reply in replies]
        assert replies[0].json()["id"] == replies[1].json()["id"]


def test_a_step_finds_the_screenshot_of_the_other_host(pair):
    step = {"step_number": 0, "step_type": "click", "action": "Click", "status": "Passed"}
    steps = {"steps": [{**step, "screenshot_path": "/tmp/a.png"}]}
    for first, second in ((pair.alpha, pair.beta), (pair.beta, pair.alpha)):
        before, after, at_once = make_cases(first, 3)
        artifacts = {before: upload(first, before, picture("before")).json()}
        second.ask_json("POST", f"{before}/steps", steps, status=201)
        second.ask_json("POST", f"{after}/steps", steps, status=201)
        artifacts[after] = upload(first, after, picture("after")).json()
        both = call_at_once(
            partial(upload, first, at_once, picture("at once")),
            partial(second.ask_json, "POST", f"{at_once}/steps", steps, 201),
        )
        artifacts[at_once] = both[0].json()
        for case, artifact in artifacts.items():
            (step,) = first.ask_json("GET", f"{case}/steps")["steps"]
            assert step["screenshot_artifact_id"] == artifact["id"], (case, step)


def test_a_deleted_run_is_gone_on_both_while_one_uploads_to_it(pair, rows):
    for number in range(5):
        (case,) = make_cases(pair.alpha, 1)
        id = case.rpartition("/")[2]
        (run,) = rows("SELECT suite_run_id AS id FROM test_case_results WHERE id = %s", id)
        upload(pair.alpha, case, picture(f"first {number}"))
        sent, deleted = call_at_once(
            partial(upload, pair.alpha, case, picture(f"second {number}"), "b.png"),
            partial(pair.beta.ask, "DELETE", f"{RUNS}/{run['id']}"),
        )
        assert deleted.status == 204 and sent.status in {201, 404}, (deleted, sent)
        assert [server.ask("GET", f"{RUNS}/{run['id']}").status for server in (pair.alpha, pair.beta)] == [404, 404]
        assert rows("SELECT FROM test_artifacts WHERE test_case_result_id = %s", id) == []


def test_both_report_the_space_of_one_folder(pair):
    """So the figures of several hosts are not to be added up."""
    pattern = re.compile(r"^reportd_storage_size_bytes (\S+)$", re.MULTILINE)
    sizes = {pattern.search(server.ask("GET", "/metrics").body.decode())[1] for server in (pair.alpha, pair.beta)}
    assert len(sizes) == 1, sizes


# --- people --------------------------------------------------------------------------------------------------


def logged_in(server: UpServer, name: str) -> dict[str, str]:
    """The headers of a browser that has signed in on this host, without the token."""
    body = json.dumps({"name": name, "password": PASSWORD}).encode()
    reply = server.ask("POST", LOGIN, body, Content_Type="application/json")
    assert reply.status == 201, reply
    cookie = SimpleCookie(reply.headers["Set-Cookie"])[COOKIE].value
    return {"Authorization": "", "Cookie": f"{COOKIE}={cookie}", "X_CSRF_Token": reply.json()["csrf_token"]}


def test_a_session_and_its_csrf_token_count_on_both(pair, make_user):
    browser, other = (logged_in(server, make_user(everywhere="admin")) for server in (pair.alpha, pair.beta))
    assert pair.beta.ask("GET", RUNS, **browser).status == 200

    def create(**headers: str) -> int:
        return pair.beta.ask("POST", RUNS, b'{"name": "x"}', **{**browser, **headers}).status

    assert create() == 201
    assert [create(X_CSRF_Token=wrong) for wrong in ("", other["X_CSRF_Token"])] == [403, 403]


def test_failed_logins_are_counted_over_both(pair, make_user):
    body = json.dumps({"name": make_user(default="viewer"), "password": "wrong"}).encode()
    statuses = [pair.alpha.ask("POST", LOGIN, body).status for _ in range(5)]
    statuses += [pair.beta.ask("POST", LOGIN, body).status for _ in range(5)]
    refused = [server.ask("POST", LOGIN, body) for server in (pair.alpha, pair.beta)]
    assert statuses == [401] * 10 and [reply.status for reply in refused] == [429, 429]
    assert all(int(reply.headers["Retry-After"]) > 0 for reply in refused)


def test_a_link_opens_on_both_and_ends_at_once_on_both(pair):
    (case,) = make_cases(pair.alpha, 1)
    artifact = upload(pair.alpha, case, picture("link")).json()
    for maker, other in ((pair.alpha, pair.beta), (pair.beta, pair.alpha)):
        link = maker.ask_json("POST", f"{BASE}/links", {"artifact_id": artifact["id"]}, status=201)
        assert [server.ask("GET", link["url"], Authorization="").status for server in (maker, other)] == [200, 200]
        assert maker.ask("DELETE", f"{BASE}/links/{link['id']}").status == 204
        assert other.ask("GET", link["url"], Authorization="").status in {404, 410}


def test_a_revoked_token_and_a_logout_count_elsewhere_within_seconds(pair, make_token, make_user, rows):
    """From the moment at which the revocation was done to the beginning of the last request that succeeded."""
    token, session = make_token("to be revoked"), logged_in(pair.alpha, make_user(default="viewer"))
    callers = {"token": {"Authorization": f"Bearer {token}"}, "session": session}
    for server in (pair.alpha, pair.beta):
        assert [server.ask("GET", RUNS, **headers).status for headers in callers.values()] == [200, 200]
    rows("UPDATE tokens SET revoked_at = now() WHERE name = 'to be revoked'")
    ended = {"token": time.monotonic()}
    assert pair.alpha.ask("POST", "/api/v1/auth/logout", b"", **callers["session"]).status == 204
    ended["session"] = time.monotonic()
    assert pair.alpha.ask("GET", RUNS, **callers["session"]).status == 401, "here at once"
    latest = {}

    def is_refused(name: str) -> bool:
        began = time.monotonic()
        status = pair.beta.ask("GET", RUNS, **callers[name]).status
        if status == 200:
            latest[name] = began
        return status == 401

    for name in callers:
        wait_for(partial(is_refused, name))
    assert all(latest[name] < ended[name] + FORGOTTEN_SECONDS for name in latest), (latest, ended)
