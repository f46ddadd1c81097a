"""Comparisons of results and runs, and marks, over HTTP and a real database."""

import random
from datetime import timedelta
from uuid import UUID

import pytest

from server.compare.marks import Attempt, flaky
from server.ids import new_ids, time_of
from server.reports import comparisons, marks, run_comparisons
from server.services import SERVICES
from tests.forms import BOUNDARY, single
from tests.makers import png

BASE = "/api/v1/reports"
ANY = "00000000-0000-7000-8000-000000000000"


@pytest.fixture
def get(client):
    """await get(path, status=200): the decoded reply."""

    async def ask(path, status=200):
        reply = await client.get(BASE + path)
        assert reply.status == status, await reply.text()
        return await reply.json()

    return ask


@pytest.fixture
def add(client, make_run):
    """await add(run, **fields, steps=[…], console=[…], network=[…]): the id of a new result with all that."""

    async def make(run, steps=(), console=(), network=(), **fields):
        case = {"name": "pays by card", "status": "Passed", **fields}
        sent = await client.post(f"{BASE}/suite-runs/{run}/test-cases", json=case)
        assert sent.status == 201, await sent.text()
        made = (await sent.json())["id"]
        url = f"{BASE}/test-case-results/{made}"
        for path, body in (
            ("steps", {"steps": steps}),
            ("console-logs", {"entries": console}),
            ("network-logs", {"entries": network}),
        ):
            if next(iter(body.values())):
                reply = await client.post(f"{url}/{path}", json=body)
                assert reply.status == 201, await reply.text()
        return made

    return make


def steps(count=6, failed=None, **durations):
    """Steps of 0.3 s with these durations (s4=4100), of which one failed and the rest did not run."""
    return [
        {
            "step_number": number,
            "step_type": "click",
            "action": f"open shelf {'abcdefghij'[number]}",
            "element_selector": f"#shelf{number}",
            "status": "Passed" if failed is None or number < failed else "Failed" if number == failed else "Pending",
            "duration_ms": durations.get(f"s{number}", 300),
        }
        for number in range(1, count + 1)
    ]


# --- last green --------------------------------------------------------------------------------------------------


async def test_last_green_prefers_the_branch_then_main_then_any(get, add, make_run, rows):
    """Of each, the newest; and before all of that, the same browser."""
    rows("UPDATE projects SET main_branch = 'trunk'")

    async def green(branch, **fields):
        return await add(await make_run(branch=branch), **fields)

    async def found(branch="fix", **fields):
        case = await add(await make_run(branch=branch), status="Failed", **fields)
        reply = await get(f"/test-case-results/{case}/last-green")
        assert reply["test_case_result_id"] == case and reply["searched"] == 500
        return reply["last_green"] and reply["last_green"]["id"], reply["same_browser"]

    assert await found() == (None, None)
    other = await green("other")
    assert await found() == (other, True)
    trunk = await green("trunk")
    await green("other")
    assert await found() == (trunk, True)
    fix = await green("fix")
    await green("trunk")
    assert await found() == (fix, True)
    newer = await green("fix")
    assert await found() == (newer, True)
    await add(await make_run(branch="fix"), status="Skipped")
    await add(await make_run(branch="fix"), name="another test")
    assert await found() == (newer, True)
    assert await found(browser="firefox") == (newer, False), "no green of this browser"
    firefox = await green("other", browser="firefox")
    assert await found(browser="firefox") == (firefox, True)
    assert await found() == (newer, True)
    nameless = await green(None)
    assert await found(branch=None) == (nameless, True)


async def test_last_green_is_searched_in_500_results(get, add, make_run, rows):
    run = await make_run()
    await add(run)
    old = await add(run, status="Failed")
    rows(
        "INSERT INTO test_case_results (id, suite_run_id, project_id, name, test_id, status)"
        " SELECT overlay(c.id::text placing 'ffff' from 1 for 4)::uuid, suite_run_id, project_id, name, test_id, status"
        " FROM test_case_results c WHERE id = %s",
        old,
    )
    assert (await get(f"/test-case-results/{old}/last-green"))["last_green"]
    rows(
        "INSERT INTO test_case_results (id, suite_run_id, project_id, name, test_id, status)"
        " SELECT ('fffe0000-0000-7000-8000-' || lpad(n::text, 12, '0'))::uuid, suite_run_id, project_id, name, test_id,"
        " status FROM test_case_results c, generate_series(1, 499) AS n WHERE id = %s",
        old,
    )
    (newest,) = rows("SELECT max(id::text) AS id FROM test_case_results")
    assert (await get(f"/test-case-results/{newest['id']}/last-green"))["last_green"] is None
    rows("DELETE FROM test_case_results WHERE id = %s", old)
    assert (await get(f"/test-case-results/{newest['id']}/last-green"))["last_green"]


