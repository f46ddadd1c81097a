"""Paging by cursor, for lists of unlimited length. A cursor is the id of a page's last item, opaque to clients."""

import base64
import binascii
from typing import Annotated
from uuid import UUID

from msgspec import Meta, Struct

from server.errors import Invalid, Problem


class CursorPage(Struct):
    """The query parameters of a list with a cursor. A `limit` above 500 is clamped, not refused."""

    limit: Annotated[int, Meta(ge=1)] | None = None
    cursor: Annotated[str, Meta(max_length=100)] | None = None

    @property
    def size(self) -> int:
        return min(self.limit or 100, 500)

    @property
    def before(self) -> UUID | None:
        """The id in the cursor: the page begins with the next older item. Raises Invalid."""
        if self.cursor is None:
            return None
        try:
            return UUID(bytes=base64.urlsafe_b64decode(self.cursor + "=" * (-len(self.cursor) % 4)))
        except (ValueError, binascii.Error):
            raise Invalid(Problem("cursor", "must be a next_cursor of an earlier reply")) from None


def cursor_of(last_id: UUID) -> str:
    """The cursor for the page after the item with this id."""
    return base64.urlsafe_b64encode(last_id.bytes).rstrip(b"=").decode()
