"""The first difference: twenty drawn stories, each with the step and the kind that it must name; and the rules."""

import random
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from server.compare import differences
from server.compare.differences import Difference, compare, confirmed, first_difference, medians
from server.compare.sentences import line, seconds
from server.compare.steps import Entry, Side, Step, Texts, TooLong, by_step

START = datetime(2026, 11, 30, tzinfo=UTC)
TIMEOUT = {"error_type": "TimeoutError", "error_message": "TimeoutError: waiting 30000ms for locator('#pay')"}


def shop(iterations=1, count=20):
    """A test in a shop: `count` steps of 0.3 s, each of another kind."""
    steps = [
        Step(1, 1, "navigate", "Passed", "goto", "Open the shop", input_value="https://shop.test/", duration_ms=900),
        *[
            Step(
                1, n, "click", "Passed", "click", f"Open shelf {'abcdefghijklmnopqrst'[n]}", f"#shelf-{n}", f"Shelf {n}"
            )
            for n in range(2, count - 7)
        ],
        Step(1, count - 7, "click", "Passed", "click", "Go to basket", "#basket", "Basket"),
        Step(1, count - 6, "assert", "Passed", "text", "Total", ".total", "Total", None, "19.99", "19.99"),
        Step(1, count - 5, "fill", "Passed", "fill", "Enter card", "#card", "Card", "4111"),
        Step(1, count - 4, "click", "Passed", "click", "Accept terms", "#terms", "Terms"),
        Step(1, count - 3, "click", "Passed", "click", "Pay now", "#pay", "Pay now"),
        Step(1, count - 2, "assert", "Passed", "visible", "View receipt", ".receipt", "Receipt"),
        Step(1, count - 1, "click", "Passed", "click", "Close receipt", "#close", "Close"),
        Step(1, count, "assert", "Passed", "url", "Home again", None, None, None, "/", "/"),
    ]
    return [
        replace(
            step,
            iteration=each,
            duration_ms=step.duration_ms or 300,
            picture=f"{each}-{step.number}",
            started_at=START + timedelta(seconds=100 * each + step.number),
        )
        for each in range(1, iterations + 1)
        for step in steps
    ]


def edit(steps, at, **fields):
    """The steps with other fields in step `at`, a number or (iteration, number)."""
    where = at if isinstance(at, tuple) else (1, at)
    return [replace(step, **fields) if (step.iteration, step.number) == where else step for step in steps]


def failed(steps, at, **error):
    """The steps with a failure in step `at`; those after it did not run."""
    where = at if isinstance(at, tuple) else (1, at)
    found = []
    for step in steps:
        place = (step.iteration, step.number)
        if place == where:
            step = replace(step, status="Failed", duration_ms=30_000, **(error or TIMEOUT))
        elif place > where:
            step = replace(step, status="Pending", duration_ms=None, picture=None, actual_value=None)
        found.append(step)
    return found


def inserted(steps, at, new):
    """The steps with a new one as number `at`; the others are renumbered."""
    before, after = [s for s in steps if s.number < at], [s for s in steps if s.number >= at]
    return [*before, replace(new, number=at), *(replace(step, number=step.number + 1) for step in after)]


def removed(steps, at):
    """The steps without number `at`; the others are renumbered."""
    return [replace(s, number=s.number - (s.number > at)) for s in steps if s.number != at]


BANNER = Step(1, 0, "click", "Passed", "click", "Accept cookies", "#cookies", "Accept", duration_ms=200)
ERROR_500 = Entry("network", "POST https://shop.test/api/basket/17: HTTP 500", 1, 12, None, 500)
GREEN = shop()
MESSY = [  # what differs in each run
    replace(step, picture=f"other{step.number}", duration_ms=step.duration_ms + 40, started_at=None) for step in GREEN
]