# --- first difference ----------------------------------------------------------------------------------------------


async def test_the_first_difference_from_the_last_green(get, add, make_run):
    green = await add(await make_run(branch="main", commit_sha="3f2c9aa"), steps())
    red = await add(await make_run(branch="main"), steps(s4=4_100, failed=6), status="Failed")
    found = await get(f"/test-case-results/{red}/first-difference")
    assert found["sentence"] == "step 4 took 4.1 s, was 0.3 s; failed at 6"
    assert (found["test_case_result_id"], found["compared_with"]["id"]) == (red, green)
    assert found["compared_with"]["commit_sha"] == "3f2c9aa"
    assert (found["row"]["base"]["step_number"], found["row"]["head"]["step_number"]) == (4, 4)
    assert found["row"]["differences"] == [
        {"kind": "time", "weight": "soft", "field": "duration_ms", "base": 300, "head": 4_100}
    ]
    assert found["failed_step"]["step_number"] == 6
    assert (found["reason"], found["limited"]) == (None, [])
    listed = await get(f"/test-case-results/{red}/steps")
    ids = [step["id"] for step in (listed if isinstance(listed, list) else listed["steps"])]
    assert [found["row"]["head"]["id"], found["failed_step"]["id"]] == [ids[3], ids[5]]


async def test_a_step_that_is_usually_slow_is_no_difference(get, add, make_run):
    for slow in (4_000, 4_200, 4_100):
        await add(await make_run(), steps(s4=slow))
    await add(await make_run(), steps(s4=200))
    red = await add(await make_run(), steps(s4=4_100, failed=6), status="Failed")
    found = await get(f"/test-case-results/{red}/first-difference")
    assert found["sentence"] == "step 6 failed, passed before"


async def test_failed_requests_and_console_errors_are_differences(get, add, make_run):
    def request(status, number, step, **more):
        return (
            {"method": "GET", "url": f"https://shop.test/a/{number}?s=x1#y", "step_number": step}
            | ({"status_code": status} if status else {})
            | more
        )

    noise = [{"level": "error", "message": "favicon 17 is missing", "step_number": 1}]
    await add(await make_run(), steps(), noise, [request(404, 1, 2), request(200, 1, 4)])
    other_noise = [
        {**noise[0], "message": "favicon 18 is missing"},
        {"level": "warning", "message": "x", "step_number": 1},
    ]
    red = await add(
        await make_run(), steps(failed=6), other_noise, [request(404, 7, 2), request(503, 7, 4)], status="Failed"
    )
    found = await get(f"/test-case-results/{red}/first-difference")
    assert found["sentence"] == "during step 4: failed request “GET https://shop.test/a/7: HTTP 503”; failed at 6"
    lost = [request(None, 7, 3, error_text="net::ERR_RESET")]
    red = await add(await make_run(), steps(failed=6), network=lost, status="Failed")
    found = await get(f"/test-case-results/{red}/first-difference")
    assert found["row"]["differences"][0]["head"] == "GET https://shop.test/a/7: net::ERR_RESET"
    crash = [{"level": "error", "message": "x is null", "step_number": 5}]
    red = await add(await make_run(), steps(failed=6), crash, status="Failed")
    found = await get(f"/test-case-results/{red}/first-difference")
    assert found["sentence"] == "during step 5: console error “x is null”; failed at 6"


