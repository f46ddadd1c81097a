"""Replaces what the configured patterns match in texts, in bounded time for every pattern and text.

Python's `re` can take exponential time. RE2's time is proportional to the length of the text and the size of the
compiled pattern: both are limited, and so is how much text is searched again after a match.
"""

import asyncio
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from server.config import ConfigError
from server.redact.rules import REDACTED

_MAX_INSTRUCTIONS = 500  # of a compiled pattern; each costs at most 6 ns for each byte of text
# Characters × instructions; what needs more is searched in a thread, so that it does not block the event loop.
_INLINE = 1 << 19  # a few milliseconds
# Bytes × instructions that one call of hide() may search again after matches of a pattern: a few seconds at most.
_REPEATED = 1 << 30


class Patterns:
    """The configured patterns. Raises ConfigError with the reason for a pattern that cannot be used."""

    def __init__(self, patterns: Sequence[str]) -> None:
        self._patterns = [_compiled(pattern) for pattern in patterns]
        self._instructions = sum(pattern.programsize for pattern in self._patterns)
        # A thread of its own: in a shared thread pool, a few long texts would block other work.
        self._thread = ThreadPoolExecutor(1, "masks") if patterns else None

    @property
    def any(self) -> bool:
        return self._thread is not None

    async def hide(self, texts: list[str | None]) -> list[str | None]:
        """The same texts with `[redacted]` for each match."""
        if self._thread is None:
            return texts
        if sum(len(text) for text in texts if text) * self._instructions <= _INLINE:
            return self._hidden(texts)
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._hidden, texts)

    def close(self) -> None:
        if self._thread is not None:
            self._thread.shutdown(wait=False, cancel_futures=True)

    def _hidden(self, texts: Iterable[str | None]) -> list[str | None]:
        hidden = [text and text.encode() for text in texts]
        for pattern in self._patterns:
            budget = _REPEATED // pattern.programsize
            for i, text in enumerate(hidden):
                if text:
                    hidden[i], budget = _hide(pattern, text, budget)
        # errors="replace": a pattern with \C can match a part of a character.
        return [text.decode(errors="replace") if isinstance(text, bytes) else text for text in hidden]


def _hide(pattern: Any, text: bytes, budget: int) -> tuple[bytes, int]:
    """The text with its matches replaced, and the remaining budget: how many bytes may be searched again after a
    match. When the budget is used up, a text with a match is replaced completely."""
    parts: list[bytes] = []
    at = end = 0
    while end < len(text) and (match := pattern.search(text, end)) is not None:
        start, end = match.span()
        budget -= len(text) - end
        if budget < 0:
            return REDACTED.encode(), budget
        if start == end:  # an empty match, like that of \b: nothing to replace
            end += 1
            continue
        parts += [text[at:start], REDACTED.encode()]
        at = end
    return b"".join([*parts, text[at:]]), budget


def _compiled(pattern: str) -> Any:
    # Imported only when needed: it costs every command 4 MB and 30 ms, and most installations have no patterns.
    import re2

    options = re2.Options()
    options.log_errors = False
    try:
        compiled = re2.compile(pattern.encode(), options)
    except re2.error as error:
        reason = error.args[0] if error.args else ""
        reason = reason.decode(errors="replace") if isinstance(reason, bytes) else str(reason)
        raise ConfigError(f"api.mask_patterns: {pattern!r} is not a valid RE2 pattern: {reason}") from None
    if compiled.programsize > _MAX_INSTRUCTIONS:
        raise ConfigError(
            f"api.mask_patterns: {pattern!r} is too large: RE2 compiles it to {compiled.programsize} instructions, "
            f"and at most {_MAX_INSTRUCTIONS} are allowed. Use shorter repetitions"
        )
    if compiled.search(b"") is not None:
        raise ConfigError(f"api.mask_patterns: {pattern!r} matches the empty string, and so would match everywhere")
    return compiled
