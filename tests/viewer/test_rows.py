"""The list of steps: groups of rows, gaps between numbers, and steps that were not reached."""

from server.reports.results import Row
from server.viewer.rows import groups


def row(number, status="Passed"):
    return Row(number, status, 1, "x", None, False, None, None)


def shape(rows, before=None, finished=True, chosen=1):
    found = list(groups(rows, before, finished, chosen))
    return [
        (group.unreached, [item if isinstance(item, tuple) else item.number for item in group.items]) for group in found
    ]


def test_rows_come_in_groups_of_50():
    found = shape([row(number) for number in range(1, 121)])
    assert [len(items) for _, items in found] == [50, 50, 20] and shape([]) == []


def test_numbers_that_never_came_are_shown_where_they_are_missing():
    assert shape([row(1), row(2), row(5)]) == [(False, [1, 2, (3, 4), 5])]
    assert shape([row(3)]) == [(False, [(1, 2), 3])] and shape([row(0), row(1)]) == [(False, [0, 1])]
    assert shape([row(12)], before=10) == [(False, [(11, 11), 12])] and shape([row(11)], before=10) == [(False, [11])]


def test_steps_that_were_not_reached_are_folded_unless_one_is_chosen_or_the_run_goes_on():
    rows = [row(1, "Failed"), row(2, "Pending"), row(3, "Pending")]
    assert shape(rows) == [(False, [1]), (True, [2, 3])]
    assert shape(rows, chosen=2) == [(False, [1, 2]), (True, [3])]
    assert shape(rows, finished=False) == [(False, [1, 2, 3])]
    many = [row(number, "Pending") for number in range(1, 200)]
    assert [len(items) for _, items in shape(many, chosen=999)] == [199]
