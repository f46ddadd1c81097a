"""Matches staged files with their metadata and decides which are accepted and which refused. Pure: no I/O, no clock."""

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from server.uploads.content import ANYTHING, Verdict
from server.uploads.refusals import (
    CHECKSUM_MISMATCH,
    CONTENT_MISSING,
    CORRUPTED,
    MANY_ENTRIES,
    NO_FILE,
    NO_METADATA,
    Refusal,
    not_allowed,
)


class Fields(Protocol):
    """The fields that the client sent with a file."""

    @property
    def artifact_type(self) -> str: ...
    @property
    def step_number(self) -> int | None: ...
    @property
    def iteration_number(self) -> int | None: ...
    @property
    def artifact_category(self) -> str | None: ...
    @property
    def description(self) -> str | None: ...
    @property
    def captured_at(self) -> datetime | None: ...
    @property
    def checksum(self) -> str | None: ...


class File(Protocol):
    """A received file and its measured properties. `known`: its bytes are those of the project, see known.py."""

    index: int
    known: bool
    file_name: str
    size: int
    path: str
    checksum: str
    refusal: Refusal | None

    def verdict(self) -> Verdict: ...


@dataclass(frozen=True, slots=True)
class Entry:
    """A metadata entry: its fields, or the refusal when they are wrong. `index` None: it has no valid file_index.

    `known`: the entry names bytes of the project; `index` counts such entries.
    """

    index: int | None
    fields: Fields | None
    refusal: Refusal | None = None
    known: bool = False


@dataclass(frozen=True, slots=True)
class Accepted:
    """A file to store."""

    file: File
    fields: Fields
    mime_type: str
    text_encoding: str | None
    dedupe_key: bytes

    @property
    def iteration_number(self) -> int:
        return self.fields.iteration_number or 1


@dataclass(frozen=True, slots=True)
class Refused:
    """A refused file, or a metadata entry without a file."""

    index: int | None
    file_name: str | None
    refusal: Refusal
    known: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    accepted: list[Accepted]
    refused: list[Refused]


def plan(files: Sequence[File], entries: Sequence[Entry], allowed_types: Collection[str]) -> Plan:
    """Match each file with its entry, in the order sent. A bad file or entry does not affect the others."""
    by_index: dict[tuple[bool, int | None], list[Entry]] = {}
    for entry in entries:
        by_index.setdefault((entry.known, entry.index), []).append(entry)
    accepted: list[Accepted] = []
    refused: list[Refused] = []
    for file in files:
        matching = by_index.pop((file.known, file.index), [])
        verdict = _judge(file, matching, allowed_types)
        if not isinstance(verdict, Refusal):
            accepted.append(verdict)
        elif file.known and not verdict.by_server:
            # Whatever is wrong with stored bytes, the client gets the final word on the file when it sends it.
            refused.append(Refused(file.index, file.file_name, CONTENT_MISSING, known=True))
        else:
            refused.append(Refused(file.index, file.file_name, verdict, file.known))
    for (known, index), unmatched in by_index.items():
        for entry in unmatched:
            own = entry.refusal if known or index is None else None
            refused.append(Refused(index, None, own or NO_FILE, known))
    return Plan(accepted, refused)


def dedupe_key(fields: Fields, file_name: str, checksum: str) -> bytes:
    """A 16-byte hash, equal when the same artifact is sent again: type, iteration, step, category, name and bytes."""
    parts = (
        fields.artifact_type,
        str(fields.iteration_number or 1),
        "" if fields.step_number is None else str(fields.step_number),
        fields.artifact_category or "",
        file_name,
        checksum,
    )
    return hashlib.blake2b("\0".join(parts).encode(), digest_size=16).digest()


def _judge(file: File, entries: list[Entry], allowed_types: Collection[str]) -> Accepted | Refusal:
    if file.refusal is not None:
        return file.refusal
    if len(entries) != 1:
        return MANY_ENTRIES if entries else NO_METADATA
    fields = entries[0].fields
    if fields is None:
        return entries[0].refusal or NO_METADATA
    verdict = file.verdict()
    mime_type = verdict.type_as(fields.artifact_type)
    allowed = mime_type in allowed_types
    if not allowed and mime_type is not None and ANYTHING not in allowed_types:
        return not_allowed(allowed_types, mime_type, missing=mime_type)
    if verdict.corrupted:
        return CORRUPTED
    if not allowed and ANYTHING not in allowed_types:
        return not_allowed(allowed_types, verdict.found, ANYTHING, may_be_text=verdict.as_text is not None)
    if fields.checksum is not None and fields.checksum.lower() != file.checksum:
        return CHECKSUM_MISMATCH
    key = dedupe_key(fields, file.file_name, file.checksum)
    if not allowed or mime_type is None:
        return Accepted(file, fields, ANYTHING, None, key)
    return Accepted(file, fields, mime_type, verdict.text_encoding, key)
