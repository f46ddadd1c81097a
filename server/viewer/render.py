"""Renders the HTML pages from values. It knows neither the web server nor the database."""

from collections.abc import Mapping
from importlib.resources import files
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from server.viewer import addresses, ansi, assets, charts, marked, traces, words

_BASE = "/api/v1/reports"


def page(template: str, /, **values: Any) -> str:
    """A page for people who have signed in. `values` has `frame`, see http/html.py, and what the template uses."""
    return _render(template, **values)


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
