"""Stack traces: which lines are frames of the test's own code, and which are those of what it depends on."""

import re
from dataclasses import dataclass
from itertools import groupby
from typing import Literal

from markupsafe import Markup

from server.viewer.ansi import Painter, plain, unified

Kind = Literal["text", "own", "foreign"]

_SHOWN = 100  # lines; those after them are folded
_READ = 500  # characters of a line that decide what it is
_FRAME = re.compile(
    r'\s*(?:at\s+\S|File ".*", line \d|#\d+\s+\S|\.\.\. \d+ more|(?:from )?[^\s:]+:\d+:in\b|\S+\.py:\d+: |\S+\.go:\d+)'
)
_FOREIGN = re.compile(
    r"(?:node_modules|(?:site|dist)-packages|/lib/python3[\d.]*|/gems|/pkg/mod|/vendor)[/\\]"
    r"|\bnode:|<frozen |\.\.\. \d+ more"
    r"|^\s*at (?:async )?(?:[\w.]+/)?(?:java|javax|jdk|sun|kotlin|groovy|org\.junit|org\.testng|System|Microsoft)\."
)


@dataclass(frozen=True, slots=True)
class Part:
    """Lines of one kind that follow each other. `frames`: how many of them are frames."""

    kind: Kind
    html: Markup
    lines: int
    frames: int


def parts(text: str) -> tuple[list[Part], list[Part]]:
    """A stack trace in parts: those that are shown, and those after the first 100 lines. Foreign frames in a row count
    as one line: they are folded."""
    text = unified(text)
    lines = [(*what, line) for what, line in zip(_kinds(plain(text).split("\n")), text.split("\n"), strict=True)]
    painter = Painter()
    shown: list[Part] = []
    rest: list[Part] = []
    for kind, group in groupby(lines, lambda line: line[0]):
        same = list(group)
        left = _SHOWN - sum(1 if part.kind == "foreign" else part.lines for part in shown)
        cut = left if kind != "foreign" or not left else len(same)
        for piece, place in ((same[:cut], shown), (same[cut:], rest)):
            if piece:
                html = painter.paint("\n".join(line for _, _, line in piece))
                place.append(Part(kind, html, len(piece), sum(is_frame for _, is_frame, _ in piece)))
    return shown, rest


def _kinds(lines: list[str]) -> list[tuple[Kind, bool]]:
    """The kind of each line, and whether it is a frame. What is indented below a frame belongs to it, as the source
    line of a Python frame does."""
    found: list[tuple[Kind, bool]] = []
    kind: Kind = "text"
    depth = 0
    for line in lines:
        head = line[:_READ]
        indent = len(head) - len(head.lstrip())
        is_frame = _FRAME.match(head) is not None
        if is_frame:
            kind, depth = "foreign" if _FOREIGN.search(head) else "own", indent
        elif indent <= depth or indent == len(head):
            kind = "text"
        found.append((kind, is_frame))
    return found
