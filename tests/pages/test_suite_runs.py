"""The pages of suite runs: what needs a look, the list of runs, and one run."""

import asyncio
import os
import re
import shutil
import subprocess
import sys
import uuid
from datetime import UTC, datetime, timedelta
from html import unescape

import pytest

from server.services import SERVICES
from tests.api.test_steps import send_png
from tests.up_server import CHECKOUT

API = "/api/v1/reports"


def words_of(page):
    """The text of a page as people read it."""
    body = re.sub(r"</(?:a|li|span|h\d|dt|dd)>", " ", page.partition("<main")[2].partition(">")[2])
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]*>", "", body))).strip()


@pytest.fixture
def visit(client):
    """await visit(path): the HTML of a page, which must be found."""

    async def get(path, status=200):
        reply = await client.get(path)
        assert reply.status == status and reply.content_type == "text/html", await reply.text()
        return await reply.text()

    return get


@pytest.fixture
def send(client):
    """await send(run, name, status, attempt=…): the id of a new result."""

    async def post(run, name, status="Passed", **fields):
        body = {"name": name, "status": status, **fields}
        reply = await client.post(f"{API}/suite-runs/{run}/test-cases", json=body)
        assert reply.status == 201, await reply.text()
        return (await reply.json())["id"]

    return post


async def finish(client, run, status):
    done = {"status": status, "finished_at": datetime.now(UTC).isoformat()}
    assert (await client.patch(f"{API}/suite-runs/{run}", json=done)).status == 200


async def add_failed_step(client, case, picture=True):
    step = {"step_number": 17, "step_type": "click", "description": "Click Pay now", "status": "Failed"}
    await client.post(f"{API}/test-case-results/{case}/steps", json={"steps": [step]})
    if picture:
        metadata = {"step_number": "17", "artifact_category": "error"}
        return await send_png(client, f"{API}/test-case-results/{case}", **metadata)
    return None


# --- what needs a look -----------------------------------------------------------------------------------------


async def test_the_first_page_shows_why_the_newest_run_of_each_suite_failed(client, visit, make_run, send):
    old = await make_run(name="nightly", branch="main")
    await send(old, "failed long ago", "Failed")
    run = await make_run(name="nightly", branch="main")
    case = await send(
        run, "pays by card", "Failed", error_type="TimeoutError", error_message="\nno <b>button</b>\nline 2"
    )
    picture = await add_failed_step(client, case)
    await send(run, "pays by voucher", "Failed", error_type="TimeoutError", error_message="no <b>button</b> line 3")
    await finish(client, run, "Failed")
    other = await make_run(name="nightly", branch="feature")
    await send(other, "failed elsewhere", "Failed")
    page = await visit("/")
    look, _, runs = page.partition('id="runs"')
    text = words_of(look)
    assert "Needs a look" in text and "pays by card TimeoutError: no <b>button</b> ✕ step 17 · Click Pay now" in text
    assert f'href="/results/{case}"' in look and f'src="/thumbs/{picture}-320.webp"' in look
    assert "+ 1 test with this error" in text and "pays by voucher" not in text
    assert "failed long ago" not in text and "failed elsewhere" not in text and "line 2" not in text
    assert runs.index(other) < runs.index(run) < runs.index(old)


async def test_each_suite_has_its_turn_in_what_needs_a_look(client, visit, make_run, send):
    for suite in ("broken", "checkout"):
        run = await make_run(name=suite, branch="main")
        for number in range(8 if suite == "broken" else 1):
            await send(run, f"{suite} {number}", "Failed", error_message=f"error {'abcdefgh'[number]}")
    look = (await visit("/")).partition('id="runs"')[0]
    assert look.count('class="card"') == 6 and "checkout 0" in look and look.count(">broken ") == 5


async def test_a_run_that_has_just_begun_does_not_hide_the_failures_of_the_last_one(client, visit, make_run, send):
    run = await make_run(branch="main")
    await send(run, "fails", "Failed")
    await finish(client, run, "Failed")
    begun = await make_run(branch="main")
    await send(begun, "passes so far", "Passed")
    assert ">fails<" in (await visit("/")).partition('id="runs"')[0]
    await send(begun, "fails now", "Failed")
    look = (await visit("/")).partition('id="runs"')[0]
    assert ">fails now<" in look and ">fails<" not in look


