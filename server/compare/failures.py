"""Which failures have the same error: a failure's text, without what differs from run to run, and its fingerprint."""

import re
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b

from server.compare.stable import stable

RULES = 1  # raise it when equal texts get another fingerprint, then `reportd regroup` groups stored failures again

TEXT = 8_000  # characters of a message that count; stable() reads 4,000 of them, without escape codes
TRACE = 64_000  # characters of a stack trace in which a frame is searched
_SAMPLE = 2_000

_FRAME = re.compile(r"\s*(?:at\s|File \"|#\d+\s|[\w.@<>/\\-]+[@(]?\S*:\d+(?::\d+)?\)?\s*$)")
_FOREIGN = re.compile(
    r"node_modules|site-packages|dist-packages|\bnode:|\binternal/|<anonymous>|<frozen |/lib/python\d"
    r"|\bat (?:java|javax|jdk|sun|kotlin|scala|org\.junit|org\.testng|org\.gradle|org\.apache)[./]"
)
_NEWEST_LAST = "Traceback (most recent call last)"


@dataclass(frozen=True, slots=True)
class Failed:
    """What a result or a step says about its failure."""

    error_type: str | None
    error_message: str | None
    stack_trace: str | None = None


@dataclass(frozen=True, slots=True)
class Group:
    """An error: all failures with the same type and stable text. `sample` is the text of one of them."""

    fingerprint: bytes
    error_type: str | None
    stable_text: str
    sample: str


def group_of(result: Failed, step: Failed | None = None) -> Group | None:
    """The error of a failed result; None when nothing says why it failed.

    The text is the result's message, else that of its first failed step that has one (`step`), else the top frame of
    the result's stack that is no library's. The type is that of the text. sql/steps.sql and sql/test_cases.sql rely on
    this order.
    """
    if result.error_message:
        return _group(result.error_type, result.error_message[:TEXT])
    if step is not None and step.error_message:
        return _group(step.error_type, step.error_message[:TEXT])
    frame = own_frame(result.stack_trace or "")
    return _group(result.error_type, frame[:TEXT]) if frame or result.error_type else None


def own_frame(stack_trace: str) -> str:
    """The line of the innermost stack frame that is no library's, else of the innermost frame; empty without any."""
    trace = stack_trace[:TRACE]
    frames = [line for line in trace.splitlines() if _FRAME.match(line[:500])]
    if _NEWEST_LAST in trace:
        frames.reverse()
    own = (line for line in frames if not _FOREIGN.search(line))
    return next(own, frames[0] if frames else "").strip()


@lru_cache(256)  # one error fails many tests of a run, and is the text of a result and of its step
def _group(error_type: str | None, text: str) -> Group:
    same = stable(text)
    fingerprint = blake2b(f"{RULES}\0{error_type or ''}\0{same}".encode(), digest_size=16).digest()
    return Group(fingerprint, error_type or None, same, text[:_SAMPLE])
