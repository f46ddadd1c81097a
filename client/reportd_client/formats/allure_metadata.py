"""Labels, links and parameters of a result of Allure."""

from __future__ import annotations

import json
from typing import Any, Iterator

from reportd_client import limits
from reportd_client.mask import REDACTED, is_password_field
from reportd_client.texts import cut

_MOST = 100  # labels, links, parameters
_OWN = ("severity", "owner", "epic", "feature", "story", "layer")
_SUITES = ("parentSuite", "suite", "subSuite")
_MAX_TAGS = 20
_SHORTEST = 4  # characters of a value that is hidden in other texts: a shorter one is in many words
_DROPPED = ("links", "labels", "parameters", "description")  # in this order, when all is too much


def metadata_of(value: dict[str, Any]) -> dict[str, Any]:
    """What a test has beside its verdict, with `tags`, which is a field of its own."""
    labels: dict[str, list[str]] = {}
    for name, text in _pairs(value.get("labels")):
        if not name.startswith("_"):
            labels.setdefault(name, []).append(text)
    tags = list(dict.fromkeys(cut(tag, 500) for tag in labels.pop("tag", [])))[:_MAX_TAGS]
    suites = [text for name in _SUITES for text in labels.pop(name, [])] or _texts(value.get("titlePath"))
    metadata: dict[str, Any] = {"suite": cut(" / ".join(suites), 1_000)}
    for name in _OWN:
        if name in labels:
            metadata[name] = _one(labels.pop(name))
    metadata["labels"] = {name: _one(texts) for name, texts in labels.items()}
    metadata["description"] = cut(
        next(iter(_texts([value.get("description"), value.get("descriptionHtml")])), ""), 10_000
    )
    metadata["links"] = list(_links(value.get("links")))
    metadata["parameters"] = dict(parameters_of(value))
    for name, field in (("history_id", "historyId"), ("test_case_id", "testCaseId")):
        metadata[name] = cut(next(iter(_texts([value.get(field)])), ""), 500)
    metadata = {name: each for name, each in metadata.items() if each}
    for name in _DROPPED:
        if len(json.dumps(metadata)) > limits.MAX_METADATA:
            metadata.pop(name, None)
    return {**metadata, "tags": tags}


def parameters_of(value: dict[str, Any], for_identity: bool = False) -> Iterator[tuple[str, str]]:
    """Names and values of the parameters that are shown, in their order."""
    for parameter in _dicts(value.get("parameters")):
        name, text = str(parameter.get("name") or ""), str(parameter.get("value") or "")
        is_left_out = for_identity and parameter.get("excluded") is True
        if name and parameter.get("mode") != "hidden" and not is_left_out:
            yield cut(name, 200), REDACTED if _is_secret(parameter) else cut(text, 1_000)


def secrets_of(value: dict[str, Any]) -> set[str]:
    """Values of parameters that are masked or named like a password, of the test and all of its steps."""
    found: set[str] = set()
    waiting = [value]
    while waiting:
        one = waiting.pop()
        for parameter in _dicts(one.get("parameters")):
            if _is_secret(parameter) and isinstance(parameter.get("value"), str):
                text = parameter["value"]
                found.update((text, text.strip("'\"")))
        steps = one.get("steps")
        waiting += [step for step in steps if isinstance(step, dict)] if isinstance(steps, list) else []
    return {text for text in found if len(text) >= _SHORTEST}


def _is_secret(parameter: dict[str, Any]) -> bool:
    return parameter.get("mode") == "masked" or is_password_field(str(parameter.get("name")))


def _pairs(given: Any) -> Iterator[tuple[str, str]]:
    for each in _dicts(given):
        if isinstance(each.get("name"), str) and isinstance(each.get("value"), str):
            yield cut(each["name"], 200), cut(each["value"], 1_000)


def _links(given: Any) -> Iterator[dict[str, str]]:
    for link in _dicts(given):
        if isinstance(link.get("url"), str):
            texts = {name: link.get(name) for name in ("type", "name", "url")}
            yield {name: cut(text, 2_000) for name, text in texts.items() if isinstance(text, str) and text}


def _one(texts: list[str]) -> Any:
    return texts[0] if len(texts) == 1 else texts


def _texts(given: Any) -> list[str]:
    return [each for each in given if isinstance(each, str) and each] if isinstance(given, list) else []


def _dicts(given: Any) -> list[dict[str, Any]]:
    return [each for each in given if isinstance(each, dict)][:_MOST] if isinstance(given, list) else []
