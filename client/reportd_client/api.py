"""The functions of the package."""

from __future__ import annotations

from typing import Any, Mapping, Optional, Sequence

from reportd_client.runs import Run, make_run
from reportd_client.steps import CURRENT_STEP, CURRENT_TEST
from reportd_client.tests import Test


def run(
    name: Optional[str] = None,
    *,
    url: Optional[str] = None,
    token: Optional[str] = None,
    project: Optional[str] = None,
    run_key: Optional[str] = None,
    branch: Optional[str] = None,
    commit: Optional[str] = None,
    build_url: Optional[str] = None,
    environment: Optional[str] = None,
    shard: Optional[str] = None,
    tests_expected: Optional[int] = None,
    browser: Optional[str] = None,
    tags: Optional[Sequence[str]] = None,
    metadata: Optional[Mapping[str, Any]] = None,
    spool: Optional[str] = None,
    drain: Optional[float] = None,
    strict: Optional[bool] = None,
    sender: Optional[str] = None,
) -> Run:
    """A run. What is not given comes from REPORTD_URL, REPORTD_TOKEN, REPORTD_NAME, …, then from the CI and git.

    `shard`: which part of the run this is, such as `2/5`. `tests_expected`: how many tests it has; see Run.expect.
    """
    return make_run(**locals())


def current_test() -> Optional[Test]:
    """The test that runs in this context."""
    return CURRENT_TEST.get()


def attach(source: Any, name: Optional[str] = None, **fields: Any) -> None:
    """A file of the step that is open, else of the running test; see Test.attach."""
    step, test = CURRENT_STEP.get(), CURRENT_TEST.get()
    if step is not None:
        step.attach(source, name, **fields)
    elif test is not None:
        test.attach(source, name, **fields)


def screenshot(source: Any, category: Optional[str] = None) -> None:
    """A screenshot of the step that is open, else of the running test; see Step.screenshot."""
    test = CURRENT_TEST.get()
    if test is not None:
        test.screenshot(source, category)
