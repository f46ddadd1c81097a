"""Marks on tests, held against a second implementation that knows nothing of the first."""

import random

import pytest

from server.compare import marks
from server.compare.marks import Attempt


def history(rng):
    """Random attempts of one test in up to 60 runs of two names and branches, with two browsers."""
    attempts, commit, bias = [], 0, rng.choice([0, 0.02, 0.05, 0.3, 0.9])
    runs, slow_from = rng.randrange(60), rng.randrange(70)
    for run in range(runs):
        commit += rng.random() < 0.6
        name, branch = rng.choice(["nightly"] * 7 + ["smoke"]), rng.choice(["main"] * 7 + ["fix"])
        for browser in rng.sample(["chromium", "firefox", None], rng.randrange(1, 3)):
            for number in range(1, rng.choice([1, 1, 1, 2, 3]) + 1):
                status = rng.choices(["Failed", "Passed", "Skipped", "Pending"], [bias, 1 - bias, 0.1, 0.05])[0]
                sha = rng.choice([f"c{commit}"] * 5 + [None])
                attempts.append(
                    Attempt(
                        len(attempts),
                        run,
                        status,
                        number,
                        browser,
                        name,
                        branch,
                        sha,
                        rng.randrange(2_000) + 4_000 * (run >= slow_from),
                    )
                )
    rng.shuffle(attempts)
    return attempts


def naive_result(attempts, run, browser):
    best = None
    for each in attempts:
        if (each.run, each.browser) != (run, browser):
            continue
        if best is None or each.attempt > best.attempt or (each.attempt == best.attempt and each.id > best.id):
            best = each
    return best


def naive_results(attempts):
    places = sorted({(each.run, each.browser) for each in attempts}, key=str)
    found = [naive_result(attempts, *place) for place in places]
    return sorted(found, key=lambda each: each.id) if not found else sorted(found, key=lambda e: (e.run, e.id))


def naive_flaky(attempts, since):
    """The pairs of an attempt that failed and one that passed, as the set of their commits, and of how many."""
    recent = [each for each in attempts if since <= each.id]
    commits = {each.commit or each.run for each in recent}
    bad = set()
    for one in recent:
        for other in recent:
            same = one.commit == other.commit if one.commit and other.commit else one.run == other.run
            same = same and bool(one.commit) == bool(other.commit)
            if same and one.browser == other.browser and (one.status, other.status) == ("Failed", "Passed"):
                streak = 0
                for each in reversed(naive_results(recent)):
                    if each.browser != one.browser or each.status in ("Skipped", "Pending"):
                        continue
                    if any(e.run == each.run and e.browser == each.browser and e.status == "Failed" for e in recent):
                        break
                    streak += 1
                if streak < 20:
                    bad.add(one.commit or one.run)
    return (len(bad), len(commits)) if bad else None


def naive_since(series):
    first, count = None, 0
    for each in series:
        if each.status == "Failed":
            first, count = first or each, count + 1
        elif each.status == "Passed":
            first, count = None, 0
    return (first, count) if series and series[-1].status == "Failed" else None


def naive_slower(series):
    times = [each.duration_ms for each in series if each.status == "Passed"]
    if len(times) < 10:
        return None

    def middle(values):
        values = sorted(values)
        half = len(values) // 2
        return values[half] if len(values) % 2 else (values[half - 1] + values[half]) / 2

    now, before = middle(times[-5:]), middle(times[:-5][-30:])
    return (now, before) if now > 1.5 * before and now > before + 1_000 else None


