"""Bundles in the body of a request: results with all that belongs to them."""

import itertools
from collections.abc import Sequence
from typing import Annotated
from uuid import UUID

from msgspec import Meta, Struct, field

from server.bodies import checkpoints, logs, steps
from server.bodies.artifacts import MAX_KNOWN, ArtifactFields, ByteSize
from server.bodies.checkpoints import NewCheckpoint
from server.bodies.logs import NewConsoleEntry, NewNetworkEntry
from server.bodies.steps import NewStep
from server.bodies.test_cases import NewTestCase
from server.errors import Invalid, Problem
from server.http.fields import FreeText, Natural, Text2000
from server.redact.patterns import Patterns
from server.uploads.known import Known
from server.uploads.names import clean_file_name
from server.uploads.plan import Entry

MAX_TESTS = 500
MAX_ROWS = 10_000  # steps, checkpoints, log entries, or files that this request does not bring, of all tests


class BundledFile(ArtifactFields, kw_only=True):
    """A file of a test: the part `file_index`, bytes that are `known`, a file that comes `later`, or one that the
    client has `refused` to send, for this reason."""

    file_index: Natural | None = None
    known: bool = False
    later: bool = False
    refused: Text2000 | None = None
    file_size: ByteSize | None = None
    file_name: FreeText | None = None

    @property
    def is_here(self) -> bool:
        return not self.later and self.refused is None


class BundledTest(Struct):
    client_ref: UUID
    test: NewTestCase
    steps: Annotated[list[NewStep], Meta(max_length=MAX_ROWS)] = field(default_factory=list)
    checkpoints: Annotated[list[NewCheckpoint], Meta(max_length=MAX_ROWS)] = field(default_factory=list)
    console_logs: Annotated[list[NewConsoleEntry], Meta(max_length=MAX_ROWS)] = field(default_factory=list)
    network_logs: Annotated[list[NewNetworkEntry], Meta(max_length=MAX_ROWS)] = field(default_factory=list)
    artifacts: Annotated[list[BundledFile], Meta(max_length=1000)] = field(default_factory=list)

    def entries(self) -> list[Entry]:
        """The files of this request and the known ones, in the order in which the test has them."""
        known = itertools.count()
        return [
            Entry(next(known) if each.known else each.file_index, each, known=each.known)
            for each in self.artifacts
            if each.is_here
        ]

    def known(self) -> list[Known]:
        """The bytes that the project should have."""
        named = [each for each in self.artifacts if each.known]
        return [
            Known(i, clean_file_name(each.file_name or ""), (each.checksum or "").lower(), each.file_size or 0)
            for i, each in enumerate(named)
        ]


class Bundle(Struct):
    tests: Annotated[list[BundledTest], Meta(min_length=1, max_length=MAX_TESTS)]


async def prepare(bundle: Bundle, mask: bool, patterns: Patterns, size: int) -> None:
    """Checks a bundle, sets missing step types, and redacts credentials. `size`: its bytes. Raises Invalid."""
    tests = bundle.tests
    _check_counts(tests)
    seen = set[UUID]()
    for i, each in enumerate(tests):
        if each.client_ref in seen:
            raise Invalid(Problem(f"tests[{i}].client_ref", "is sent twice"))
        seen.add(each.client_ref)
        steps.check(each.steps, f"tests[{i}].steps")
        _check_checkpoints(each.checkpoints, f"tests[{i}].checkpoints")
        _check_files(each.artifacts, f"tests[{i}].artifacts")
    if mask:
        await steps.hide_passwords([step for each in tests for step in each.steps], size)
    await logs.redact_console([entry for each in tests for entry in each.console_logs], patterns, size)
    await logs.redact_network([entry for each in tests for entry in each.network_logs], patterns, size)


def _check_counts(tests: Sequence[BundledTest]) -> None:
    counts = {
        "steps": sum(len(each.steps) for each in tests),
        "checkpoints": sum(len(each.checkpoints) for each in tests),
        "refused and later files": sum(not file.is_here for each in tests for file in each.artifacts),
        "log entries": sum(len(each.console_logs) + len(each.network_logs) for each in tests),
    }
    for what, count in counts.items():
        if count > MAX_ROWS:
            raise Invalid(Problem("tests", f"must have at most {MAX_ROWS} {what} in all"))
    if sum(file.known for each in tests for file in each.artifacts) > MAX_KNOWN:
        raise Invalid(Problem("tests", f"must have at most {MAX_KNOWN} known files in all"))


def _check_checkpoints(items: Sequence[NewCheckpoint], path: str) -> None:
    checkpoints.refuse_duplicates(items, path)
    for i, item in enumerate(items):
        if item.screenshot_artifact_id is not None:  # the test is new, and so has no artifact with an id yet
            raise Invalid(Problem(f"{path}[{i}].screenshot_artifact_id", "must be absent in a bundle"))


def _check_files(files: Sequence[BundledFile], path: str) -> None:
    for i, file in enumerate(files):
        if (file.file_index is not None) + file.known + file.later + (file.refused is not None) != 1:
            raise Invalid(Problem(f"{path}[{i}]", "must have one of file_index, known, later and refused"))
        needed = ("file_name",) if file.refused is not None else ("checksum", "file_size", "file_name")
        for name in needed if file.file_index is None else ():
            if getattr(file, name) is None:
                raise Invalid(Problem(f"{path}[{i}].{name}", "is required"))