# Story: (last green, this result), the step that must be named, the kind, and the line.
STORIES = {
    "slow step before the failure": (
        (Side(GREEN), Side(failed(edit(GREEN, 12, duration_ms=4_100), 17))),
        (1, 12),
        "time",
        "step 12 took 4.1 s, was 0.3 s; failed at 17",
    ),
    "slow step long before the failure": (
        (Side(GREEN), Side(failed(edit(GREEN, 2, duration_ms=4_100), 17))),
        (1, 17),
        "status",
        "step 17 failed, passed before",
    ),
    "a cookie banner is clicked away": (
        (Side(GREEN), Side(failed(inserted(GREEN, 4, BANNER), 18))),
        (1, 4),
        "step",
        "step 4 “Accept cookies” is only here; failed at 18",
    ),
    "a step was removed": (
        (Side(GREEN), Side(failed(removed(GREEN, 16), 16))),
        (1, 16),
        "step",
        "step 16 “Accept terms” is missing here; failed at 16",
    ),
    "the button was renamed, and so was the test": (
        (
            Side(GREEN),
            Side(failed(edit(GREEN, 17, description="Buy", selector="#buy", element_name="Buy", action="press"), 18)),
        ),
        (1, 17),
        "step",
        "step 17: now “Buy”, was “Pay now”; failed at 18",
    ),
    "the button was renamed, and the test waits for the old one": (
        (Side(GREEN), Side(failed(GREEN, 17))),
        (1, 17),
        "status",
        "step 17 failed, passed before",
    ),
    "another selector for the same button": (
        (Side(GREEN), Side(failed(edit(GREEN, 17, selector="[data-test=pay]"), 18))),
        (1, 17),
        "selector",
        "step 17: selector “[data-test=pay]”, was “#pay”; failed at 18",
    ),
    "a 500 in the background": (
        (Side(GREEN), Side(failed(GREEN, 17), [ERROR_500])),
        (1, 12),
        "network",
        "during step 12: failed request “POST https://shop.test/api/basket/17: HTTP 500”; failed at 17",
    ),
    "a 404 that was there before, of another id": (
        (
            Side(GREEN, [Entry("network", "GET https://shop.test/img/8.png: HTTP 404", 1, 9)]),
            Side(failed(GREEN, 17), [Entry("network", "GET https://shop.test/img/12.png: HTTP 404", 1, 10)]),
        ),
        (1, 17),
        "status",
        "step 17 failed, passed before",
    ),
    "a picture is not found": (
        (
            Side(GREEN),
            Side(
                failed(GREEN, 17),
                [Entry("network", "GET https://shop.test/b.png: HTTP 404", 1, 12, None, 404, "Image")],
            ),
        ),
        (1, 17),
        "status",
        "step 17 failed, passed before",
    ),
    "a 404 in the background, long before": (
        (
            Side(GREEN),
            Side(
                failed(GREEN, 17),
                [Entry("network", "GET https://shop.test/api/tips: HTTP 404", 1, 3, None, 404, "xhr")],
            ),
        ),
        (1, 17),
        "status",
        "step 17 failed, passed before",
    ),
    "a 500 in the background, long before": (
        (Side(GREEN), Side(failed(GREEN, 17), [replace(ERROR_500, step_number=3)])),
        (1, 3),
        "network",
        "during step 3: failed request “POST https://shop.test/api/basket/17: HTTP 500”; failed at 17",
    ),
    "404 became 500": (
        (
            Side(GREEN, [replace(ERROR_500, text="POST https://shop.test/api/basket/17: HTTP 404")]),
            Side(failed(GREEN, 17), [ERROR_500]),
        ),
        (1, 12),
        "network",
        "during step 12: failed request “POST https://shop.test/api/basket/17: HTTP 500”; failed at 17",
    ),
    "an error in the console, known by its time alone": (
        (
            Side(GREEN),
            Side(
                failed(GREEN, 17),
                [Entry("console", "Uncaught TypeError: x is null", moment=START + timedelta(seconds=114.5))],
            ),
        ),
        (1, 14),
        "console",
        "during step 14: console error “Uncaught TypeError: x is null”; failed at 17",
    ),
    "an error in the console of the step that failed": (
        (Side(GREEN), Side(failed(GREEN, 17), [Entry("console", "Uncaught TypeError: x is null", 1, 17)])),
        (1, 17),
        "status",
        "step 17 failed, passed before; console error “Uncaught TypeError: x is null”",
    ),
    "another step in the place of the one that passed": (
        (Side(GREEN), Side(failed(edit(GREEN, 17, action="press", description="Buy", actual_value="x"), 17))),
        (1, 17),
        "status",
        "step 17 failed, passed before; now “Buy”, was “Pay now”",
    ),
    "a changed price": (
        (Side(GREEN), Side(failed(edit(GREEN, 14, actual_value="20.00"), 14, error_message="expected 19.99"))),
        (1, 14),
        "status",
        "step 14 failed, passed before; actual value “20.00”, was “19.99”",
    ),
    "another user was typed in": (
        (Side(edit(GREEN, 15, input_value="alice")), Side(failed(edit(GREEN, 15, input_value="bob"), 17))),
        (1, 15),
        "value",
        "step 15: input “bob”, was “alice”; failed at 17",
    ),
    "another order number is no difference": (
        (Side(edit(GREEN, 15, input_value="order 4711")), Side(failed(edit(GREEN, 15, input_value="order 4712"), 17))),
        (1, 17),
        "status",
        "step 17 failed, passed before",
    ),
    "one iteration more, and it fails": (
        (Side(shop(3)), Side(failed(shop(4), (4, 14)))),
        (4, 1),
        "iteration",
        "iteration 4 is only here; failed at 4.14",
    ),
    "the third of five iterations fails, the rest never ran": (
        (
            Side(shop(5)),
            Side([s for s in failed(edit(shop(5), (3, 14), actual_value="20.00"), (3, 14)) if s.iteration < 4]),
        ),
        (3, 14),
        "status",
        "step 3.14 failed, passed before; actual value “20.00”, was “19.99”",
    ),
    "a step that was always red fails with another error": (
        (Side(failed(GREEN, 17)), Side(failed(GREEN, 17, error_message="expected 3 articles, got 4"))),
        (1, 17),
        "error",
        "step 17: error “expected 3 articles, got 4”, was “TimeoutError: waiting 30000ms for locator('#pay')”",
    ),
    "the test skips a step now": (
        (Side(GREEN), Side(failed(edit(GREEN, 16, status="Skipped"), 17))),
        (1, 16),
        "status",
        "step 16 was skipped, passed before; failed at 17",
    ),
    "everything is a little slower and looks a little different": (
        (Side(GREEN), Side(failed(MESSY, 17))),
        (1, 17),
        "status",
        "step 17 failed, passed before",
    ),
    "the test is another one now": (
        (
            Side(GREEN[:5]),
            Side(failed([replace(s, step_type="api", description=f"call {s.description}") for s in GREEN], 3)),
        ),
        (1, 1),
        "step",
        "step 1 “Open the shop” is missing here; failed at 3",
    ),
    "only slower, and passed": (
        (Side(GREEN), Side(edit(edit(GREEN, 12, duration_ms=64_000), 15, duration_ms=9_000))),
        (1, 12),
        "time",
        "step 12 took 1 min 4 s, was 0.3 s",
    ),
    "no difference at all": ((Side(GREEN), Side(MESSY)), None, None, ""),
    "no steps were sent": ((Side([]), Side([])), None, None, ""),
}


