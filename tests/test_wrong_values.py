"""Messages for wrong values use the words of JSON and TOML, never the names of Python's types."""

from typing import Annotated, Any
from uuid import UUID

import msgspec
import pytest
from msgspec import Meta

from server.wrong_values import requirement


def message(value: object, wanted: Any, strict: bool = True) -> str:
    """What msgspec says of a wrong value."""
    with pytest.raises(msgspec.ValidationError) as caught:
        msgspec.convert(value, wanted, strict=strict)
    return str(caught.value)


@pytest.mark.parametrize(
    ("value", "wanted", "sentence"),
    [
        ("x", int, "must be an integer, not a string"),
        ("x", int | None, "must be an integer or null, not a string"),
        (1.5, int, "must be an integer, not a number"),
        (True, float, "must be a number, not a boolean"),
        (1, bool, "must be true or false, not an integer"),
        (None, str, "must be a string, not null"),
        ({}, list[str] | None, "must be an array or null, not an object"),
        ([], dict[str, str], "must be an object, not an array"),
        ("", Annotated[str, Meta(min_length=1)], "must not be empty"),
        ("x", Annotated[str, Meta(min_length=2)], "must be at least 2 characters long"),
        ("xxx", Annotated[str, Meta(max_length=2)], "must be at most 2 characters long"),
        ([1, 2, 3], Annotated[list[int], Meta(max_length=2)], "must have at most 2 entries"),
        ([], Annotated[list[int], Meta(min_length=1)], "must not be empty"),
        (0, Annotated[int, Meta(ge=1)], "must be at least 1"),
        (9, Annotated[int, Meta(le=8)] | None, "must be at most 8"),
        (0.0, Annotated[float, Meta(gt=0)], "must be greater than 0"),
        ("x", UUID, "must be a UUID"),
        (-1.5, Annotated[float, Meta(ge=-1.25)], "must be at least -1.25"),
    ],
)
def test_json(value, wanted, sentence):
    assert requirement(message(value, wanted)) == sentence


@pytest.mark.parametrize(
    ("value", "wanted", "sentence"),
    [
        ("x", int | None, "must be an integer"),
        ("x", float, "must be a number"),
        ("maybe", bool | None, "must be true or false"),
        ("0", Annotated[int, Meta(ge=1)], "must be at least 1"),
    ],
)
def test_text_is_never_null_and_its_type_is_not_named(value, wanted, sentence):
    assert requirement(message(value, wanted, strict=False), text=True) == sentence


def test_any_other_message_stays_as_it_is():
    assert requirement("must be a date") == "must be a date"
