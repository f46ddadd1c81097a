"""The types of fields in request bodies and queries, with limits that are checked while decoding.

A class with `parse` decodes its own values. The text of its ValueError goes to the client.
"""

import re
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Annotated, Any, ClassVar, Self

import orjson
from msgspec import Meta, Struct

from server.errors import Invalid, Problem
from server.http.nesting import Where, path_of
from server.http.repair import (
    ANY_CASE,
    FREE_TEXT,
    MEASURED,
    UNIQUE_TEXT,
    Unrepairable,
    Warnings,
    as_text,
    clean,
    cleaned,
)
from server.redact.rules import redact_headers
from server.reports.words import RunStatus, Status

INT32_MAX = 2**31 - 1
MAX_OBJECT_BYTES = 64 << 10
MAX_OBJECT_DEPTH = 32
MAX_INDEXED = 500  # characters of a text that is stored in a B-tree index, which limits the size of a value

# Free text, which is repaired, see repair.py.
FreeText = Annotated[str, Meta(max_length=1 << 20, extra=FREE_TEXT)]
IndexedText = Annotated[str, Meta(max_length=MAX_INDEXED, extra=FREE_TEXT)]
RequiredText = Annotated[str, Meta(min_length=1, max_length=MAX_INDEXED, extra=FREE_TEXT)]
Text50 = Annotated[str, Meta(max_length=50, extra=FREE_TEXT)]
Text100 = Annotated[str, Meta(max_length=100, extra=FREE_TEXT)]
Text255 = Annotated[str, Meta(max_length=255, extra=FREE_TEXT)]
Text2000 = Annotated[str, Meta(max_length=2000, extra=FREE_TEXT)]
TestId = Annotated[str, Meta(min_length=1, max_length=MAX_INDEXED, extra=UNIQUE_TEXT)]
Tags = Annotated[list[RequiredText], Meta(max_length=100)]

# What says which thing or what kind, and so is never repaired.
Kind = Annotated[str, Meta(min_length=1, max_length=50)]
Name100 = Annotated[str, Meta(max_length=100)]
Commit = Annotated[str, Meta(max_length=64)]
Natural = Annotated[int, Meta(ge=0, le=INT32_MAX)]
Measured = Annotated[int, Meta(ge=0, le=INT32_MAX, extra=MEASURED)]  # durations, lines and columns
Positive = Annotated[int, Meta(ge=1, le=INT32_MAX)]

AnyStatus = Annotated[Status, Meta(extra=ANY_CASE)]
AnyRunStatus = Annotated[RunStatus, Meta(extra=ANY_CASE)]


class _Printable(str):
    """A name as people type it: without white space around it, and printable."""

    __slots__ = ()
    most: ClassVar[int]

    @classmethod
    def parse(cls, value: object) -> Self:
        text = value.strip() if isinstance(value, str) else ""
        if not 1 <= len(text) <= cls.most or not text.isprintable():
            raise ValueError(f"must be 1 to {cls.most} printable characters")
        return cls(text)


class TypedName(_Printable):
    """The name of a project, person or token."""

    __slots__ = ()
    most = 100


class TypedBranch(_Printable):
    """The name of a branch."""

    __slots__ = ()
    most = MAX_INDEXED


# The error text for each pattern.
PATTERNS = {"^[0-9a-fA-F]{64}$": "must be 64 hexadecimal digits"}
Sha256 = Annotated[str, Meta(pattern="^[0-9a-fA-F]{64}$")]


# In a text in upper case. Names of zones behind the offset (RFC 9557, java.time) say the same as the offset.
_NAMED_ZONES = re.compile(r"([^T ]+[T ][^\[]*(?:Z|[+-]\d\d(?::?\d\d){0,2}))(?:\[[^\[\]]+\])+")
_LEAP_SECOND = re.compile(r"([T ]\d\d(:?)\d\d\2)60(?:[.,]\d+)?(?=Z|[+-]|$)")


class _AnyTime(type):
    """The class of Instant: every datetime is an instance. msgspec checks that, and encodes datetimes without a hook,
    but not those of a subclass."""

    __instancecheck__ = datetime.__instancecheck__


class Instant(datetime, metaclass=_AnyTime):
    """A time of the years 1970 to 9998, in UTC: ISO 8601 or RFC 3339 with any offset, or milliseconds since 1970.

    A missing offset means UTC. In forms and queries, which have only texts, 13 digits are milliseconds.
    """

    @classmethod
    def parse(cls, value: object) -> datetime:
        try:
            moment = _time_of_text(value) if isinstance(value, str) else _time_of_number(value)
            if moment.tzinfo is not UTC:
                moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
        except (ValueError, OverflowError):
            raise ValueError("must be an ISO 8601 time like 2026-01-24T12:00:00.000Z") from None
        if not 1970 <= moment.year <= 9998:
            raise ValueError("must lie in the years 1970 to 9998")
        return moment

    schema: ClassVar[dict[str, Any]] = {
        "anyOf": [
            {"type": "string", "format": "date-time"},
            {"type": "number", "description": "milliseconds since 1970-01-01T00:00:00Z"},
        ]
    }


class Day(Instant):
    """A time, or a date that means the end of its day: what is until the 24th is also that of the 24th."""

    @classmethod
    def parse(cls, value: object) -> datetime:
        moment = super().parse(value)
        return (
            moment + timedelta(days=1) if isinstance(value, str) and len(value.strip()) == len("2026-01-24") else moment
        )


def _time_of_text(text: str) -> datetime:
    if len(text) == 13 and text.isdecimal():
        return _time_of_number(int(text))
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        text = text.strip().upper()
        named = _NAMED_ZONES.fullmatch(text)
        return datetime.fromisoformat(_LEAP_SECOND.sub(r"\g<1>59.999", named[1] if named else text))


