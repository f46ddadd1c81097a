"""Where two texts differ."""

import random

import pytest

from server.viewer.marked import marked


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("19.99", "20.00", (("", "19.99", ""), ("", "20.00", ""))),
        ("3 articles", "4 articles", (("", "3", " articles"), ("", "4", " articles"))),
        ("#pay > button", "#pay-now > button", (("#pay", "", " > button"), ("#pay", "-now", " > button"))),
        ("aaaa", "aaa", (("aaa", "a", ""), ("aaa", "", ""))),
        ("", "x", (("", "", ""), ("", "x", ""))),
    ],
)
def test_what_differs_is_cut_out(one, other, expected):
    assert marked(one, other) == expected


def test_the_parts_are_the_texts():
    chance = random.Random(1)
    for _ in range(300):
        one, other = ("".join(chance.choices("ab", k=chance.randrange(12))) for _ in range(2))
        first, last = marked(one, other)
        assert ("".join(first), "".join(last)) == (one, other)
