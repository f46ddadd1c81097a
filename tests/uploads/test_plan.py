"""server/uploads/plan.py: which files are accepted, and why others are refused. No disk, no event loop."""

import hashlib
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.uploads.content import ANYTHING, Verdict
from server.uploads.plan import Entry, dedupe_key, plan
from server.uploads.refusals import (
    CHECKSUM_MISMATCH,
    CONTENT_MISSING,
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
NOT_ALLOWED = not_allowed(ALLOWED, "image/gif", "image/gif")
GOOD = Verdict("image/png", intact=True, claimed=True)


@dataclass(frozen=True)
class Sent:
    """A staged file as the input of plan()."""

    index: int = 0
    file_name: str = "shot.png"
    size: int = 5
    path: Path = Path("staged")
    refusal: Refusal | None = None
    content: bytes = b"bytes"
    judged: Verdict = GOOD
    known: bool = False

    @property
    def checksum(self) -> str:
        return hashlib.sha256(self.content).hexdigest()

    def verdict(self) -> Verdict:
        return self.judged


@dataclass(frozen=True)
class Fields:
    """The metadata of a file as the client sends it."""

    artifact_type: str = "screenshot"
    step_number: int | None = None
    iteration_number: int | None = None
    artifact_category: str | None = None
    description: str | None = None
    captured_at: datetime | None = None
    checksum: str | None = None


def planned(files, entries):
    return plan(files, entries, ALLOWED)


def refusal_of(file: Sent, *entries: Entry) -> Refusal | None:
    """Why one file is refused; None when it is accepted."""
    made = planned([file], entries or [Entry(0, Fields())])
    assert len(made.accepted) + len(made.refused) == 1
    return made.refused[0].refusal if made.refused else None


def test_a_known_file_has_an_index_of_its_own_and_only_its_bytes_can_be_missing():
    sent, known = Sent(0), Sent(0, known=True)
    made = planned([sent, known], [Entry(0, Fields()), Entry(0, Fields(step_number=1), known=True)])
    assert [(item.file.known, item.fields.step_number) for item in made.accepted] == [(False, None), (True, 1)]
    for wrong in (Sent(judged=Verdict(None, True, False), known=True), Sent(refusal=CORRUPTED, known=True)):
        (refused,) = planned([wrong], [Entry(0, Fields(), known=True)]).refused
        assert (refused.refusal, refused.known) == (CONTENT_MISSING, True)
    (refused,) = planned([Sent(refusal=STORAGE_FULL, known=True)], [Entry(0, Fields(), known=True)]).refused
    assert refused.refusal == STORAGE_FULL
    (refused,) = planned([], [Entry(0, None, bad_field("checksum", "is required"), known=True)]).refused
    assert (refused.refusal.path, refused.known) == ("checksum", True)


def test_a_valid_file_is_accepted():
    file, fields = Sent(), Fields(step_number=3)
    (accepted,) = planned([file], [Entry(0, fields)]).accepted
    assert (accepted.file, accepted.fields, accepted.mime_type) == (file, fields, "image/png")
    assert accepted.iteration_number == 1
    assert accepted.dedupe_key == dedupe_key(fields, "shot.png", file.checksum)


UNKNOWN = Verdict(None, True, False, "unknown", as_text="text/plain", found="noise")
NOISE = not_allowed(ALLOWED, "noise", ANYTHING, may_be_text=True)
TOO_LARGE = too_large(10 << 20)


@pytest.mark.parametrize(
    ("file", "refusal"),
    [
        (Sent(judged=replace(GOOD, intact=False)), CORRUPTED),
        (Sent(judged=replace(GOOD, mime_type=None)), CORRUPTED),  # claims to be an image but has an unknown type
        (Sent(judged=replace(GOOD, mime_type=None, intact=False)), CORRUPTED),
        (Sent(judged=UNKNOWN), NOISE),
        (Sent(judged=replace(UNKNOWN, as_text=None)), not_allowed(ALLOWED, "noise", ANYTHING)),
        (Sent(judged=Verdict("image/gif", intact=True, claimed=True)), NOT_ALLOWED),
        (Sent(judged=Verdict("image/gif", intact=False, claimed=True)), NOT_ALLOWED),  # sending it again would not help
        (Sent(judged=Verdict("text/plain", intact=True, claimed=True)), None),  # a wrong file name is accepted
        (Sent(refusal=EMPTY, judged=UNKNOWN), EMPTY),
        (Sent(refusal=TOO_LARGE), TOO_LARGE),
        (Sent(refusal=STORAGE_FULL), STORAGE_FULL),
    ],
)
def test_the_refusal_of_a_file(file, refusal):
    assert refusal_of(file) == refusal


def test_the_artifact_types_log_and_har_make_an_unknown_format_text():
    for artifact_type in ("log", "har"):
        (accepted,) = planned([Sent(judged=UNKNOWN)], [Entry(0, Fields(artifact_type))]).accepted
        assert (accepted.mime_type, accepted.text_encoding) == ("text/plain", "unknown")
    for artifact_type in ("screenshot", "video", "other"):
        assert refusal_of(Sent(judged=UNKNOWN), Entry(0, Fields(artifact_type))) == NOISE
    no_text = replace(UNKNOWN, as_text=None, claimed=True)
    assert refusal_of(Sent(judged=no_text), Entry(0, Fields("log"))) == CORRUPTED


@pytest.mark.parametrize(
    ("judged", "artifact_type", "stored"),
    [
        (GOOD, "other", ("image/png", None)),
        (UNKNOWN, "other", (ANYTHING, None)),
        (UNKNOWN, "log", ("text/plain", "unknown")),
        (Verdict("video/webm", True, False), "video", (ANYTHING, None)),
        (Verdict("text/html", True, False, "utf-8"), "log", (ANYTHING, None)),
        (Verdict("image/gif", False, True), "screenshot", CORRUPTED),
        (replace(UNKNOWN, claimed=True, as_text=None), "screenshot", CORRUPTED),
    ],
)
def test_application_octet_stream_allows_every_file_that_is_not_damaged(judged, artifact_type, stored):
    made = plan([Sent(judged=judged)], [Entry(0, Fields(artifact_type))], [*ALLOWED, ANYTHING])
    found = [(item.mime_type, item.text_encoding) for item in made.accepted] + [item.refusal for item in made.refused]
    assert found == [stored]


def test_a_file_with_invalid_missing_or_several_entries_is_refused():
    wrong = bad_field("step_number", "must be at least 0")
    assert refusal_of(Sent(), Entry(0, None, wrong)) == wrong
    made = planned([Sent()], [])
    assert [item.refusal for item in made.refused] == [NO_METADATA]
    made = planned([Sent()], [Entry(0, Fields()), Entry(0, Fields())])
    assert [item.refusal for item in made.refused] == [MANY_ENTRIES] and not made.accepted
    made = planned([Sent()], [Entry(0, Fields()), Entry(0, None, wrong)])
    assert [item.refusal for item in made.refused] == [MANY_ENTRIES]


def test_the_refusal_of_a_file_takes_precedence_over_its_metadata():
    wrong = bad_field("step_number", "must be at least 0")
    for entries in ([], [Entry(0, None, wrong)], [Entry(0, Fields()), Entry(0, Fields())]):
        assert [item.refusal for item in planned([Sent(refusal=TOO_LARGE)], entries).refused] == [TOO_LARGE]


def test_a_wrong_checksum_is_refused():
    right = Sent().checksum
    assert refusal_of(Sent(), Entry(0, Fields(checksum=right))) is None
    assert refusal_of(Sent(), Entry(0, Fields(checksum=right.upper()))) is None
    assert refusal_of(Sent(), Entry(0, Fields(checksum="0" * 64))) == CHECKSUM_MISMATCH
    # A truncated image has a wrong checksum, too. CORRUPTED is the more useful error.
    assert refusal_of(Sent(judged=replace(GOOD, intact=False)), Entry(0, Fields(checksum="0" * 64))) == CORRUPTED


def test_entries_without_a_file_are_refused_with_their_index():
    wrong = bad_field("file_index", "is required")
    valid = [Entry(index, Fields()) for index in (7, 0, 7)]
    entries = [*valid[:2], Entry(None, None, wrong), Entry(-1, None, wrong), valid[2]]
    made = planned([Sent()], entries)
    assert len(made.accepted) == 1
    assert [(item.index, item.file_name, item.refusal) for item in made.refused] == [
        (7, None, NO_FILE),
        (7, None, NO_FILE),
        (None, None, wrong),
        (-1, None, NO_FILE),
    ]


def test_a_refused_file_does_not_affect_the_others():
    files = [Sent(0), Sent(1, "cut.png", judged=replace(GOOD, intact=False)), Sent(2), Sent(3, "none.png"), Sent(4)]
    made = planned(files, [Entry(index, Fields(step_number=index)) for index in (4, 2, 1, 0)])
    assert [(item.file.index, item.fields.step_number) for item in made.accepted] == [(0, 0), (2, 2), (4, 4)]
    assert [(item.index, item.file_name) for item in made.refused] == [(1, "cut.png"), (3, "none.png")]


@given(
    st.lists(st.sampled_from([None, EMPTY, TOO_LARGE]), max_size=6),
    st.lists(st.tuples(st.none() | st.integers(-1, 7), st.booleans()), max_size=10),
)
def test_every_file_and_entry_is_accepted_or_refused(refusals, sent):
    files = [Sent(index, f"{index}.png", refusal=refusal) for index, refusal in enumerate(refusals)]
    wrong = bad_field("x", "is wrong")
    entries = [Entry(index, Fields() if good else None, None if good else wrong) for index, good in sent]
    made = planned(files, entries)
    with_file = [item.file.index for item in made.accepted] + [i.index for i in made.refused if i.file_name is not None]
    assert sorted(with_file) == list(range(len(files)))
    without_file = [item for item in made.refused if item.file_name is None]
    assert len(without_file) == sum(index is None or not 0 <= index < len(files) for index, _ in sent)
    for item in made.accepted:
        assert files[item.file.index].refusal is None
        assert [good for index, good in sent if index == item.file.index] == [True]


def test_the_fields_that_decide_the_dedupe_key():
    fields = Fields("log", 1, 2, "after", "first", datetime(2026, 1, 1, tzinfo=UTC), "0" * 64)
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
    assert dedupe_key(Fields(), "a", "c") == dedupe_key(Fields(iteration_number=1), "a", "c")
    # The fields are separated: characters that move from one field to the next change the key.
    one, other = Fields(step_number=1, iteration_number=11), Fields(step_number=11, iteration_number=1)
    assert dedupe_key(one, "a", "c") != dedupe_key(other, "a", "c")


texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=4)
artifacts = st.tuples(
    texts, st.none() | st.integers(0, 30), st.integers(1, 30), st.none() | texts.filter(bool), texts, texts
)


