"""Text that was written for a terminal: its colours become classes of reportd.css, its other control codes are removed.

A colour of 256 or of 16 million becomes the nearest of six: only these have enough contrast in both themes.
"""

import colorsys
import re
from dataclasses import dataclass, replace

from markupsafe import Markup, escape

# The escape sequences of terminals (ECMA-48), then every other control character except tab and line end. A string
# sequence, such as a link, must end on its line: otherwise one that does not end would hide the rest of the text.
_CONTROLS = (
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]?"
    r"|\x1b[\]PX^_][^\x07\x1b\n]*(?:\x07|\x1b\\)"
    r"|\x1b[ -/]*[0-~]?"
    r"|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]"
)
_PLAIN = re.compile(_CONTROLS)
# Colours (SGR), bytes that are no text (decoded with `surrogateescape`), and what is removed.
_TOKENS = re.compile(rf"(?:\x1b\[|\x9b)(?P<codes>[0-9;:]{{0,200}})m|(?P<bytes>[\udc80-\udcff]+)|{_CONTROLS}")
_HUES = ("red", "yellow", "green", "cyan", "blue", "magenta")
_BASIC = (None, "red", "green", "yellow", "blue", "magenta", "cyan", None)
_LEVELS = (0, 95, 135, 175, 215, 255)  # of red, green and blue in the 256 colours of xterm
_MOST_SPANS = 10_000  # of one text: a file may change its colour at every character
_MOST_BYTES = 64  # that are no text, in a row


@dataclass(frozen=True, slots=True)
class Style:
    """What a terminal would do to the next character. Colours: one of `_HUES`, grey, or None for the page's own."""

    colour: str | None = None
    back: str | None = None
    marks: frozenset[str] = frozenset()
    turned: bool = False

    def classes(self) -> str:
        back = self.back or (self.turned and (self.colour or "text")) or None
        colours = [f"on-{back}"] if back else [f"in-{self.colour}"] if self.colour else []
        return " ".join([*colours, *sorted(self.marks)])


class Painter:
    """Turns the lines of one text into HTML, one after the other: a colour lasts until it is changed."""

    def __init__(self) -> None:
        self._style, self._classes = Style(), ""
        self._spans = _MOST_SPANS

    def paint(self, text: str) -> Markup:
        """The HTML of a line, or of several."""
        parts: list[str] = []
        at = 0
        for token in _TOKENS.finditer(text):
            if self._spans <= 0:
                break
            self._add(parts, text[at : token.start()], self._classes)
            at = token.end()
            if token["codes"] is not None:
                self._style = _after(self._style, token["codes"])
                self._classes = self._style.classes()
            elif token["bytes"]:
                self._add(parts, _visible(token["bytes"]), "byte")
        self._add(parts, text[at:] if self._spans > 0 else _without_spans(text[at:]), self._classes)
        return Markup("".join(parts))  # noqa: S704 - every part is escaped

    def _add(self, parts: list[str], text: str, classes: str) -> None:
        if text and classes and self._spans > 0:
            self._spans -= 1
            parts.append(f'<span class="{classes}">{escape(text)}</span>')
        elif text:
            parts.append(str(escape(text)))


def coloured(text: str) -> Markup:
    """The HTML of a text with its colours."""
    return Painter().paint(unified(text))


def plain(text: str) -> str:
    """The text without control codes: test tools colour their messages, and a browser would show the codes."""
    return removed(unified(text))


def removed(text: str) -> str:
    """The text without control codes, other than tabs and line ends."""
    return _PLAIN.sub("", text)


def unified(text: str) -> str:
    """The text with one kind of line end."""
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _without_spans(text: str) -> str:
    """The text without control codes, and with bytes that are no text as `\\xff`: at once, not token by token."""
    return removed(text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace"))


def _visible(escaped: str) -> str:
    shown = "".join(f"\\x{ord(each) - 0xDC00:02x}" for each in escaped[:_MOST_BYTES])
    return shown if len(escaped) <= _MOST_BYTES else f"{shown}… {len(escaped):,} bytes in all"


def _after(style: Style, codes: str) -> Style:
    """The style after a sequence of codes: `1;31`, `38;5;196`, `38:2::255:0:0`."""
    groups = [[int(part) if part and len(part) < 4 else 0 for part in group.split(":")] for group in codes.split(";")]
    at = 0
    while at < len(groups):
        code, *values = groups[at]
        at += 1
        if code in (38, 48):
            if not values:  # its values are the next groups
                values = [group[0] for group in groups[at : at + 4]]
                at += {5: 2, 2: 4}.get(values[0] if values else 0, 0)
            found = _of_many(values)
            style = replace(style, colour=found) if code == 38 else replace(style, back=found)
        else:
            style = _after_one(style, code)
    return style


_MARKS = {1: "bold", 2: "dim", 3: "italic", 4: "under", 9: "struck"}
_ENDS = {22: {"bold", "dim"}, 23: {"italic"}, 24: {"under"}, 29: {"struck"}}


def _after_one(style: Style, code: int) -> Style:
    if code == 0:
        return Style()
    if code in _MARKS:
        return replace(style, marks=style.marks | {_MARKS[code]})
    if code in _ENDS:
        return replace(style, marks=style.marks - _ENDS[code])
    if code in (7, 27):
        return replace(style, turned=code == 7)
    if code in (39, 49):
        return replace(style, colour=None) if code == 39 else replace(style, back=None)
    if 30 <= code <= 37 or 90 <= code <= 97:
        return replace(style, colour=_of_sixteen(code - 30 if code < 90 else code - 82))
    if 40 <= code <= 47 or 100 <= code <= 107:
        return replace(style, back=_of_sixteen(code - 40 if code < 100 else code - 92) or "text")
    return style


def _of_sixteen(number: int) -> str | None:
    return "grey" if number == 8 else _BASIC[number % 8]


def _of_many(values: list[int]) -> str | None:
    """The nearest colour of `5;n` (of 256) or `2;r;g;b`."""
    if len(values) >= 2 and values[0] == 5:
        number = min(values[1], 255)
        if number < 16:
            return _of_sixteen(number)
        if number > 231:
            return "grey" if number < 248 else None
        cube = number - 16
        return _nearest(_LEVELS[cube // 36], _LEVELS[cube // 6 % 6], _LEVELS[cube % 6])
    return _nearest(*values[-3:]) if len(values) >= 4 and values[0] == 2 else None


def _nearest(red: int, green: int, blue: int) -> str | None:
    red, green, blue = (min(each, 255) for each in (red, green, blue))
    if max(red, green, blue) - min(red, green, blue) < 48:
        return "grey" if 64 < green < 192 else None
    hue, _, _ = colorsys.rgb_to_hls(red / 255, green / 255, blue / 255)
    return _HUES[round(hue * 6) % 6]
