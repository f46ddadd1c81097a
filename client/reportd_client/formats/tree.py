"""Steps within steps, as most reports have them, to the numbered list of steps of the API."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Iterable, Iterator, Optional

from reportd_client import limits
from reportd_client.formats.result import File, Result
from reportd_client.texts import ACTION, cut, step_type_of


@dataclass
class Node:
    """A step: `title`, the other fields of the API, its own files, and the steps within."""

    title: str
    fields: dict[str, Any] = field(default_factory=dict)
    children: list[Node] = field(default_factory=list)
    files: list[File] = field(default_factory=list)
    number: Optional[int] = None  # of the step, once it has been placed


def place(result: Result, nodes: Iterable[Node]) -> None:
    """Add these steps to a result: numbered from 1 in the order of the report, a parent before those within it. Their
    files name their step. Beyond the limit of a test steps are left out, and their files belong to the test."""
    for number, parent, node in _in_order(nodes):
        if number > limits.MAX_STEPS:
            result.files += node.files
            continue
        node.number = number
        step = {"step_number": number, **_fields(node)}
        if parent is not None:
            step["parent_step_number"] = parent
        result.steps.append(step)
        for file in node.files:
            file.fields.setdefault("step_number", number)
            if file.fields.get("artifact_type") == "screenshot":
                category = "error" if step.get("status") == "Failed" else "after"
                file.fields.setdefault("artifact_category", category)
        result.files += node.files


def _in_order(nodes: Iterable[Node]) -> Iterator[tuple[int, Optional[int], Node]]:
    waiting: list[tuple[Optional[int], Node]] = []
    waiting += [(None, node) for node in nodes][::-1]
    number = 0
    while waiting:
        parent, node = waiting.pop()
        number += 1
        yield number, parent, node
        waiting += [(number, child) for child in reversed(node.children)]


def _fields(node: Node) -> dict[str, Any]:
    title = " ".join(node.title.split()) or "step"
    fields: dict[str, Any] = {"step_type": step_type_of(title, bool(node.children)), "action": cut(title, ACTION)}
    if len(title) > ACTION or title != node.title.strip():
        fields["description"] = node.title.strip()
    return {**fields, **{name: value for name, value in node.fields.items() if value is not None}}


def place_screenshots(result: Result) -> None:
    """Screenshots of a failed test that name no step belong to the failed step that is deepest within others."""
    if result.test.get("status") != "Failed":
        return
    depths: dict[int, int] = {}
    deepest: Optional[int] = None
    for step in result.steps:
        number = step["step_number"]
        depths[number] = depths.get(step.get("parent_step_number", 0), 0) + 1
        if step.get("status") == "Failed" and (deepest is None or depths[number] >= depths[deepest]):
            deepest = number
    for file in result.files:
        if file.fields.get("artifact_type") == "screenshot" and "step_number" not in file.fields:
            file.fields.setdefault("artifact_category", "error")
            if deepest is not None:
                file.fields["step_number"] = deepest
