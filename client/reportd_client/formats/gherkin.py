"""What Gherkin's documents say of scenarios beyond their names: features, rules, keywords, rows of examples."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any, Iterator, Optional

from reportd_client.formats.cucumber import Scenario
from reportd_client.formats.values import dict_of, dicts, text_of


class Features:
    """Of all documents of one file."""

    def __init__(self) -> None:
        self._keywords: dict[str, str] = {}  # by the id of a step
        self._scenarios: dict[str, Scenario] = {}  # by the id of a scenario, or of a row of its examples
        self._counts: Counter[tuple[str, str, str]] = Counter()
        self.values = 0  # that are kept

    def add(self, document: dict[str, Any]) -> None:
        feature, uri = dict_of(document, "feature"), text_of(document, "uri")
        about = Scenario("", uri, text_of(feature, "name"), description=text_of(feature, "description"))
        self._add_children(about, feature.get("children"))

    def _add_children(self, about: Scenario, children: Any) -> None:
        for child in dicts(children):
            rule, scenario = child.get("rule"), dict_of(child, "scenario")
            if isinstance(rule, dict) and not about.rule:  # rules are not within rules
                self._add_children(replace(about, rule=text_of(rule, "name")), rule.get("children"))
            for step in [*dicts(dict_of(child, "background").get("steps")), *dicts(scenario.get("steps"))]:
                self._keywords[text_of(step, "id")] = text_of(step, "keyword")
                self.values += 2
            if scenario:
                self._add_scenario(about, scenario)

    def _add_scenario(self, about: Scenario, scenario: dict[str, Any]) -> None:
        name = text_of(scenario, "name")
        described = text_of(scenario, "description").strip() or about.description
        for node, names in [(scenario, {}), *_rows(scenario)]:
            line = dict_of(node, "location").get("line")
            made = replace(about, name=name, description=described, parameters=names, tags=[])
            made.line = line if isinstance(line, int) else None
            for parameter, value in names.items():
                made.name = made.name.replace(f"<{parameter}>", value)
            if names or not dicts(scenario.get("examples")):
                key = about.uri, about.rule, made.name
                self._counts[key] += 1
                made.copy = self._counts[key]
            self._scenarios[text_of(node, "id")] = made
            self.values += 8 + 2 * len(names)

    def keyword(self, nodes: Any) -> str:
        return next((self._keywords[node] for node in _texts(nodes) if node in self._keywords), "")

    def scenario(self, nodes: Any, uri: str) -> Scenario:
        """A copy of what is known of a pickle made of these nodes; the last is the row of its examples."""
        known: Optional[Scenario] = None
        for node in _texts(nodes):
            known = self._scenarios.get(node, known)
        return replace(known) if known is not None else Scenario("", uri)


def _rows(scenario: dict[str, Any]) -> Iterator[tuple[dict[str, Any], dict[str, str]]]:
    for examples in dicts(scenario.get("examples")):
        header = [text_of(cell, "value") for cell in dicts(dict_of(examples, "tableHeader").get("cells"))]
        for row in dicts(examples.get("tableBody")):
            yield row, dict(zip(header, (text_of(cell, "value") for cell in dicts(row.get("cells")))))


def _texts(value: Any) -> list[str]:
    return [each for each in value if isinstance(each, str)] if isinstance(value, list) else []
