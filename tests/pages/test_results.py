"""The page of one result: the failed step comes first, nothing depends on scripts, and every text is text."""

import pytest
from aiohttp import FormData

from tests.makers import png

STEPS = [
    {"step_number": 1, "step_type": "ui", "description": "Open the shop", "status": "Passed", "duration_ms": 400},
    {
        "step_number": 2, "step_type": "ui", "action": "click", "element_name": "Pay now", "status": "Failed",
        "description": "Click “Pay now”", "duration_ms": 30_000, "element_selector": "#pay",
        "expected_value": "enabled", "actual_value": "disabled", "error_type": "TimeoutError",
        "error_message": "waiting for #pay to be enabled", "stack_trace": "at pay.spec.ts:12\nat run.ts:3",
    },
    {"step_number": 3, "step_type": "ui", "description": "View the receipt", "status": "Pending"},
]  # fmt: skip


@pytest.fixture
def make_result(client, make_case):
    """await make_result(steps, pictures={2: …}, **fields): the id of a new result with steps and screenshots."""

    async def make(steps=STEPS, pictures=(), **fields):
        case = await make_case(**{"status": "Failed", **fields})
        url = f"/api/v1/reports/test-case-results/{case}"
        if steps:
            reply = await client.post(f"{url}/steps/bulk", json={"steps": steps})
            assert reply.status == 201, await reply.text()
        for number in pictures:
            fields = {"artifact_type": "screenshot", "step_number": str(number)}
            await upload(client, url, f"step_{number}.png", png(seed=number), **fields)
        return case

    return make


async def upload(client, url, name, content, content_type="image/png", **fields):
    form = FormData(fields)
    form.add_field("file", content, filename=name, content_type=content_type)
    reply = await client.post(f"{url}/artifacts", data=form)
    assert reply.status == 201, await reply.text()
    return (await reply.json())["id"]


@pytest.fixture
def page(client):
    """await page(case, query): the text of a result's page."""

    async def get(case, query="", status=200, **headers):
        reply = await client.get(f"/results/{case}{query}", headers=headers)
        assert reply.status == status, await reply.text()
        return await reply.text()

    return get


def stage_of(text):
    return text.partition('id="stage"')[2].partition("</section>")[0]


async def test_the_failed_step_comes_first_with_its_image_error_and_values(make_result, page):
    text = await page(await make_result(pictures=(1, 2)))
    stage = stage_of(text)
    assert "Step 2" in stage and "Click “Pay now”" in stage and "30.0 s" in stage
    assert "TimeoutError" in stage and "waiting for #pay to be enabled" in stage and "at pay.spec.ts:12" in stage
    assert all(value in stage for value in ("enabled", "disabled", "#pay"))
    assert stage.count("<img") == 1 and "step_2.png" in stage
    assert text.index('id="stage"') < text.index('id="steps"') < text.index('id="files"') < text.index('id="facts"')
    rows = text.partition('id="steps"')[2]
    assert rows.count('<li><a href="?step=1.') == 3 and 'href="?step=1.2" aria-current="step"' in rows


async def test_every_step_is_an_address(make_result, page):
    case = await make_result()
    for query, shown in [("?step=1.3", "View the receipt"), ("?step=1", "Open the shop")]:
        assert shown in stage_of(await page(case, query))


@pytest.mark.parametrize("step", ["1.99", "9.1", "x", "1.2.3", "99999999999", "-1", "1.%D9%A1", "2147483648"])
async def test_an_unknown_step_shows_the_failed_one_and_says_so(make_result, page, step):
    text = await page(await make_result(), f"?step={step}")
    assert "This result has no step" in text and "Click “Pay now”" in stage_of(text)


@pytest.mark.parametrize("query", ["?step=" + "1" * 51, "?files=0", "?files=x", "?whole=perhaps", "?step=%00"])
async def test_a_query_that_is_none_is_refused(make_result, page, query):
    assert "Error 422" in await page(await make_result(), query, 422)


async def test_a_passed_result_opens_at_its_last_step(make_result, page):
    steps = [{**step, "status": "Passed"} for step in STEPS]
    assert "View the receipt" in stage_of(await page(await make_result(steps, status="Passed")))


async def test_an_unknown_result_is_a_page(page):
    for case in ("00000000-0000-7000-8000-000000000000", "x"):
        assert "Test case result not found" in await page(case, status=404)


