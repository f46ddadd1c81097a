"""Repairs odd values of a request, each with a warning, where refusing them would lose all the others.

A client sends the whole report of a test in one body, and it is often the only evidence of a failure. The declared type
of a field (fields.py) says whether and how its values are repaired. This runs only for a body that the decoder refused
or that has text which cannot be stored, so other bodies cost nothing.
"""

import hashlib
import json
import math
import re
from collections.abc import Callable, Hashable, Mapping
from contextlib import suppress
from functools import cache
from typing import Any, cast

from msgspec import inspect

from server.errors import Invalid, Problem
from server.http.nesting import Where, path_of

MAX_WARNINGS = 100
MAX_TEXT_BYTES = 1 << 20
BAD_TEXT = re.compile("[\x00\ud800-\udfff]")
_GAP = re.compile(r"\s")
BAD_TEXT_RULE = "must not contain NUL characters or lone surrogates"


class NotRepaired(Exception):
    """A value would need a repair where none is made."""


class Warnings:
    """Where a request was repaired. With `entries` None, nothing is repaired: `add` raises NotRepaired."""

    __slots__ = ("_entries",)

    def __init__(self, entries: list[Problem] | None) -> None:
        self._entries = entries

    def add(self, where: Where, message: str) -> None:
        if self._entries is None:
            raise NotRepaired()
        if len(self._entries) < MAX_WARNINGS:
            self._entries.append(Problem(clean(path_of(where)), message))


class Unrepairable(ValueError):
    """Raised by the `parse` of a type for a value that no repair makes right: the request is refused without one."""


# Takes a value that may have any type, and returns it or what takes its place.
Repair = Callable[[Any, Where, Warnings], Any]


def repaired(value: object, wanted: Any, warnings: list[Problem] | None) -> Any:
    """Decoded JSON with its values repaired as the type `wanted` declares, so that it can be converted to it.

    Appends to `warnings`. If that is None, only changes without a warning are made, such as of the case of a status.
    Raises Invalid for text that cannot be stored, in a field that is never repaired.
    """
    repair = _of_type(cast(Hashable, wanted))
    return value if repair is None else repair(value, None, Warnings(warnings))


def clean(text: str) -> str:
    """The text with U+FFFD in place of what PostgreSQL cannot store."""
    return BAD_TEXT.sub("\ufffd", text)


# --- repairs that types declare ---------------------------------------------------------------------------------


class _Text:
    """Free text: a number becomes text; replaces what cannot be stored, and cuts it to the length of its type and to
    MAX_TEXT_BYTES."""

    def __init__(self, kind: Any) -> None:
        self._limit: int = kind.max_length

    def __call__(self, value: Any, where: Where, warnings: Warnings) -> Any:
        value = self._of_number(value, where, warnings)
        if not isinstance(value, str):
            return value
        text = _cleaned_text(value, where, warnings)
        if self._limit < MAX_TEXT_BYTES and len(text) > self._limit:
            warnings.add(where, f"was cut to {self._limit} characters")
            end = self._end(value)
            text = text[: self._limit - len(end)] + end
        if too_long(text):
            warnings.add(where, "was cut to 1 MiB")
            text = text.encode()[: MAX_TEXT_BYTES - len("…".encode())].decode("utf-8", "ignore")
            text = text[: _last_gap(text)] + "…"
        return text

    def _of_number(self, value: Any, where: Where, warnings: Warnings) -> Any:
        return as_text(value, where, warnings) if isinstance(value, int | float) else value

    def _end(self, value: str) -> str:
        return "…"


class _UniqueText(_Text):
    """Free text that identifies something: cut texts with the same beginning remain different by a hash at the end."""

    def _of_number(self, value: Any, where: Where, warnings: Warnings) -> Any:
        return value

    def _end(self, value: str) -> str:
        return "…" + hashlib.sha256(value.encode("utf-8", "surrogatepass")).hexdigest()[:12]


def as_text(value: Any, where: Where, warnings: Warnings) -> str:
    """The JSON of a value, such as `10` or `true`, as text."""
    text = json.dumps(value, ensure_ascii=False)
    shown = text if len(text) <= 50 else text[:49] + "…"
    warnings.add(where, clean(f"`{shown}` is stored as text"))
    return text


def _last_gap(text: str) -> int:
    """Where the last word of a cut text begins. It is left out: half of a credential could not be recognized and
    redacted. Only the last 4,096 characters are looked at."""
    begin = max(0, len(text) - 4096)
    gaps = [found.end() for found in _GAP.finditer(text, begin)]
    return gaps[-1] if gaps else len(text)


def too_long(text: str) -> bool:
    """Whether the text has more than MAX_TEXT_BYTES as UTF-8, where a character has up to 4 bytes."""
    return len(text) * 4 > MAX_TEXT_BYTES and len(text.encode()) > MAX_TEXT_BYTES


