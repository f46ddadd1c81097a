"""Playwright's steps as those of the API: which of them are kept, and their fields."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Iterable, Optional

from reportd_client.formats.playwright_error import LONG, error_fields, secrets_of, text_of
from reportd_client.formats.playwright_values import iso, milliseconds
from reportd_client.formats.result import File
from reportd_client.formats.tree import Node
from reportd_client.mask import REDACTED, is_password_field
from reportd_client.texts import cut, step_type_of

_KEPT = ("test.step", "expect", "pw:api")
_SURROUNDING = ("Before Hooks", "After Hooks", "Worker Cleanup")
_TYPES = {
    "navigate": ("reload", "go", "goback", "goforward"),
    "click": ("double",),
    "type": ("presssequentially",),
    "select": ("selectoption",),
    "drag_drop": ("dragto", "draganddrop"),
    "scroll": ("scrollintoviewifneeded",),
    "upload_file": ("setinputfiles", "drop"),
    "execute_script": ("evaluate", "evaluateall"),
}
_TYPE_OF_VERB = {verb: kind for kind, verbs in _TYPES.items() for verb in verbs}


@dataclass
class Step:
    """A step as Playwright has it. `attachments`: positions in those of the result."""

    title: str = ""
    subtitle: str = ""
    category: str = "test.step"
    params: dict[str, Any] = field(default_factory=dict)
    started: Optional[float] = None  # milliseconds since 1970
    duration: Optional[float] = None
    error: Optional[dict[str, Any]] = None
    skipped: bool = False
    attachments: list[int] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)


@dataclass
class Kept:
    """The steps of a result that are kept, the attachments that belong to them, and what is secret."""

    nodes: list[Node] = field(default_factory=list)
    placed: set[int] = field(default_factory=set)
    secrets: set[str] = field(default_factory=set)


def keep(steps: Iterable[Step], files: dict[int, File]) -> Kept:
    """The steps that are kept, in their order. Of hooks and fixtures only those that failed; the steps of other hooks
    take their place, those of fixtures do not. `files`: of the result, by position."""
    kept = Kept()
    root = Node("")
    waiting: list[tuple[Step, Node, bool, bool]] = [(step, root, False, True) for step in steps][::-1]
    order: list[tuple[Node, Step, Node]] = []
    while waiting:
        step, parent, in_fixture, is_top = waiting.pop()
        node = parent
        if _is_kept(step, in_fixture):
            node = Node(_title(step), {"status": _status(step)})
            parent.children.append(node)
            order.append((node, step, parent))
            if is_top and step.title in _SURROUNDING:
                node.fields["surrounding"] = True
        for at in step.attachments:
            if node is not root and at in files and at not in kept.placed:
                kept.placed.add(at)
                node.files.append(files[at])
        inside = in_fixture or step.category == "fixture"
        waiting += [(child, node, inside, False) for child in reversed(step.steps)]
    for node, step, parent in reversed(order):  # those within before those around
        if node.fields.pop("surrounding", False) and _has_failed(node.children):
            at = parent.children.index(node)
            parent.children[at : at + 1] = node.children
            _move_files(node, parent, root, kept, files)
        else:
            node.fields = _fields(step, node, kept.secrets)
    kept.nodes = root.children
    return kept


def _move_files(node: Node, parent: Node, root: Node, kept: Kept, files: dict[int, File]) -> None:
    """The files of a step that is left out after all."""
    if parent is not root:
        parent.files += node.files
        return
    moved = {id(file) for file in node.files}
    kept.placed -= {at for at, file in files.items() if id(file) in moved}


def _is_kept(step: Step, in_fixture: bool) -> bool:
    if step.category in ("hook", "fixture"):
        return step.error is not None
    return step.category in _KEPT and (step.error is not None or not in_fixture)


def _has_failed(nodes: Iterable[Node]) -> bool:
    waiting = list(nodes)
    while waiting:
        node = waiting.pop()
        if node.fields.get("status") == "Failed":
            return True
        waiting += node.children
    return False


# --- fields ---


def _title(step: Step) -> str:
    title, subtitle = text_of(step.title), text_of(step.subtitle)
    return f"{title} {subtitle}" if subtitle and step.subtitle != step.params.get("locator") else title


def _status(step: Step) -> str:
    if step.error is not None:
        return "Failed"
    if step.skipped:
        return "Skipped"
    return "Pending" if step.duration is None or step.duration < 0 else "Passed"


def _fields(step: Step, node: Node, secrets: set[str]) -> dict[str, Any]:
    duration = milliseconds(step.duration)
    fields: dict[str, Any] = {
        "step_type": _type(step, bool(node.children)),
        "status": node.fields["status"],
        "duration_ms": duration,
        "started_at": iso(step.started),
        "completed_at": iso(step.started, duration) if duration is not None else None,
    }
    if step.error is not None:
        fields.update(error_fields([step.error]))
        secrets |= secrets_of(step.error)
        if any(child.fields.get("error_message") == fields["error_message"] for child in node.children):
            fields.pop("stack_trace", None)
    fields.update(_values(step, secrets))
    return {name: value for name, value in fields.items() if value is not None}


def _values(step: Step, secrets: set[str]) -> dict[str, Any]:
    """What the step did with which element. What was typed into a password field, or was expected to be in it, is
    secret."""
    params = step.params
    selector = next((params[name] for name in ("locator", "selector") if isinstance(params.get(name), str)), None)
    values: dict[str, Any] = {"element_selector": cut(text_of(selector)) if selector else None}
    if step.category == "pw:api":
        values["input_value"] = _input(params)
    elif step.category == "expect":
        values["expected_value"] = _text(params.get("expected"))
        if values["expected_value"] and "toHaveValue" in step.title and is_password_field(selector):
            if len(values["expected_value"]) >= LONG:
                secrets.add(values["expected_value"])
            values["expected_value"] = REDACTED
    return values


def _input(params: dict[str, Any]) -> Optional[str]:
    for name in ("value", "text", "key", "url"):
        if params.get(name) is not None:
            return _text(params[name])
    options = params.get("options")
    if not isinstance(options, list):
        return None
    names = ("valueOrLabel", "value", "label", "index")
    found = [
        next((option[name] for name in names if option.get(name) is not None), None)
        for option in options[:1000]
        if isinstance(option, dict)
    ]
    return cut(", ".join(filter(None, map(_text, found)))) or None


def _text(value: Any) -> Optional[str]:
    """A value of Playwright's parameters; a regular expression is an empty object there."""
    if value in (None, "", {}):
        return None
    if isinstance(value, str):
        return cut(text_of(value)) or None
    return cut(text_of(json.dumps(value, ensure_ascii=False, separators=(",", ":"))))


def _type(step: Step, has_children: bool) -> str:
    if step.category == "expect":
        return "assert"
    if step.category in ("hook", "fixture"):
        return "group"
    title = text_of(step.title).strip()
    if title.lower().startswith("set input files"):
        return "upload_file"
    word = title.split(None, 1)[0].lower() if title else ""
    before = word.partition("(")[0]
    if "(" in word and "." in before:  # of older versions: page.goto(…)
        word = before.rpartition(".")[2]
    if word.startswith("waitfor"):
        return "wait"
    return _TYPE_OF_VERB.get(word) or step_type_of(word, has_children)
