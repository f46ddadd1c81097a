"""Files that a client named and that a bundle did not bring: they are still expected. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from server.uploads.known import Known
from server.uploads.names import clean_file_name
from server.uploads.plan import Refused
from server.uploads.refusals import CONTENT_MISSING, Refusal


class Named(Protocol):
    """An entry of a bundle: what it says about its file."""

    @property
    def file_index(self) -> int | None: ...
    @property
    def later(self) -> bool: ...
    @property
    def refused(self) -> str | None: ...
    @property
    def checksum(self) -> str | None: ...
    @property
    def file_size(self) -> int | None: ...
    @property
    def file_name(self) -> str | None: ...


class Received(Protocol):
    """A file of a bundle. Its checksum is that of its whole content only if nothing had been wrong with it before."""

    size: int
    checksum: str
    refusal: Refusal | None


@dataclass(frozen=True, slots=True)
class Expected:
    """A file that is not there. `checksum` and `file_name` are empty when they are not known."""

    checksum: str
    file_name: str
    file_size: int | None
    reason: str


def expected(
    entries: Sequence[Named], known: Sequence[Known], refused: Sequence[Refused], files: Mapping[int, Received]
) -> Iterator[Expected]:
    """What is still expected of a test: its entries that come later, and those whose file was refused, here or by the
    client. `known`: the bytes that it named, `files`: those of the request by their index."""
    for entry in entries:
        if entry.later or entry.refused is not None:
            yield _of_entry(entry, None, None, "later" if entry.refused is None else f"refused: {entry.refused}")
    for item in refused:
        reason = "content missing" if item.refusal == CONTENT_MISSING else f"refused: {item.refusal.sentence}"
        if item.known and item.index is not None:
            named = known[item.index]
            yield Expected(named.checksum, named.file_name, named.size, reason)
        else:
            match = next((each for each in entries if each.file_index == item.index), None)
            yield _of_entry(match, files.get(-1 if item.index is None else item.index), item.file_name, reason)


def _of_entry(entry: Named | None, file: Received | None, name: str | None, reason: str) -> Expected:
    """What the client says about its file counts first: a file with another checksum is not what it meant."""
    whole = file is not None and file.refusal is None
    checksum = (entry and entry.checksum) or (file.checksum if file and whole else "")
    sent = entry.file_name if entry else None
    size = (entry and entry.file_size) or (file.size if file else None)
    return Expected(checksum.lower(), name or (clean_file_name(sent) if sent else ""), size, reason)
