"""What changed from one run to another."""

import pytest

from server.compare.runs import Change, Changes, Outcome, changes


def of(name, status, browser=None, **fields):
    return Outcome(f"{name}-{status}", name, browser, name, status, **fields)


@pytest.mark.parametrize(
    ("base", "head", "where"),
    [
        ("Passed", "Failed", "new_failures"),
        ("Skipped", "Failed", "new_failures"),
        ("Pending", "Failed", "new_failures"),
        (None, "Failed", "new_failures"),
        ("Failed", "Passed", "fixed"),
        ("Failed", "Failed", "still_failing"),
        ("Failed", "Skipped", None),
        ("Passed", "Passed", None),
        ("Passed", "Skipped", None),
        (None, "Passed", "appeared"),
        (None, "Skipped", "appeared"),
        ("Passed", None, "disappeared"),
        ("Failed", None, "disappeared"),
    ],
)
def test_each_change_has_its_list(base, head, where):
    one, other = base and of("a", base), head and of("a", head)
    found = changes([one] if one else [], [other] if other else [])
    expected = Changes()
    if where:
        getattr(expected, where).append(Change(one, other, None))
    assert found == expected


def test_a_test_of_another_browser_is_another_test():
    found = changes([of("a", "Passed", "firefox")], [of("a", "Failed", "chromium")])
    assert [len(found.new_failures), len(found.disappeared)] == [1, 1]


def test_changed_errors_come_first():
    def run(*fingerprints):
        return [of(name, "Failed", error_fingerprint=one) for name, one in zip("abcd", fingerprints, strict=True)]

    found = changes(run(b"1", b"2", None, b"4"), run(b"1", b"3", b"3", None))
    assert [(change.head.name, change.error_changed) for change in found.still_failing] == [
        ("b", True),
        ("a", False),
        ("c", None),
        ("d", None),
    ]


@pytest.mark.parametrize(
    ("before", "now", "slower"),
    [(1_000, 2_001, True), (1_000, 2_000, False), (4_000, 6_000, False), (4_000, 6_001, True), (None, 9_000, False)],
)
def test_slower_by_half_and_more_than_a_second(before, now, slower):
    base, head = of("a", "Passed", duration_ms=before), of("a", "Passed", duration_ms=now)
    assert bool(changes([base], [head]).slower) == slower


def test_the_greatest_slowdown_comes_first():
    base = [of(name, "Passed", duration_ms=100) for name in "ab"]
    head = [of("a", "Passed", duration_ms=3_000), of("b", "Passed", duration_ms=9_000)]
    assert [change.head.name for change in changes(base, head).slower] == ["b", "a"]