@pytest.mark.parametrize("story", STORIES)
def test_each_story_names_its_step_and_kind(story):
    (base, head), place, kind, sentence = STORIES[story]
    comparison = compare(base, head, Texts(60))
    at = first_difference(comparison)
    assert "".join(text for text, _ in line(comparison)) == sentence
    if place is None:
        assert at is None
        return
    row = comparison.rows[at]
    step = head.steps[row.head] if row.head is not None else base.steps[row.base]
    assert (step.iteration, step.number) == place
    assert next(each.kind for each in row.differences if each.weight != "grey") == kind


def kinds(base, head, entries=()):
    rows = compare(Side([base]), Side([head], entries), Texts(60)).rows
    return [(each.kind, each.weight, each.field) for row in rows for each in row.differences]


STEP = Step(1, 1, "click", "Passed", "click", "Pay", "#pay", "Pay", duration_ms=300, picture="a")


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, []),
        ({"status": "Failed"}, [("status", "hard", "status")]),
        ({"duration_ms": 1_300}, [("time", "soft", "duration_ms")]),
        ({"duration_ms": 1_299}, []),
        ({"duration_ms": None}, []),
        ({"picture": "b"}, [("picture", "soft", None)]),
        ({"picture": None}, []),
        ({"input_value": "x"}, [("value", "hard", "input_value")]),
        ({"input_value": ""}, []),
        ({"selector": "#buy"}, [("selector", "hard", "selector")]),
        ({"selector": "#pay", "element_name": "Buy"}, []),
        ({"selector": "#buy", "element_name": "Buy"}, [("step", "hard", "label")]),
        ({"error_message": "5 left"}, [("error", "hard", "error_message")]),
        ({"status": "Pending", "input_value": "x", "selector": "#b"}, [("status", "hard", "status")]),
        ({"status": "Skipped", "error_message": "x"}, [("status", "hard", "status")]),
        ({"step_type": "tap"}, [("step", "hard", None), ("step", "hard", None)]),
        ({"iteration": 2}, [("iteration", "hard", None), ("iteration", "hard", None)]),
    ],
)
def test_kinds_and_weights(fields, expected):
    assert kinds(STEP, replace(STEP, **fields)) == expected


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ({"actual_value": "at 10:00:01"}, {"actual_value": "at 11:30:59"}, [("value", "grey", "actual_value")]),
        ({"selector": "#row-17"}, {"selector": "#row-18"}, [("selector", "grey", "selector")]),
        ({"error_message": "took 3 s"}, {"error_message": "took 4 s"}, []),
        ({"duration_ms": 0}, {"duration_ms": 1_000}, [("time", "soft", "duration_ms")]),
        ({"duration_ms": 600}, {"duration_ms": 1_799}, []),
    ],
)
def test_what_differs_in_every_run_is_grey(one, other, expected):
    assert kinds(replace(STEP, **one), replace(STEP, **other)) == expected


