"""Which rows of a comparison are shown, and which are folded."""

import random

import pytest

from server.compare import differences, folds
from server.compare.steps import Side, Step, Texts


def compared(base, head):
    return differences.compare(Side(base), Side(head), Texts(5))


def steps(*statuses, **fields):
    return [
        Step(1, at, "ui", status, f"step {'abcdefghij'[at - 1]}", **fields) for at, status in enumerate(statuses, 1)
    ]


def test_rows_that_explain_nothing_are_folded():
    base = steps("Passed", "Passed", "Passed", "Passed", picture="1", actual_value="order 1")
    head = steps("Passed", "Passed", "Failed", "Pending", picture="2", actual_value="order 2")
    sorts = folds.sorts(compared(base, head))
    assert sorts == ["equal", "equal", "telling", "unreached"]
    parts = list(folds.folded(sorts, 0, 4, ()))
    assert parts == [("equal", range(2)), ("telling", range(2, 3)), ("unreached", range(3, 4))]
    assert list(folds.folded(sorts, 1, 3, {1})) == [("telling", range(1, 2)), ("telling", range(2, 3))]


def test_a_step_that_was_not_reached_but_is_another_one_tells_something():
    base, head = steps("Passed"), [Step(1, 1, "ui", "Pending", "something else")]
    assert folds.sorts(compared(base, head)) == ["telling"]


@pytest.mark.parametrize("seed", range(20))
def test_every_row_is_in_one_part(seed):
    chance = random.Random(seed)
    sorts = [chance.choice(["telling", "unreached", "equal"]) for _ in range(chance.randrange(40))]
    kept = {at for at in range(len(sorts)) if chance.random() < 0.1}
    parts = list(folds.folded(sorts, 0, len(sorts), kept))
    assert [at for _, positions in parts for at in positions] == list(range(len(sorts)))
    for sort, positions in parts:
        assert all(at in kept or sorts[at] == "telling" for at in positions) == (sort == "telling")
        assert len(positions) == 1 or (sort != "telling" and {sorts[at] for at in positions} == {sort})


@pytest.mark.parametrize(
    ("told", "chosen", "expected"),
    [([], None, (0, 0)), ([3, 5], 5, (0, 2)), (range(100), None, (0, 10)), (range(100), 50, (45, 55)),
     (range(100), 99, (90, 100)), (range(0, 100, 2), 51, (21, 31)), ([1, 2], 99, (0, 2))],
)  # fmt: skip
def test_the_window_has_the_chosen_row(told, chosen, expected):
    assert folds.window(told, chosen, 10) == expected
