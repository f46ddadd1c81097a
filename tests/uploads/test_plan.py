"""server/uploads/plan.py: which files are kept, which are not and why. No disk, no loop."""

import hashlib
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.uploads.content import Verdict
from server.uploads.plan import Entry, dedupe_key, plan
from server.uploads.refusals import (
    CHECKSUM_MISMATCH,
    CORRUPTED,
    EMPTY,
    MANY_ENTRIES,
    NO_FILE,
    NO_METADATA,
    STORAGE_FULL,
    Refusal,
    bad_field,
    not_allowed,
    too_large,
)

ALLOWED = ["image/png", "text/plain"]
NOT_ALLOWED = not_allowed(ALLOWED)
GOOD = Verdict("image/png", whole=True, claimed=True)


@dataclass(frozen=True)
class Sent:
    """A file as the plan sees it."""

    index: int = 0
    file_name: str = "shot.png"
    size: int = 5
    path: Path = Path("staged")
    refusal: Refusal | None = None
    content: bytes = b"bytes"
    what: Verdict = GOOD

    @property
    def checksum(self) -> str:
        return hashlib.sha256(self.content).hexdigest()

    def verdict(self) -> Verdict:
        return self.what


@dataclass(frozen=True)
class Said:
    """What a client says of a file."""

    artifact_type: str = "screenshot"
    step_number: int | None = None
    iteration_number: int | None = None
    artifact_category: str | None = None
    description: str | None = None
    captured_at: datetime | None = None
    checksum: str | None = None


def planned(files, entries):
    return plan(files, entries, ALLOWED, NOT_ALLOWED)


def refusal_of(file: Sent, *entries: Entry) -> Refusal | None:
    """Why one file is refused; None when it is accepted."""
    made = planned([file], entries or [Entry(0, Said())])
    assert len(made.accepted) + len(made.refused) == 1
    return made.refused[0].refusal if made.refused else None


def test_a_good_file_is_accepted_as_it_is():
    file, fields = Sent(), Said(step_number=3)
    (accepted,) = planned([file], [Entry(0, fields)]).accepted
    assert (accepted.file, accepted.fields, accepted.mime_type) == (file, fields, "image/png")
    assert accepted.iteration_number == 1
    assert accepted.dedupe_key == dedupe_key(fields, "shot.png", file.checksum)


UNKNOWN = Verdict(None, whole=True, claimed=False)
TOO_LARGE = too_large(10 << 20)


@pytest.mark.parametrize(
    ("file", "refusal"),
    [
        (Sent(what=replace(GOOD, whole=False)), CORRUPTED),
        (Sent(what=replace(GOOD, mime_type=None)), CORRUPTED),  # says that it is an image and is nothing known
        (Sent(what=replace(GOOD, mime_type=None, whole=False)), CORRUPTED),
        (Sent(what=UNKNOWN), NOT_ALLOWED),
        (Sent(what=Verdict("image/gif", whole=True, claimed=True)), NOT_ALLOWED),
        (Sent(what=Verdict("image/gif", whole=False, claimed=True)), NOT_ALLOWED),  # not worth sending again
        (Sent(what=Verdict("text/plain", whole=True, claimed=True)), None),  # a wrong name refuses nothing
        (Sent(refusal=EMPTY, what=UNKNOWN), EMPTY),
        (Sent(refusal=TOO_LARGE), TOO_LARGE),
        (Sent(refusal=STORAGE_FULL), STORAGE_FULL),
    ],
)
def test_what_is_wrong_with_a_file(file, refusal):
    assert refusal_of(file) == refusal


def test_what_is_wrong_with_its_metadata():
    wrong = bad_field("step_number", "must be >= 0")
    assert refusal_of(Sent(), Entry(0, None, wrong)) == wrong
    made = planned([Sent()], [])
    assert [item.refusal for item in made.refused] == [NO_METADATA]
    made = planned([Sent()], [Entry(0, Said()), Entry(0, Said())])
    assert [item.refusal for item in made.refused] == [MANY_ENTRIES] and not made.accepted
    made = planned([Sent()], [Entry(0, Said()), Entry(0, None, wrong)])
    assert [item.refusal for item in made.refused] == [MANY_ENTRIES]


def test_a_file_that_could_not_be_taken_says_so_whatever_its_metadata():
    wrong = bad_field("step_number", "must be >= 0")
    for entries in ([], [Entry(0, None, wrong)], [Entry(0, Said()), Entry(0, Said())]):
        assert [item.refusal for item in planned([Sent(refusal=TOO_LARGE)], entries).refused] == [TOO_LARGE]


def test_the_checksum():
    right = Sent().checksum
    assert refusal_of(Sent(), Entry(0, Said(checksum=right))) is None
    assert refusal_of(Sent(), Entry(0, Said(checksum=right.upper()))) is None
    assert refusal_of(Sent(), Entry(0, Said(checksum="0" * 64))) == CHECKSUM_MISMATCH
    # A cut image has another checksum as well; that it is cut says more.
    assert refusal_of(Sent(what=replace(GOOD, whole=False)), Entry(0, Said(checksum="0" * 64))) == CORRUPTED