def test_a_difference_has_both_values_cut():
    (row,) = compare(Side([STEP]), Side([replace(STEP, input_value="é" * 5_000)]), Texts(60)).rows
    assert row.differences == (Difference("value", "hard", "input_value", None, "é" * 1_000),)
    (row,) = compare(Side([replace(STEP, input_value="gone")]), Side([STEP]), Texts(60)).rows
    assert row.differences == (Difference("value", "hard", "input_value", "gone", None),)


@pytest.mark.parametrize(
    ("entry", "weight"),
    [
        (Entry("network", "x", status_code=503), "hard"),
        (Entry("network", "x", status_code=503, resource_type="image"), "hard"),
        (Entry("network", "x", status_code=404), "soft"),
        (Entry("network", "x", status_code=404, resource_type="xhr"), "soft"),
        (Entry("network", "x", resource_type="fetch"), "soft"),
        (Entry("network", "x", status_code=404, resource_type="Font"), "grey"),
        (Entry("console", "x"), "soft"),
        (Entry("console", "Failed to load resource: the server responded with a status of 404 (Not Found)"), "grey"),
        (Entry("console", "Failed to load resource: the server responded with a status of 503 ()"), "soft"),
    ],
)
def test_how_well_an_entry_explains_a_failure(entry, weight):
    assert entry.weight == weight


@pytest.mark.parametrize(
    ("fields", "label"),
    [
        ({"description": "Pay now"}, "Pay now"),
        ({"action": "click", "element_name": "Pay"}, "click Pay"),
        ({"action": "Click “Pay”", "element_name": "Pay"}, "Click “Pay”"),
        ({"action": "wait"}, "wait"),
        ({"element_name": "Pay"}, "assert Pay"),
        ({}, "assert"),
    ],
)
def test_what_a_step_is_called(fields, label):
    assert Step(1, 1, "assert", "Passed", **fields).label == label


def test_at_most_five_entries_of_a_step_are_listed():
    entries = [Entry("console", f"error {'abcdefgh'[n]}", 1, 1) for n in range(8)]
    assert len(kinds(STEP, STEP, entries)) == 5
    assert len(kinds(STEP, STEP, [entries[0]] * 8)) == 1


def test_time_is_compared_with_the_median_of_greens_too():
    slow = failed(edit(GREEN, 12, duration_ms=4_100), 17)
    comparison = compare(Side(GREEN), Side(slow), Texts(60))
    assert comparison.slow.keys() == {11, 16}
    usual = [edit(GREEN, 12, duration_ms=duration) for duration in (3_900, 4_000, 100)]
    kept = confirmed(comparison, medians(usual, Texts(60)))
    assert [at for at, row in enumerate(kept.rows) if any(d.kind == "time" for d in row.differences)] == [16]
    assert kept.rows[first_difference(kept)].head == 16
    unusual = [edit(GREEN, 12, duration_ms=duration) for duration in (4_000, 300, 200)]
    assert confirmed(comparison, medians(unusual, Texts(60))).rows == comparison.rows
    assert confirmed(comparison, {}).rows == comparison.rows


def test_the_same_step_is_found_in_other_results_by_its_occurrence():
    twice = [replace(STEP, number=n, duration_ms=d) for n, d in enumerate((100, 200, None), 1)]
    shifted = [
        replace(STEP, number=1, description="Wait", action=None),
        *(replace(s, number=s.number + 1) for s in twice),
    ]
    found = medians([twice, shifted], Texts(60))
    assert sorted((where[2], value) for where, value in found.items() if where[1][1] == "click") == [(0, 100), (1, 200)]


