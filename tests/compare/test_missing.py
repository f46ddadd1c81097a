"""What is missing in a result: each row of the table of the design."""

from datetime import UTC, datetime, timedelta

import pytest

from server.compare.missing import Missing, Step, missing, nearest_picture

START = datetime(2026, 11, 30, tzinfo=UTC)


def passed(*numbers, iteration=1, **fields):
    return [Step(iteration, number, "Passed", **fields) for number in numbers]


@pytest.mark.parametrize(
    ("steps", "status", "finished", "expected"),
    [
        (passed(1, 2, 3), "Passed", True, []),
        (passed(0, 1), "Passed", True, []),
        (passed(1, named="a/1.png", shown=True), "Passed", True, []),
        (passed(1, named="a/1.png"), "Passed", True, [Missing("never_arrived", 1, 1, 1, 1, "a/1.png")]),
        (passed(1, named="a/1.png"), "Passed", False, [Missing("not_sent_yet", 1, 1, 1, 1, "a/1.png")]),
        (passed(1, 2, 5), "Passed", True, [Missing("steps_never_came", 2, 1, 3, 4)]),
        (passed(3), "Passed", True, [Missing("steps_never_came", 2, 1, 1, 2)]),
        (
            [*passed(1), *passed(1, 3, iteration=4)],
            "Passed",
            True,
            [Missing("steps_never_came", 1, 4, 2, 2), Missing("iterations_never_came", 2, None, 2, 3)],
        ),
        (
            [*passed(1), Step(1, 2, "Failed"), Step(1, 3, "Pending"), Step(1, 4, "Pending")],
            "Failed",
            True,
            [Missing("not_reached", 2, 1, 3, 4)],
        ),
        ([*passed(1), Step(1, 2, "Pending")], "Pending", False, []),
        (passed(1), "Failed", True, [Missing("no_failed_step", 0)]),
        (
            [Step(1, 1, "Failed"), Step(1, 2, "Failed"), Step(2, 1, "Failed")],
            "Failed",
            True,
            [Missing("several_failed_steps", 3, 1, 1, 1)],
        ),
        ([], "Failed", True, [Missing("no_steps", 0)]),
        ([], "Skipped", True, []),
        ([], "Pending", False, []),
        (
            passed(1, 2, started_at=START, completed_at=START - timedelta(seconds=1)),
            "Passed",
            True,
            [Missing("ends_before_start", 2, 1, 1, 2)],
        ),
        (passed(1, started_at=START, completed_at=START), "Passed", True, []),
        (passed(1, completed_at=START), "Passed", True, []),
    ],
)
def test_what_is_missing(steps, status, finished, expected):
    assert missing(steps, status, finished) == expected


def test_at_most_100_findings_of_a_kind():
    found = missing([Step(1, 2 * number, "Passed", named="x") for number in range(1, 1_000)], "Failed", True)
    kinds = [each.kind for each in found]
    assert [kinds.count(kind) for kind in ("never_arrived", "steps_never_came", "no_failed_step")] == [100, 100, 1]


@pytest.mark.parametrize(("at", "expected"), [(0, 1), (1, 4), (2, 1), (3, 4), (5, 4)])
def test_the_nearest_picture(at, expected):
    steps = [Step(1, number, "Passed", shown=number in (1, 4)) for number in range(6)]
    assert nearest_picture(steps, at) == expected
    assert nearest_picture(steps[:1], 0) is None
