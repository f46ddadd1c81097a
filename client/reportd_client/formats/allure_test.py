"""One result of Allure: from its file and the fixtures around it to the fields of the API."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Optional

from reportd_client import limits
from reportd_client.formats import output, pytest_error, tree
from reportd_client.formats.allure_files import attachment, is_output, text_of
from reportd_client.formats.allure_metadata import metadata_of, parameters_of, secrets_of
from reportd_client.formats.junit_case import shortened
from reportd_client.formats.result import File, Result, Source, Told
from reportd_client.formats.values import duration, moment, number
from reportd_client.mask import without_secrets
from reportd_client.texts import cut

_STATUSES = {"passed": "Passed", "failed": "Failed", "broken": "Failed", "skipped": "Skipped"}
_TYPE = re.compile(r"\s*((?:[A-Za-z_$][\w$]*\.)*[A-Za-z_$][\w$]*(?:Error|Exception|Failure|Warning))\b")
_EXPECTED = re.compile(r"XFAIL ?(.*?)(?:\n\n(.*))?\Z", re.DOTALL)  # of pytest
_SHORT_PHASE, _SMALL_SHARE = 100, 0.1  # milliseconds, and share of the whole test, as of the pytest plugin


@dataclass
class Fixtures:
    """Those before and after a test."""

    befores: list[dict[str, Any]]
    afters: list[dict[str, Any]]


def has_content(fixture: Any) -> bool:
    """Whether a fixture may be worth a step: it has failed, took long, or has steps or files."""
    if not isinstance(fixture, dict):
        return False
    inner = fixture.get("steps") or fixture.get("attachments")
    long = (_times(fixture)["duration_ms"] or 0) >= _SHORT_PHASE
    return bool(inner or long or fixture.get("status") in ("failed", "broken"))


def result_of(source: Source, value: dict[str, Any], fixtures: Fixtures) -> Result:
    """`value`: the object of the file."""
    metadata = metadata_of(value)
    is_pytest = metadata.get("labels", {}).get("framework") == "pytest"
    name = _text(value.get("name")) or _text(value.get("fullName")) or "(without a name)"
    test: dict[str, Any] = {
        "name": cut(name, 500),
        "test_id": _identity(value, name),
        "tags": metadata.pop("tags"),
        **_verdict(value, metadata, is_pytest),
        **_times(value),
    }
    result = Result(test, told=Told(moment(value.get("start")), again=isinstance(value.get("historyId"), str)))
    phases = _phases(source, fixtures, test, metadata)
    folded: list[File] = []
    steps = [*phases[:1], *_nodes(source, value, folded), *phases[1:]]
    tree.place(result, [step for step in steps if step is not None])
    result.files += folded
    _add_attachments(source, result, value, is_pytest)
    tree.place_screenshots(result)
    test["metadata"] = metadata
    result.test = {key: each for key, each in test.items() if each not in (None, "", [], {})}
    result.secrets = secrets_of(value)
    result.test["name"] = without_secrets(result.test["name"], sorted(result.secrets, key=len, reverse=True))
    return result


def _identity(value: dict[str, Any], name: str) -> str:
    """`fullName [name=value]`, with the parameters that make it another test."""
    own = [f"{each}={text}" for each, text in parameters_of(value, for_identity=True)]
    return shortened((_text(value.get("fullName")) or name) + (f"[{', '.join(own)}]" if own else ""))


# --- the verdict ---


def _verdict(value: dict[str, Any], metadata: dict[str, Any], is_pytest: bool) -> dict[str, Any]:
    word, details = value.get("status"), _dict(value.get("statusDetails"))
    status = _STATUSES.get(str(word), "Pending")
    if word not in ("passed", "failed", "skipped"):
        metadata["outcome"] = cut(str(word or "none"), 100)
    message, trace = _text(details.get("message")).strip(), _text(details.get("trace")).strip("\r\n")
    for name in ("flaky", "known", "muted"):
        if details.get(name) is True:
            metadata[name] = True
    if is_pytest and status in ("Passed", "Skipped") and message.startswith(("XFAIL", "XPASS")):
        return _expected(status, message, metadata)
    if status == "Failed":
        return {"status": status, **_error(message, trace, is_pytest)}
    if status == "Passed":
        metadata.update({"message": cut(message, 2_000)} if message else {})
        return {"status": status}
    reason = message.removeprefix("Skipped: ") if is_pytest else message
    return {"status": status, "error_message": cut(reason) or None}


def _expected(status: str, message: str, metadata: dict[str, Any]) -> dict[str, Any]:
    """As pytest's plugin has a failure that was expected."""
    metadata["outcome"] = "xpassed" if status == "Passed" else "xfailed"
    found = _EXPECTED.match(message)
    if status == "Passed" or found is None:
        return {"status": status}
    if found[2]:
        metadata["expected_error"] = cut(found[2], 2_000)
    return {"status": status, "error_message": cut(found[1].strip()) or None}


