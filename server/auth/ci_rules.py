"""Which CI jobs get a token for which project: `[[auth.ci]]` against the claims of a verified ID token."""

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
    patterns = [wanted] if isinstance(wanted, str) else wanted
    return any(_fits(text, pattern) for pattern in patterns for text in texts(claim))


def _fits(text: str, pattern: str) -> bool:
    """Whether `*` in the pattern can stand for something so that it is the text.

    Each part is found at its first place after the one before. Regular expressions try all places: with three `*` and a
    branch that repeats what is between them, the server would stand still for minutes.
    """
    first, *parts = pattern.split("*")
    if not parts:
        return text == pattern
    *middle, last = parts
    if not text.startswith(first):
        return False
    at = len(first)
    for part in middle:
        found = text.find(part, at)
        if found < 0:
            return False
        at = found + len(part)
    return len(text) - at >= len(last) and text.endswith(last)