class _AnyCase:
    """A word in upper or lower case, without a warning."""

    def __init__(self, kind: Any) -> None:
        self._words = {word.lower(): word for word in kind.values}

    def __call__(self, value: Any, where: Where, warnings: Warnings) -> Any:
        return self._words.get(value.lower(), value) if isinstance(value, str) else value


def _measured(value: Any, where: Where, warnings: Warnings) -> Any:
    """A measured number: a fraction is rounded, a number below zero is null."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value
    if value < 0:
        warnings.add(where, "was below zero and is stored as null")
        return None
    nearest = math.floor(value + 0.5) if isinstance(value, float) else value
    if nearest != value:
        warnings.add(where, f"was rounded to {nearest}")
    return nearest


def _size(value: Any, where: Where, warnings: Warnings) -> Any:
    """A measured number, but -1 is no odd value: HAR writes it for an unknown size, and the SQL stores null."""
    return -1 if value == -1 else _measured(value, where, warnings)


# For the `extra` of msgspec's Meta. `repair` makes the repair from the type that the Meta is about.
FREE_TEXT = {"repair": _Text}
UNIQUE_TEXT = {"repair": _UniqueText}
ANY_CASE = {"repair": _AnyCase}
MEASURED = {"repair": lambda kind: _measured}
SIZE = {"repair": lambda kind: _size}


def cleaned(value: Any, where: Where, warnings: Warnings) -> Any:
    """JSON of any shape, with all its texts and keys cleaned."""
    if isinstance(value, str):
        return _cleaned_text(value, where, warnings)
    if isinstance(value, list):
        return [cleaned(item, (where, i), warnings) for i, item in enumerate(value)]
    if isinstance(value, dict):
        return {
            cleaned(key, (where, key), warnings): cleaned(item, (where, key), warnings) for key, item in value.items()
        }
    return value


def _cleaned_text(value: str, where: Where, warnings: Warnings) -> str:
    text = clean(value)
    if text != value:
        warnings.add(where, "NUL characters or lone surrogates were replaced by U+FFFD")
    return text


# --- from a type to its repair ----------------------------------------------------------------------------------


@cache
def _of_type(wanted: Hashable) -> Repair | None:
    return _of(inspect.type_info(wanted))


def _of(kind: inspect.Type) -> Repair | None:
    """The repair for values of a type; None when there is nothing to repair or to check in them."""
    match kind:
        case inspect.Metadata():
            declared = (kind.extra or {}).get("repair")
            return _of(kind.type) if declared is None else cast(Repair, declared(kind.type))
        case inspect.UnionType():
            return next((found for member in kind.types if (found := _of(member))), None)
        case inspect.CustomType():
            return getattr(kind.cls, "repair", None)
        case inspect.IntType():
            return _integer
        case inspect.StrType():
            return _refuse_bad_text
        case inspect.ListType():
            return _of_list(_of(kind.item_type), math.inf if kind.max_length is None else kind.max_length)
        case inspect.StructType():
            fields = {field.encode_name: _of(field.type) for field in kind.fields}
            return _of_struct(kind.cls, {name: repair for name, repair in fields.items() if repair is not None})
        case _:
            return None


def _of_list(item_repair: Repair | None, most: float) -> Repair | None:
    """The repair of a list. One of more than `most` items is refused later: it must not cost time here."""
    if item_repair is None:
        return None

    def repair(value: Any, where: Where, warnings: Warnings) -> Any:
        if not isinstance(value, list) or len(value) > most:
            return value
        return [item_repair(item, (where, i), warnings) for i, item in enumerate(value)]

    return repair


def _of_struct(struct: type, fields: Mapping[str, Repair]) -> Repair:
    """The repair of an object. A struct with `prepare` may first add fields that depend on unrepaired values."""
    prepare = getattr(struct, "prepare", None)

    def repair(value: Any, where: Where, warnings: Warnings) -> Any:
        if not isinstance(value, dict):
            return value
        changed = dict(value)
        if prepare is not None:
            prepare(changed)
        for name, repair_field in fields.items():
            if name in changed:
                with suppress(NotRepaired):
                    changed[name] = repair_field(changed[name], (where, name), warnings)
        return changed

    return repair


def _integer(value: Any, where: Where, warnings: Warnings) -> Any:
    """1500.0 is the integer 1500, as in JSON Schema."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _refuse_bad_text(value: Any, where: Where, warnings: Warnings) -> Any:
    """Text that says which thing or what kind is never repaired."""
    if isinstance(value, str) and BAD_TEXT.search(value):
        raise Invalid(Problem(clean(path_of(where)), BAD_TEXT_RULE))
    return value
