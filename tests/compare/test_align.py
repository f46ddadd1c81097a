"""matches(): the greatest number of pairs, in order, and quickly."""

import itertools
import random
import time

import pytest

from server.compare.align import matches


def longest(left, right):
    """The length of the longest common subsequence, by the table of all prefixes."""
    row = [0] * (len(right) + 1)
    for one in left:
        former, row = row, [0]
        for at, other in enumerate(right):
            row.append(former[at] + 1 if one == other else max(former[at + 1], row[at]))
    return row[-1]


def edited(rng, keys, edits, kinds):
    other = list(keys)
    for _ in range(edits):
        at = rng.randrange(len(other) + 1)
        if rng.random() < 0.5:
            other.insert(at, rng.randrange(kinds))
        elif other:
            del other[at - 1]
    return other


def check(left, right, pairs):
    assert all(left[i] == right[j] for i, j in pairs)
    assert all(one[0] < two[0] and one[1] < two[1] for one, two in itertools.pairwise(pairs))


@pytest.mark.parametrize("kinds", [1, 2, 3, 10, 1000])
def test_random_edit_scripts_have_the_true_distance(kinds):
    rng = random.Random(kinds)
    for _ in range(120):
        left = [rng.randrange(kinds) for _ in range(rng.randrange(40))]
        right = edited(rng, left, rng.randrange(30), kinds)
        pairs, distance = matches(left, right)
        check(left, right, pairs)
        assert len(pairs) == longest(left, right)
        assert distance == len(left) + len(right) - 2 * len(pairs)


def test_unrelated_lists_have_the_true_distance():
    rng = random.Random(5)
    for _ in range(100):
        left, right = ([rng.randrange(4) for _ in range(rng.randrange(30))] for _ in range(2))
        pairs, distance = matches(left, right)
        check(left, right, pairs)
        assert len(pairs) == longest(left, right)
        assert distance == len(left) + len(right) - 2 * len(pairs)


@pytest.mark.parametrize(
    ("left", "right", "pairs", "distance"),
    [
        ([], [], [], 0),
        ([1], [], [], 1),
        ([], [1, 2], [], 2),
        ([1], [1], [(0, 0)], 0),
        ([1], [2], [], 2),
        ([1, 2, 3], [1, 3], [(0, 0), (2, 1)], 1),
        ([1, 3], [1, 2, 3], [(0, 0), (1, 2)], 1),
        ([1, 1, 1], [1], [(0, 0)], 2),
        ([1, 2, 3, 4], [4, 2, 3, 1], [(1, 1), (2, 2)], 4),
    ],
)
def test_small_lists(left, right, pairs, distance):
    assert matches(left, right) == (pairs, distance)


@pytest.mark.parametrize("most", [0, 1, 2, 5, 9])
def test_beyond_the_limit_only_equal_ends_are_paired(most):
    rng = random.Random(most)
    for _ in range(100):
        left = [rng.randrange(3) for _ in range(12)]
        right = edited(rng, left, 8, 3)
        true = len(left) + len(right) - 2 * longest(left, right)
        pairs, distance = matches(left, right, most)
        check(left, right, pairs)
        assert distance == (true if true <= most else None)
    pairs, distance = matches([1, 2, 7, 7, 3], [1, 2, 8, 8, 8, 3], 4)
    assert (pairs, distance) == ([(0, 0), (1, 1), (4, 5)], None)


def seconds(left, right):
    started = time.thread_time()
    matches(left, right)
    return time.thread_time() - started


def test_long_lists_take_no_longer_than_their_differences():
    """In quadratic time, 10,000 steps with 20 edits would take 5,000 times as long as 2,000 equal ones."""
    rng = random.Random(1)
    keys = list(range(10_000))
    equal = min(seconds(keys, list(keys)) for _ in range(3))
    assert min(seconds(keys, edited(rng, keys, 20, 10_000)) for _ in range(3)) < 100 * equal
    alternating = [1, 2] * 1_000
    assert seconds(alternating, [2, 1] * 1_000) < 100 * equal
    assert seconds(alternating, [rng.randrange(2) for _ in range(2_000)]) < 2_000 * equal
    assert seconds(alternating, list(range(3, 2_003))) < 2_000 * equal  # gives up
