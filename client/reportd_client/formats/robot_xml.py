"""The elements of output.xml as the objects of output.json, test by test."""

from __future__ import annotations

from typing import Any, Optional

from reportd_client import limits
from reportd_client.formats.robot_test import Suite

_MOST_NODES = 4 * limits.MAX_STEPS  # keywords and messages of a test
_MOST_TEXT = 24 << 20  # characters of a test
_TYPES = {
    **{"for": "FOR", "while": "WHILE", "iter": "ITERATION", "if": "IF/ELSE ROOT", "try": "TRY/EXCEPT ROOT"},
    **{"group": "GROUP", "variable": "VAR", "return": "RETURN", "break": "BREAK", "continue": "CONTINUE"},
    **{"error": "ERROR", "branch": "", "kw": "KEYWORD", "msg": "MESSAGE"},
}
_OLD_TYPES = {"for": "FOR", "foritem": "ITERATION", "setup": "SETUP", "teardown": "TEARDOWN", "kw": "KEYWORD"}
_LISTS = {"arg": "args", "tag": "tags", "value": "values", "pattern": "patterns", "var": "assign"}


class Output:
    """Makes the objects of tests. `failed`: of each suite whose teardown failed, by its full name."""

    def __init__(self, failed: dict[str, tuple[str, str]]) -> None:
        self.found: list[tuple[Suite, dict[str, Any]]] = []
        self.ended: list[Suite] = []  # suites, whose metadata comes after their tests
        self.errors: list[dict[str, Any]] = []
        self.generator: Optional[str] = None
        self.is_known = self.is_cut = False
        self.lost = 0
        self._failed = failed
        self._suites: list[Suite] = [Suite()]
        self._open: list[tuple[str, Optional[dict[str, Any]], list[str]]] = []  # element, its object, its text
        self._nodes = self._text = 0

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        parent = self._open[-1][1] if self._open else None
        node: Optional[dict[str, Any]] = parent
        if tag == "statistics" or (self._open and self._open[-1][0] == "statistics"):
            tag = "statistics"  # which has other elements of the same names within
        elif not self._open:
            self.is_known, self.generator = tag == "robot", attributes.get("generator")
        elif tag == "suite":
            self._begin_suite(attributes)
            node = self._suites[-1].node
        elif tag in ("test", "task"):
            self._nodes = self._text = 0
            node = {"name": attributes.get("name"), "lineno": attributes.get("line"), "body": []}
        elif tag in _TYPES:
            node = self._begin_node(tag, attributes)
        elif tag == "status" and parent is not None:
            parent.update(_status(attributes))
        elif tag in ("meta", "item"):
            node = {"name": attributes.get("name")}
        elif tag == "timeout" and parent is not None and attributes.get("value"):
            parent["timeout"] = attributes["value"]
        elif tag == "var" and attributes.get("name"):
            node = {"name": attributes["name"]}
        self._open.append((tag, node, []))

    def _begin_suite(self, attributes: dict[str, str]) -> None:
        name = attributes.get("name") or ""
        suite = Suite.of({"name": name, "source": attributes.get("source")}, self._suites[-1])
        suite.teardown = self._failed.get(suite.full_name)
        self._suites.append(suite)

    def _begin_node(self, tag: str, attributes: dict[str, str]) -> Optional[dict[str, Any]]:
        self._nodes += 1
        if self._nodes > _MOST_NODES:
            self.lost += 1
            return None
        kind = attributes.get("type", "")
        kind = _OLD_TYPES.get(kind, kind) if tag == "kw" and kind else kind
        node: dict[str, Any] = {**attributes, "type": kind or _TYPES[tag], "body": []}
        node["owner"] = attributes.get("owner") or attributes.get("library")
        if tag == "msg":
            node["timestamp"] = attributes.get("time") or attributes.get("timestamp")
        return node

    def data(self, text: str) -> None:
        if self._open and self._text < _MOST_TEXT:
            self._text += len(text)
            self._open[-1][2].append(text)

    def cut(self) -> None:
        self.is_cut = True

    def end(self, tag: str) -> None:
        tag, node, parts = self._open.pop()
        parent = self._open[-1][1] if self._open else None
        if tag == "suite":
            self.ended.append(self._suites.pop())
        elif tag in ("test", "task") and node is not None:
            self.found.append((self._suites[-1].copy(), node))
            self._nodes = self._text = 0
        elif tag == "msg" and len(self._open) > 1 and self._open[-1][0] == "errors":
            if node is not None:
                self.errors.append({**node, "message": "".join(parts)})
            self._nodes = self._text = 0
        elif node is not None and parent is not None:
            self._place(tag, node, parent, "".join(parts))

    def _place(self, tag: str, node: dict[str, Any], parent: dict[str, Any], text: str) -> None:
        """Put an element that has ended into the object that it is in."""
        if tag in _TYPES:
            self._place_node(tag, node, parent, text)
        elif tag == "status":
            parent["message"] = text
        elif tag in ("doc", "timeout"):
            parent.setdefault(tag, text)
        elif tag in ("meta", "item"):
            self._suites[-1].add_metadata(node.get("name"), text)
        elif tag == "var" and node is not parent:
            values = parent.setdefault("assign", {})
            if isinstance(values, dict):
                values[node["name"]] = text
        elif tag in _LISTS and isinstance(parent.setdefault(_LISTS[tag], []), list):
            parent[_LISTS[tag]].append(text)

    def _place_node(self, tag: str, node: dict[str, Any], parent: dict[str, Any], text: str) -> None:
        if tag == "msg":
            node["message"] = text
        of_suite = self._open[-1][0] == "suite"
        if of_suite and node["type"] == "SETUP":
            self._suites[-1].setup = node
        elif node["type"] in ("SETUP", "TEARDOWN"):
            parent[node["type"].lower()] = node
        else:
            parent.setdefault("body", []).append(node)
        if of_suite:
            self._nodes = self._text = 0


class Teardowns:
    """Finds suites whose teardown failed: {full name: (status, message)}."""

    def __init__(self) -> None:
        self.failed: dict[str, tuple[str, str]] = {}
        self._names: list[str] = []
        self._tags: list[str] = []
        self._depth = 0  # of elements within the teardown of a suite
        self._status, self._parts = "", [""]

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        if tag == "suite":
            self._names.append(attributes.get("name") or "")
        elif self._depth or (tag == "kw" and self._tags[-1:] == ["suite"] and _is_teardown(attributes)):
            self._depth += 1
        if self._depth == 2 and tag == "status":
            self._status, self._parts = attributes.get("status", ""), []
        self._tags.append(tag)

    def data(self, text: str) -> None:
        if self._depth == 2 and self._tags[-1] == "status" and len(self._parts) < 1_000:
            self._parts.append(text)

    def end(self, tag: str) -> None:
        self._tags.pop()
        if tag == "suite":
            self._names.pop()
        if self._depth:
            self._depth -= 1
            if not self._depth and self._status in ("FAIL", "SKIP"):
                self.failed[".".join(self._names)] = self._status, "".join(self._parts)
                self._status = ""

    def cut(self) -> None:
        pass


def _is_teardown(attributes: dict[str, str]) -> bool:
    return attributes.get("type", "").upper() == "TEARDOWN"


def _status(attributes: dict[str, str]) -> dict[str, Any]:
    start = attributes.get("start") or attributes.get("starttime")
    return {
        "status": attributes.get("status"),
        "start_time": start,
        "end_time": attributes.get("endtime"),
        "elapsed_time": attributes.get("elapsed"),
    }
