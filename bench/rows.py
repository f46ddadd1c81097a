"""The rows by their `--only` names, in the order of the table."""

from collections.abc import Callable

from bench import access, limits, loop, page_rows, reading, squad, viewing, whole_tests, writing
from bench.results import Row
from bench.run import Run

ROWS: dict[str, Callable[[Run], list[Row]]] = {
    "batch": writing.batch,
    "large": writing.large,
    "small": writing.small,
    "steps": writing.steps,
    "steps-50": writing.steps50,
    "bundle": whole_tests.by_bundle,
    "whole-test": whole_tests.in_calls,
    "second-run": whole_tests.twice,
    "squad": squad.test_run,
    "read-steps": reading.steps,
    "download": reading.download,
    "result-page": viewing.result_page,
    "thumbnails": viewing.thumbnails,
    "callers": access.callers,
    "login": access.login,
    "loop": loop.longest,
    "durable": limits.durable,
    "readers": limits.readers,
    "memory": limits.at_once,
    "huge": limits.huge,
    "full": limits.full,
    "pages": page_rows.pages,
}
