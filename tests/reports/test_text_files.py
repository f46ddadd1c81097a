"""Text files in pages: the same pages however the bytes arrive, each line with its number, nothing lost."""

import random

import pytest

from server.reports import text_files
from server.reports.text_files import BYTES, LINES, PageStarts, Text, _Search

CODECS = {"utf-8": "utf-8", "unknown": "utf-8", "utf-16le": "utf-16-le", "utf-16be": "utf-16-be"}


def starts_of(data, encoding, step=BYTES):
    starts = PageStarts(Text(encoding), len(data))
    for at in range(0, len(data), step):
        starts.feed(data[at : at + step])
    return starts


def some_text(seed):
    chance = random.Random(seed)
    ending = chance.choice([0.01, 0.9, 1.0])
    words = ["a", "é", "\U0001f600", "਀਀", "x" * chance.randint(1, 300)]
    pieces = (chance.choice(words) + ("\n" if chance.random() < ending else "") for _ in range(6_000))
    return ("z\U0001f600" * 150_000 if seed % 3 == 0 else "") + "".join(pieces)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16le", "utf-16be"])
@pytest.mark.parametrize("seed", range(6))
def test_pages_together_are_the_file(encoding, seed):
    text = some_text(seed)
    data = text.encode(CODECS[encoding])
    starts = starts_of(data, encoding)
    found = (list(starts.offsets), list(starts.lines), list(starts.within))
    for step in (998, 65_536):
        other = starts_of(data, encoding, step)
        assert (list(other.offsets), list(other.lines), list(other.within)) == found
    before = ""
    for start, end, line, within in zip(*found[:1], [*found[0][1:], len(data)], *found[1:], strict=True):
        page = Text(encoding).decode(data[start:end])
        assert end - start <= BYTES and page.count("\n") <= LINES
        assert line == before.count("\n") + 1 and within == (before != "" and before[-1] != "\n")
        before += page
    assert before == text
    assert starts.last_line == len(text.split("\n")) - text.endswith("\n")


def test_a_line_is_on_the_page_on_which_it_begins():
    starts = starts_of(b"\n" * 4_500 + b"x" * (2 * BYTES) + b"\nend\n", "utf-8")
    assert list(starts.lines) == [1, 2_001, 4_001, 4_501, 4_501, 4_501]
    assert [starts.page_of(line) for line in (1, 2_000, 2_001, 4_501, 4_502, 10**12)] == [0, 0, 1, 3, 5, 5]


@pytest.mark.parametrize(("data", "last"), [(b"", 1), (b"\n", 1), (b"a", 1), (b"a\n", 1), (b"a\nb", 2), (b"\n\n", 2)])
def test_the_number_of_the_last_line(data, last):
    assert starts_of(data, "utf-8").last_line == last


def test_the_pages_of_a_file_are_limited(monkeypatch):
    monkeypatch.setattr(text_files, "MOST_PAGES", 3)
    starts = starts_of(b"\n" * 20_000, "utf-8")
    assert starts.done and len(starts.offsets) == 4 and starts.read < 20_000


def test_lines_end_in_one_way_and_wrong_bytes_are_kept():
    assert Text("utf-8").decode(b"a\r\nb\rc\n\xff") == "a\nb␍c\n\udcff"
    assert Text("utf-16le").decode("a\r\n".encode("utf-16-le") + b"\x00\xd8b\x00") == "a\n�b"


def matches_of(pieces, wanted):
    search = _Search(wanted.lower(), bytes.decode)
    for piece in pieces:
        search.feed(piece.encode())
    return [(each.line, each.before, each.found, each.after) for each in search.matches], search.lines


def test_lines_are_found_in_any_case_once_each():
    found, lines = matches_of(["no\nAn ERROR, error\nno\n", "no\nan error"], "Error")
    assert found == [(2, "An ", "ERROR", ", error"), (5, "an ", "error", "")] and lines == 2
    assert matches_of(["a.c\nabc"], "a.c")[1] == 1  # no pattern
    assert matches_of(["İx\nİERROR"], "error")[0][0][0] == 2  # a letter that is two as a small one


def test_long_lines_are_cut_around_a_match_and_few_are_listed():
    ((line, before, found, after),), _ = matches_of(["x" * 500 + "here" + "y" * 500], "here")
    assert (line, found) == (1, "here") and before == "…" + "x" * 100 and after == "y" * 100 + "…"
    found, lines = matches_of(["e\n" * 30_000], "e")
    assert (len(found), lines) == (200, 10_000)
