"""What a value must be, in the words of JSON and TOML: msgspec's messages name Python's types."""

import re

# Names of types as they follow `must be`; _FOUND has the names that follow `, not`.
_WANTED = {
    "int": "an integer",
    "float": "a number",
    "bool": "true or false",
    "str": "a string",
    "array": "an array",
    "object": "an object",
    "null": "null",
}
_FOUND = _WANTED | {"bool": "a boolean"}
_TYPES = re.compile(r"Expected `([^`]+)`, got `([^`]+)`")
_LENGTH = re.compile(r"Expected `(str|array|object)` of length (<=|>=) (\d+)")
_BOUND = re.compile(r"Expected `\w+` (<=|>=|<|>) (-?[\d.]+)")
_BOUNDS = {"<=": "at most", ">=": "at least", "<": "less than", ">": "greater than"}


def requirement(message: str, text: bool = False) -> str:
    """A message of msgspec, without its path, as `must be an integer or null, not a string`.

    `text`: the value comes from a query, a form or the environment, where everything is text and nothing is null.
    """
    if types := _TYPES.fullmatch(message):
        wanted = [name for name in types[1].split(" | ") if not (text and name == "null")]
        must = "must be " + " or ".join(_WANTED.get(name, name) for name in wanted)
        return must if text else f"{must}, not {_FOUND.get(types[2], types[2])}"
    if length := _LENGTH.fullmatch(message):
        if length[2] == ">=" and length[3] == "1":
            return "must not be empty"
        if length[1] == "str":
            return f"must be {_BOUNDS[length[2]]} {length[3]} characters long"
        return f"must have {_BOUNDS[length[2]]} {length[3]} entries"
    if bound := _BOUND.fullmatch(message):
        return f"must be {_BOUNDS[bound[1]]} {bound[2].removesuffix('.0')}"
    return "must be a UUID" if message == "Invalid UUID" else message
