"""The metadata of files in the body of a request."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from msgspec import Meta, Struct

from server.errors import Invalid, Problem
from server.http import decode
from server.http.fields import FreeText, Instant, Natural, Positive, Sha256
from server.http.repair import MAX_WARNINGS
from server.reports.words import ArtifactType, Category
from server.uploads.known import Known
from server.uploads.names import clean_file_name
from server.uploads.plan import Entry
from server.uploads.refusals import bad_field

MAX_KNOWN = 500  # known files in one request

ByteSize = Annotated[int, Meta(ge=1, le=2**63 - 1)]


class ArtifactFields(Struct):
    """The metadata of a file: form fields of a single upload, or an entry of the `metadata` of a batch."""

    artifact_type: ArtifactType
    step_number: Natural | None = None
    iteration_number: Positive | None = None
    artifact_category: Category | None = None
    description: FreeText | None = None
    captured_at: Instant | None = None
    checksum: Sha256 | None = None


class ArtifactEntry(ArtifactFields, kw_only=True):
    file_index: Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]


class KnownEntry(ArtifactFields, kw_only=True):
    """An entry without a file part: the project has these bytes already."""

    known: bool
    checksum: Sha256
    file_size: ByteSize
    file_name: FreeText


@dataclass(slots=True)
class Entries:
    """The entries of a request, and the bytes that those with `known` name."""

    of_files: list[Entry]
    known: list[Known]


def entries_of(sent: Sequence[dict[str, Any]], warnings: list[Problem], path: str = "metadata") -> Entries:
    """Decoded JSON as entries. One with a wrong value has a refusal, and does not affect the others.

    Raises Invalid for too many known files. `path`: of the list in the request.
    """
    found = Entries([], [])
    number = 0  # of the next known entry
    for i, each in enumerate(sent):
        is_known = each.get("known") is True
        index = number if is_known else _file_index(each)
        number += is_known
        entry = _entry(index, each, is_known, f"{path}[{i}]", warnings)
        found.of_files.append(entry)
        if is_known and isinstance(entry.fields, KnownEntry):
            found.known.append(_known(number - 1, entry.fields))
    if number > MAX_KNOWN:
        raise Invalid(Problem(path, f"must have at most {MAX_KNOWN} known files"))
    return found


def _known(index: int, fields: KnownEntry) -> Known:
    return Known(index, clean_file_name(fields.file_name), fields.checksum.lower(), fields.file_size)


def _file_index(entry: dict[str, Any]) -> int | None:
    number = entry.get("file_index")
    if isinstance(number, float) and number.is_integer():
        number = int(number)
    # JSON clients handle integers below 2**53 exactly; `true` is not a number.
    return number if type(number) is int and abs(number) < 2**53 else None


def _entry(index: int | None, entry: dict[str, Any], is_known: bool, path: str, warnings: list[Problem]) -> Entry:
    repairs: list[Problem] = []
    try:
        fields = decode.from_plain(entry, KnownEntry if is_known else ArtifactEntry, repairs)
    except Invalid as error:
        problem = error.problems[0]
        return Entry(index, None, bad_field(problem.path, problem.message), is_known)
    warnings += list(_below(path, repairs))[: MAX_WARNINGS - len(warnings)]
    return Entry(index, fields, known=is_known)


def _below(path: str, problems: Sequence[Problem]) -> Iterator[Problem]:
    for each in problems:
        yield Problem(f"{path}.{each.path}", each.message)