async def test_a_step_is_a_fragment_for_scripts_and_a_page_for_everybody_else(make_result, client, page):
    case = await make_result()
    reply = await client.get(f"/results/{case}/steps/1.2", headers={"X-Fragment": "1"})
    text = await reply.text()
    assert text.lstrip().startswith('<div class="heading"') and "<html" not in text and "Pay now" in text
    assert reply.headers["Vary"] == "Accept-Encoding, Cookie, X-Fragment"
    text = await page(case, "/steps/1.2")
    assert "<html" in text and "Pay now" in text and f"/results/{case}?step=1.2" in text
    for at in ("1.9", "x", "1.1.1"):
        assert "Step not found" in await page(case, f"/steps/{at}", 404)


async def test_an_error_has_its_colours_and_a_trace_folds_the_frames_of_dependencies(make_result, page):
    trace = (
        "\x1b[31mno\x1b[39m\n at pay (pay.ts:1:1)\n" + " at f (node_modules/f.js:1:1)\n" * 3 + " at run (run.ts:2:2)"
    )
    case = await make_result([{**STEPS[1], "error_message": "\x1b[31mTimeoutError\x1b[0m: <b>", "stack_trace": trace}])
    stage = stage_of(await page(case))
    assert '<bdi dir="auto"><span class="in-red">TimeoutError</span>: &lt;b&gt;</bdi>' in stage
    assert stage.count("TimeoutError") == 1
    assert '<span class="in-red">no</span>' in stage and "<summary>3 frames of dependencies</summary>" in stage
    assert '<bdi dir="auto" class="own"> at pay (pay.ts:1:1)</bdi>' in stage
    many = "\n".join(f" at f{n} (a.ts:{n}:1)" for n in range(150))
    assert "<summary>All 150 lines</summary>" in stage_of(
        await page(await make_result([{**STEPS[1], "stack_trace": many}]))
    )


async def test_a_long_text_is_cut_and_its_own_page_has_all_of_it(make_result, page):
    long = "x" * 30_000 + "END"
    case = await make_result([{**STEPS[1], "error_message": long, "stack_trace": long, "actual_value": long}])
    text = await page(case)
    assert "END" not in text and f'href="/results/{case}/steps/1.2">the whole text' in text and len(text) < 70_000
    assert (await page(case, "/steps/1.2")).count("END") == 2
    case = await make_result([], error_message=long)
    assert "END" not in await page(case) and "END" in await page(case, "?whole=true")


async def test_images_before_and_after_are_compared_in_modes(make_result, client, page):
    case = await make_result(pictures=(1, 2))
    url = f"/api/v1/reports/test-case-results/{case}"
    fields = {"artifact_type": "screenshot", "artifact_category": "before", "step_number": "2"}
    stage = stage_of(await page(case, "?view=side"))
    assert stage.count("<img") == 2 and "Step before" in stage and 'class="shots side"' in stage
    await upload(client, url, "before.png", png(seed=9), **fields)
    stage = stage_of(await page(case, "?view=difference"))
    assert stage.count("<img") == 2 and "before.png" in stage and 'class="shots difference"' in stage
    stage = stage_of(await page(case, "?view=before"))
    assert stage.count("<img") == 1 and "before.png" in stage
    assert stage_of(await page(case, "?view=nonsense")).count("step_2.png") > 0
    await upload(client, url, "again.png", png(seed=2), **fields | {"artifact_category": "checkpoint"})
    stage = stage_of(await page(case, "?view=side&with=checkpoint"))
    assert "identical, pixel for pixel" in stage


async def test_attempts_and_failed_tests_of_the_run_are_linked(make_run, make_result, page):
    run = await make_run()
    first = await make_result(run=run, test_id="a", attempt=1)
    second = await make_result(run=run, test_id="a", attempt=2)
    other = await make_result(run=run, test_id="b")
    text = await page(first)
    assert f'href="/results/{second}"' in text and f'href="/results/{other}" aria-label="Next failed test' in text
    assert f'href="/results/{second}" aria-label="Previous failed test' in await page(other)


async def test_iterations_are_tabs_that_lead_to_their_failure(make_result, page):
    steps = [{**step, "iteration_number": number} for number in range(1, 15) for step in STEPS]
    steps = [{**step, "status": "Passed"} if step["iteration_number"] != 5 else step for step in steps]
    case = await make_result(steps)
    text = await page(case)
    assert "Step 5.2" in stage_of(text) and 'class="tabs iterations squares"' in text
    own = f'href="/results/{case}?step='
    assert f'{own}5.2" aria-current="true"' in text and f'{own}4.3"' in text


HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(1)>\"'\u202e\x1b[31mred\x1b[0m{{7*7}}"