async def test_a_project_has_a_main_branch_of_its_own(visit, make_run, send, rows):
    rows("UPDATE projects SET main_branch = 'trunk' WHERE name = 'default'")
    for branch in ("trunk", "main"):
        await send(await make_run(branch=branch), f"fails on {branch}", "Failed")
    look = (await visit("/")).partition('id="runs"')[0]
    assert "fails on trunk" in look and "fails on main" not in look


async def test_a_suite_that_never_ran_on_the_main_branch_is_looked_at_where_it_runs(visit, make_run, send):
    run = await make_run(name="quick", branch="trunk")
    await send(run, "fails", "Failed")
    assert ">fails<" in (await visit("/")).partition('id="runs"')[0]


async def test_a_test_that_failed_and_then_passed_needs_no_look(client, visit, make_run, send):
    run = await make_run(branch="main")
    await send(run, "retried", "Failed", attempt=1)
    await send(run, "retried", "Passed", attempt=2)
    await finish(client, run, "Passed")
    page = await visit("/")
    assert "Nothing failed in the newest run of the suite." in words_of(page)
    assert "1 flaky" in words_of(page)


# --- the list of runs ------------------------------------------------------------------------------------------


async def test_a_row_of_a_run_says_what_it_is(client, visit, make_run, send):
    facts = {"branch": "main", "commit_sha": "8f14e45fceea167a5a36", "environment": "staging", "triggered_by": "ci"}
    started = (datetime.now(UTC) - timedelta(hours=2, minutes=41)).isoformat()
    run = await make_run(name="nightly", started_at=started, **facts)
    await send(run, "a", "Failed")
    await send(run, "b", "Failed")
    await send(run, "b", "Passed", attempt=2)
    for name in "cde":
        await send(run, name)
    await send(run, "f", "Skipped")
    await finish(client, run, "Failed")
    text = words_of(await visit("/runs"))
    assert "✕ Failed nightly 1 failed 1 flaky 1 skipped 3 passed 2 h 41 min main 8f14e45 staging ci 2 h ago" in text


async def test_browsers_are_tests_of_their_own(visit, make_run, send):
    run = await make_run()
    await send(run, "a", "Failed", browser="chromium")
    await send(run, "a", "Passed", browser="firefox")
    await send(run, "a", "Passed")
    assert "1 failed 2 passed" in words_of(await visit("/runs"))


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        ("branch=main", {"a", "b"}),
        ("branch=main&status=Failed", {"b"}),
        ("status=failed", {"b"}),
        ("name=b", {"b"}),
        ("environment=prod", {"c"}),
        ("tag=web", {"a"}),
        ("project=default", {"a", "b", "c"}),
        ("since=2026-01-02", {"b", "c"}),
        ("until=2026-01-02", {"a", "b"}),
        ("until=2026-01-02T12:00:00Z", {"a"}),
        ("since=2026-01-02&until=2026-01-02", {"b"}),
    ],
)
async def test_filters(visit, make_run, filters, found):
    await make_run(name="a", branch="main", tags=["web"], started_at="2026-01-01T00:00:00Z")
    await make_run(name="b", branch="main", status="Failed", started_at="2026-01-02T23:00:00Z")
    await make_run(name="c", branch="dev", environment="prod", started_at="2026-01-03T00:00:00Z")
    page = await visit(f"/runs?{filters}")
    assert set(re.findall(r'class="name"[^>]*><bdi dir="auto">(\w)</bdi>', page)) == found


async def test_empty_fields_of_the_form_are_taken_out_of_the_address(client):
    reply = await client.get("/runs?branch=a%26b&status=&tag=", allow_redirects=False)
    assert (reply.status, reply.headers["Location"]) == (303, "/runs?branch=a%26b")
    reply = await client.get("/runs?branch=", allow_redirects=False)
    assert (reply.status, reply.headers["Location"]) == (303, "/runs")


async def test_a_filter_that_finds_nothing_says_so_and_what_was_meant(visit, make_run):
    await make_run(branch="main", name="nightly")
    page = await visit("/runs?branch=mian&name=nightly")
    text = words_of(page)
    assert "No run has branch mian and name nightly." in text and "Did you mean main?" in text
    assert 'href="/runs?branch=main&amp;name=nightly"' in page and 'href="/runs?name=nightly"' in page
    assert "There is no project <x> that you may see." in words_of(await visit("/runs?project=%3Cx%3E"))
    assert "Did you mean default?" in words_of(await visit("/runs?project=defalut"))


