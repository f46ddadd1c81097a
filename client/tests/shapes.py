"""Makes reportd_client/rest/shapes.pyi, the types of requests and replies, from the server's OpenAPI.

cd client && python -m tests.shapes
"""

import tempfile
from pathlib import Path

from tests.server import CHECKOUT, Reports

FILE = CHECKOUT / "client/reportd_client/rest/shapes.pyi"
_HEAD = '''\
"""The types of requests and replies, made by `python -m tests.shapes` from the server's OpenAPI: do not edit."""

from typing import Any, Literal, TypedDict, Union

from typing_extensions import NotRequired
'''
_WORDS = {"string": "str", "integer": "int", "number": "float", "boolean": "bool", "null": "None"}


def source(openapi) -> str:
    """The text of the module. The order of the names is alphabetical, so that a difference is easy to read."""
    shapes = openapi["components"]["schemas"]
    return "\n".join([_HEAD, *(_shape(name, shapes[name]) for name in sorted(shapes))])


def _shape(name, schema) -> str:
    lines = [f"class {name}(TypedDict):"]
    for field, value in schema["properties"].items():
        word = _type(value)
        lines.append(f"    {field}: {word if field in schema.get('required', ()) else f'NotRequired[{word}]'}")
    return "\n".join(lines) + "\n"


def _type(schema) -> str:
    if "$ref" in schema:
        return schema["$ref"].rsplit("/", 1)[1]
    if "enum" in schema:
        return f"Literal[{', '.join(repr(word) for word in schema['enum'])}]".replace("'", '"')
    if "anyOf" in schema:
        words = list(dict.fromkeys(_type(each) for each in _flat(schema["anyOf"])))
        return words[0] if len(words) == 1 else f"Union[{', '.join(words)}]"
    if schema.get("type") == "array":
        return f"list[{_type(schema['items'])}]"
    if schema.get("type") == "object":
        return f"dict[str, {_type(schema['additionalProperties']) if 'additionalProperties' in schema else 'Any'}]"
    return _WORDS[schema["type"]] if "type" in schema else "Any"


def _flat(schemas):
    for each in schemas:
        yield from _flat(each["anyOf"]) if "anyOf" in each else [each]


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        reports = Reports(Path(folder) / "data")
        try:
            openapi = reports.json("/api/v1/openapi.json")
        finally:
            reports.stop()
    FILE.write_text(source(openapi), "utf-8")


if __name__ == "__main__":
    main()