async def test_every_field_is_shown_as_text(client, make_run, make_result, page):
    step = {key: HOSTILE for key in STEPS[1] if key.endswith(("value", "message", "trace", "name", "selector"))}
    step |= {"step_number": 1, "step_type": HOSTILE[:50], "description": HOSTILE, "status": "Failed"}
    step |= {"action": HOSTILE[:100], "error_type": HOSTILE, "screenshot_path": HOSTILE, "element_type": HOSTILE[:50]}
    run = await make_run(name=HOSTILE, branch=HOSTILE, environment=HOSTILE, build_url="javascript:alert(1)")
    case = await make_result(
        [step], run=run, name=HOSTILE, test_id=HOSTILE, browser=HOSTILE, error_message=HOSTILE + "2", tags=[HOSTILE],
        metadata={HOSTILE: HOSTILE, "list": [HOSTILE]},
    )  # fmt: skip
    url = f"/api/v1/reports/test-case-results/{case}"
    name = HOSTILE.replace("\x1b", "") + ".png"
    await upload(client, url, name, png(), artifact_type="screenshot", description=HOSTILE)
    for log, entry in [
        ("console", {"level": "error", "message": HOSTILE, "step_number": 1, "source_url": "javascript:alert(1)"}),
        ("network", {"method": "GET", "url": "javascript:alert(1)" + HOSTILE, "step_number": 1, "error_text": HOSTILE}),
    ]:
        assert (await client.post(f"{url}/{log}-logs", json={"entries": [entry]})).status == 201
    checkpoint = {"checkpoint_number": 1, "name": HOSTILE, "status": "Failed", "message": HOSTILE, "step_number": 1}
    checkpoint |= {"expected_value": HOSTILE, "actual_value": HOSTILE}
    assert (await client.post(f"{url}/checkpoints", json={"checkpoints": [checkpoint]})).status == 201
    fragment = await page(case, "/steps/1.1", **{"X-Fragment": "1"})
    for text in (await page(case), await page(case, "/steps/1.1"), fragment):
        assert text.count("&lt;script&gt;alert(1)") > 5 and "{{7*7}}" in text
        wrong = ("<script>", "<img src=x", "\x1b", 'href="javascript', " style=")
        assert [each for each in wrong if each in text] == []


async def test_the_timeline_has_every_lane(client, make_result, page):
    times = [f"2026-01-24T12:00:0{second}Z" for second in range(4)]
    steps = [{**step, "started_at": at} for step, at in zip(STEPS[:2], times, strict=False)]
    case = await make_result(steps, pictures=(1, 2))
    url = f"/api/v1/reports/test-case-results/{case}"
    logged = [
        {"level": "error", "message": "x", "logged_at": times[1]},
        {"level": "info", "message": "x", "step_number": 1},
    ]
    assert (await client.post(f"{url}/console-logs", json={"entries": logged})).status == 201
    sent = [{"method": "GET", "url": "x", "status_code": code, "started_at": times[0]} for code in (200, 503)]
    assert (await client.post(f"{url}/network-logs", json={"entries": sent})).status == 201
    checkpoints = [{"checkpoint_number": 1, "name": "x", "status": "Failed", "step_number": 1}]
    assert (await client.post(f"{url}/checkpoints", json={"checkpoints": checkpoints})).status == 201
    text = (await page(case)).partition('id="timeline"')[2].partition("</section>")[0]
    assert text.count("/thumbs/") == 2 and 'href="?step=1.2" aria-current="step"' in text
    for kind in ('class="Failed"', 'class="Passed"', 'class="error"', 'class="info"', 'class="here"'):
        assert kind in text, kind
    assert all(name in text for name in ("Checkpoints over", "Console entries over", "Requests over"))
    assert "estimated" not in text and "Times estimated from durations" in await page(await make_result())
    assert 'id="timeline"' not in await page(await make_result([]))