async def test_an_empty_project_says_so(visit, make_run, make_token):
    await make_run()
    make_token(project="web")
    assert "The project web has no runs yet." in words_of(await visit("/runs?project=web"))


async def test_every_run_is_on_one_page_of_the_list(visit, make_run):
    made = [await make_run(name=f"run {number}", branch="x") for number in range(60)]
    address, found, pages = "/runs?branch=x", [], 0
    while address:
        page = await visit(address)
        found += re.findall(r'class="name" href="/runs/([0-9a-f-]+)"', page)
        older = re.search(r'href="([^"]*)" rel="next"', page)
        address, pages = unescape(older[1]) if older else None, pages + 1
        assert address is None or "branch=x" in address
    assert found == made[::-1] and pages == 3


async def test_a_running_run_that_was_sent_nothing_for_an_hour_is_quiet(client, visit, make_run, send, rows):
    run = await make_run()
    case = await send(run, "a")
    assert "quiet" not in words_of(await visit("/runs"))
    for table in ("suite_runs", "test_case_results"):
        rows(f"UPDATE {table} SET updated_at = now() - interval '125 min'")
    for path in ("/runs", f"/runs/{run}"):
        assert "◐ Running quiet for 2 h" in words_of(await visit(path))
    await add_failed_step(client, case, picture=False)  # a step is a sign of life
    assert "quiet" not in words_of(await visit("/runs"))


async def test_people_see_the_runs_of_their_projects_alone(client, nobody, make_token, make_run, send):
    run = await make_run(name="secret", branch="main")
    await send(run, "concealed", "Failed")
    theirs = {"Authorization": f"Bearer {make_token(project='theirs')}"}
    for path in ("/", "/runs", "/runs?project=default", "/runs?branch=main", "/runs?name=secert"):
        page = await (await nobody.get(path, headers=theirs)).text()
        assert "secret" not in page and "concealed" not in page, path
    assert (await nobody.get(f"/runs/{run}", headers=theirs)).status == 404


@pytest.mark.parametrize(
    "query",
    ["status=Lost", "since=yesterday", "until=x", "cursor=x", "cursor=%F0%9F%92%A5", "branch=%00", "tag=" + "x" * 501],
)
async def test_a_wrong_filter_is_a_page_that_says_which(visit, query):
    page = await visit(f"/runs?{query}", 422)
    assert query.partition("=")[0] in words_of(page)


# --- one run ---------------------------------------------------------------------------------------------------


@pytest.fixture
async def night(client, make_run, send):
    """A run: 5 tests failed with one error, 1 with another, 1 flaky, 1 skipped, 30 passed."""
    run = await make_run(name="nightly", branch="main", build_url="https://ci.example/4711", tags=["web"])
    await send(run, "returns an order", "Failed", error_message="expected 19.99, was 20.00")
    for number in range(5):
        message = f"no button\nat line {number}"
        await send(run, f"pays {number}", "Failed", error_type="TimeoutError", error_message=message, browser="firefox")
    await send(run, "wobbles", "Failed")
    await send(run, "wobbles", "Passed", attempt=2)
    await send(run, "left out", "Skipped")
    for number in range(30):
        await send(run, f"fine {number}", duration_ms=number, tags=["quick"] if number < 2 else [])
    await finish(client, run, "Failed")
    return run


async def test_a_run_groups_its_failures_by_error_the_largest_group_first(visit, night):
    page = await visit(f"/runs/{night}")
    text = words_of(page)
    assert "✕ Failed nightly 38 tests: 6 failed 1 flaky 1 skipped 30 passed · 39 results" in text
    first, second = text.index("5 tests TimeoutError: no button"), text.index("1 test expected 19.99, was 20.00")
    assert first < text.index("pays 0") < text.index("2 more") < text.index("pays 3") < second
    assert (
        second < text.rindex("Flaky 1") < text.rindex("Skipped 1") < text.rindex("Passed 30") < text.index("This run")
    )
    assert "All 30 passed ›" in text and "fine 19" in text and "fine 20" not in text
    assert 'href="https://ci.example/4711"' in page


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("status=Flaky", ["wobbles"]),
        ("status=Skipped", ["left out"]),
        ("status=Failed&group=none", ["returns an order", *(f"pays {number}" for number in range(5))]),
        ("status=Passed", [f"fine {number}" for number in range(30)]),
        ("q=PAY", [f"pays {number}" for number in range(5)]),
        ("q=%25", []),
        ("tag=quick", ["fine 0", "fine 1"]),
        ("tag=quick&q=1", ["fine 1"]),
        ("status=Passed&q=pays", []),
        ("q=e&group=error", ["returns an order", "wobbles", "left out", *(f"fine {number}" for number in range(30))]),
    ],
)
async def test_the_tests_of_a_run_are_filtered(visit, night, query, names):
    page = await visit(f"/runs/{night}?{query}")
    found = re.findall(r'<span class="what">.*?<a href="/results/[^"]*"><bdi dir="auto">([^<]*)', page, re.DOTALL)
    assert found == names
    assert names or "Remove filter" in page


