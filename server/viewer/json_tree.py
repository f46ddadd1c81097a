"""JSON as a tree of nodes, with every value as it was written: numbers of any size, names that occur twice."""

import json
import re
from dataclasses import dataclass
from typing import Any

MOST_BYTES = 1 << 20
_MOST_NODES = 5_000
_DEEPEST = 50
_LONGEST = 2_000  # characters of a value
_NAME = re.compile(r"[A-Za-z_$][\w$]*", re.ASCII)


@dataclass(slots=True)
class Node:
    """`step`: from its parent to it, as JSONPath: `.name` or `[0]`. `inside`: what an object or an array has. It is
    None for other values: then `text` is the value as JSON."""

    step: str
    name: str
    kind: str  # object, array, string, number, word
    text: str
    inside: "list[Node] | None" = None

    def __post_init__(self) -> None:
        """JSON may have half a character, which no page can: it is shown as it was written."""
        self.step, self.name, self.text = (_whole(each) for each in (self.step, self.name, self.text))


class _Members(list[Any]):
    """The names and values of an object."""


class _Number(str):
    """A number as it was written."""

    __slots__ = ()


def tree(text: str) -> Node | None:
    """The root. None for a text that is no JSON, or has more than 5,000 nodes or 50 levels."""
    try:
        value = json.loads(
            text, object_pairs_hook=_Members, parse_int=_Number, parse_float=_Number, parse_constant=_Number
        )
        return _node("$", "", value, 0, [_MOST_NODES])
    except (ValueError, RecursionError):
        return None


def _node(step: str, name: str, value: Any, depth: int, left: list[int]) -> Node:
    """Raises ValueError when `left`, how many nodes there may still be, is used up."""
    left[0] -= 1
    if left[0] < 0 or depth > _DEEPEST:
        raise ValueError("too large a tree")
    if isinstance(value, _Members):
        inside = [_node(_step(key), key, each, depth + 1, left) for key, each in value]
        return Node(step, name, "object", "", inside)
    if isinstance(value, list):
        inside = [_node(f"[{at}]", str(at), each, depth + 1, left) for at, each in enumerate(value)]
        return Node(step, name, "array", "", inside)
    if isinstance(value, _Number):
        return Node(step, name, "number", _cut(value))
    shown = json.dumps(value, ensure_ascii=False)
    return Node(step, name, "string" if isinstance(value, str) else "word", _cut(shown))


def _step(name: str) -> str:
    return f".{name}" if _NAME.fullmatch(name) else f"[{json.dumps(name, ensure_ascii=False)}]"


def _whole(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}… ({len(text):,} characters)"
