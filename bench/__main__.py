"""`python -m bench`: starts everything it needs, measures, prints one table, and one of growth."""

import argparse
import signal
import subprocess
import sys
import time
from pathlib import Path

import psycopg

from bench import chart, results
from bench.growth import growth
from bench.processes import CHECKOUT, BenchError
from bench.results import Results
from bench.rows import ROWS
from bench.run import Run
from server.database.embedded import EmbeddedError

KEPT = CHECKOUT / "bench" / "results"
GROWTH = "growth"
# Growth before what takes gigabytes: on a virtual machine, memory that went back to the host is dear to touch again.
_ORDER = [*ROWS]
_ORDER.insert(_ORDER.index("memory"), GROWTH)


def main() -> int:
    """0 when everything was measured, whatever the figures; 1 when something broke."""
    options = _parser().parse_args()
    if options.list:
        for name, measure in ROWS.items():
            print(f"{name:12} {(measure.__doc__ or '').strip()}")
        print(f"{GROWTH:12} Uploads as connections, workers, files, sizes and the database grow.")
        return 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that everything is ended and removed
    whole = not options.only and not options.quick
    found = results.new(options.quick)
    try:
        _measure(options.only or _ORDER, found)
    except (BenchError, EmbeddedError, psycopg.Error, OSError, subprocess.SubprocessError) as error:
        print(f"\nbench: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    for path in [KEPT / "latest.json"] * whole + [options.output] * bool(options.output):
        found.save(path)
    if whole:
        (KEPT / "chart.svg").write_text(chart.draw(found.plain()["rows"]), "utf-8")
    print(results.report(found))
    return 0


def _measure(names: list[str], found: Results) -> None:
    """All that is asked for; says on stderr how far it is."""
    started = time.monotonic()
    with Run(found.quick) as run:
        for name in names:
            print(f"{time.monotonic() - started:4.0f} s  {name}", file=sys.stderr, flush=True)
            if name == GROWTH:
                found.growth += growth(run)
            else:
                found.rows += ROWS[name](run)
        found.machine["postgresql"] = run.cluster.version()
        found.notes = run.notes
    found.seconds = time.monotonic() - started


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument(
        "--only", nargs="+", choices=[*ROWS, GROWTH], metavar="ROW", help="these rows; --list names them"
    )
    parser.add_argument("--list", action="store_true", help="list the rows")
    parser.add_argument("--quick", action="store_true", help="one round of few requests: does it work at all?")
    parser.add_argument("--output", type=Path, metavar="FILE", help="write all figures as JSON")
    return parser


if __name__ == "__main__":
    sys.exit(main())
