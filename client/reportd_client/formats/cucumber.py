"""What the two formats of Cucumber share: a scenario with its steps and hooks becomes a result."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Optional, Sequence

from reportd_client import limits
from reportd_client.formats.embedded import IMAGES, file_with, suffix_of
from reportd_client.formats.failure import error_of, joined
from reportd_client.formats.files import file_of
from reportd_client.formats.junit_case import shortened
from reportd_client.formats.result import File, Result, Source, Told, plain
from reportd_client.formats.tree import Node, place, place_screenshots
from reportd_client.texts import artifact_type_of, cut, step_type_of

STATUSES = {
    **dict.fromkeys(("failed", "ambiguous", "undefined", "pending"), "Failed"),
    "skipped": "Skipped",
    "passed": "Passed",
}
_WORST = tuple(STATUSES)  # the first that one of the steps has is the scenario's
_REASONS = {
    "undefined": "No step definition matches",
    "ambiguous": "Several step definitions match",
    "pending": "The step is pending",
}
_LOG = "text/x.cucumber.log+plain"
_LINK = "text/uri-list"
_MAX_TAGS = 50
_ACTOR = re.compile(r"(?:I|we|they|the user|a user)\s+", re.IGNORECASE)


@dataclass
class Scenario:
    """`copy`: the how many-th of its name it is, as rows of an outline may have the same one."""

    name: str
    uri: str = ""
    feature: str = ""
    rule: str = ""
    description: str = ""
    line: Optional[int] = None
    copy: int = 1
    tags: list[str] = field(default_factory=list)
    parameters: dict[str, str] = field(default_factory=dict)


@dataclass
class Attachment:
    """`url`: it is a file beside the report."""

    media_type: str
    data: Optional[bytes] = None
    name: str = ""
    url: str = ""
    refused: str = ""

    @property
    def kind(self) -> str:
        return self.media_type.partition(";")[0].strip().lower()

    def text(self) -> str:
        return str(plain((self.data or b"").decode("utf-8", "replace")))


@dataclass
class Step:
    """A step or a hook; `hook`: what it is called, as in `Before`."""

    text: str = ""
    keyword: str = ""
    hook: str = ""
    is_outcome: bool = False  # of Then, and And after it
    argument: str = ""
    status: str = "unknown"
    message: str = ""
    exception: tuple[str, str] = ("", "")  # type and message, where they are told apart
    duration_ms: Optional[int] = None
    started_at: Optional[str] = None
    attachments: list[Attachment] = field(default_factory=list)

    @property
    def has_failed(self) -> bool:
        return STATUSES.get(self.status) == "Failed"

    def error(self) -> dict[str, Any]:
        if not self.has_failed:
            return {"error_message": cut(self.message.strip()) or None}
        kind, message = self.exception
        if self.status == "failed" or self.message.strip():
            return error_of(self.message, message, kind)
        return {"error_message": f"{_REASONS[self.status]}: {cut(self.text, 1_000)}"}

    def node(self) -> Node:
        title = self.hook or f"{self.keyword}{self.text}"
        kind = "assert" if self.is_outcome else step_type_of(_ACTOR.sub("", self.text, count=1), False)
        fields = {"step_type": kind, "status": STATUSES.get(self.status, "Pending"), "duration_ms": self.duration_ms}
        fields.update(started_at=self.started_at, **self.error())
        if self.argument:
            fields["description"] = cut(f"{title.strip()}\n{self.argument}")
        return Node(title, fields)


def result_of(
    source: Source, scenario: Scenario, steps: Sequence[Step], more: dict[str, Any], loose: Sequence[Attachment] = ()
) -> Result:
    """The result of one attempt. `more`: further fields of the test. `loose`: attachments of no step."""
    told = [step.status for step in steps]
    outcome = next((word for word in _WORST if word in told), "unknown")
    status = STATUSES.get(outcome, "Pending")
    name = scenario.name.strip() or "(without a name)"
    suffix = f" #{scenario.copy}" if scenario.copy > 1 else ""
    path = " › ".join(filter(None, (scenario.uri, scenario.feature, scenario.rule, name)))
    test: dict[str, Any] = {"name": cut(name, 480) + suffix, "test_id": shortened(path + suffix), "status": status}
    of_outcome = [step for step in steps if step.status == outcome and status in ("Failed", "Skipped")]
    errors = [error for error in (step.error() for step in of_outcome) if error["error_message"]]
    test.update(joined(errors) if errors and status == "Failed" else errors[0] if errors else {})
    test["duration_ms"] = _sum(step.duration_ms for step in steps)
    test.update(more)
    metadata = {
        **{"feature": scenario.feature, "rule": scenario.rule, "description": cut(scenario.description.strip(), 4_000)},
        "location": f"{scenario.uri}:{scenario.line}" if scenario.line else scenario.uri,
        "parameters": {name: cut(value, 200) for name, value in scenario.parameters.items()},
        "outcome": "" if outcome in ("passed", "failed", "skipped") else outcome,
    }
    test["tags"] = [cut(tag, 100) for tag in dict.fromkeys(scenario.tags)][:_MAX_TAGS]
    result = Result({}, told=None if "attempt" in more else Told(time=test.get("started_at")))
    metadata["links"] = _add_steps(source, result, steps, loose)
    test["metadata"] = {key: value for key, value in metadata.items() if value}
    result.test = plain({key: value for key, value in test.items() if value not in (None, "", {}, [])})
    place_screenshots(result)
    return result


def _sum(durations: Any) -> Optional[int]:
    known = [each for each in durations if each is not None]
    return sum(known) if known else None


def _add_steps(source: Source, result: Result, steps: Sequence[Step], loose: Sequence[Attachment]) -> list[str]:
    """Steps with what they attach, and the links among it. Hooks are steps when they failed or attach something."""
    shown = [step for step in steps if not step.hook or step.attachments or step.has_failed]
    has_failed = any(step.has_failed for step in shown)
    nodes = [step.node() for step in shown]
    links: list[str] = []
    used = 0
    for number, attachments in [*enumerate((step.attachments for step in shown), 1), (0, loose)]:
        count = 0
        for attachment in attachments:
            if attachment.kind == _LOG:
                result.console_logs += _entries(attachment, number)
                continue
            if attachment.kind == _LINK:
                links += attachment.text().split()
                continue
            count += 1
            file = _file(source, attachment, number, count, used)
            used += len(file.data or b"")
            # A hook after a failure takes its picture of the step that failed, see place_screenshots().
            of_other = number > 0 and has_failed and bool(shown[number - 1].hook) and not shown[number - 1].has_failed
            is_loose = number == 0 or (of_other and file.fields["artifact_type"] == "screenshot")
            (result.files if is_loose else nodes[number - 1].files).append(file)
    place(result, nodes)
    result.steps = plain(result.steps)
    return links


def _entries(attachment: Attachment, number: int) -> list[dict[str, Any]]:
    of_step = {"step_number": number} if 0 < number <= limits.MAX_STEPS else {}
    lines = attachment.text().splitlines() or [""]
    return [{"level": "info", "message": cut(line), "source_url": "log", **of_step} for line in lines]


def _file(source: Source, attachment: Attachment, number: int, count: int, used: int) -> File:
    """`number` of its step, 0 for none; `count` of the files of that step; `used`: bytes of the other files."""
    fields = {"artifact_type": "screenshot"} if attachment.kind in IMAGES else {}
    if attachment.url:
        fields = {"artifact_type": artifact_type_of(attachment.url), **fields}
        return file_of(source.path, attachment.url, fields, source.files)
    name = attachment.name.replace("\\", "/").rpartition("/")[2]
    if not name:
        stem = f"step_{number:03d}" if number else "attachment"
        name = f"{stem}_{count}" if count > 1 else stem
        name += suffix_of(attachment.kind)
    if attachment.refused:
        return File({"file_name": name, "artifact_type": artifact_type_of(name), **fields}, refused=attachment.refused)
    return file_with(attachment.data, name, fields, used)


def table(rows: list[Any]) -> str:
    """A table of Gherkin, whose cells are texts."""
    return "\n".join(f"| {' | '.join(map(str, row))} |" for row in rows if isinstance(row, list))
