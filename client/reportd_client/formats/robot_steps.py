"""Keywords and control structures of Robot Framework to steps, and their messages to entries of the log."""

from __future__ import annotations

from typing import Any, Iterator, Optional

from reportd_client import limits
from reportd_client.formats import robot_times, tree
from reportd_client.formats.result import Result, Source
from reportd_client.formats.robot_message import entry, files_of, is_html, without_mark
from reportd_client.formats.robot_secrets import secrets_of_keyword, secrets_of_message, shown_arguments
from reportd_client.texts import cut

_STATUSES = {"PASS": "Passed", "FAIL": "Failed", "SKIP": "Skipped", "NOT RUN": "Skipped"}
_ROOTS = ("IF/ELSE ROOT", "TRY/EXCEPT ROOT")
_TRACE = "Traceback (most recent call last):"  # in a message of level DEBUG
_QUIET = 4_000  # messages below WARN of a test: the others are always kept
_SHORT_PHASE, _SMALL_SHARE = 100, 0.1  # milliseconds, and share of the whole test, as of the pytest plugin
_NAMED_BY = {  # of a control structure: the fields that are its title after its type
    "FOR": ("assign", "flavor", "values"),
    "WHILE": ("condition",),
    "ITERATION": ("assign",),
    "GROUP": ("name",),
    "VAR": ("name", "value", "assign"),
    "RETURN": ("values",),
    "IF": ("condition",),
    "ELSE IF": ("condition",),
    "EXCEPT": ("patterns",),
    "ERROR": ("values",),
}


class Steps:
    """Of one test, which took `whole` milliseconds."""

    def __init__(self, source: Source, whole: int) -> None:
        self._source, self._whole = source, whole
        self._messages: list[tuple[Optional[tree.Node], dict[str, Any]]] = []
        self._quiet = 0
        self.secrets: set[str] = set()
        self.trace = ""  # of the failure that was the last

    def of_test(self, test: dict[str, Any], suite_setups: list[dict[str, Any]]) -> list[tree.Node]:
        nodes = [self._phase("suite setup", setup) for setup in suite_setups]
        nodes.append(self._phase("setup", test.get("setup")))
        nodes += self._body(None, test)
        nodes.append(self._phase("teardown", test.get("teardown")))
        return [node for node in nodes if node is not None]

    def finish(self, result: Result) -> None:
        """Add the messages, each with its step, once the steps have numbers."""
        for node, message in self._messages:
            place = {"step_number": node.number} if node is not None and node.number is not None else {}
            result.console_logs.append({**message, **place})

    def _phase(self, name: str, keyword: Any) -> Optional[tree.Node]:
        """A setup or teardown, when it failed, has steps or files, or took long."""
        if not isinstance(keyword, dict):
            return None
        before = len(self._messages)
        child = self._node(keyword)
        took = child.fields.get("duration_ms") or 0
        long = took >= max(_SHORT_PHASE, _SMALL_SHARE * self._whole)
        if not (child.fields["status"] == "Failed" or child.children or child.files or long):
            self._messages[before:] = [(None, message) for _, message in self._messages[before:]]
            return None
        times = {key: child.fields.get(key) for key in ("started_at", "completed_at", "duration_ms")}
        fields = {"step_type": "group", "status": child.fields["status"], **times}
        fields["error_message"] = child.fields.get("error_message")
        return tree.Node(name, fields, [child])

    # --- one step ---

    def _node(self, value: dict[str, Any]) -> tree.Node:
        status = _STATUSES.get(str(value.get("status")), "Pending")
        node = tree.Node(_title(value), {"status": status, **robot_times.fields(value)})
        self.secrets |= secrets_of_keyword(value)
        arguments = shown_arguments(value)
        if arguments:
            node.fields["description"] = cut("    ".join([node.title, *arguments]))
        message = without_mark(_text(value.get("message"))).strip()
        if message and status in ("Failed", "Skipped"):
            node.fields["error_message"] = cut(message)
        if value.get("status") != "NOT RUN":
            node.children = list(self._inner(node, value))
        return node

    def _inner(self, node: tree.Node, value: dict[str, Any]) -> Iterator[tree.Node]:
        setup, teardown = value.get("setup"), value.get("teardown")
        yield from [self._node(setup)] if isinstance(setup, dict) else []
        yield from self._body(node, value)
        yield from [self._node(teardown)] if isinstance(teardown, dict) else []

    def _body(self, node: Optional[tree.Node], value: dict[str, Any]) -> Iterator[tree.Node]:
        """The steps of a body; its messages are kept. Branches that were not taken are no steps."""
        for each in _list(value.get("body")):
            if not isinstance(each, dict):
                continue
            kind = each.get("type")
            if kind == "MESSAGE":
                self._message(node, value, each)
            elif kind in _ROOTS:
                branches = [branch for branch in _list(each.get("body")) if isinstance(branch, dict)]
                taken = [branch for branch in branches if branch.get("status") != "NOT RUN"]
                yield from map(self._node, taken if each.get("status") != "NOT RUN" else branches[:1])
            else:
                yield self._node(each)

    def _message(self, node: Optional[tree.Node], keyword: dict[str, Any], message: dict[str, Any]) -> None:
        made, text = entry(message)
        self.secrets |= secrets_of_message(keyword, made["message"])
        if node is not None and is_html(message):
            node.files += files_of(self._source, text)[: limits.MAX_FILES]
        if _TRACE in made["message"] and made["level"] == "debug" and keyword.get("status") == "FAIL":
            self.trace = made["message"]
            if node is not None:
                node.fields["stack_trace"] = self.trace
            return
        if not made["message"]:  # of a picture
            return
        is_quiet = made["level"] in ("debug", "info")
        self._quiet += is_quiet
        if (not is_quiet or self._quiet <= _QUIET) and len(self._messages) < 2 * limits.MAX_CONSOLE:
            made["source_url"] = _text(keyword.get("name"))[:500] or None
            made["logged_at"] = robot_times.iso(message.get("timestamp"))
            self._messages.append((node, {key: item for key, item in made.items() if item is not None}))


def _title(value: dict[str, Any]) -> str:
    kind = _text(value.get("type"))
    if kind in ("", "KEYWORD", "SETUP", "TEARDOWN"):
        return _text(value.get("name")) or _text(value.get("kwname")) or "keyword"
    parts = [_joined(value.get(name)) for name in _NAMED_BY.get(kind, ())]
    title = " ".join(part for part in parts if part)
    if kind == "ITERATION":
        return title or "iteration"
    if kind == "GROUP":
        return title or "GROUP"
    return f"{kind} {title}".strip()


def _joined(value: Any) -> str:
    """Texts of a list, or `${i} = a` of a dict."""
    if isinstance(value, dict):
        return ", ".join(f"{name} = {text}" for name, text in value.items())
    return " ".join(map(str, value)) if isinstance(value, list) else _text(value)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
