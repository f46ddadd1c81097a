"""Reasons to refuse one file of a request. A refusal is a value, not an exception: the other files are stored."""

from collections.abc import Iterable
from dataclasses import dataclass

MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Refusal:
    """`sentence` and `code` are part of the API; `status` is the status of the reply to a single upload."""

    sentence: str
    code: str
    status: int = 422
    path: str = ""  # the wrong field, if a field is the reason

    @property
    def by_server(self) -> bool:
        """Whether the server is the cause: the same file may be accepted later."""
        return self.status >= 500


EMPTY = Refusal("File is empty", "file_empty")
CORRUPTED = Refusal("File corrupted or unreadable", "file_corrupted")
CHECKSUM_MISMATCH = Refusal("Checksum mismatch", "checksum_mismatch")
NO_METADATA = Refusal("No metadata for this file", "no_metadata")
NO_FILE = Refusal("No file with this index", "no_file")
MANY_ENTRIES = Refusal("More than one metadata entry for this file", "duplicate_metadata")
CONTENT_MISSING = Refusal(
    "The project does not have these bytes any more, or not as a file of this type. Send the file", "content_missing"
)
STORAGE_FULL = Refusal("Storage is full", "storage_full", 507)


def too_large(limit: int) -> Refusal:
    """The sentence of the specification, with the limit as a whole number or with one decimal. Its MB are MiB."""
    megabytes = str(limit // MIB) if limit % MIB == 0 else f"{limit / MIB:.1f}"
    return Refusal(f"File size exceeds maximum allowed ({megabytes}MB)", "file_too_large", 413)


def not_allowed(allowed: Iterable[str], found: str, missing: str, may_be_text: bool = False) -> Refusal:
    """The sentence of the specification, with the configured types in their order; then what the file is instead.

    `missing`: the type that a site must allow for the file. `may_be_text`: it is kept if the client says it is text.
    """
    sentence = f"File type not allowed. Allowed types: {', '.join(allowed)}. Found: {found}."
    if may_be_text:
        sentence += " It is kept as text under a name like a.log, or with artifact_type log."
    sentence += f' A site can allow such files: with "{missing}" in [artifacts] allowed_types of its configuration'
    return Refusal(sentence, "type_not_allowed", 415)


def bad_field(path: str, message: str) -> Refusal:
    """The refusal for a metadata entry with a wrong value."""
    return Refusal(f"{path}: {message}" if path else message, "invalid", path=path)
