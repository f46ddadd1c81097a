"""The first difference as a line for people: "step 12 took 4.1 s, was 0.3 s; failed at 17"."""

from server.compare.differences import Comparison, Difference, first_difference, first_failure
from server.compare.steps import Step

# A piece of the line, and whether a client wrote it: a page isolates foreign text, which may be right-to-left.
Part = tuple[str, bool]

_VALUES = {"expected_value": "expected value", "actual_value": "actual value", "input_value": "input"}
_WORDS = {
    "step": "now",
    "selector": "selector",
    "error": "error",
    "network": "failed request",
    "console": "console error",
}
# What may explain that a step failed, the best explanation first.
_REASONS = ("step", "value", "selector", "network", "console")
_QUOTED = 120  # characters of a foreign text


def line(comparison: Comparison) -> list[Part]:
    """The line, in parts. Empty when no difference is known."""
    at = first_difference(comparison)
    if at is None:
        return []
    row = comparison.rows[at]
    base = None if row.base is None else comparison.base.steps[row.base]
    head = None if row.head is None else comparison.head.steps[row.head]
    several = any(step.iteration > 1 for side in (comparison.base, comparison.head) for step in side.steps)
    told = [each for each in row.differences if each.weight != "grey" and each.kind != "picture"]
    parts = _first(told, base, head, several)
    failed = first_failure(comparison.head.steps)
    if failed is not None and failed != row.head:
        parts.append((f"; failed at {place(comparison.head.steps[failed], several)}", False))
    return parts


def place(step: Step, several: bool) -> str:
    """The number of a step, with its iteration when there are several: `12` or `2.12`."""
    return f"{step.iteration}.{step.number}" if several else str(step.number)


def seconds(milliseconds: float) -> str:
    """`0.3 s`, `42 s`, `3 min 20 s`."""
    if milliseconds < 10_000:
        return f"{milliseconds / 1000:.1f} s"
    minutes, rest = divmod(round(milliseconds / 1000), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _first(told: list[Difference], base: Step | None, head: Step | None, several: bool) -> list[Part]:
    step = head or base
    if step is None or not told:
        return []
    one, name, here = told[0], f"step {place(step, several)}", " is only here" if head else " is missing here"
    if one.kind == "iteration":
        return [(f"iteration {step.iteration}{here}", False)]
    if base is None or head is None:
        return [(f"{name} ", False), _quoted(step.label), (here, False)]
    if one.kind == "status":
        reason = next((each for kind in _REASONS for each in told if each.kind == kind), None)
        why: list[Part] = [("; ", False), *_phrase(reason)] if reason else []
        return [(f"{name} {_did(one.head)}, {_did(one.base)} before", False), *why]
    during, joint = (
        ("during ", ": ") if one.kind in ("network", "console") else ("", " " if one.kind == "time" else ": ")
    )
    return [(f"{during}{name}{joint}", False), *_phrase(one)]


def _phrase(one: Difference) -> list[Part]:
    if one.kind == "time":
        return [(f"took {seconds(int(one.head or 0))}, was {seconds(int(one.base or 0))}", False)]
    what = _VALUES.get(one.field or "") or _WORDS[one.kind]
    if one.head is None:
        return [(f"no {what}, was ", False), _quoted(one.base)]
    return [
        (f"{what} ", False),
        _quoted(one.head),
        *([] if one.base is None else [(", was ", False), _quoted(one.base)]),
    ]


def _quoted(value: object) -> Part:
    text = " ".join(str(value).split())
    return f"“{text if len(text) <= _QUOTED else text[: _QUOTED - 1] + '…'}”", True


def _did(status: object) -> str:
    words = {"Passed": "passed", "Failed": "failed", "Skipped": "was skipped", "Pending": "did not run"}
    return words.get(str(status), str(status))
