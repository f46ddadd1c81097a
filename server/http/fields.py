"""The types of fields in request bodies and queries, with limits that are checked while decoding.

A class with `parse` decodes its own values. The text of its ValueError goes to the client.
"""

from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar, Self

import orjson
from msgspec import Meta, Struct

from server.redact.rules import redact_headers

INT32_MAX = 2**31 - 1
MAX_OBJECT_BYTES = 64 << 10
MAX_OBJECT_DEPTH = 32

IndexedText = Annotated[str, Meta(max_length=500)]  # stored in a B-tree index, which limits the size of a value
RequiredText = Annotated[str, Meta(min_length=1, max_length=500)]
FreeText = Annotated[str, Meta(max_length=1 << 20)]
Text50 = Annotated[str, Meta(max_length=50)]
Text64 = Annotated[str, Meta(max_length=64)]
Text100 = Annotated[str, Meta(max_length=100)]
Text255 = Annotated[str, Meta(max_length=255)]
Text2000 = Annotated[str, Meta(max_length=2000)]
Natural = Annotated[int, Meta(ge=0, le=INT32_MAX)]
Positive = Annotated[int, Meta(ge=1, le=INT32_MAX)]
Tags = Annotated[list[Annotated[str, Meta(min_length=1, max_length=500)]], Meta(max_length=100)]

# The error text for each pattern.
PATTERNS = {"^[0-9a-fA-F]{64}$": "must be 64 hexadecimal digits"}
Sha256 = Annotated[str, Meta(pattern="^[0-9a-fA-F]{64}$")]


class Instant(datetime):
    """ISO 8601 with any offset; a missing offset means UTC. Years 1970 to 9998."""

    @classmethod
    def parse(cls, value: object) -> "Instant":
        try:
            if not isinstance(value, str):
                raise ValueError
            moment = cls.fromisoformat(value)
            moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
        except (ValueError, OverflowError):
            raise ValueError("must be an ISO 8601 time like 2026-01-24T12:00:00.000Z") from None
        if not 1970 <= moment.year <= 9998:
            raise ValueError("must lie in the years 1970 to 9998")
        return moment

    schema = {"type": "string", "format": "date-time"}  # noqa: RUF012 - a constant, never changed


class JsonObject:
    """A JSON object of at most 64 KiB and 32 levels: encoded as `json`, decoded as `value`."""

    __slots__ = ("json", "value")

    def __init__(self, value: dict[str, Any], json: bytes) -> None:
        self.value, self.json = value, json

    @classmethod
    def parse(cls, value: object) -> Self:
        if not isinstance(value, dict):
            raise ValueError("must be an object")
        if _deeper_than(value, MAX_OBJECT_DEPTH):
            raise ValueError(f"must not be nested deeper than {MAX_OBJECT_DEPTH} levels")
        try:
            json = orjson.dumps(value)
        except orjson.JSONEncodeError:
            raise ValueError("must hold numbers of at most 64 bits") from None
        if len(json) > MAX_OBJECT_BYTES:
            raise ValueError("must be at most 64 KiB as JSON")
        return cls(value, json)

    @classmethod
    def of(cls, value: dict[str, Any]) -> Self:
        """Without the checks, for an object that is derived from a checked one."""
        return cls(value, orjson.dumps(value))

    schema: ClassVar[dict[str, Any]] = {"type": "object"}


class HeaderMap(JsonObject):
    """HTTP headers as a JSON object of strings or lists of strings; credentials are redacted."""

    __slots__ = ()

    @classmethod
    def parse(cls, value: object) -> Self:
        if not isinstance(value, dict):
            raise ValueError("must be an object")
        for item in value.values():
            strings = item if isinstance(item, list) else [item]
            if not all(isinstance(text, str) for text in strings):
                raise ValueError("must hold strings or lists of strings")
        return super().parse(redact_headers(value))

    schema: ClassVar[dict[str, Any]] = {
        "type": "object",
        "additionalProperties": {
            "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}],
        },
    }


class Level(str):
    """A console level. Names of other tools are mapped: otherwise a single one would fail the whole request."""

    __slots__ = ()
    words = {  # noqa: RUF012 - a constant, never changed
        **dict.fromkeys(("debug", "trace", "verbose"), "debug"),
        **dict.fromkeys(("info", "log"), "info"),
        **dict.fromkeys(("warning", "warn"), "warning"),
        **dict.fromkeys(("error", "severe", "fatal"), "error"),
    }

    @classmethod
    def parse(cls, value: object) -> "Level":
        known = cls.words.get(value.strip().lower()) if isinstance(value, str) else None
        if known is None:
            raise ValueError("must be one of: " + ", ".join(cls.words))
        return cls(known)

    schema = {"type": "string", "enum": list(words)}  # noqa: RUF012 - a constant, never changed


class Page(Struct):
    """Paging by page number, as in the specification. `per_page` above 500 is clamped, not refused."""

    page: Annotated[int, Meta(ge=1, le=INT32_MAX)] | None = None
    per_page: Annotated[int, Meta(ge=1)] | None = None

    @property
    def number(self) -> int:
        return self.page or 1

    @property
    def size(self) -> int:
        return min(self.per_page or 100, 500)

    @property
    def offset(self) -> int:
        return (self.number - 1) * self.size

    @property
    def requested(self) -> bool:
        return self.page is not None or self.per_page is not None


def _deeper_than(value: object, levels: int) -> bool:
    layer: list[object] = [value]
    for _ in range(levels + 1):
        layer = [
            child
            for parent in layer
            if isinstance(parent, dict | list)
            for child in (parent.values() if isinstance(parent, dict) else parent)
        ]
        if not layer:
            return False
    return True
