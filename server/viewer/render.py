"""Renders the HTML pages from values. It knows neither the web server nor the database."""

from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any
from urllib.parse import urlencode

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from server.viewer import addresses, ansi, assets, charts, marked, traces, words

_BASE = "/api/v1/reports"
_STATUSES = ("Failed", "Passed", "Skipped", "Pending")


def page(template: str, /, **values: Any) -> str:
    """A page for people who have signed in. `values` has `frame`, see http/html.py, and what the template uses."""
    return _render(template, **values)


def run(shared: Mapping[str, Any], url: str, status: str | None, name: str | None, items: str) -> str:
    """A suite run with one page of its test case results, whose HTML is `items`. `status` and `name` are the filters
    that were applied."""

    def page_url(number: int, status: str | None = status) -> str:
        parameters = {"status": status, "q": name, "page": number if number > 1 else None, "per_page": per_page}
        query = urlencode({key: value for key, value in parameters.items() if value is not None})
        return f"{url}?{query}" if query else url

    cases = shared["test_case_results"]
    per_page = cases["per_page"] if cases["per_page"] != _DEFAULT_PER_PAGE else None
    pages = max(1, -(-cases["total"] // cases["per_page"]))
    shown = {"pages": pages, "page_url": page_url, "status": status, "statuses": _STATUSES, "items": items}
    return _render("shared/run.html", **shared, **shown)


def case(report: Mapping[str, Any], url: str, run_url: str | None, failed: str) -> str:
    """The report of a test case result, with the HTML of its `steps`, its `checkpoints`, and `others`, the images that
    these do not show. `run_url` is the page of its run, if the link covers it; `failed` is the first failed step.
    """
    return _render("shared/case.html", **report, url=url, run_url=run_url, failed=failed)


def case_items(cases: Sequence[Mapping[str, Any]]) -> str:
    """Entries of the list on the page of a run."""
    return _render("shared/cases.html", cases=cases)


def steps(steps: Sequence[Mapping[str, Any]], iterations: bool) -> str:
    """Entries of the list of steps. `iterations`: whether to show the iteration of each."""
    return _render("shared/steps.html", steps=steps, iterations=iterations)


def checkpoints(checkpoints: Sequence[Mapping[str, Any]], url: str) -> str:
    """Entries of the list of checkpoints on the page of the link `url`."""
    return _render("shared/checkpoints.html", checkpoints=checkpoints, url=url)


def images(artifacts: Sequence[Mapping[str, Any]]) -> str:
    """Images that neither a step nor a checkpoint shows."""
    return _render("shared/images.html", images=artifacts)


def refusal(status: int, detail: str) -> str:
    """An error page. `detail` is the sentence of the error."""
    return _render("shared/refusal.html", status=status, detail=detail)


def docs(document: Mapping[str, Any]) -> str:
    """The page of the API documentation, with a table of contents made from the OpenAPI document."""
    contents: dict[str, list[tuple[str, str, Any]]] = {tag["name"]: [] for tag in document["tags"]}
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            contents[operation["tags"][0]].append((method.upper(), path, operation))

    return _render("docs.html", document=document, contents=contents, base=_BASE)


def _render(template: str, /, **values: Any) -> str:
    return _TEMPLATES.get_template(template).render(**values)


def _printable(value: Any) -> Any:
    """Text without control codes, and any other value unchanged."""
    return ansi.plain(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _styles(name: str) -> str:
    """The text of a style sheet of ours, for pages that have it inside."""
    return assets.by_name()[name].content.decode()


def _environment() -> Environment:
    return Environment(
        loader=FunctionLoader(lambda name: files("server.viewer").joinpath("templates", name).read_text("utf-8")),
        autoescape=True,
        finalize=_printable,  # of every value that a template prints
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,  # a template that uses a missing value fails
    )


_DEFAULT_PER_PAGE = 100  # as in http/fields.py
_TEMPLATES = _environment()
_TEMPLATES.filters |= {
    "iso": words.iso,
    "moment": words.moment,
    "duration": words.duration,
    "size": words.size,
    "number": words.number,
    "count": words.count,
    "about": words.about,
    "span": words.span,
    "age": words.age,
    "commit": words.commit,
    "first_line": lambda text: words.first_line(_printable(text)),
    "printable": _printable,
    "coloured": ansi.coloured,
    "frames": traces.parts,
}
_TEMPLATES.globals |= {
    "asset": assets.address,
    "shapes": words.SHAPES,
    "bar": charts.bar,
    "charts": charts,
    "marked": marked.marked,
    "to": addresses.PAGES,
    "styles": _styles,
}
