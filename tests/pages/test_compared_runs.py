"""The page that compares two runs: five lists, each test with both of its results."""

import uuid

import pytest

from tests.pages.conftest import EVIL
from tests.pages.test_suite_runs import add_failed_step, finish, words_of


@pytest.fixture
def make_run_of(client, make_run, make_case):
    """await make_run_of({name: status or fields}, **run): the ids of a run and of its results by name."""

    async def make(tests, **fields):
        run = await make_run(**{"branch": "main", **fields})
        results = {}
        for name, each in tests.items():
            results[name] = await make_case(
                run=run, name=name, **(each if isinstance(each, dict) else {"status": each})
            )
        return run, results

    return make


def section(page, name):
    return page.partition(f'id="{name}"')[2].partition("</section>")[0]


async def test_five_lists_with_both_results_and_their_comparison(visit, client, make_run_of):
    old = {"status": "Failed", "error_message": "old error"}
    base, before = await make_run_of(
        {"a": "Passed", "b": "Failed", "c": old, "d": {"status": "Passed", "duration_ms": 1_000}, "gone": "Passed"}
    )
    new = {"status": "Failed", "error_message": "new error"}
    head, now = await make_run_of(
        {"a": new, "b": "Passed", "c": new, "d": {"status": "Passed", "duration_ms": 9_000}, "came": "Passed"}
    )
    picture = await add_failed_step(client, now["a"])
    page = await visit(f"/compare?base={base}&head={head}")
    text = words_of(page)
    assert "New failures 1 Fixed 1 Still failing 1 Slower 1 Came and went 2" in text
    failures = section(page, "new_failures")
    assert f'href="/results/{now["a"]}/compare?with={before["a"]}"' in failures
    assert f'href="/results/{before["a"]}"' in failures and f'href="/results/{now["a"]}"' in failures
    assert f'src="/thumbs/{picture}-320.webp"' in failures and "step 17 · Click Pay now" in words_of(page)
    assert "✕ Failed → ✓ Passed" in text and "error changed was old error new error" in text
    assert "✓ Passed 1.0 s → ✓ Passed 9.0 s" in text and "gone, was ✓ Passed" in text and "new test: ✓ Passed" in text
    assert f'href="/results/{before["gone"]}"' in section(page, "came_and_went")
    for word in ("previous", "main"):
        await finish(client, base, "Failed")
        assert words_of(await visit(f"/compare?head={head}&base={word}")).count("New failures 1") == 2
    assert "New failures 1" in words_of(await visit(f"/compare?head={head}"))


async def test_tests_whose_error_changed_come_first(visit, make_run_of):
    await make_run_of({name: {"status": "Failed", "error_message": "same"} for name in "abc"})
    changed = {"status": "Failed", "error_message": "other"}
    head, _ = await make_run_of(
        {"a": {**changed, "error_message": "same"}, "b": {**changed, "error_message": "same"}, "c": changed}
    )
    page = section(await visit(f"/compare?head={head}"), "still_failing")
    assert page.index(">c<") < page.index(">a<") < page.index(">b<") and page.count("error changed") == 1


async def test_a_long_list_has_a_page_of_its_own(visit, make_run_of):
    head, _ = await make_run_of({f"test {number:02}": "Failed" for number in range(30)})
    page = await visit(f"/compare?head={head}")
    assert section(page, "new_failures").count("<li") == 25
    assert f'href="/compare?head={head}&amp;list=new_failures">All 30 ›' in page
    assert section(await visit(f"/compare?head={head}&list=new_failures"), "new_failures").count("<li") == 30
    assert "This list is empty" in await visit(f"/compare?head={head}&list=fixed")


async def test_without_an_earlier_run_every_failure_is_new_and_the_page_says_so(visit, make_run_of):
    head, _ = await make_run_of({"a": "Failed"}, branch="feature")
    text = words_of(await visit(f"/compare?head={head}"))
    assert "nothing: this is the first run of its name on feature. Every failure counts as new." in text
    text = words_of(await visit(f"/compare?head={head}&base=main"))
    assert "no run of this name has finished on main" in text


async def test_equal_runs_have_a_sentence(visit, make_run_of):
    await make_run_of({"a": "Passed"})
    head, _ = await make_run_of({"a": "Passed"})
    assert "Nothing changed: no test fails" in words_of(await visit(f"/compare?head={head}"))


async def test_what_does_not_exist_gets_a_sentence(visit, make_run_of, make_token, client):
    head, _ = await make_run_of({"a": "Passed"})
    other = {"Authorization": f"Bearer {make_token(project='theirs', role='uploader')}"}
    theirs = await client.post("/api/v1/reports/suite-runs", json={"name": "x"}, headers=other)
    theirs = (await theirs.json())["id"]
    unknown = uuid.uuid4()
    for query in (f"head={unknown}", f"head={head}&base={unknown}", f"head={head}&base={theirs}"):
        assert "Suite run not found" in await visit(f"/compare?{query}", 404)
    assert "Suite run not found" in await visit(f"/compare?head={head}", 404, **other)
    for query in ("", "head=x", f"head={head}&base=x", f"head={head}&list=x", f"base={head}"):
        assert "To the runs" in await visit(f"/compare?{query}", 422)


async def test_hostile_text_stays_text(visit, make_run_of):
    fields = {"status": "Failed", "browser": "<i>", "error_type": EVIL, "error_message": EVIL}
    await make_run_of({EVIL: {**fields, "error_message": f"<u>{EVIL}"}}, name=EVIL, branch=EVIL)
    head, _ = await make_run_of({EVIL: fields, f"{EVIL}2": fields}, name=EVIL, branch=EVIL, commit_sha="<i>1")
    page = await visit(f"/compare?head={head}")
    assert page.count("&lt;script&gt;") > 8 and "<script>alert" not in page and "\x1b" not in page
    assert "<i>" not in page and "<u>" not in page


async def test_without_a_database_there_is_still_a_page(visit, make_run_of, database_away):
    head, _ = await make_run_of({"a": "Passed"})
    await visit(f"/compare?head={head}")
    database_away()
    assert f'href="/compare?head={head}"' in await visit(f"/compare?head={head}", 503)
