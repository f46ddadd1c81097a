"""What there is to say about a run: what newly fails and why, what is flaky, what is missing."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any, Callable, Optional

from reportd_client.commands.questions import Questions

SHOWN = 20  # of each list
_DIFFERENCE_SECONDS = 30.0  # for all first differences, each of which may take the server two
_FIRST_WAIT, _LAST_WAIT = 0.5, 5.0


@dataclass
class Findings:
    """`completeness`, `comparison` and `flaky` are None when the server is too old to know them: see `unknown`."""

    run: dict[str, Any]
    completeness: Optional[dict[str, Any]]
    comparison: Optional[dict[str, Any]]
    flaky: Optional[list[dict[str, Any]]]
    differences: dict[str, dict[str, Any]] = field(default_factory=dict)  # from the last green, by the id of a result

    @property
    def failures(self) -> list[dict[str, Any]]:
        """The tests that fail and did not in the base; without a base, all that fail."""
        return list(self.comparison["new_failures"]) if self.comparison else []

    @property
    def has_new_failures(self) -> bool:
        return bool(self.comparison and self.comparison["base"] and self.failures)

    @property
    def is_incomplete(self) -> bool:
        return self.completeness is not None and not self.completeness["complete"]

    @property
    def unknown(self) -> list[str]:
        """What the server does not say because it is older than this client."""
        missing = {
            "what is new": self.comparison,
            "which tests are flaky": self.flaky,
            "what is missing": self.completeness,
        }
        return [words for words, value in missing.items() if value is None]


def find(questions: Questions, run: dict[str, Any], completeness: Optional[dict[str, Any]]) -> Findings:
    """Ask the server. Raises Stopped, Fatal."""
    path = f"/suite-runs/{run['id']}"
    comparison = questions.get(f"{path}/comparison", {"base": "main"})
    marks = questions.get(f"{path}/marks")
    flaky = None if marks is None else [test for test in marks["tests"] if test["marks"].get("flaky_here")]
    found = Findings(questions.get(path) or run, completeness, comparison, flaky)
    end = time.monotonic() + _DIFFERENCE_SECONDS
    for test in found.failures[:SHOWN]:
        if time.monotonic() > end:
            break
        result = test["head"]["test_case_result_id"]
        difference = questions.get(f"/test-case-results/{result}/first-difference")
        if difference is not None:
            found.differences[result] = difference
    return found


def wait(
    questions: Questions, run_id: str, seconds: float, say: Callable[[dict[str, Any]], None]
) -> Optional[dict[str, Any]]:
    """The completeness of a run, once all of its shards have finished, or after this time. `say` is called when it has
    to wait. Raises Stopped, Fatal."""
    path, delay = f"/suite-runs/{run_id}/completeness", _FIRST_WAIT
    found = questions.get(path)
    end = time.monotonic() + seconds
    while found is not None and found["shards"]["finished"] < found["shards"]["total"]:
        left = end - time.monotonic()
        if left <= 0:
            break
        if delay == _FIRST_WAIT:
            say(found)
        time.sleep(min(delay, left))
        delay = min(delay * 2, _LAST_WAIT)
        found = questions.get(path)
    return found
