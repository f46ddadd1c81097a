"""Where two texts differ, so that a reader need not search."""

from itertools import takewhile

# The text before what differs, what differs, and the text after it.
Marked = tuple[str, str, str]
_LEAST = 3  # characters that both have


def marked(one: str, other: str) -> tuple[Marked, Marked]:
    """The two texts, each cut where they differ. Texts with nothing in common are not cut: all of them differs."""
    start = _common(one, other)
    end = _common(one[start:][::-1], other[start:][::-1])
    if start + end < _LEAST:
        return ("", one, ""), ("", other, "")
    first, last = ((text[:start], text[start : len(text) - end], text[len(text) - end :]) for text in (one, other))
    return first, last


def _common(one: str, other: str) -> int:
    """How many characters both begin with."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))
