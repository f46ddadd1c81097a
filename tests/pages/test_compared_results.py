"""The page of two results side by side: what differs is shown, the rest is folded, the first difference is marked."""

import uuid

import pytest

from server.reports import comparisons, side_by_side
from tests.api.test_steps import send_png
from tests.pages.conftest import EVIL
from tests.pages.test_suite_runs import words_of

API = "/api/v1/reports"
NAMES = ["Open the shop", "Add a mug", "Wait for prices", "Go to the till", "Pay now", "See the receipt"]


def steps(**changed):
    """Six steps that passed; `changed` has fields by number: s3={"duration_ms": 9_000}."""
    plain = [
        {"step_number": at, "step_type": "ui", "description": name, "status": "Passed", "duration_ms": 300}
        for at, name in enumerate(NAMES, 1)
    ]
    return [each | changed.get(f"s{each['step_number']}", {}) for each in plain]


@pytest.fixture
def add(client, make_run, make_case):
    """await add(steps, status, run={…}, **fields): the id of a new result of the test."""

    async def make(sent=(), status="Passed", run=(), **fields):
        run_id = await make_run(**{"branch": "main", **dict(run)})
        case = await make_case(run=run_id, status=status, **fields)
        for iteration in sent if sent and isinstance(sent[0], list) else [sent]:
            if iteration:
                reply = await client.post(f"{API}/test-case-results/{case}/steps", json={"steps": iteration})
                assert reply.status == 201, await reply.text()
        return case

    return make


FAILED = steps(
    s3={"duration_ms": 4_100},
    s5={"status": "Failed", "error_message": "no button", "actual_value": "20.00", "expected_value": "19.99"},
    s6={"status": "Pending", "duration_ms": None},
)


async def test_what_differs_is_shown_and_the_rest_is_folded(visit, add):
    green = await add(steps(s5={"actual_value": "19.99", "expected_value": "19.99"}), run={"commit_sha": "3f2c9aa11"})
    red = await add(FAILED, "Failed")
    page = await visit(f"/results/{red}/compare")
    text = words_of(page)
    assert "last green ✓ Passed · nightly · main 3f2c9aa" in text and "now ✕ Failed · nightly" in text
    assert "First difference: step 3 took 4.1 s, was 0.3 s; failed at 5 1 of 2" in text
    assert text.index("2 equal steps") < text.index("Wait for prices") < text.index("1 equal step ")
    assert "Actual Before 19.99 Now 20.00" in text and "Error Before none Now no button" in text
    assert "Status Before ✓ Passed Now ✕ Failed" in text and "1 step not reached" in text
    marked = page.partition('id="difference"')[2].partition("</li>")[0]
    assert "Wait for prices" in marked and "Time" in words_of(f"<main>{marked}")
    assert f'href="/results/{green}?step=1.3"' in marked and f'href="/results/{red}?step=1.3"' in marked
    assert page.count('id="difference"') == 1 and page.count("data-diff=") == 2
    assert await visit(f"/results/{red}/compare?with=last-green") and await visit(
        f"/results/{red}/compare?with={green}"
    )


async def test_every_difference_has_an_address(visit, add):
    await add(steps())
    red = await add(FAILED, "Failed")
    page = await visit(f"/results/{red}/compare")
    assert f'href="/results/{red}/compare?diff=1.5#difference"' in page  # next; none before
    page = await visit(f"/results/{red}/compare?diff=1.5")
    assert "Pay now" in page.partition('id="difference"')[2].partition("</li>")[0]
    assert f'href="/results/{red}/compare?diff=1.3#difference"' in page and "2 of 2" in page
    page = await visit(f"/results/{red}/compare?diff=1.2")  # a step without difference
    assert "Add a mug" in page.partition('id="difference"')[2].partition("</li>")[0]
    page = await visit(f"/results/{red}/compare?diff=9.9")
    assert "No row of this comparison is called 9.9. The first difference is shown" in words_of(page)


async def test_a_step_of_one_side_only_has_a_place(visit, add):
    await add([*steps(), {"step_number": 7, "step_type": "ui", "description": "Rate us"}][::-1])
    banner = {"step_number": 7, "step_type": "other", "description": "Close the banner", "status": "Passed"}
    red = await add([*steps(), banner], "Failed")
    page = await visit(f"/results/{red}/compare")
    text = words_of(page)
    assert "not here" in text and 'data-diff="1.7"' in page
    gone = await add(steps()[:4], "Failed")
    page = await visit(f"/results/{gone}/compare?diff=was-1.6")
    assert "See the receipt" in page.partition('id="difference"')[2].partition("</li>")[0]


async def test_iterations_are_named_when_there_are_several(visit, add):
    again = [each | {"iteration_number": 2} for each in steps()]
    await add([steps(), again])
    changed = [each | {"iteration_number": 2} for each in steps(s4={"actual_value": "x"})]
    red = await add([steps(), changed], "Failed")
    assert "2.4" in words_of(await visit(f"/results/{red}/compare"))