# What is missing, and the sentence that says so: the table 2.5 of the design of the viewer.
MISSING = {
    "no screenshot": (STEPS, (1,), {}, "", "No screenshot was sent for this step."),
    "the nearest one": (STEPS, (1,), {}, "", 'Nearest: <a href="/results/CASE?step=1.1"'),
    "a file that never came": (
        [{**STEPS[1], "screenshot_path": "out/a.png"}], (), {}, "", "was named by the client and never arrived",
    ),
    "in the line": ([{**STEPS[1], "screenshot_path": "a.png"}], (), {}, "", "1 screenshot named but not received"),
    "still running": (
        [{**STEPS[1], "screenshot_path": "a.png"}], (), {"run_status": "Running"}, "", "was not sent yet",
    ),
    "running, in the line": (
        [{**STEPS[1], "screenshot_path": "a.png"}], (), {"run_status": "Running"}, "", "1 screenshot not sent yet",
    ),
    "a pending step of a running run": (STEPS, (), {"run_status": "Running"}, "?step=1.3", "<p>Not sent yet.</p>"),
    "steps that never came": ([STEPS[1], {**STEPS[2], "step_number": 5}], (), {}, "", "steps 3–4 never came"),
    "and are counted": ([STEPS[1], {**STEPS[2], "step_number": 5}], (), {}, "", "3 steps never came"),
    "iterations": ([{**STEPS[1], "iteration_number": 3}], (), {}, "", "Iterations 1–2 never came."),
    "not reached": (STEPS, (), {}, "", "<summary>1 step not reached</summary>"),
    "no step failed": (STEPS[:1], (), {"error_message": "out of memory"}, "", "no step says it failed"),
    "the error of the result leads": (STEPS[:1], (), {"error_message": "out of memory"}, "", "out of memory"),
    "several failed": (
        [{**STEPS[1], "step_number": number} for number in (1, 2, 3)], (), {}, "?step=1.2", "2 of 3 failed",
    ),
    "a clock that runs backwards": (
        [{**STEPS[1], "started_at": "2026-01-24T12:00:02Z", "completed_at": "2026-01-24T12:00:01Z"}],
        (), {}, "", "1 step ends before it starts",
    ),
    "no steps": ([], (), {"error_message": "cannot start"}, "", "This result has no steps."),
    "no steps yet": ([], (), {"run_status": "Running"}, "", "No steps have been sent yet."),
}  # fmt: skip


@pytest.mark.parametrize("name", MISSING)
async def test_what_is_missing_is_said(make_run, make_result, page, name):
    steps, pictures, fields, query, sentence = MISSING[name]
    run = await make_run(status=fields.get("run_status", "Failed"))
    fields = {key: value for key, value in fields.items() if key != "run_status"}
    case = await make_result(steps, pictures, run=run, **fields)
    assert sentence.replace("CASE", case) in await page(case, query)


async def test_more_than_2000_steps_are_pages_of_rows(make_result, page):
    steps = [{**STEPS[0], "step_number": number} for number in range(1, 4502)]
    case = await make_result(steps, status="Passed")
    for step, shown, links in [("1", "1 to 2,000", ["1.2001"]), ("4000", "2,001 to 4,000", ["1.2000", "1.4001"])]:
        text = await page(case, f"?step={step}")
        assert f"Steps {shown} of 4,501" in text and "never came" not in text
        assert all(f'href="/results/{case}?step={link}"' in text for link in links)
    assert (await page(case)).count('<li><a href="?step=') == 501


async def test_the_first_difference_from_last_green_comes_before_the_stage(make_run, make_result, client, page):
    green = await make_result(
        [{**step, "status": "Passed", "error_message": None} for step in STEPS], (2,),
        run=await make_run(branch="main", commit_sha="abcdef0123", status="Passed"), test_id="t", status="Passed",
    )  # fmt: skip
    case = await make_result(STEPS, (2,), run=await make_run(branch="main", status="Failed"), test_id="t")
    text = await page(case)
    line = text.partition('class="lines"')[2].partition('id="stage"')[0]
    assert f'href="/results/{green}"' in line and "abcdef0" in line and "step 2 failed, passed before" in line
    assert f'href="/results/{case}/compare"' in line and "new</span>" in text
    stage = stage_of(await page(case, "?view=side&with=green"))
    assert stage.count("<img") == 2 and "Last green" in stage and "identical, pixel for pixel" in stage
    stage = stage_of(await page(case, "?step=1.3&view=side&with=green"))
    assert "No screenshot was sent" in stage
    assert "<strong>First difference" not in await page(green)
    lonely = await make_result(STEPS)
    assert "Has not passed in its last 500 results" in await page(lonely)
    for headers in ({}, {"X-Fragment": "1"}):
        text = await (await client.get(f"/results/{case}/difference", headers=headers)).text()
        assert "step 2 failed, passed before" in text and ("<html" in text) == (not headers)


