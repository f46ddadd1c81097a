"""The rows by their `--only` names, in the order of the table."""

from collections.abc import Callable

from bench import access, limits, reading, writing
from bench.results import Row
from bench.run import Run

ROWS: dict[str, Callable[[Run], list[Row]]] = {
    "batch": writing.batch,
    "large": writing.large,
    "small": writing.small,
    "steps": writing.steps,
    "steps-50": writing.steps50,
    "read-steps": reading.steps,
    "download": reading.download,
    "callers": access.callers,
    "login": access.login,
    "durable": limits.durable,
    "memory": limits.at_once,
    "huge": limits.huge,
    "full": limits.full,
}