def test_rows_are_in_the_order_of_the_steps_and_hold_each_step_once():
    rng = random.Random(3)
    for _ in range(200):
        sides = [
            [
                Step(
                    iteration,
                    n,
                    rng.choice("ab"),
                    rng.choice(["Passed", "Failed"]),
                    rng.choice("xy"),
                    None,
                    rng.choice("12"),
                )
                for iteration in range(1, rng.randrange(1, 4))
                for n in range(rng.randrange(8))
            ]
            for _ in range(2)
        ]
        rows = compare(Side(sides[0]), Side(sides[1]), Texts(60)).rows
        assert [row.base for row in rows if row.base is not None] == list(range(len(sides[0])))
        assert [row.head for row in rows if row.head is not None] == list(range(len(sides[1])))
        for row in rows:
            if row.base is not None and row.head is not None:
                base, head = sides[0][row.base], sides[1][row.head]
                assert (base.iteration, base.step_type) == (head.iteration, head.step_type)


def test_too_many_differences_leave_only_equal_ends():
    """All iterations together have one budget."""
    base = [Step(1, n, "a", "Passed", chr(0x4E00 + n)) for n in range(1_200)]
    head = [*base[:10], *(Step(1, n, "a", "Passed", chr(0x8000 + n)) for n in range(10, 1_190)), *base[-10:]]
    started = time.thread_time()
    comparison = compare(Side(base), Side(head), Texts(60))
    one = time.thread_time() - started
    assert not comparison.exact
    assert sum(row.base is not None and row.head is not None for row in comparison.rows) == 20
    many = [[replace(step, iteration=k) for k in range(1, 30) for step in side[:500]] for side in (base, head)]
    started = time.thread_time()
    assert not compare(Side(many[0]), Side(many[1]), Texts(60)).exact
    assert time.thread_time() - started < 20 * one  # the steps are 12 times as many


def test_texts_have_a_time_limit():
    texts = Texts(0)
    with pytest.raises(TooLong):
        compare(Side([STEP]), Side([STEP]), texts)
    assert texts(None) == texts("") == ""


def test_entries_belong_to_the_step_of_their_number_or_time():
    steps = [replace(STEP, number=n, started_at=START + timedelta(seconds=n)) for n in (1, 2, 3)]
    steps.append(replace(STEP, number=9))
    entries = [
        Entry("console", "by number", 1, 3, START),
        Entry("console", "by time", 1, None, START + timedelta(seconds=2.5)),
        Entry("console", "too early", 1, None, START),
        Entry("console", "unknown", 1),
        Entry("console", "other iteration", 2, 3, START + timedelta(seconds=1)),
        Entry("console", "no time", 1, 9),
    ]
    found = [[each.text for each in some] for some in by_step(Side(steps, entries))]
    assert found == [["other iteration"], ["by time"], ["by number"], ["no time"]]


def test_foreign_text_in_the_line_is_marked():
    hostile = "<script>‮\x1b[31m" + "x" * 500
    comparison = compare(Side([]), Side([replace(STEP, description=hostile, status="Failed")]), Texts(60))
    parts = line(comparison)
    assert [text for text, foreign in parts if not foreign] == ["iteration 1 is only here"]
    comparison = compare(
        Side([replace(STEP, number=2)]),
        Side([replace(STEP, description=hostile, action=None), replace(STEP, number=2)]),
        Texts(60),
    )
    (foreign,) = [text for text, foreign in line(comparison) if foreign]
    assert foreign.startswith("“<script>") and len(foreign) == 122


@pytest.mark.parametrize(
    ("milliseconds", "text"),
    [(0, "0.0 s"), (4_100, "4.1 s"), (9_999, "10.0 s"), (59_600, "1 min 0 s"), (200_000, "3 min 20 s")],
)
def test_seconds(milliseconds, text):
    assert seconds(milliseconds) == text


def test_kinds_are_in_the_order_of_their_strength():
    base = replace(STEP, input_value="a", actual_value="x")
    head = replace(
        STEP, status="Failed", selector="#b", error_message="e", duration_ms=9_000, picture="z", actual_value="y"
    )
    entries = [Entry("console", "c", 1, 1), Entry("network", "n", 1, 1)]
    (row,) = compare(Side([base]), Side([head], entries), Texts(60)).rows
    order = list(differences.Kind.__args__)
    found = [order.index(each.kind) for each in row.differences]
    assert found == sorted(found)
    assert [each.kind for each in row.differences if each.kind in ("network", "console")] == ["network", "console"]
