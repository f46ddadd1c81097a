"""The page of a result, drawn from a reports.results.Result: for people who have signed in, and for others."""

from typing import Any

from server.compare.missing import missing
from server.viewer import render
from server.viewer.rows import groups
from server.viewer.stage import stage
from server.viewer.timeline import timeline

_NOT_GIVEN = {"difference": None, "late": False, "marks": None}


def draw(result: Any, query: Any, *, green: Any = None, series: bool = False, **values: Any) -> str:
    """The HTML of the page. `query`: the state in its address: `step`, `view`, `beside`, `files`, `after`, `until`.

    `green`: a reports.greens.Green; `series`: a step opens with all its images. `values`: `cut`, the characters after
    which a text was cut, `frame`, and of what other runs say: `difference`, or `late` when it comes later, and `marks`.
    """
    head, panel = result.head, result.panel
    values = {**_NOT_GIVEN, **values, "result": result, "panel": panel, "query": query, "timeline": timeline(result)}
    values["findings"] = missing(result.outline, head.status, head.finished)
    if panel is not None:
        values["stage"] = stage(panel, query.view, query.beside, green, series)
        values["groups"] = list(groups(result.rows, result.earlier, head.finished, panel.step.number))
    return render.page("result.html", **values)
