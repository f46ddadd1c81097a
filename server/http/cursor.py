"""Cursors of lists that grow without end: the last id of a page, as text for a URL. Ids ascend with time."""

import base64
import binascii
from uuid import UUID

from server.errors import Invalid, Problem


def out(last: UUID) -> str:
    """The cursor behind an id."""
    return base64.urlsafe_b64encode(last.bytes).rstrip(b"=").decode()


def read(cursor: str | None) -> UUID | None:
    """The id of a cursor. Raises Invalid for what `out` has not made."""
    if cursor is None:
        return None
    try:
        return UUID(bytes=base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except (ValueError, binascii.Error):
        raise Invalid(Problem("cursor", "must be a next_cursor of an earlier reply")) from None