def _time_of_number(value: object) -> datetime:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=value)


_OBJECT_TOO_LARGE = "must be at most 64 KiB as JSON"


class JsonObject:
    """A JSON object of at most 64 KiB and 32 levels: encoded as `json`, decoded as `value`."""

    __slots__ = ("json", "value")

    def __init__(self, value: dict[str, Any], json: bytes) -> None:
        self.value, self.json = value, json

    @classmethod
    def parse(cls, value: object) -> Self:
        if not isinstance(value, dict):
            raise Unrepairable("must be an object")
        _check_shape(value)
        try:
            json = orjson.dumps(value)
        except orjson.JSONEncodeError:
            raise Unrepairable("must hold numbers of at most 64 bits") from None
        if len(json) > MAX_OBJECT_BYTES:
            raise Unrepairable(_OBJECT_TOO_LARGE)
        return cls(value, json)

    @staticmethod
    def repair(value: Any, where: Where, warnings: Warnings) -> Any:
        try:
            _check_shape(value)
        except Unrepairable as error:
            raise Invalid(Problem(clean(path_of(where)), str(error))) from None
        return cleaned(value, where, warnings)

    @classmethod
    def of(cls, value: dict[str, Any]) -> Self:
        """Without the checks, for an object that is derived from a checked one."""
        return cls(value, orjson.dumps(value))

    schema: ClassVar[dict[str, Any]] = {"type": "object", "description": "At most 64 KiB as JSON and 32 levels deep"}


class HeaderMap(JsonObject):
    """HTTP headers as a JSON object of strings or lists of strings, redacted. Numbers are stored as strings."""

    __slots__ = ()

    @classmethod
    def parse(cls, value: object) -> Self:
        if not isinstance(value, dict):
            raise Unrepairable("must be an object")
        for item in value.values():
            strings = item if isinstance(item, list) else [item]
            if not all(isinstance(text, str) for text in strings):
                raise ValueError("must hold strings or lists of strings")
        return super().parse(redact_headers(value))

    @staticmethod
    def repair(value: Any, where: Where, warnings: Warnings) -> Any:
        found = JsonObject.repair(value, where, warnings)
        return (
            {name: _header(item, (where, name), warnings) for name, item in found.items()}
            if isinstance(found, dict)
            else found
        )

    schema: ClassVar[dict[str, Any]] = {
        "type": "object",
        "additionalProperties": {
            "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}],
        },
    }


def _header(value: Any, where: Where, warnings: Warnings) -> Any:
    if isinstance(value, list):
        return [
            _header(item, (where, i), warnings) if isinstance(item, int | float) else item
            for i, item in enumerate(value)
        ]
    return as_text(value, where, warnings) if isinstance(value, int | float) else value


LEVELS = ("debug", "info", "warning", "error")
# The names of browsers' consoles, Java, Python and syslog, each with the nearest level.
_NEAREST = {
    **dict.fromkeys(("trace", "verbose", "fine", "finer", "finest", "notset", "all"), "debug"),
    **dict.fromkeys(("log", "config", "notice", "informational"), "info"),
    "warn": "warning",
    **dict.fromkeys(("err", "severe", "fatal", "critical", "crit", "alert", "emerg", "emergency", "panic"), "error"),
    **dict.fromkeys(("assert", "exception"), "error"),
}


class Level(str):
    """A console level in any case. All other words are repaired: a single one would fail the whole request."""

    __slots__ = ()

    @classmethod
    def parse(cls, value: object) -> Self:
        word = value.strip().lower() if isinstance(value, str) else ""
        if word not in LEVELS:
            raise ValueError("must be one of: " + ", ".join(LEVELS))
        return cls(word)

    @staticmethod
    def repair(value: Any, where: Where, warnings: Warnings) -> Any:
        """The nearest level, `info` for an unknown word or number."""
        word = clean(str(value)).strip().lower() if isinstance(value, str | int | float) else None
        if word is None or word in LEVELS:
            return value
        nearest = _NEAREST.get(word, "info")
        shown = word if len(word) <= 50 else word[:49] + "…"
        warnings.add(where, f"`{shown}` is stored as `{nearest}`")
        return nearest

    schema: ClassVar[dict[str, Any]] = {
        "type": "string",
        "description": "debug, info, warning or error; other words are stored as the nearest of these, "
        "unknown ones as info",
    }


class LevelFilter(Level):
    """A console level in a query: also the names of other tools, but no unknown word."""

    __slots__ = ()

    @classmethod
    def parse(cls, value: object) -> Self:
        return super().parse(_NEAREST.get(value.strip().lower(), value) if isinstance(value, str) else value)

    schema: ClassVar[dict[str, Any]] = {"type": "string", "enum": [*LEVELS, *_NEAREST]}


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


def _check_shape(value: object) -> None:
    """Raises Unrepairable for JSON that is too deep, or that has more values than fit into MAX_OBJECT_BYTES. It stops
    there: encoding or repairing millions of values would take time and memory, only to refuse them."""
    layer, count, most = [value], 0, MAX_OBJECT_BYTES // 2  # a value and its comma have 2 bytes or more
    for _ in range(MAX_OBJECT_DEPTH + 1):
        children = (
            child
            for parent in layer
            if isinstance(parent, dict | list)
            for child in (parent.values() if isinstance(parent, dict) else parent)
        )
        layer = list(islice(children, most + 1))
        count += len(layer)
        if count > most:
            raise Unrepairable(_OBJECT_TOO_LARGE)
        if not layer:
            return
    raise Unrepairable(f"must not be nested deeper than {MAX_OBJECT_DEPTH} levels")