def test_marks_agree_with_a_second_implementation_over_1000_histories():
    rng = random.Random(14)
    seen = dict.fromkeys(["flaky", "since", "slower", "new", "here"], 0)
    for _ in range(1_000):
        attempts = history(rng)
        assert marks.results(attempts) == naive_results(attempts)
        since = rng.choice([0, rng.randrange(len(attempts) + 1)])
        found = marks.flaky(attempts, since)
        assert (found and (found.commits, found.of)) == naive_flaky(attempts, since)
        seen["flaky"] += found is not None
        if not any(each.browser == "chromium" for each in attempts):
            continue
        like = [each for each in naive_results(attempts) if each.browser == "chromium"][-rng.choice([1, 1, 2]) :][0]
        series = marks.of_series(attempts, like)
        mine = [
            each
            for each in naive_results(attempts)
            if each.run <= like.run and all(getattr(each, n) == getattr(like, n) for n in ("name", "branch", "browser"))
        ]
        assert series == mine
        assert marks.failing_since(series) == naive_since(series)
        slow = marks.slower(series)
        assert (slow and (slow.now, slow.before)) == naive_slower(series)
        previous = series[-2].run if len(series) > 1 else None
        is_new = marks.new(series, previous)
        assert is_new == (len(series) > 1 and [each.status for each in series[-2:]] == ["Passed", "Failed"])
        together = [each for each in attempts if (each.run, each.browser) == (like.run, like.browser)]
        here = marks.flaky_here(together)
        assert here == (like.status == "Passed" and "Failed" in [each.status for each in together])
        for key, value in (("since", marks.failing_since(series)), ("slower", slow), ("new", is_new), ("here", here)):
            seen[key] += bool(value)
    assert min(seen.values()) > 10, seen


def test_a_change_from_pass_to_fail_between_commits_is_never_flaky():
    rng = random.Random(2)
    for _ in range(300):
        statuses = {}
        attempts = []
        for number in range(rng.randrange(60)):
            place = (rng.randrange(8), rng.choice([None, "firefox"]))
            status = statuses.setdefault(place, rng.choice(["Passed", "Failed"]))
            attempts.append(Attempt(number, number, status, 1, place[1], commit=f"c{place[0]}"))
        assert marks.flaky(attempts, 0) is None


def attempt(id, status, run=None, **fields):
    return Attempt(id, id if run is None else run, status, **fields)


def test_flaky_says_of_how_many_commits_and_gives_the_results():
    attempts = [
        attempt(1, "Failed", commit="a"),
        attempt(2, "Passed", commit="a"),
        attempt(3, "Passed", commit="b"),
        attempt(4, "Failed", run=4),
        attempt(5, "Passed", run=4, attempt=2),
    ]
    found = marks.flaky(attempts, 0)
    assert (found.commits, found.of) == (2, 3)
    assert [(failed.id, passed.id) for failed, passed in found.evidence] == [(4, 5), (1, 2)]


@pytest.mark.parametrize(("greens", "marked"), [(19, True), (20, False)])
def test_twenty_greens_in_a_row_clear_the_mark(greens, marked):
    shaky = [attempt(1, "Failed", commit="a"), attempt(2, "Passed", commit="a")]
    more = [attempt(3 + at, "Passed", commit=f"b{at}") for at in range(greens - 1)]
    assert (marks.flaky(shaky + more, 0) is not None) == marked
    others = [attempt(100 + at, "Passed", commit=f"b{at}", browser="firefox") for at in range(50)]
    assert (marks.flaky(shaky + more + others, 0) is not None) == marked, "another browser clears nothing"


@pytest.mark.parametrize(("since", "marked"), [(1, True), (2, False)])
def test_flaky_looks_at_results_since_the_given_one(since, marked):
    attempts = [attempt(1, "Failed", commit="a"), attempt(2, "Passed", commit="a")]
    assert (marks.flaky(attempts, since) is not None) == marked


def test_nothing_is_marked_without_results():
    assert marks.results([]) == []
    assert marks.flaky([], 0) is None
    assert not marks.flaky_here([])
    assert not marks.new([], None)
    assert marks.failing_since([]) is None
    assert marks.slower([]) is None


def test_new_needs_the_previous_run_and_not_just_an_earlier_one():
    series = [attempt(1, "Passed"), attempt(3, "Failed")]
    assert marks.new(series, 1)
    assert not marks.new(series, 2), "the test did not run in the previous run"
    assert not marks.new(series, None)
