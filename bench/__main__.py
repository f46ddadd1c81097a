"""`python -m bench`: starts everything it needs, measures, prints one table, and one of growth."""

import argparse
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from bench import results, rows
from bench.processes import CHECKOUT, BenchError
from bench.results import Results, Row
from bench.run import Run

ROWS: dict[str, Callable[[Run], list[Row]]] = {
    "batch": rows.batch,
    "large": rows.large,
    "small": rows.small,
    "steps": rows.steps,
    "steps-50": rows.steps50,
    "read-steps": rows.read_steps,
}
KEPT = CHECKOUT / "bench" / "results"


def main() -> int:
    """0 when everything was measured, whatever the figures; 1 when something broke."""
    options = _parser().parse_args()
    if options.list:
        for name, measure in ROWS.items():
            print(f"{name:12} {(measure.__doc__ or '').strip()}")
        return 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that everything is ended and removed
    names = options.only or list(ROWS)
    found, started = results.new(options.quick), time.monotonic()
    try:
        with Run(options.quick) as run:
            for name in names:
                _measure(run, name, found)
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    found.seconds = time.monotonic() - started
    print(results.table(results.HEAD, [results.cells(row) for row in found.rows]))
    if options.output:
        found.save(options.output)
    return 0


def _measure(run: Run, name: str, found: Results) -> None:
    started = time.monotonic()
    print(f"{name} …", end=" ", file=sys.stderr, flush=True)
    found.rows += ROWS[name](run)
    print(f"{time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--only", nargs="+", choices=list(ROWS), metavar="ROW", help="these rows; --list names them")
    parser.add_argument("--list", action="store_true", help="list the rows")
    parser.add_argument("--quick", action="store_true", help="one round of few requests: does it work at all?")
    parser.add_argument("--output", type=Path, metavar="FILE", help="write all figures as JSON")
    return parser


if __name__ == "__main__":
    sys.exit(main())
