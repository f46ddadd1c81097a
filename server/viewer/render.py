"""The pages that people look at, from what the API would tell a program: plain JSON values in, HTML out."""

from collections.abc import Mapping
from datetime import datetime
from importlib.resources import files
from typing import Any
from urllib.parse import urlencode

from jinja2 import Environment, FunctionLoader, StrictUndefined, Undefined

_STATUSES = ("Failed", "Passed", "Skipped", "Pending")


def run(shared: Mapping[str, Any], url: str, status: str | None, name: str | None) -> str:
    """A run and a page of its test case results, of which `status` and `name` may have chosen some."""

    def at(number: int, status: str | None = status) -> str:
        asked = {"status": status, "q": name, "page": number if number > 1 else None, "per_page": size}
        query = urlencode({key: value for key, value in asked.items() if value is not None})
        return f"{url}?{query}" if query else url

    cases = shared["test_case_results"]
    size = cases["per_page"] if cases["per_page"] != _USUAL else None
    pages = max(1, -(-cases["total"] // cases["per_page"]))
    return _render("run.html", **shared, pages=pages, at=at, status=status, statuses=_STATUSES)


def case(report: Mapping[str, Any], url: str, run_url: str | None) -> str:
    """The report of a test case result; `run_url` is the page of its run, if there is one."""
    above = {artifact["id"] for step in report["steps"] for artifact in step["artifacts"]}
    above |= {shown["screenshot_artifact_id"] for shown in (*report["steps"], *report["checkpoints"])}
    others = [artifact for artifact in report["artifacts"] if artifact["id"] not in above]
    failed = next((step for step in report["steps"] if step["status"] == "Failed"), None)
    iterations = len({step["iteration_number"] for step in report["steps"]}) > 1
    return _render("case.html", **report, url=url, run_url=run_url, others=others, failed=failed, iterations=iterations)


def refusal(status: int, detail: str) -> str:
    """Why there is nothing to see."""
    return _render("refusal.html", status=status, detail=detail)


def docs(document: Mapping[str, Any]) -> str:
    """The API's documentation, from its OpenAPI document."""
    return _LENIENT.get_template("docs.html").render(document=document)


def _render(name: str, **values: Any) -> str:
    return _TEMPLATES.get_template(name).render(**values)


def _moment(text: str) -> str:
    """A time as people read it, to the second."""
    return f"{datetime.fromisoformat(text):%d %b %Y, %H:%M:%S} UTC"


def _duration(milliseconds: int) -> str:
    if milliseconds < 1000:
        return f"{milliseconds} ms"
    if milliseconds < 60_000:
        return f"{milliseconds / 1000:.1f} s"
    seconds = milliseconds // 1000
    minutes = f"{seconds // 60 % 60} min {seconds % 60} s"
    return minutes if seconds < 3600 else f"{seconds // 3600} h {minutes}"


def _environment(undefined: type[Undefined]) -> Environment:
    return Environment(
        loader=FunctionLoader(lambda name: files("server.viewer").joinpath("templates", name).read_text("utf-8")),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=undefined,
    )


_USUAL = 100  # results on a page
_TEMPLATES = _environment(StrictUndefined)  # a template that names a value which is not there fails
_TEMPLATES.filters |= {"moment": _moment, "duration": _duration}
_LENIENT = _environment(Undefined)  # an OpenAPI document leaves out what it has no word on
