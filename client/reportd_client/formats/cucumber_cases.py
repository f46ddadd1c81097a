"""What Cucumber's messages say of scenarios before they run: documents, pickles, hooks and test cases."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

from reportd_client import limits
from reportd_client.formats.cucumber import Scenario, Step, table
from reportd_client.formats.gherkin import Features
from reportd_client.formats.result import Unreadable
from reportd_client.formats.values import dict_of, dicts, text_of

MAX_VALUES = 1_000_000  # that are kept; 10 steps with two hooks need 50
_HOOKS = {
    "BEFORE_TEST_CASE": "Before",
    "AFTER_TEST_CASE": "After",
    "BEFORE_TEST_STEP": "BeforeStep",
    "AFTER_TEST_STEP": "AfterStep",
    "BEFORE_TEST_RUN": "BeforeAll",
    "AFTER_TEST_RUN": "AfterAll",
}


@dataclass
class _Pickle:
    """`steps`: by their id."""

    name: str
    uri: str
    nodes: Any
    tags: list[str]
    steps: dict[str, Step]


class Cases:
    """Raises Unreadable when there are too many."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._features = Features()
        self._pickles: dict[str, _Pickle] = {}
        self._hooks: dict[str, str] = {}  # what they are called, by their id
        self._cases: dict[str, tuple[str, list[tuple[str, str, str]]]] = {}  # the pickle; of each step, what it is
        self._values = 0

    def add_document(self, value: dict[str, Any]) -> None:
        before = self._features.values
        self._features.add(value)
        self._count(self._features.values - before)

    def add_pickle(self, value: dict[str, Any]) -> None:
        steps = {text_of(each, "id"): self._step(each) for each in dicts(value.get("steps"))[: limits.MAX_STEPS]}
        tags = [text_of(tag, "name") for tag in dicts(value.get("tags"))[:100] if text_of(tag, "name")]
        nodes = value.get("astNodeIds")
        made = _Pickle(text_of(value, "name"), text_of(value, "uri"), nodes, tags, steps)
        self._pickles[text_of(value, "id")] = made
        self._count(5 + len(tags) + 4 * len(steps) + (len(nodes) if isinstance(nodes, list) else 1))

    def _step(self, value: dict[str, Any]) -> Step:
        argument = dict_of(value, "argument")
        rows = dicts(dict_of(argument, "dataTable").get("rows"))
        cells = table([[text_of(cell, "value") for cell in dicts(row.get("cells"))] for row in rows])
        return Step(
            text=text_of(value, "text"),
            keyword=self._features.keyword(value.get("astNodeIds")),
            is_outcome=text_of(value, "type") == "Outcome",
            argument=cells or text_of(dict_of(argument, "docString"), "content"),
        )

    def add_hook(self, value: dict[str, Any]) -> None:
        reference = dict_of(value, "sourceReference")
        line = dict_of(reference, "location").get("line")
        place = f"{text_of(reference, 'uri')}:{line}" if line else text_of(reference, "uri")
        name = text_of(value, "name") or place
        kind = _HOOKS.get(text_of(value, "type"), "Hook")
        self._hooks[text_of(value, "id")] = f"{kind} ({name})" if name else kind
        self._count(2)

    def add_case(self, value: dict[str, Any]) -> None:
        names = ("id", "pickleStepId", "hookId")
        steps = [tuple(text_of(each, name) for name in names) for each in dicts(value.get("testSteps"))]
        made = [(identity, of_pickle, hook) for identity, of_pickle, hook in steps[: limits.MAX_STEPS]]
        self._cases[text_of(value, "id")] = text_of(value, "pickleId"), made
        self._count(2 + 2 * len(made))

    def _count(self, values: int) -> None:
        self._values += values
        if self._values > MAX_VALUES:
            raise Unreadable(f"{self._path} has too many scenarios for one file: more than {MAX_VALUES:,} values")

    # --- when they run ---

    def steps(self, case: str) -> dict[str, Step]:
        """New steps and hooks of a test case, by their id."""
        pickle, steps = self._cases.get(case, ("", []))
        known = self._pickles[pickle].steps if pickle in self._pickles else {}
        made: dict[str, Step] = {}
        for identity, of_pickle, hook in steps:
            step: Optional[Step] = known.get(of_pickle)
            if step is None:
                made[identity] = Step(hook=self._hooks.get(hook, "Hook"))
            else:
                made[identity] = Step(step.text, step.keyword, "", step.is_outcome, step.argument)
        return made

    def scenario(self, case: str) -> Scenario:
        pickle = self._pickles.get(self._cases.get(case, ("", []))[0])
        if pickle is None:
            return Scenario("")
        scenario = self._features.scenario(pickle.nodes, pickle.uri)
        scenario.name, scenario.tags = pickle.name, pickle.tags
        return scenario
