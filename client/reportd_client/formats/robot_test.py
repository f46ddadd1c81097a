"""A test of Robot Framework, as its JSON has it, to the fields of the API."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import Any, Optional, cast

from reportd_client import limits
from reportd_client.formats import robot_times, tree
from reportd_client.formats.junit_case import shortened
from reportd_client.formats.result import Result, Source, Told, plain
from reportd_client.formats.robot_message import without_mark
from reportd_client.formats.robot_steps import Steps
from reportd_client.texts import cut

_STATUSES = {"PASS": "Passed", "FAIL": "Failed", "SKIP": "Skipped"}
_TYPE = re.compile(r"\s*((?:[A-Za-z_$][\w$]*\.)*[A-Za-z_$][\w$]*(?:Error|Exception|Failure|Warning)):")
_PHASES = {"Setup failed:\n": "setup", "Teardown failed:\n": "teardown", "Parent suite setup failed:\n": "suite setup"}
_MAX_TAGS, _MAX_METADATA = 20, 100


@dataclass
class Suite:
    """`setup`: its keyword, until the first test has shown it. `teardown`: status and message when it has failed."""

    full_name: str = ""
    source: str = ""
    is_root: bool = False
    metadata: dict[str, str] = field(default_factory=dict)
    setup: Optional[dict[str, Any]] = None
    teardown: Optional[tuple[str, str]] = None
    parent_teardowns: tuple[tuple[str, str], ...] = ()  # that have failed, the innermost first
    parent: Optional[Suite] = None
    node: dict[str, Any] = field(default_factory=dict)  # what else its object has
    setups: list[dict[str, Any]] = field(default_factory=list)  # that are shown with a test

    @classmethod
    def of(cls, node: dict[str, Any], parent: Suite) -> Suite:
        """From its object in JSON."""
        name = node.get("name") if isinstance(node.get("name"), str) else ""
        suite = cls(".".join(filter(None, (parent.full_name, name))), _text(node.get("source")))
        suite.is_root = not parent.full_name
        setup, teardown, metadata = (node.get(key) for key in ("setup", "teardown", "metadata"))
        suite.setup = setup if isinstance(setup, dict) else None
        if isinstance(teardown, dict) and teardown.get("status") in ("FAIL", "SKIP"):
            suite.teardown = str(teardown["status"]), _text(teardown.get("message"))
        for key, value in list(metadata.items())[:_MAX_METADATA] if isinstance(metadata, dict) else ():
            suite.add_metadata(key, value)
        suite.parent_teardowns = parent.teardowns
        suite.parent = parent
        return suite

    @property
    def teardowns(self) -> tuple[tuple[str, str], ...]:
        return (*filter(None, [self.teardown]), *self.parent_teardowns)

    def add_metadata(self, name: Any, value: Any) -> None:
        if isinstance(name, str) and isinstance(value, str) and len(self.metadata) < _MAX_METADATA:
            self.metadata[cut(name, 200)] = cut(value, 1_000)

    def copy(self) -> Suite:
        """As it is when a test ends: with the setups of this suite and those around it that no test has shown yet."""
        setups, suite = [], cast(Optional[Suite], self)
        while suite is not None:
            setups += [suite.setup] if suite.setup is not None else []
            suite.setup, suite = None, suite.parent
        return replace(self, setups=setups[::-1], parent=None, node={})


def result_of(source: Source, suite: Suite, test: dict[str, Any]) -> Result:
    """`test`: its object in JSON."""
    test = plain(test)
    name = cut(_text(test.get("name")) or "(without a name)", 500)
    times = robot_times.fields(test)
    metadata: dict[str, Any] = {
        "suite": cut(plain(suite.full_name), 1_000),
        "documentation": cut(_text(test.get("doc")), 10_000),
        "timeout": cut(_text(test.get("timeout")), 200),
        "location": _location(suite.source, test.get("lineno")),
    }
    fields: dict[str, Any] = {
        "name": name,
        "test_id": shortened(plain(".".join(filter(None, (suite.full_name, _text(test.get("name"))))) or name)),
        "tags": [cut(tag, 500) for tag in _list(test.get("tags")) if isinstance(tag, str) and tag][:_MAX_TAGS],
        **_verdict(suite, test, metadata),
        **times,
    }
    result = Result(fields, told=Told(times["started_at"]))
    steps = Steps(source, times["duration_ms"] or 0)
    tree.place(result, steps.of_test(test, plain(suite.setups)))
    steps.finish(result)
    if fields["status"] == "Failed" and steps.trace:
        fields["stack_trace"] = cut(steps.trace)
    tree.place_screenshots(result)
    for file in result.files:
        _name(file.fields)
    fields["metadata"] = {key: value for key, value in metadata.items() if value}
    result.test = {key: value for key, value in fields.items() if value not in (None, "", [], {})}
    del result.console_logs[limits.MAX_CONSOLE :]
    result.secrets = steps.secrets
    return result


def _verdict(suite: Suite, test: dict[str, Any], metadata: dict[str, Any]) -> dict[str, Any]:
    word, message = str(test.get("status")), without_mark(_text(test.get("message")))
    for outcome, reason in suite.teardowns:
        word, message = _after_teardown(word, message, outcome, without_mark(plain(reason)))
    status = _STATUSES.get(word, "Pending")
    if status == "Pending":
        metadata["outcome"] = cut(word, 100)
    if status == "Passed":
        metadata["message"] = cut(message.strip(), 2_000)
        return {"status": status}
    if status != "Failed":
        return {"status": status, "error_message": cut(message.strip()) or None}
    for prefix, phase in _PHASES.items():
        if message.startswith(prefix):
            metadata["phase"] = phase
            message = message[len(prefix) :] if phase in ("setup", "teardown") else message
    found = _TYPE.match(message)
    return {
        "status": status,
        "error_type": found[1][:255] if found else None,
        "error_message": cut(message.strip()) or "Failed",
    }


def _after_teardown(word: str, message: str, outcome: str, reason: str) -> tuple[str, str]:
    """What becomes of a test when the teardown of a suite around it has failed: as Robot Framework has it."""
    if outcome == "SKIP":
        earlier = f"\n\nEarlier message:\n{message}" if message else ""
        return "SKIP", f"Skipped in parent suite teardown:\n{reason}{earlier}"
    if message:
        return "FAIL", f"{message}\n\nAlso parent suite teardown failed:\n{reason}"
    return "FAIL", f"Parent suite teardown failed:\n{reason}"


def _name(fields: dict[str, Any]) -> None:
    """Pictures within messages have no name: that of their step."""
    if fields["file_name"].startswith("screenshot.") and "step_number" in fields:
        fields["file_name"] = f"step_{fields['step_number']:03d}.{fields['file_name'].partition('.')[2]}"


def _location(source: str, line: Any) -> str:
    return cut(plain(f"{source}:{line}" if source and isinstance(line, (int, str)) else source), 1_000)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
