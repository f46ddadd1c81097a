"""The reply shapes of an evidence link to a run."""

from dataclasses import dataclass

from server.reports.suite_runs import SuiteRun
from server.reports.test_cases import TestCase


@dataclass(slots=True)
class SharedCase(TestCase):
    url: str


@dataclass(slots=True)
class SharedCasePage:
    total: int
    page: int
    per_page: int
    items: list[SharedCase]


@dataclass(slots=True)
class SharedRun:
    suite_run: SuiteRun
    test_case_results: SharedCasePage
