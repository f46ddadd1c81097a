"""The row about pages: their p50 with 10 million steps stored."""

from contextlib import ExitStack

from bench.pages import MEASURED, Found, measured
from bench.results import Row
from bench.run import Run
from bench.servers import reportd
from bench.volume import addresses, fill

_GOAL = 1.3
# Runs of the large and of the almost empty database. The newest run, which pages compare with others, is of the project
# `default` when the count is two more than a multiple of six.
_RUNS, _FEW = 416, 26
_STEPS = 45  # of most results: with fewer, 10 million steps would take ten minutes to insert


def pages(run: Run) -> list[Row]:
    """p50 of each page and of the JSON that pages compute, with 10 million steps stored and with few."""
    sizes = {"many": _FEW + 6 if run.quick else _RUNS, "few": _FEW}
    with ExitStack() as stack:
        folder, pairs = stack.enter_context(run.scratch()), []
        for name, runs in sizes.items():
            database = run.cluster.database(name)
            fill(database, runs, 9 if run.quick else _STEPS)
            stored = stack.enter_context(reportd(database, folder / name)), addresses(database)
            pairs.append((database.value("SELECT count(*) FROM test_step_results"), stored))
        found = [measured(page, [stored for _, stored in pairs], 1 if run.quick else 10) for page in MEASURED]
    found.sort(key=_ratio)
    slower = [
        f"{each.page.name} {_ratio(each):.2f} ({_size_ratio(each):.1f})" for each in found if _ratio(each) > _GOAL
    ]
    run.notes.append(
        f"pages above {_GOAL} × the p50 of {_FEW} runs stored, in brackets how many times as large the page is: "
        + (", ".join(reversed(slower)) or "none")
    )
    text = f"p50 of each page, {pairs[0][0]:,} steps stored"
    middle = found[len(found) // 2]
    return [
        _row(f"{text}: the worst of {len(found)}, {found[-1].page.name}", found[-1], _GOAL),
        _row(f"{text}: the median of {len(found)}, {middle.page.name}", middle, None),
    ]


def _row(figure: str, found: Found, goal: float | None) -> Row:
    row = Row("pages", figure, "ms", f"{_FEW} runs stored", goal)
    return row.fill([(found.cost.p50, 0.0)], [(found.small.p50, 0.0)])


def _ratio(found: Found) -> float:
    return found.cost.p50 / found.small.p50


def _size_ratio(found: Found) -> float:
    return len(found.cost.body) / len(found.small.body)