async def test_logs_are_shown_for_the_step_all_or_in_a_window_of_time(client, make_result, page):
    steps = [
        {**step, "started_at": f"2026-01-24T12:00:0{at}Z", "duration_ms": 900} for at, step in enumerate(STEPS[:2])
    ]
    case = await make_result(steps)
    url = f"/api/v1/reports/test-case-results/{case}"
    entries = [
        {"level": "info", "message": f"said {at}", "logged_at": f"2026-01-24T12:00:0{at}.100Z"} for at in range(3)
    ]
    entries.append({"level": "error", "message": "x" * 3000 + "END", "step_number": 1})
    assert (await client.post(f"{url}/console-logs", json={"entries": entries})).status == 201
    sent = {
        "method": "GET",
        "url": "https://shop.example/slow",
        "started_at": "2026-01-24T12:00:00Z",
        "duration_ms": 1500,
    }
    assert (await client.post(f"{url}/network-logs", json={"entries": [sent]})).status == 201
    stage = stage_of(await page(case, "?step=1.2"))
    assert "said 1" in stage and "said 0" not in stage and "/slow" in stage  # it began before the step
    assert "said 0" in (stage := stage_of(await page(case, "?step=1.1"))) and "log=all#logs" in stage
    listed = (await page(case, "?log=all")).partition('id="logs"')[2]
    assert all(f"said {at}" in listed for at in range(3)) and "END" not in listed
    assert f'href="{url}/console-logs?per_page=1&amp;page=4"' in listed
    assert "END" in await (await client.get(f"{url}/console-logs?per_page=1&page=4")).text()
    listed = (await page(case, "?log=all&from=1050&to=1200")).partition('id="logs"')[2]
    assert "said 1" in listed and "said 0" not in listed and "/slow" in listed and "From 1.1 s to 1.2 s" in listed
    assert "No entries in this time" in await page(case, "?log=all&from=1600&to=1600")
    for wrong in ("?log=none", "?from=-1&to=2", "?page=0", "?from=x"):
        await page(case, wrong, 422)


async def test_long_logs_are_pages(client, make_result, page):
    case = await make_result(STEPS)
    url = f"/api/v1/reports/test-case-results/{case}"
    entries = [{"level": "info", "message": f"said {at}."} for at in range(1200)]
    assert (await client.post(f"{url}/console-logs", json={"entries": entries})).status == 201
    text = await page(case, "?log=all&page=2")
    assert "said 500." in text and "said 999." in text and "said 499." not in text and "said 1000." not in text
    assert "log=all&amp;page=3" in text and "log=all&amp;page=1" in text
    assert "later ›" not in await page(case, "?log=all&page=3")


async def test_steps_inside_steps_are_indented(make_result, page):
    parents = [None, 1, 2, 3, 4, 5, None, 99]
    steps = [
        {**STEPS[0], "step_number": number, **({"parent_step_number": parent} if parent and parent < number else {})}
        for number, parent in enumerate(parents, 1)
    ]
    rows = (await page(await make_result(steps, status="Passed"))).partition('class="rows"')[2]
    found = [line.partition('class="in')[2][:1] for line in rows.splitlines() if line.startswith("<li")]
    assert found == ["", "1", "2", "3", "4", "4", "", ""]


async def test_a_step_that_was_cut_says_so_beside_a_whole_error_of_the_result(make_result, page):
    long = "e" * 30_000
    steps = [{"step_number": 1, "action": "Go", "status": "Failed", "error_message": f"own {long}"}]
    case = await make_result(steps, status="Failed", error_message=long)
    text = await page(case, "?whole=true")
    assert text.count("e" * 30_000) == 1 and f'href="/results/{case}/steps/1.1">the whole text' in text


@pytest.mark.parametrize("steps", [[], [{"step_number": 1, "action": "Go", "status": "Passed"}]])
async def test_a_stack_trace_is_shown_when_no_step_failed(make_result, page, steps):
    case = await make_result(steps, status="Failed", error_message="no", stack_trace="at pay.py:7")
    assert "at pay.py:7" in await page(case)


async def test_many_long_checkpoints_end_where_the_page_would_grow_too_large(client, make_result, page):
    case = await make_result([{"step_number": 1, "action": "Go", "status": "Passed"}])
    long = dict.fromkeys(("message", "expected_value", "actual_value"), "é" * 3_000)
    points = [{"checkpoint_number": n, "name": f"point {n}.", "status": "Failed", **long} for n in range(200)]
    url = f"/api/v1/reports/test-case-results/{case}/checkpoints"
    for start in range(0, 200, 100):
        sent = await client.post(url, json={"checkpoints": points[start : start + 100]})
        assert sent.status == 201, await sent.text()
    text = await page(case)
    shown = text.count("point ")
    assert 30 < shown < 60 and f"The first {shown} of 200" in text and len(text) < 400_000