async def test_pictures_are_shown_when_they_differ(visit, client, add):
    green, red = await add(steps()), await add(FAILED, "Failed")
    ids = {}
    for case in (green, red):
        for number in (2, 3, 5):
            same = {2: 1, 3: 1, 5: 1 if case == green else 2}[number]
            metadata = {"step_number": str(number), "artifact_category": "after"}
            ids[case, number] = await send_png(client, f"{API}/test-case-results/{case}", seed=same, **metadata)
    page = await visit(f"/results/{red}/compare")
    for case, number in ids:
        assert (f"/thumbs/{ids[case, number]}-960.webp" in page) == (number == 5)
    assert page.count('loading="lazy"') == page.count("<img")


async def test_rows_that_differ_in_ids_are_folded_and_counted(visit, add):
    await add(steps(s1={"actual_value": "order 1"}, s2={"actual_value": "order 7"}))
    red = await add(steps(s1={"actual_value": "order 2"}, s2={"actual_value": "order 8"}), "Failed")
    page = await visit(f"/results/{red}/compare")
    text = words_of(page)
    assert "No difference in steps, values and logs that would explain a failure." in text
    assert "6 equal steps, 2 with other ids or times" in text
    assert page.count('class="line grey"') == 2 and 'id="difference"' not in page


async def test_without_a_last_green_the_page_says_so(visit, add):
    red = await add(FAILED, "Failed")
    text = words_of(await visit(f"/results/{red}/compare"))
    assert "This test never passed in the last 500 results before this one" in text


async def test_without_steps_the_page_says_so(visit, add):
    await add()
    assert "Neither result has steps" in words_of(await visit(f"/results/{await add(status='Failed')}/compare"))


async def test_limits_are_said(visit, add, monkeypatch):
    await add(steps())
    red = await add(FAILED, "Failed")
    monkeypatch.setattr(comparisons, "MAX_STEPS", 3)
    assert "Only the first 5,000 steps of each result were compared." in await visit(f"/results/{red}/compare")
    monkeypatch.setattr(comparisons, "SECONDS", -1.0)
    page = await visit(f"/results/{red}/compare")
    assert "too long to be compared within two seconds" in page and "Neither result" not in page


async def test_many_differences_are_in_pages(visit, add, monkeypatch):
    await add(steps())
    red = await add(steps(**{f"s{at}": {"actual_value": f"value {'abcdefg'[at]}"} for at in range(1, 7)}), "Failed")
    monkeypatch.setattr(side_by_side, "MOST_TOLD", 2)
    page, seen = await visit(f"/results/{red}/compare"), 0
    assert "Rows 1 to 2 of the 6 that differ are shown" in words_of(page)
    assert f"/results/{red}/compare?diff=1.3#difference" in page
    for at in range(1, 7):
        page = await visit(f"/results/{red}/compare?diff=1.{at}")
        assert page.count("data-diff=") == 2 and NAMES[at - 1] in page.partition('id="difference"')[2][:1500]
        seen += 1
    assert seen == 6


async def test_what_does_not_exist_gets_a_sentence(visit, client, add, make_token):
    red = await add(FAILED, "Failed")
    theirs = {"Authorization": f"Bearer {make_token(project='theirs', role='uploader')}"}
    run = await client.post(f"{API}/suite-runs", json={"name": "x"}, headers=theirs)
    of_run = f"{API}/suite-runs/{(await run.json())['id']}/test-cases"
    other = (await (await client.post(of_run, json={"name": "x"}, headers=theirs)).json())["id"]
    unknown = uuid.uuid4()
    for path in (f"{unknown}/compare", "x/compare", f"{red}/compare?with={unknown}", f"{red}/compare?with={other}"):
        assert "Test case result not found" in await visit(f"/results/{path}", 404)
    assert "Test case result not found" in await visit(f"/results/{red}/compare", 404, **theirs)
    for query in ("with=x", f"diff={'9' * 51}"):
        assert "To the runs" in await visit(f"/results/{red}/compare?{query}", 422)


async def test_hostile_text_stays_text(visit, client, add):
    names = ("description", "element_name", "element_selector", "input_value", "expected_value", "actual_value")

    def hostile(**fields):
        return [{"step_number": 1, "step_type": "<i>", "action": EVIL, **fields}]

    await add(hostile(status="Passed", **dict.fromkeys(names, f"<u>{EVIL}")), name=EVIL, run={"name": EVIL})
    texts = dict.fromkeys(names, f"{EVIL}<u>") | {"description": f"<u>{EVIL}", "element_name": f"<u>{EVIL}"}
    failed = hostile(status="Failed", error_message=EVIL, error_type=EVIL, **texts)
    red = await add(failed, "Failed", name=EVIL, browser="<i>", run={"name": EVIL, "branch": EVIL})
    entries = [{"level": "error", "message": EVIL, "step_number": 1}]
    await client.post(f"{API}/test-case-results/{red}/console-logs", json={"entries": entries})
    page = await visit(f"/results/{red}/compare")
    assert page.count("&lt;script&gt;") > 12 and "<script>alert" not in page and "\x1b" not in page
    assert "<i>" not in page and "<u>" not in page
    await visit(f"/results/{red}/compare?diff=%3Cscript%3Ealert")


async def test_without_a_database_there_is_still_a_page(visit, add, database_away):
    red = await add(FAILED, "Failed")
    database_away()
    assert "Nothing is lost" in await visit(f"/results/{red}/compare", 503)
