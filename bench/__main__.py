"""Starts everything that it needs, measures, and prints a table of the rows and a table of growth."""

import argparse
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psycopg

from bench import chart, cluster, missing, pages, readme, results
from bench.growth import growth
from bench.processes import CHECKOUT, BenchError
from bench.results import Results
from bench.rows import ROWS
from bench.run import Run
from server.database.embedded import EmbeddedError

RESULTS = CHECKOUT / "bench" / "results"
GROWTH = "growth"
# Growth runs before the rows that use gigabytes. On a virtual machine, freed memory may return to the host, and using
# it again costs CPU time.
_ORDER = [*ROWS]
_ORDER.insert(_ORDER.index("memory"), GROWTH)


def main() -> int:
    """Exit code 0 when everything was measured, whatever the values; 1 after an error."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # runs the clean-up
    for name, part in {"cluster": cluster, "pages": pages, "missing": missing}.items():
        if sys.argv[1:2] == [name]:
            return _explained(lambda part=part: part.main(sys.argv[2:]))
    options = _parser().parse_args()
    return _explained(lambda: _rows(options))


def _explained(run: Callable[[], int]) -> int:
    """Runs it. After an error that the benchmark expects: prints it, exit code 1."""
    try:
        return run()
    except (BenchError, EmbeddedError, psycopg.Error, OSError, subprocess.SubprocessError) as error:
        print(f"\nbench: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _rows(options: argparse.Namespace) -> int:
    if options.list:
        for name, measure in ROWS.items():
            print(f"{name:12} {(measure.__doc__ or '').strip()}")
        print(f"{GROWTH:12} Uploads with more connections, workers and files, larger files and a larger database.")
        return 0
    full_run = not options.only and not options.quick
    found = results.new(options.quick)
    _measure(options.only or _ORDER, found)
    for path in [RESULTS / "latest.json"] * full_run + [options.output] * bool(options.output):
        found.save(path)
    if full_run:
        (RESULTS / "chart.svg").write_text(chart.draw(found.plain()["rows"]), "utf-8")
        readme.write(found.plain())
    print(results.report(found))
    return 0


def _measure(names: list[str], found: Results) -> None:
    """Measures the named rows. Prints the progress to stderr."""
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
        "--only", nargs="+", choices=[*ROWS, GROWTH], metavar="ROW", help="measure only these rows (names: --list)"
    )
    parser.add_argument("--list", action="store_true", help="print the names and descriptions of the rows")
    parser.add_argument("--quick", action="store_true", help="one round of few requests, to check that it works")
    parser.add_argument("--output", type=Path, metavar="FILE", help="write all results as JSON to FILE")
    return parser


if __name__ == "__main__":
    sys.exit(main())
