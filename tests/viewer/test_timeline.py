"""The timeline: when each step ran, one path for each status, and which screenshots are in the film."""

import re
from datetime import UTC, datetime, timedelta

import pytest

from server.reports.results import Row
from server.viewer.timeline import COLUMNS, FILM, axis, film, marks, network, steps

NOON = datetime(2026, 1, 24, 12, tzinfo=UTC)


def row(number, start=None, duration=None, end=None, status="Passed", image=True):
    moments = [None if ms is None else NOON + timedelta(milliseconds=ms) for ms in (start, end)]
    return Row(number, status, duration, f"step {number}", number if image else None, False, *moments)


def spans(rows):
    return [(span.start, span.end) for span in axis(rows).spans]


def test_a_step_runs_at_its_own_time_else_after_the_step_before():
    assert spans([row(1, 0, 100), row(2, 500, end=900), row(3, duration=50)]) == [(0, 100), (500, 900), (900, 950)]
    found = axis([row(1, duration=100), row(2, duration=200)])
    assert (found.origin, found.length, found.estimated) == (None, 300, True)
    assert not axis([row(1, 0, 5)]).estimated


def test_steps_that_did_not_run_are_not_on_the_axis():
    rows = [row(1, 0, 100), row(2, status="Pending"), row(3, 100, 100)]
    assert [span.at for span in axis(rows).spans] == [0, 2] and axis([]).spans == []


def test_an_end_before_the_start_is_a_point():
    found = axis([row(1, 1000, end=400), row(2, 2000, 10)])
    assert (found.spans[0].start, found.spans[0].end, found.backwards) == (0, 0, 1)


@pytest.mark.parametrize("length", [1, 7, 999, 61_000, 10**9])
def test_an_axis_has_a_few_ticks(length):
    ticks = axis([row(1, 0, length)]).ticks()
    assert 1 <= len(ticks) <= 11 and all(0 <= percent <= 95 for percent, _ in ticks)


def drawn(path):
    """Columns of a path."""
    return {
        column
        for start, width in re.findall(r"M(\d+) \d+h(\d+)v", path)
        for column in range(int(start), int(start) + int(width))
    }


def test_in_a_column_the_worst_status_wins():
    rows = [row(number, number, 1, status="Failed" if number == 1500 else "Passed") for number in range(2000)]
    lane = dict(steps(axis(rows), rows))
    assert drawn(lane["Failed"]) == {750}
    assert not drawn(lane["Failed"]) & drawn(lane["Passed"])
    assert len(drawn(lane["Failed"]) | drawn(lane["Passed"])) == COLUMNS


def test_a_lane_of_any_number_of_steps_is_small():
    rows = [row(number, number, 1, status=("Failed", "Passed", "Skipped")[number % 3]) for number in range(0, 20_000)]
    assert sum(len(path) for _, path in steps(axis(rows), rows)) < 20_000
    rows = [row(number, number * 2, 1, status=("Failed", "Passed")[number % 2]) for number in range(1000)]
    assert sum(len(path) for _, path in steps(axis(rows), rows)) < 20_000
    assert len(marks([(at % 1000, "a") for at in range(9999)], {"a": 9}, 10)[0][1]) < 20_000
    assert sum(len(path) for _, path in network([(at, at, at % 2 == 0) for at in range(1000)])[0]) < 20_000


def test_steps_that_all_last_as_long_as_the_axis_are_one_bar():
    """20,000 of them: to paint each column for each of them would take seconds."""
    rows = [row(number, 0, 1000) for number in range(20_000)]
    assert steps(axis(rows), rows) == [("Passed", f"M0 10h{COLUMNS - 1}v14h-{COLUMNS - 1}z")]


def test_requests_at_the_same_time_lie_in_six_rows():
    lane, left = network([(0, 10, False)] * 8 + [(20, 30, True)])
    assert left == 2 and dict(lane)["Passed"].count("M") == 6 and dict(lane)["Failed"] == "M20 0h11v3h-11z"


def test_a_film_has_the_first_the_last_and_the_failed_screenshots():
    rows = [row(number, number, 1, status="Failed" if number in (3, 777) else "Passed") for number in range(1000)]
    shown = film(axis(rows), rows)
    numbers = [each.number for each in shown]
    assert len(shown) == FILM and {0, 3, 777, 999} <= set(numbers) and numbers == sorted(numbers)
    rows = [row(number, number, 1, status="Failed") for number in range(100)]
    assert len(film(axis(rows), rows)) == FILM
    rows = [row(number, number, 1, image=number % 2 == 0) for number in range(20)]
    assert [each.number for each in film(axis(rows), rows)] == list(range(0, 20, 2))
    # Most of the time is one step: the film still has sixteen screenshots.
    rows = [*(row(number, number, 1) for number in range(100)), row(100, 100, 100_000)]
    assert len(film(axis(rows), rows)) == FILM
