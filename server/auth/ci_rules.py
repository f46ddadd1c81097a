"""Which CI jobs get a token for which project: `[[auth.ci]]` against the claims of a verified ID token."""

import re
from collections.abc import Iterable
from typing import Any

from server.auth.id_tokens import texts
from server.errors import ClaimsRefused
from server.trust import CiRule


def rule_for(rules: Iterable[CiRule], claims: dict[str, Any], project: str | None) -> CiRule:
    """The first rule whose audience and claims match, and whose project is `project` if that is given.

    Raises ClaimsRefused, which names the claims that differ from the rule that comes closest: not the values, which
    tell whom a server trusts.
    """
    audiences = texts(claims["aud"])
    offered = [rule for rule in rules if rule.audience in audiences and project in (None, rule.project)]
    if not offered:
        raise ClaimsRefused("No rule gives jobs of this issuer and audience a token for this project ([[auth.ci]]).")
    nearest: list[str] = []
    for rule in offered:
        names = _mismatches(rule, claims)
        if not names:
            return rule
        nearest = min(nearest or names, names, key=len)
    raise ClaimsRefused(
        f"The ID token is genuine, but no rule is for its claims ([[auth.ci]]). Not as wanted: {', '.join(nearest)}."
    )


def _mismatches(rule: CiRule, claims: dict[str, Any]) -> list[str]:
    return [name for name, wanted in rule.claims.items() if not _matches(wanted, claims.get(name))]


def _matches(wanted: str | list[str], claim: object) -> bool:
    """Whether a claim, or one of its elements if it is a list, is one of the wanted texts."""
    patterns = [_pattern(text) for text in ([wanted] if isinstance(wanted, str) else wanted)]
    return any(pattern.fullmatch(text) for pattern in patterns for text in texts(claim))


def _pattern(text: str) -> re.Pattern[str]:
    return re.compile(".*".join(map(re.escape, re.split(r"\*+", text))), re.DOTALL)