def test_entries_without_a_file_are_named():
    wrong = bad_field("file_index", "is required")
    entries = [Entry(7, Said()), Entry(0, Said()), Entry(None, None, wrong), Entry(-1, None, wrong), Entry(7, Said())]
    made = planned([Sent()], entries)
    assert len(made.accepted) == 1
    assert [(item.index, item.file_name, item.refusal) for item in made.refused] == [
        (7, None, NO_FILE),
        (7, None, NO_FILE),
        (None, None, wrong),
        (-1, None, NO_FILE),
    ]


def test_one_bad_file_never_hurts_the_others():
    files = [Sent(0), Sent(1, "cut.png", what=replace(GOOD, whole=False)), Sent(2), Sent(3, "none.png"), Sent(4)]
    made = planned(files, [Entry(index, Said(step_number=index)) for index in (4, 2, 1, 0)])
    assert [(item.file.index, item.fields.step_number) for item in made.accepted] == [(0, 0), (2, 2), (4, 4)]
    assert [(item.index, item.file_name) for item in made.refused] == [(1, "cut.png"), (3, "none.png")]


@given(
    st.lists(st.sampled_from([None, EMPTY, TOO_LARGE]), max_size=6),
    st.lists(st.tuples(st.none() | st.integers(-1, 7), st.booleans()), max_size=10),
)
def test_nothing_that_was_sent_is_lost(refusals, sent):
    files = [Sent(index, f"{index}.png", refusal=refusal) for index, refusal in enumerate(refusals)]
    wrong = bad_field("x", "is wrong")
    entries = [Entry(index, Said() if good else None, None if good else wrong) for index, good in sent]
    made = planned(files, entries)
    with_file = [item.file.index for item in made.accepted] + [i.index for i in made.refused if i.file_name is not None]
    assert sorted(with_file) == list(range(len(files)))
    lonely = [item for item in made.refused if item.file_name is None]
    assert len(lonely) == sum(index is None or not 0 <= index < len(files) for index, _ in sent)
    for item in made.accepted:
        assert files[item.file.index].refusal is None
        assert [good for index, good in sent if index == item.file.index] == [True]


def test_what_makes_two_artifacts_the_same():
    fields = Said("log", 1, 2, "after", "first", datetime(2026, 1, 1, tzinfo=UTC), "0" * 64)
    key = dedupe_key(fields, "a.png", "c" * 64)
    assert len(key) == 16
    for change in ({"description": None}, {"captured_at": None}, {"checksum": None}):
        assert dedupe_key(replace(fields, **change), "a.png", "c" * 64) == key
    other = {
        dedupe_key(replace(fields, **change), "a.png", "c" * 64)
        for change in (
            {"artifact_type": "har"},
            {"step_number": 2},
            {"step_number": 0},
            {"step_number": None},
            {"iteration_number": 1},
            {"iteration_number": 3},
            {"artifact_category": None},
            {"artifact_category": "before"},
        )
    }
    other |= {dedupe_key(fields, "b.png", "c" * 64), dedupe_key(fields, "a.png", "d" * 64)}
    assert len(other | {key}) == 11
    assert dedupe_key(Said(), "a", "c") == dedupe_key(Said(iteration_number=1), "a", "c")
    # Nothing can pass from one field into the next.
    one, other = Said(step_number=1, iteration_number=11), Said(step_number=11, iteration_number=1)
    assert dedupe_key(one, "a", "c") != dedupe_key(other, "a", "c")


words = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=4)
wholes = st.tuples(
    words, st.none() | st.integers(0, 30), st.integers(1, 30), st.none() | words.filter(bool), words, words
)


@given(wholes, wholes)
def test_different_things_never_share_a_key(one, other):
    def key(what):
        kind, step, iteration, category, name, checksum = what
        return dedupe_key(Said(kind, step, iteration, category), name, checksum)

    assert (key(one) == key(other)) == (one == other)


def test_sentences():
    assert too_large(10 << 20).sentence == "File size exceeds maximum allowed (10MB)"
    assert too_large(1 << 20).sentence == "File size exceeds maximum allowed (1MB)"
    assert too_large(3 << 19).sentence == "File size exceeds maximum allowed (1.5MB)"
    assert too_large((10 << 20) + 1).sentence == "File size exceeds maximum allowed (10.0MB)"
    assert NOT_ALLOWED.sentence == "File type not allowed. Allowed types: image/png, text/plain"
    assert bad_field("step_number", "must be >= 0").sentence == "step_number: must be >= 0"
    assert bad_field("", "must be an object").sentence == "must be an object"
    by_server = [r for r in (EMPTY, CORRUPTED, CHECKSUM_MISMATCH, TOO_LARGE, NOT_ALLOWED, STORAGE_FULL) if r.by_server]
    assert by_server == [STORAGE_FULL]