def _error(message: str, trace: str, is_pytest: bool) -> dict[str, Any]:
    if is_pytest:
        kind, message = pytest_error.split(message) if message else ("", "")
    else:
        found = _TYPE.match(message) or _TYPE.match(trace)
        kind = found[1] if found else ""
    message = message or trace.partition("\n")[0] or "Failed"
    return {"error_type": kind[:255] or None, "error_message": cut(message), "stack_trace": cut(trace) or None}


# --- steps ---


def _nodes(source: Source, value: dict[str, Any], folded: list[File]) -> list[tree.Node]:
    """The steps within. Entries that only hold attachments are no steps: their files are added to `folded`."""
    nodes = []
    for step in _list(value.get("steps"))[: limits.MAX_STEPS]:
        if not isinstance(step, dict):
            continue
        if step.get("status") is None and not step.get("steps") and step.get("attachments"):
            folded += [attachment(source, each) for each in _list(step["attachments"]) if isinstance(each, dict)]
        else:
            nodes.append(_node(source, step))
    return nodes


def _node(source: Source, step: dict[str, Any]) -> tree.Node:
    node = tree.Node(_text(step.get("name")) or "step")
    node.files = [attachment(source, each) for each in _list(step.get("attachments")) if isinstance(each, dict)]
    node.children = _nodes(source, step, node.files)
    details = _dict(step.get("statusDetails"))
    status = _STATUSES.get(str(step.get("status")), "Pending")
    node.fields = {"status": status, **_times(step)}
    message = _text(details.get("message")).strip()
    if message and status != "Passed":
        node.fields["error_message"] = cut(message)
    if not any(child.fields.get("stack_trace") for child in node.children) and status == "Failed":
        node.fields["stack_trace"] = cut(_text(details.get("trace")).strip("\r\n")) or None  # the innermost has it
    values = [f"{name} = {text}" for name, text in parameters_of(step)]
    if values:
        node.fields["description"] = cut("\n".join([node.title, *values]))
    return node


def _phases(
    source: Source, fixtures: Fixtures, test: dict[str, Any], metadata: dict[str, Any]
) -> list[Optional[tree.Node]]:
    """A setup and a teardown, when a fixture of them failed, has steps or files, or took long."""
    phases: list[Optional[tree.Node]] = []
    for name, values in (("setup", fixtures.befores), ("teardown", fixtures.afters)):
        children = [_node(source, value) for value in values if _is_worth(value, test.get("duration_ms") or 0)]
        failed = [child for child in children if child.fields["status"] == "Failed"]
        if test["status"] == "Failed" and any(_is_error_of(child, test) for child in failed):
            metadata["phase"] = name
        began = [each["started_at"] for each in map(_times, values) if each["started_at"]]
        fields = {
            "step_type": "group",
            "status": "Failed" if failed else "Passed",
            "started_at": min(began, default=None),
        }
        fields.update({"error_message": failed[0].fields.get("error_message")} if failed else {})
        phases.append(tree.Node(name, fields, children) if children else None)
    return phases


def _is_worth(fixture: dict[str, Any], whole: int) -> bool:
    inner = fixture.get("steps") or fixture.get("attachments") or fixture.get("status") in ("failed", "broken")
    return bool(inner) or (_times(fixture)["duration_ms"] or 0) >= _SMALL_SHARE * whole


def _is_error_of(node: tree.Node, test: dict[str, Any]) -> bool:
    """Whether the error of a fixture is that of the test."""
    message = node.fields.get("error_message") or ""
    return bool(message) and message.endswith(test.get("error_message") or "\0")


def _times(value: dict[str, Any]) -> dict[str, Any]:
    start, stop = number(value.get("start")), number(value.get("stop"))
    took = duration(max(0, stop - start)) if start and stop else None
    return {"duration_ms": took, "started_at": moment(start), "completed_at": moment(stop)}


# --- attachments ---


def _add_attachments(source: Source, result: Result, value: dict[str, Any], is_pytest: bool) -> None:
    """Those of the test. Output becomes console entries, and stays a file only when it is more than they may be."""
    texts: list[output.Output] = []
    for each in _list(value.get("attachments"))[: limits.MAX_FILES]:
        if not isinstance(each, dict):
            continue
        file = attachment(source, each)
        text = text_of(file) if is_output(each) else None
        name = _text(each.get("name"))
        if text is None:
            result.files.append(file)
        elif is_pytest and name == "log":
            result.console_logs += output.records(text, limits.MAX_CONSOLE)
        else:
            texts.append(("warning" if name == "stderr" else "info", name, text))
    output.add(result, texts)


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
