"""Cucumber's JSON, which its implementations write in much the same way: the last attempt of each scenario."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any, Iterator

from reportd_client.formats import json_file
from reportd_client.formats.cucumber import Attachment, Scenario, Step, result_of, table
from reportd_client.formats.embedded import decoded
from reportd_client.formats.junit_case import iso
from reportd_client.formats.result import Empty, Result, Source, Unreadable
from reportd_client.formats.values import dict_of, dicts, duration, text_of

NAME = "cucumber-json"


def looks(head: bytes, path: Path) -> bool:
    """Whether a file that begins with these bytes is of this format: a list of features with their elements."""
    text = json_file.ascii_of(head)
    return text[:1] == b"[" and all(word in text for word in (b'"elements"', b'"keyword"'))


def read(source: Source) -> Iterator[Result]:
    """The results of a file. Raises Unreadable, Empty."""
    value, is_cut = json_file.read(source.path)
    features = value if isinstance(value, list) else [value]
    if not all(isinstance(each, dict) and ("elements" in each or json_file.CUT in each) for each in features):
        raise Unreadable(f"{source.path} is no JSON of Cucumber: it needs a list of features with `elements`")
    count = 0
    for feature in features:
        if json_file.CUT in feature and not text_of(feature, "uri"):
            continue  # some write the name of a feature after its scenarios
        for result in _results(source, feature):
            count += 1
            yield result
    if not count and is_cut:
        raise Unreadable(f"{source.path} is cut before the end of its first feature")
    if not count:
        raise Empty(f"{source.path} is empty: it has no scenario")
    if is_cut:
        source.note(f"{source.path} is cut: {count:,} whole results were read")


def _results(source: Source, feature: dict[str, Any]) -> Iterator[Result]:
    lines: dict[tuple[str, str], dict[Any, int]] = defaultdict(dict)  # of scenarios with the same name
    background: list[Step] = []
    for element in dicts(feature.get("elements")):
        if json_file.CUT in element:
            continue
        steps = list(_steps(element))
        if element.get("type") == "background":
            background = steps
            continue
        scenario = _scenario(feature, element)
        same = lines[scenario.rule, scenario.name]
        scenario.copy = same.setdefault(scenario.line, len(same) + 1)
        more = {"started_at": iso(text_of(element, "start_timestamp"))}
        yield result_of(source, scenario, [*background, *steps], more)
        background = []


def _scenario(feature: dict[str, Any], element: dict[str, Any]) -> Scenario:
    line = element.get("line")
    tags = [*dicts(feature.get("tags")), *dicts(element.get("tags"))]
    return Scenario(
        name=text_of(element, "name"),
        uri=text_of(feature, "uri"),
        feature=text_of(feature, "name"),
        rule=_rule(feature, element),
        description=text_of(element, "description").strip() or text_of(feature, "description"),
        line=line if isinstance(line, int) else None,
        tags=[text_of(tag, "name") for tag in tags if text_of(tag, "name")],
    )


def _rule(feature: dict[str, Any], element: dict[str, Any]) -> str:
    """The rule that a scenario is in, as its id has it: `feature;rule;scenario`."""
    names = [text_of(each, "name").lower().replace(" ", "-") for each in (feature, element)]
    parts = text_of(element, "id").split(";")
    return parts[1] if len(parts) == 3 and [parts[0], parts[2]] == names else ""


def _steps(element: dict[str, Any]) -> Iterator[Step]:
    """Steps with the hooks around them. cucumber-js has hooks among the steps, others beside them."""
    yield from (_hook(each, "Before") for each in dicts(element.get("before")))
    is_outcome = False
    for each in dicts(element.get("steps")):
        yield from (_hook(hook, "BeforeStep") for hook in dicts(each.get("before")))
        word = text_of(each, "keyword").strip()
        if each.get("hidden") or word in ("Before", "After"):
            yield _hook(each, word or "Hook")
        else:
            is_outcome = word == "Then" or (is_outcome and word in ("And", "But", "*"))
            yield _step(each, keyword=text_of(each, "keyword"), text=text_of(each, "name"), is_outcome=is_outcome)
        yield from (_hook(hook, "AfterStep") for hook in dicts(each.get("after")))
    yield from (_hook(each, "After") for each in dicts(element.get("after")))


def _hook(value: dict[str, Any], kind: str) -> Step:
    name = text_of(value, "name") or text_of(value.get("match"), "location")
    return _step(value, hook=f"{kind} ({name})" if name else kind)


def _step(value: dict[str, Any], **fields: Any) -> Step:
    result = dict_of(value, "result")
    nanoseconds = result.get("duration")
    return Step(
        status=text_of(result, "status").lower() or "unknown",
        message=text_of(result, "error_message"),
        duration_ms=duration(nanoseconds / 1e6) if isinstance(nanoseconds, (int, float)) else None,
        argument="\n".join(filter(None, _arguments(value))),
        attachments=list(_attachments(value)),
        **fields,
    )


def _arguments(step: dict[str, Any]) -> Iterator[str]:
    """Tables and texts of a step."""
    for each in [*dicts(step.get("arguments")), {"rows": step.get("rows")}, dict_of(step, "doc_string")]:
        yield table([row.get("cells") for row in dicts(each.get("rows"))])
        yield text_of(each, "content") or text_of(each, "value")


def _attachments(step: dict[str, Any]) -> Iterator[Attachment]:
    for each in dicts(step.get("embeddings")):
        media_type, text = text_of(each, "mime_type"), text_of(each, "data")
        data = decoded(text)
        if data is None and media_type.startswith("text/"):  # older versions do not encode texts
            data = text.encode("utf-8", "replace")
        yield Attachment(media_type, data, text_of(each, "name"))
    output = step.get("output")
    for line in output if isinstance(output, list) else ():
        yield Attachment("text/x.cucumber.log+plain", str(line).encode("utf-8", "replace"))
