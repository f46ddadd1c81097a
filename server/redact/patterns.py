"""Hides what the configured patterns find in texts, in bounded time whatever the pattern and the text.

Python's own `re` may take exponential time for one of them; RE2 takes time that grows with the text and with the size
of the pattern alone. So both have a bound, and how often a text is searched again behind a match has one too.
"""

import asyncio
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from server.config import ConfigError
from server.redact.rules import REDACTED

_LARGEST = 500  # steps of a pattern's program; each costs at worst 6 ns a byte
_AT_ONCE = 8 << 10  # characters that are searched on the event loop; more of them in a thread, which leaves it alone
# Bytes times steps of the program that may be searched again in a request, a few seconds at worst.
_AGAIN = 1 << 30


class Patterns:
    """The patterns of a site. Raises ConfigError for one that cannot be used, which says why."""

    def __init__(self, patterns: Sequence[str]) -> None:
        self._patterns = [_compiled(pattern) for pattern in patterns]
        # One thread of its own: a few long texts must not take those that everything else waits for.
        self._thread = ThreadPoolExecutor(1, "masks") if patterns else None

    @property
    def any(self) -> bool:
        return self._thread is not None

    async def hide(self, texts: list[str | None]) -> list[str | None]:
        """The same texts with `[redacted]` for each match."""
        if self._thread is None:
            return texts
        if sum(len(text) for text in texts if text) <= _AT_ONCE:
            return self._hidden(texts)
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._hidden, texts)

    def close(self) -> None:
        if self._thread is not None:
            self._thread.shutdown(wait=False, cancel_futures=True)

    def _hidden(self, texts: Iterable[str | None]) -> list[str | None]:
        hidden = [text and text.encode() for text in texts]
        for pattern in self._patterns:
            again = _AGAIN // pattern.programsize
            for i, text in enumerate(hidden):
                if text:
                    hidden[i], again = _hide(pattern, text, again)
        # A pattern may match a part of a character: \C does.
        return [text.decode(errors="replace") if isinstance(text, bytes) else text for text in hidden]


def _hide(pattern: Any, text: bytes, again: int) -> tuple[bytes, int]:
    """The text with its matches hidden, and how many bytes may still be searched again. Without any left, a text with
    a match is hidden whole."""
    parts: list[bytes] = []
    at = end = 0
    while end < len(text) and (match := pattern.search(text, end)) is not None:
        start, end = match.span()
        again -= len(text) - end
        if again < 0:
            return REDACTED.encode(), again
        if start == end:  # between two characters, like \b: nothing to hide
            end += 1
            continue
        parts += [text[at:start], REDACTED.encode()]
        at = end
    return b"".join([*parts, text[at:]]), again


def _compiled(pattern: str) -> Any:
    # Not at the top: it costs every command 4 MB and 30 ms, and most sites have no patterns.
    import re2

    options = re2.Options()
    options.log_errors = False
    try:
        compiled = re2.compile(pattern.encode(), options)
    except re2.error as error:
        reason = error.args[0] if error.args else ""
        reason = reason.decode(errors="replace") if isinstance(reason, bytes) else str(reason)
        raise ConfigError(f"api.mask_patterns: {pattern!r} is no pattern that RE2 takes: {reason}") from None
    if compiled.programsize > _LARGEST:
        raise ConfigError(
            f"api.mask_patterns: {pattern!r} is too large ({compiled.programsize} steps, {_LARGEST} are allowed): "
            "shorten its repetitions"
        )
    if compiled.search(b"") is not None:
        raise ConfigError(f"api.mask_patterns: {pattern!r} matches the empty text, and so everywhere")
    return compiled