async def test_a_group_of_failures_has_an_address(client, visit, night, send, make_run):
    page = await visit(f"/runs/{night}")
    keys = re.findall(r'aria-labelledby="e(\w+)"', page)
    assert len(keys) == 2
    text = words_of(await visit(f"/runs/{night}?error={keys[0]}"))
    assert "TimeoutError: no button" in text and "pays 4" in text and "returns an order" not in text
    assert "No test of this run has this error any more." in words_of(await visit(f"/runs/{night}?error=x"))


async def test_pages_of_a_run_reach_every_test(client, visit, make_run, rows):
    run = await make_run()
    cases = [
        {"name": f"t{n:03}", "status": "Failed", "error_message": "no " + "xyz"[n % 3] * (n + 1)} for n in range(230)
    ]
    for start in (0, 115):
        body = {"test_cases": cases[start : start + 115]}
        assert (await client.post(f"{API}/suite-runs/{run}/test-cases/bulk", json=body)).status == 201
    for query in ("", "?status=Failed&group=none"):
        address, found, pages = f"/runs/{run}{query}", set(), 0
        while address:
            page = await visit(address)
            found |= set(re.findall(r">(t\d\d\d)<", page))
            more = re.search(r'href="([^"]*)" rel="next"', page)
            address, pages = unescape(more[1]) if more else None, pages + 1
        assert len(found) == 230 and pages == 2


@pytest.mark.parametrize("query", ["cursor=1.x", "status=Passed&cursor=7", "status=Passed&cursor=9.{id}", "cursor=99"])
async def test_a_wrong_cursor_is_refused(visit, night, query):
    assert "cursor" in words_of(await visit(f"/runs/{night}?{query.format(id=uuid.uuid4())}", 422))


async def test_a_run_without_failures_shows_its_slowest_tests(client, visit, make_run, send):
    run = await make_run()
    assert "No result has been sent yet." in words_of(await visit(f"/runs/{run}"))
    for number in range(7):
        await send(run, f"test {number}", duration_ms=1000 * number)
    await finish(client, run, "Passed")
    slowest, _, others = words_of(await visit(f"/runs/{run}")).partition(" ✓ Passed 7 test 0")
    assert slowest.endswith(
        "All 7 passed. The slowest test 6 6.0 s test 5 5.0 s test 4 4.0 s test 3 3.0 s test 2 2.0 s"
    )
    assert "test 6" in others
    assert "No test of this run failed." in words_of(await visit(f"/runs/{run}?status=Failed"))


async def test_an_address_that_is_no_web_page_is_no_link(visit, make_run):
    run = await make_run(build_url="javascript:alert(1)")
    page = await visit(f"/runs/{run}")
    assert "javascript:alert(1)" in page and 'href="javascript' not in page


async def test_an_unknown_run_is_said_to_be_missing(visit):
    for some_id in (uuid.uuid4(), "x"):
        assert "Suite run not found" in words_of(await visit(f"/runs/{some_id}", 404))


async def test_a_large_run_is_a_small_page(client, visit, make_run):
    run = await make_run()
    cases = [
        {"name": f"a test with a name of usual length {n}", "status": "Failed" if n % 5 == 0 else "Passed"}
        | ({"error_message": "no " + "x" * (n % 300)} if n % 5 == 0 else {})
        for n in range(5000)
    ]
    for start in range(0, 5000, 500):
        body = {"test_cases": cases[start : start + 500]}
        assert (await client.post(f"{API}/suite-runs/{run}/test-cases/bulk", json=body)).status == 201
    for query in ("", "?status=Failed&group=none", "?status=Passed", "?q=test"):
        page = await visit(f"/runs/{run}{query}")
        assert len(page) <= 150_000, query
    assert "1,000 failed" in words_of(page)