async def test_why_there_is_no_first_difference(get, add, make_run, monkeypatch):
    red = await add(await make_run(), steps(), status="Failed")
    found = await get(f"/test-case-results/{red}/first-difference")
    assert (found["reason"], found["compared_with"], found["sentence"], found["row"]) == (
        "never_passed",
        None,
        None,
        None,
    )
    assert (await get(f"/test-case-results/{red}/comparison"))["rows"] == []
    await add(await make_run())
    empty = await add(await make_run(), status="Failed")
    assert (await get(f"/test-case-results/{empty}/first-difference"))["reason"] == "no_steps"
    await add(await make_run(), steps())
    equal = await add(await make_run(), steps(), status="Failed")
    assert (await get(f"/test-case-results/{equal}/first-difference"))["reason"] == "no_difference"
    monkeypatch.setattr(comparisons, "SECONDS", 0)
    found = await get(f"/test-case-results/{equal}/first-difference")
    assert (found["reason"], found["limited"], found["row"]) == ("too_long", ["time"], None)
    found = await get(f"/test-case-results/{equal}/comparison")
    assert (found["rows"], found["limited"]) == ([], ["time"])


async def test_with_another_result(get, add, make_run):
    """Also a later one, or one of another test."""
    await add(await make_run(), steps())
    one = await add(await make_run(), steps(failed=3), status="Failed")
    two = await add(await make_run(), steps(failed=5), status="Failed", name="pays by voucher")
    found = await get(f"/test-case-results/{one}/first-difference?with={two}")
    assert found["compared_with"]["id"] == two
    assert found["sentence"] == "step 3 failed, passed before"


async def test_the_picture_is_compared_by_its_checksum(client, get, add, make_run, rows):
    cases = [await add(await make_run(), steps(2), status=status) for status in ("Passed", "Failed", "Failed")]
    for case, seed in zip(cases, (1, 1, 2), strict=True):
        reply = await client.post(
            f"{BASE}/test-case-results/{case}/artifacts",
            data=single(png(seed=seed), artifact_type="screenshot", step_number="2"),
            headers={"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"},
        )
        assert reply.status == 201, await reply.text()
    same, other = [(await get(f"/test-case-results/{case}/comparison"))["rows"][1] for case in cases[1:]]
    assert same["differences"] == []
    assert [each["kind"] for each in other["differences"]] == ["picture"]


# --- the comparison of two results ---------------------------------------------------------------------------------


async def test_the_steps_of_two_results_side_by_side(get, add, make_run):
    green = await add(await make_run(), steps(6))
    more = [*steps(3), {"step_number": 4, "step_type": "click", "action": "accept cookies", "status": "Passed"}]
    more += [{**step, "step_number": step["step_number"] + 1} for step in steps(6, failed=6)[3:]]
    red = await add(await make_run(), more, status="Failed")
    found = await get(f"/test-case-results/{red}/comparison?with={green}")
    numbers = [[row[side] and row[side]["step_number"] for side in ("base", "head")] for row in found["rows"]]
    assert numbers == [[1, 1], [2, 2], [3, 3], [None, 4], [4, 5], [5, 6], [6, 7]]
    assert (found["total"], found["differing"], found["first_difference"]) == (7, 2, 3)
    few = await get(f"/test-case-results/{red}/comparison?differing=true")
    assert few["rows"] == [found["rows"][3], found["rows"][6]]
    assert (few["total"], few["first_difference"]) == (7, 0)


async def test_limits_are_said(get, add, make_run, monkeypatch):
    await add(await make_run(), steps(6))
    console = [{"level": "error", "message": f"error {word}", "step_number": 1} for word in ("one", "two", "three")]
    red = await add(await make_run(), steps(6, failed=6), console, status="Failed")
    monkeypatch.setattr(comparisons, "MAX_ENTRIES", 2)
    found = await get(f"/test-case-results/{red}/comparison")
    assert (len(found["rows"][0]["differences"]), found["limited"]) == (2, ["entries"])
    monkeypatch.setattr(comparisons, "MAX_ENTRIES", 3)
    monkeypatch.setattr(comparisons, "MAX_STEPS", 5)
    found = await get(f"/test-case-results/{red}/comparison")
    assert (found["total"], found["limited"]) == (5, ["steps"])
    monkeypatch.setattr(comparisons, "MAX_ROWS", 3)
    found = await get(f"/test-case-results/{red}/comparison")
    assert (len(found["rows"]), found["total"], found["limited"]) == (3, 5, ["steps", "rows"])


