"""JSON as a tree: every value as it was written, and no tree that would be too large."""

import json

import pytest

from server.viewer.json_tree import tree


def test_a_tree_has_paths_kinds_and_values_as_written():
    root = tree('{"a": [1.10, 123456789012345678901234567890, "x\\u0000\\n", null], "b c": {}, "a": true}')
    assert (root.step, root.kind, [each.step for each in root.inside]) == ("$", "object", [".a", '["b c"]', ".a"])
    numbers, empty, again = root.inside
    assert [(each.step, each.kind, each.text) for each in numbers.inside] == [
        ("[0]", "number", "1.10"), ("[1]", "number", "123456789012345678901234567890"),
        ("[2]", "string", '"x\\u0000\\n"'), ("[3]", "word", "null"),
    ]  # fmt: skip
    assert empty.inside == [] and (again.kind, again.text, again.inside) == ("word", "true", None)


@pytest.mark.parametrize(
    "text", ["", "{", "nothing", "[1] 2", "[" * 200_000, "[" * 60 + "]" * 60, "[1e999999, NaN, x]"]
)
def test_what_is_no_tree(text):
    assert tree(text) is None


def test_a_tree_has_at_most_5000_nodes():
    assert len(tree(json.dumps([1] * 4_999)).inside) == 4_999
    assert tree(json.dumps([1] * 5_000)) is None and tree("[" + "[]," * 300_000 + "1]") is None


def test_half_a_character_is_shown_as_it_was_written():
    root = tree('{"\\ud800": "\\udfff"}')
    assert (root.inside[0].name, root.inside[0].text) == ("\\ud800", '"\\udfff"')
    assert len(tree(json.dumps("x" * 9_000)).text) < 2_100