# --- marks, errors, and what changed ---------------------------------------------------------------------------


@pytest.fixture
async def three_nights(client, make_run, send):
    """Three runs of one name on main, of which the last two failed, and how the last one's failures are explained."""
    plan = [
        {"a": "Passed", "b": "Passed", "c": "Failed"},
        {"a": "Failed", "b": "Passed"},
        {"a": "Failed", "b": "Failed"},
    ]
    runs = []
    for number, statuses in enumerate(plan):
        runs.append(run := await make_run(name="nightly", branch="main", commit_sha=f"{number}" * 40))
        for name, status in {"c": "Passed", **statuses}.items():
            await send(run, name, status, **({"error_message": f"{name} broke {number}"} if status == "Failed" else {}))
        await finish(client, run, "Failed")
    return runs


async def test_a_failure_is_new_or_fails_since_some_runs(visit, three_nights):
    for path in ("/", f"/runs/{three_nights[2]}"):
        page = await visit(path)
        cards = {
            name: words_of("<main>" + card)
            for name, card in re.findall(r'dir="auto">([ab])</bdi>(.*?)</li>', page, re.DOTALL)
        }
        assert "since 2 runs" in cards["a"] and "new" in cards["b"].split() and "since" not in cards["b"]
    assert "first at 1111111" in page


async def test_a_run_is_compared_with_the_previous_one_of_its_name_and_branch(visit, three_nights, make_run, send):
    other = await make_run(name="nightly", branch="feature")
    await send(other, "c", "Failed")
    first, second, third = [words_of(await visit(f"/runs/{run}")) for run in three_nights]
    assert "Against" not in first
    assert "Against the previous run on main, now: 1 new failure, 1 fixed. Compare ›" in second
    assert "Against the previous run on main, now: 1 new failure, 0 fixed. Compare ›" in third
    page = await visit(f"/runs/{three_nights[2]}")
    assert f'href="/runs/{three_nights[1]}"' in page
    (compare,) = re.findall(r'href="(/compare[^"]*)"', page)
    await visit(unescape(compare))


async def test_an_error_is_new_or_was_first_seen_in_another_run(visit, three_nights):
    text = words_of(await visit(f"/runs/{three_nights[2]}"))
    assert re.search(r"1 test a broke 2 since 1111111 , now · 2 results", text), text
    assert "1 test b broke 2 new error" in text


async def test_a_flaky_test_says_on_how_many_commits(client, visit, make_run, send):
    for status in ("Passed", "Failed"):
        run = await make_run(branch="main", commit_sha="a" * 40)
        await send(run, "wobbles", status)
        await finish(client, run, status)
    assert "↻ flaky 1/1" in words_of(await visit("/"))
    assert "↻ flaky 1/1" in words_of(await visit(f"/runs/{run}"))