async def test_hostile_text_comes_back_as_it_is(get, add, make_run):
    text = "<script>alert(1)</script>‮\x1b[31m“"
    step = {"step_number": 1, "step_type": text[:50], "action": text, "description": text, "element_selector": text}
    await add(await make_run(), [{**step, "status": "Passed", "actual_value": text}])
    red = await add(await make_run(branch=text), [{**step, "status": "Failed", "actual_value": "x"}], status="Failed")
    found = await get(f"/test-case-results/{red}/first-difference")
    assert text in found["row"]["head"]["label"]
    assert found["row"]["differences"][1]["base"] == text


# --- two runs ------------------------------------------------------------------------------------------------------


async def results(add, run, **statuses):
    return {name: await add(run, name=name, status=status) for name, status in statuses.items()}


def names(reply):
    lists = ("new_failures", "fixed", "still_failing", "slower", "appeared", "disappeared")
    assert [len(reply[name]) for name in lists] == [reply["counts"][name] for name in lists]
    return {name: [test["name"] for test in reply[name]] for name in lists if reply[name]}


async def test_two_runs_are_compared(get, add, make_run):
    base = await make_run(branch="main")
    old = await results(add, base, a="Passed", b="Failed", c="Failed", d="Passed", gone="Passed")
    head = await make_run(branch="main")
    new = await results(add, head, a="Failed", b="Passed", c="Failed", d="Passed", fresh="Passed", bad="Failed")
    found = await get(f"/suite-runs/{head}/comparison")
    assert names(found) == {
        "new_failures": ["a", "bad"],
        "fixed": ["b"],
        "still_failing": ["c"],
        "appeared": ["fresh"],
        "disappeared": ["gone"],
    }
    assert (found["base"]["id"], found["head"]["id"], found["limited"]) == (base, head, [])
    (change,) = found["fixed"]
    assert (change["base"]["test_case_result_id"], change["head"]["test_case_result_id"]) == (old["b"], new["b"])
    assert found["still_failing"][0]["error_changed"] is None, "without a message"
    assert names(await get(f"/suite-runs/{base}/comparison?base={head}"))["fixed"] == ["a"]


async def test_tests_that_fail_with_another_error_come_first(get, add, make_run):
    for errors in ({"a": "waited 3 s", "b": "#pay is away"}, {"a": "waited 4 s", "b": "#login is away"}):
        run = await make_run()
        for name, message in errors.items():
            await add(run, name=name, status="Failed", error_message=message)
    found = await get(f"/suite-runs/{run}/comparison")
    changed = [(test["name"], test["error_changed"]) for test in found["still_failing"]]
    assert changed == [("b", True), ("a", False)]


async def test_the_last_attempt_of_a_test_counts(get, add, make_run):
    base, head = await make_run(), await make_run()
    await add(base)
    await add(head, status="Passed", attempt=2)
    await add(head, status="Failed", attempt=1)
    assert names(await get(f"/suite-runs/{head}/comparison")) == {}
    await add(head, status="Failed", attempt=3, error_message="  no\nsecond line")
    (change,) = (await get(f"/suite-runs/{head}/comparison"))["new_failures"]
    assert (change["head"]["attempts"], change["head"]["error"]) == (3, "no")


async def test_which_run_is_the_base(get, add, make_run, rows):
    rows("UPDATE projects SET main_branch = 'trunk'")

    async def finished(status="Passed", **fields):
        run = await make_run(status=status, **fields)
        await add(run)
        return run

    async def base(run, query=""):
        found = (await get(f"/suite-runs/{run}/comparison{query}"))["base"]
        return found and found["id"]

    first = await finished(branch="fix")
    assert await base(first) is None
    assert await base(first, "?base=main") is None
    assert names(await get(f"/suite-runs/{first}/comparison")) == {"appeared": ["pays by card"]}
    main = await finished(branch="trunk")
    await finished("Running", branch="trunk")
    await finished(branch="trunk", name="smoke")
    await finished(branch="main")
    second = await finished(branch="fix")
    assert await base(second) == await base(second, "?base=previous") == await base(second, "?base=") == first
    assert await base(second, "?base=main") == main
    assert await base(second, f"?base={main}") == main
    nameless = await finished()
    assert await base(nameless) is None
    assert await base(await finished()) == nameless


