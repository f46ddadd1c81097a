"""Claims of CI jobs against the patterns of `[[auth.ci]]`."""

import itertools
import re
import time

import pytest

from server.auth.ci_rules import rule_for
from server.errors import ClaimsRefused
from server.trust import CiRule


def fits(pattern, claim):
    rule = CiRule("https://ci.example", "a", "web", {"ref": pattern})
    try:
        return rule_for([rule], {"aud": "a", "ref": claim}, None) is rule
    except ClaimsRefused:
        return False


@pytest.mark.parametrize("length", range(1, 6))
def test_a_star_stands_for_any_characters(length):
    """All patterns of these characters against all short claims, as a regular expression decides."""
    claims = ["".join(each) for n in range(5) for each in itertools.product("a\n", repeat=n)]
    for pattern in map("".join, itertools.product("a\n*", repeat=length)):
        wanted = re.compile(".*".join(map(re.escape, pattern.split("*"))), re.DOTALL)
        assert [fits(pattern, claim) for claim in claims] == [bool(wanted.fullmatch(claim)) for claim in claims], (
            pattern
        )


def test_no_claim_takes_long():
    def seconds(claim):
        def once():
            started = time.thread_time()
            assert not fits("*a*a*b", claim)
            return time.thread_time() - started

        return min(once() for _ in range(3))

    assert seconds("a" * 1500) < 100 * seconds("a" * 15)