@given(artifacts, artifacts)
def test_different_artifacts_have_different_keys(one, other):
    def key(artifact):
        kind, step, iteration, category, name, checksum = artifact
        return dedupe_key(Fields(kind, step, iteration, category), name, checksum)

    assert (key(one) == key(other)) == (one == other)


def test_error_texts_of_refusals():
    assert too_large(10 << 20).sentence == "File size exceeds maximum allowed (10MB)"
    assert too_large(1 << 20).sentence == "File size exceeds maximum allowed (1MB)"
    assert too_large(3 << 19).sentence == "File size exceeds maximum allowed (1.5MB)"
    assert too_large((10 << 20) + 1).sentence == "File size exceeds maximum allowed (10.0MB)"
    assert NOT_ALLOWED.sentence == (
        "File type not allowed. Allowed types: image/png, text/plain. Found: image/gif. "
        'A site can allow such files: with "image/gif" in [artifacts] allowed_types of its configuration'
    )
    assert NOISE.sentence == (
        "File type not allowed. Allowed types: image/png, text/plain. Found: noise. "
        "It is kept as text under a name like a.log, or with artifact_type log. "
        'A site can allow such files: with "application/octet-stream" in [artifacts] allowed_types of its configuration'
    )
    assert bad_field("step_number", "must be at least 0").sentence == "step_number: must be at least 0"
    assert bad_field("", "must be an object").sentence == "must be an object"
    by_server = [r for r in (EMPTY, CORRUPTED, CHECKSUM_MISMATCH, TOO_LARGE, NOT_ALLOWED, STORAGE_FULL) if r.by_server]
    assert by_server == [STORAGE_FULL]