async def test_lists_of_runs_are_bounded(get, add, make_run, monkeypatch):
    monkeypatch.setattr(run_comparisons, "MAX_LISTED", 2)
    run = await make_run()
    await results(add, run, a="Failed", b="Failed", c="Failed")
    found = await get(f"/suite-runs/{run}/comparison")
    assert (len(found["new_failures"]), found["counts"]["new_failures"], found["limited"]) == (2, 3, ["lists"])
    monkeypatch.setattr(run_comparisons, "MAX_TESTS", 1)
    found = await get(f"/suite-runs/{run}/comparison")
    assert (found["counts"]["new_failures"], found["limited"]) == (1, ["tests"])


# --- marks ---------------------------------------------------------------------------------------------------------


async def test_marks_on_the_tests_of_a_run(get, add, make_run):
    one = await make_run(branch="main", commit_sha="a1")
    await results(add, one, new="Passed", old="Failed", shaky="Failed", fine="Passed")
    two = await make_run(branch="main", commit_sha="a1")
    first = await results(add, two, new="Passed", old="Failed", shaky="Passed", fine="Passed", retried="Failed")
    await add(two, name="retried", attempt=2)
    three = await make_run(branch="main", commit_sha="b2")
    last = await results(add, three, new="Failed", old="Failed", shaky="Passed", fine="Passed")
    found = await get(f"/suite-runs/{three}/marks")
    assert (found["previous_run_id"], found["limited"]) == (two, [])
    by_name = {test["name"]: test for test in found["tests"]}
    assert list(by_name) == ["new", "old", "shaky"]
    assert by_name["new"]["test_case_result_id"] == last["new"]
    assert by_name["new"]["marks"]["new"] and not by_name["old"]["marks"]["new"]
    since = by_name["old"]["marks"]["failing_since"]
    assert (since["suite_run_id"], since["failures"], since["commit_sha"]) == (one, 3, "a1")
    flaky = by_name["shaky"]["marks"]["flaky"]
    assert (flaky["commits"], flaky["of"], len(flaky["evidence"])) == (1, 2, 1)
    assert flaky["evidence"][0]["passed_id"] == first["shaky"]
    found = await get(f"/suite-runs/{two}/marks")
    marked = {test["name"]: test["marks"] for test in found["tests"]}
    assert marked["retried"]["flaky_here"] and marked["retried"]["flaky"]["of"] == 1
    assert marked["old"]["failing_since"]["failures"] == 2, "as of that run"
    assert "new" not in marked
    assert (await get(f"/suite-runs/{await make_run()}/marks"))["tests"] == []


async def test_failing_for_longer_than_the_history_that_is_read(get, add, make_run, monkeypatch):
    for _ in range(4):
        run = await make_run()
        await add(run, status="Failed")
    for depth, failures, at_least in ((150, 4, False), (5, 4, False), (4, 4, True), (3, 3, True)):
        monkeypatch.setattr(marks, "DEPTH", depth)
        (test,) = (await get(f"/suite-runs/{run}/marks"))["tests"]
        since = test["marks"]["failing_since"]
        assert (since["failures"], since["at_least"]) == (failures, at_least)


async def test_slower_in_marks(get, add, make_run):
    for duration in [1_000] * 6 + [4_000] * 5:
        await add(await make_run(), duration_ms=duration)
    run = await make_run()
    await add(run, status="Failed")
    (test,) = (await get(f"/suite-runs/{run}/marks"))["tests"]
    assert test["marks"]["slower"] == {"now_ms": 4_000, "before_ms": 1_000}


async def test_marks_are_read_for_so_many_tests(get, add, make_run, monkeypatch):
    monkeypatch.setattr(marks, "MAX_MARKED", 1)
    run = await make_run()
    await results(add, run, a="Failed", b="Failed")
    found = await get(f"/suite-runs/{run}/marks")
    assert ([test["name"] for test in found["tests"]], found["limited"]) == (["a"], ["marked"])


