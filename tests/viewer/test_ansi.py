"""Text of terminals as HTML: colours as classes with enough contrast, everything else removed, and never too much."""

import re
import time

import pytest
from markupsafe import escape

from server.viewer import ansi, assets


def spans(text):
    return re.findall(r'<span class="([^"]*)">([^<]*)</span>', ansi.coloured(text))


@pytest.mark.parametrize(
    ("codes", "classes"),
    [
        ("31", "in-red"), ("1;31", "in-red bold"), ("91", "in-red"), ("90", "in-grey"), ("32;2", "in-green dim"),
        ("41", "on-red"), ("41;37", "on-red"), ("97;107", "on-text"), ("7", "on-text"), ("7;36", "on-cyan"),
        ("3;4;9", "italic struck under"), ("38;5;196", "in-red"), ("38;5;9", "in-red"), ("38;5;240", "in-grey"),
        ("38;2;10;200;20", "in-green"), ("38:2::10:20:200", "in-blue"), ("48;5;226;1", "on-yellow bold"),
        ("38;2;250;20;240;1", "in-magenta bold"), ("4:3", "under"), ("1;31;22;39;4", "under"), ("100", "on-grey"),
    ],
)  # fmt: skip
def test_colours_are_classes(codes, classes):
    assert spans(f"a\x1b[{codes}mb\x1b[0mc") == [(classes, "b")]


@pytest.mark.parametrize("codes", ["", "0", "30", "37", "39", "999", "38", "38;5", "38;2;1", "38;5;16", "1;0", ";;"])
def test_codes_without_a_colour_leave_the_text_as_it_is(codes):
    assert ansi.coloured(f"a\x1b[{codes}mb") == "ab"


@pytest.mark.parametrize(
    ("sent", "shown"),
    [
        ("a\x1b[2Jb\x1b[1;1Hc", "abc"),
        ("\x1b]8;;https://evil.example\x07link\x1b]8;;\x07", "link"),
        ("\x1b]0;title never ends", "0;title never ends"),
        ("\x1b[31", ""),
        ("a\x00b\x08c\x7fd\x9b31me", "abcde"),
        ("one\r\ntwo\rthree", "one\ntwo\nthree"),
        ("\x1b(B\x1b=ok\x1b", "ok"),
    ],
)
def test_other_control_codes_are_removed(sent, shown):
    assert ansi.plain(sent) == shown and re.sub("<[^>]*>", "", ansi.coloured(sent)) == shown


def test_what_is_no_code_is_text():
    for text in ("<script>&\"'", "[31m", "\u202e", "a\tb\nc", "\\x1b[31m"):
        assert ansi.coloured(text) == escape(text) and ansi.plain(text) == text
    assert spans("\x1b[31m<b onclick=x>") == [("in-red", "&lt;b onclick=x&gt;")]


def test_bytes_that_are_no_text_are_visible():
    assert spans(b"a\xff\xc3(b".decode("utf-8", "surrogateescape")) == [("byte", "\\xff\\xc3")]
    ((_, text),) = spans((b"\xff" * 5000).decode("utf-8", "surrogateescape"))
    assert len(text) < 300 and text.endswith("5,000 bytes in all")


def test_a_colour_lasts_until_it_is_changed():
    painter = ansi.Painter()
    lines = [painter.paint(line) for line in ("\x1b[31mone", "two", "\x1b[0mthree")]
    assert lines == ['<span class="in-red">one</span>', '<span class="in-red">two</span>', "three"]


@pytest.mark.parametrize("piece", ["\x1b[31mx\x1b[32my", "\x1b[", "\x1b]8;", "\x1b[38;5;", "\x1b", "a\udcff", "\x9b0"])
def test_a_bomb_of_codes_takes_linear_time_and_space(piece):
    def seconds(text):
        started = time.thread_time()
        assert len(ansi.coloured(text)) < 20 * len(text) + 500_000
        return time.thread_time() - started

    short = min(seconds(piece * 10_000) for _ in range(3))
    assert min(seconds(piece * 40_000) for _ in range(3)) < 16 * short + 0.02


def luminance(colour):
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [each / 12.92 if each <= 0.04045 else ((each + 0.055) / 1.055) ** 2.4 for each in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_each_colour_has_enough_contrast_in_both_themes():
    """WCAG 1.4.3: 4.5, on each background that text of a terminal stands on."""
    css = assets.by_name()["reportd.css"].content.decode()
    named = dict(re.findall(r"(--[\w-]+): (light-dark\(#\w{6}, #\w{6}\))", css))
    inks = dict(re.findall(r"\.on-(\w+) ?\{ ?--ink: ([^;]+); ?\}", css)) | {"grey": "var(--soft)"}
    assert {*inks, "grey"} >= {"red", "green", "yellow", "blue", "magenta", "cyan", "grey", "text"}
    for name, value in inks.items():
        pair = named[value[4:-1]] if value.startswith("var") else value
        for theme, colour in enumerate(re.findall(r"#\w{6}", pair)):
            for back in ("--back", "--panel", "--failed-back"):
                one, other = sorted((luminance(colour), luminance(re.findall(r"#\w{6}", named[back])[theme])))
                assert (other + 0.05) / (one + 0.05) >= 4.5, (name, theme, back)
