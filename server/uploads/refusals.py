"""Why one file of a request is not kept. A bad file is a value; it never hurts the others."""

from dataclasses import dataclass

MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Refusal:
    """`sentence` and `code` as in the contract, section 6; `status` is that of a single upload."""

    sentence: str
    code: str
    status: int = 422
    path: str = ""  # the field that is wrong, if it is one

    @property
    def by_server(self) -> bool:
        """Not the file's fault: the same file may be taken later."""
        return self.status >= 500


EMPTY = Refusal("File is empty", "file_empty")
CORRUPTED = Refusal("File corrupted or unreadable", "file_corrupted")
CHECKSUM_MISMATCH = Refusal("Checksum mismatch", "checksum_mismatch")
NO_METADATA = Refusal("No metadata for this file", "no_metadata")
NO_FILE = Refusal("No file with this index", "no_file")
MANY_ENTRIES = Refusal("More than one metadata entry for this file", "duplicate_metadata")
STORAGE_FULL = Refusal("Storage is full", "storage_full", 507)


def too_large(limit: int) -> Refusal:
    """S1's sentence: whole MiB as MB, else one decimal."""
    megabytes = str(limit // MIB) if limit % MIB == 0 else f"{limit / MIB:.1f}"
    return Refusal(f"File size exceeds maximum allowed ({megabytes}MB)", "file_too_large", 413)


def not_allowed(allowed: list[str]) -> Refusal:
    """S1's sentence with the types of the configuration, in its order."""
    return Refusal(f"File type not allowed. Allowed types: {', '.join(allowed)}", "type_not_allowed", 415)


def bad_field(path: str, message: str) -> Refusal:
    """A metadata entry with a wrong value."""
    return Refusal(f"{path}: {message}" if path else message, "invalid", path=path)