# --- an empty server -------------------------------------------------------------------------------------------


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
async def test_the_lines_of_an_empty_server_lead_to_a_visible_failure(client, visit, dsn, tmp_path):
    page = await visit("/")
    key, send, demo = [
        unescape(lines) for lines in re.findall(r'<pre id="[^"]*" tabindex="0">(.*?)</pre>', page, re.DOTALL)
    ]
    assert demo.strip() == "reportd demo" and "Waiting" not in page and 'href="/">Look again' in page
    program = tmp_path / ".venv/bin/reportd"
    program.parent.mkdir(parents=True)
    program.write_text(f'#!/bin/sh\nPYTHONPATH={CHECKOUT} exec {sys.executable} -m server "$@"\n')
    program.chmod(0o755)
    environment = {**os.environ, "REPORTD_DATABASE_DSN": dsn}
    pasted = await asyncio.create_subprocess_exec(
        "bash", "-c", key + send, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    output, errors = await asyncio.wait_for(pasted.communicate(), 60)
    assert (pasted.returncode, output, errors) == (0, b"", b"")
    page = await visit("/")
    assert "the shop opens expected the shop, got: Error 500 ✕ step 1 · Open the shop" in words_of(page)
    (picture,) = re.findall(r'src="(/thumbs/[^"]*)"', page)
    thumbnail = await client.get(picture)
    assert (thumbnail.status, thumbnail.content_type) == (200, "image/webp")
    (result,) = re.findall(r'href="(/results/[^"]*)"', page)
    assert "expected the shop, got: Error 500" in words_of(await visit(result))


@pytest.mark.parametrize(
    ("host", "shown"),
    [
        ("reports.example", "http://reports.example/api"),
        ("[::1]:8000", "http://[::1]:8000/api"),
        ("a;reboot", "http://127.0.0.1:8000/api"),
        ("$(reboot)", "http://127.0.0.1:8000/api"),
    ],
)
async def test_the_lines_of_an_empty_server_have_its_address(client, host, shown):
    page = await (await client.get("/", headers={"Host": host})).text()
    assert shown in page and "reboot" not in page


async def test_a_viewer_is_told_who_can_make_a_key(nobody, make_token):
    viewer = {"Authorization": f"Bearer {make_token(role='viewer')}"}
    assert "Your role is not that of an admin." in words_of(await (await nobody.get("/", headers=viewer)).text())


async def test_while_the_database_is_away_the_page_keeps_its_filters(client, visit, monkeypatch):
    await visit("/runs?branch=main")  # the caller is cached
    pool = client.app[SERVICES].pool
    monkeypatch.setattr(pool, "_max_waiting", -pool.size)
    reply = await client.get("/runs?branch=main&status=Failed")
    page = await reply.text()
    assert reply.status == 503 and int(reply.headers["Retry-After"]) > 0
    assert '<a href="/runs?branch=main&amp;status=Failed">Try again</a>' in page


async def test_a_run_says_whether_it_is_complete_or_what_is_missing(client, visit, make_run):
    """Of a run whose client said what there would be. Names are foreign text."""
    run, evil = await make_run(), "<b>x.webm"
    assert "omplete" not in words_of(await visit(f"/runs/{run}"))

    async def put(index, **fields):
        body = {"total": 13, "status": "Passed", "tests_expected": 1, **fields}
        assert (await client.put(f"{API}/suite-runs/{run}/shards/{index}", json=body)).status == 200

    await put(1, status="Failed", errors=["no <i>browser\nat x"])
    await put(2, status="Running")
    video = {"later": True, "artifact_type": "video", "file_name": evil, "checksum": "a" * 64, "file_size": 9}
    tests = [{"client_ref": str(uuid.uuid4()), "test": {"name": "pays"}, "artifacts": [video]}]
    reply = await client.post(f"{API}/suite-runs/{run}/bundle", json={"tests": tests})
    case = (await reply.json())["tests"][0]["id"]
    page = await visit(f"/runs/{run}")
    said = words_of(page)
    assert "Not complete yet · nothing was heard of shards 3, 4, 5, 6, 7, 8, 9, 10, 11, 12 and 1 more of 13" in said
    assert "· shard 2 of 13 not finished · 1 of 2 tests missing · 1 file missing:" in said
    assert f'<a href="/results/{case}"><bdi dir="auto">&lt;b&gt;x.webm</bdi></a> (later)' in page
    assert "Shard 1: no <i>browser" in said and "at x" not in said
    live = f"/runs/{run}?part=live&failed=0"
    first = await client.get(live, headers={"X-Fragment": "1"})
    assert "not finished" in await first.text()
    await put(2)
    second = await client.get(live, headers={"X-Fragment": "1", "If-None-Match": first.headers["ETag"]})
    assert second.status == 200 and "not finished" not in await second.text()

    done = await make_run()
    shard = {"total": 1, "status": "Passed", "tests_expected": 0}
    await client.put(f"{API}/suite-runs/{done}/shards/1", json=shard)
    assert "Complete: all 0 tests that were expected." in words_of(await visit(f"/runs/{done}"))

    killed = await make_run()  # nobody knows how many tests there were
    shard = {"total": 1, "status": "Failed", "errors": ["no disk"]}
    await client.put(f"{API}/suite-runs/{killed}/shards/1", json=shard)
    said = words_of(await visit(f"/runs/{killed}"))
    assert "Outside of tests:no disk" in said and "omplete" not in said


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({}, []),
        ({"environment": "staging"}, ["staging"]),
        ({"commit_sha": "0123456789abcdef"}, ["0123456"]),
        ({"branch": "main", "environment": "staging"}, ["main", "staging"]),
    ],
)
async def test_what_a_run_is_of_stands_between_dots(visit, make_run, fields, words):
    page = await visit(f"/runs/{await make_run(**fields)}")
    (about,) = re.findall(r'<p class="about soft">.*?</p>', page)
    *before, when = words_of(f"<main>{about}").split(" · ")
    assert before == words and when[:1].isalnum()
