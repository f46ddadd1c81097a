"""The addresses that the pages of a result link to. Evidence links and archives have others for the same templates."""

from typing import Any
from urllib.parse import quote, urlencode

_API = "/api/v1/reports"


def result(case_id: Any, **query: Any) -> str:
    """The page of a result. Values of `query` that are None or empty are left out."""
    return f"/results/{case_id}{_query(query)}"


def step(case_id: Any, at: Any, **query: Any) -> str:
    """The page of one step of a result. `at`: `2.17`."""
    return f"/results/{case_id}/steps/{at}{_query(query)}"


def difference(case_id: Any) -> str:
    """The first difference of a result from its last green."""
    return f"/results/{case_id}/difference"


def run(run_id: Any) -> str:
    return f"/runs/{run_id}"


def test(project: str, test_id: str, **query: Any) -> str:
    """The history of a test."""
    return f"/tests{_query({'project': project, 'id': test_id, **query})}"


def error(project: str, fingerprint: str) -> str:
    return f"/errors/{quote(project, safe='')}/{fingerprint}"


def comparison(case_id: Any, with_: Any = None) -> str:
    """A result step by step beside another one, by default its last green."""
    return f"/results/{case_id}/compare{_query({'with': with_})}"


def runs_compared(head: Any, base: Any) -> str:
    """What changed from the run `base` (or `previous`, `main`) to the run `head`."""
    return f"/compare{_query({'base': base, 'head': head})}"


def file(artifact_id: Any, save: bool = False) -> str:
    """The bytes of a file. `save`: the browser saves it."""
    return f"{_API}/artifacts/{artifact_id}/download{'?download=true' if save else ''}"


def thumbnail(artifact_id: Any, width: int) -> str:
    return f"/thumbs/{artifact_id}-{width}.webp"


def report(case_id: Any) -> str:
    """The result as the API has it."""
    return f"{_API}/test-case-results/{case_id}/report"


def checkpoints(case_id: Any) -> str:
    """All checkpoints as the API has them."""
    return f"{_API}/test-case-results/{case_id}/checkpoints"


def entry(case_id: Any, log: str, number: int) -> str:
    """One entry of a log (`console` or `network`) as the API has it, whole."""
    return f"{_API}/test-case-results/{case_id}/{log}-logs?per_page=1&page={number}"


def _query(query: dict[str, Any]) -> str:
    given = {name.rstrip("_"): value for name, value in query.items() if value not in (None, "")}
    return f"?{urlencode(given)}" if given else ""
