"""A file of a result, for its page: what it is, and whether its bytes are there."""

from dataclasses import dataclass
from typing import Any, Literal
from uuid import UUID

from server.database.queries import SQL
from server.errors import ArtifactNotFound
from server.reports.panels import File

Kind = Literal["text", "json", "har", "html", "image", "video", "pdf", "other"]


@dataclass(slots=True)
class ResultFile(File):
    """`text_encoding`: utf-8, utf-16le, utf-16be or unknown; None when it is no text."""

    storage_path: str
    text_encoding: str | None

    @property
    def kind(self) -> Kind:
        """What a page can show of it, by its type alone: nothing is read."""
        family, _, subtype = self.mime_type.partition("/")
        if family in ("image", "video"):
            return "image" if family == "image" else "video"
        if subtype == "json":
            return "har" if self.type == "har" or self.name.lower().endswith(".har") else "json"
        if subtype in ("html", "pdf"):
            return "html" if subtype == "html" else "pdf"
        return "text" if self.text_encoding else "other"


async def of_case(where: Any, case_id: UUID, file_id: UUID) -> ResultFile:
    """The file of this result. Raises ArtifactNotFound."""
    row = await where.fetchrow(SQL.artifacts.of_result, file_id, case_id)
    if row is None:
        raise ArtifactNotFound()
    return ResultFile(*row)