async def test_flaky_tests_are_those_of_the_rule(client, rows):
    """The statement finds every test that the rule in compare/marks.py marks, over random histories."""
    rng, pool = random.Random(4), client.app[SERVICES].pool
    (project,) = rows("SELECT id FROM projects")
    attempts = {}
    runs = [(run_id, rng.choice([None, "", "c1", "c2", "c3"])) for run_id in new_ids(1, 12)]
    for run_id, commit in runs:
        rows(
            "INSERT INTO suite_runs (id, project_id, name, commit_sha) VALUES (%s, %s, 'x', %s)",
            run_id,
            project["id"],
            commit,
        )
    for number, result_id in enumerate(new_ids(1, 300)):
        run_id, commit = rng.choice(runs)
        test, browser = f"test {rng.randrange(60)}", rng.choice([None, "firefox"])
        status = rng.choice(["Passed", "Failed", "Skipped"])
        rows(
            "INSERT INTO test_case_results (id, suite_run_id, project_id, name, test_id, status, browser, attempt)"
            " VALUES (%s, %s, %s, 'x', %s, %s, %s, %s)",
            *(result_id, run_id, project["id"], test, status, browser, number),
        )
        attempts.setdefault(test, []).append(Attempt(result_id, run_id, status, number, browser, commit=commit))
    since = marks.looked_at_since(time_of(result_id))
    expected = {test for test, each in attempts.items() if flaky(each, since)}
    assert 5 < len(expected) < 55
    assert await marks.flaky_tests(pool, project["id"], result_id) == expected
    assert await marks.flaky_tests(pool, project["id"], result_id, most=4) == set(sorted(expected)[:4])
    among = sorted(attempts)[20:]
    first = [test for test in among if test in expected][:4]
    assert await marks.flaky_tests(pool, project["id"], result_id, among, 4) == set(first)
    long_after = new_ids(1, 1)[0].int + (int(timedelta(days=31).total_seconds() * 1000) << 80)
    assert await marks.flaky_tests(pool, project["id"], UUID(int=long_after)) == set()


# --- bad input -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "status", "detail"),
    [
        (f"/test-case-results/{ANY}/last-green", 404, "Test case result not found"),
        ("/test-case-results/x/first-difference", 404, "Test case result not found"),
        (f"/test-case-results/{ANY}/comparison?with=x", 404, "Test case result not found"),
        ("/test-case-results/{case}/comparison?with=x", 422, "with: must be a UUID"),
        ("/test-case-results/{case}/first-difference?with=x", 422, "with: must be a UUID"),
        ("/test-case-results/{case}/comparison?differing=perhaps", 422, "differing: must be true or false"),
        (f"/test-case-results/{{case}}/comparison?with={ANY}", 404, "Test case result not found"),
        (f"/test-case-results/{{case}}/first-difference?with={ANY}", 404, "Test case result not found"),
        (f"/suite-runs/{ANY}/comparison", 404, "Suite run not found"),
        (f"/suite-runs/{{run}}/comparison?base={ANY}", 404, "Suite run not found"),
        (
            "/suite-runs/{run}/comparison?base=latest",
            422,
            "base: must be previous, main, or the id of a suite run",
        ),
        (f"/suite-runs/{ANY}/marks", 404, "Suite run not found"),
    ],
)
async def test_bad_input_is_refused(get, add, make_run, path, status, detail):
    run = await make_run()
    case = await add(run)
    found = await get(path.format(case=case, run=run), status)
    assert found["detail"] == detail


async def test_the_other_side_must_be_in_the_same_project(client, add, make_run, make_token):
    """Also for callers of all projects: names of tests mean something else in another project."""
    make_token(project="shop")
    mine, theirs = await make_run(), await make_run(project="shop")
    case, other = await add(mine), await add(theirs)
    for path in (
        f"/test-case-results/{case}/comparison?with={other}",
        f"/test-case-results/{case}/first-difference?with={other}",
        f"/suite-runs/{mine}/comparison?base={theirs}",
    ):
        assert (await client.get(BASE + path)).status == 404, path
    token = {"Authorization": f"Bearer {make_token(project='shop')}"}
    for path in (
        *(f"/test-case-results/{case}/{name}" for name in ("last-green", "comparison", "first-difference")),
        *(f"/suite-runs/{mine}/{name}" for name in ("comparison", "marks")),
    ):
        assert (await client.get(BASE + path, headers=token)).status == 404, path
    # A test of the same name that passed in another project is no last green.
    red = await add(mine, status="Failed", test_id="t")
    await add(theirs, test_id="t")
    again = await client.get(f"{BASE}/test-case-results/{red}/last-green")
    assert (await again.json())["last_green"] is None
