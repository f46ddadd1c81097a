"""The results in bench/README.md: `python -m bench.readme` writes them again from results/latest.json."""

import json
from pathlib import Path
from typing import Any

from bench import results
from bench.processes import CHECKOUT
from bench.results import Row

README = CHECKOUT / "bench" / "README.md"
_BEGIN, _END = "<!-- results -->\n", "<!-- end of the results -->\n"
_COMPUTED = ("ratio", "met")


def with_results(text: str, found: dict[str, Any]) -> str:
    """The text of the README with the table and the notes of these results, in the form of the JSON file."""
    rows = [Row(**{name: value for name, value in row.items() if name not in _COMPUTED}) for row in found["rows"]]
    machine = f"{found['machine']['processor']}, {found['machine']['cores']} cores, Python {found['machine']['python']}"
    lines = [
        f"Commit {found['commit']}, {found['date'][:10]}, {machine}:",
        *results.tables(rows),
        *map(_sentence, found["notes"]),
    ]
    before, _, rest = text.partition(_BEGIN)
    return before + _BEGIN + "\n" + "\n\n".join(lines) + "\n\n" + _END + rest.partition(_END)[2]


def _sentence(note: str) -> str:
    return f"{note[0].upper()}{note[1:]}."


def write(found: dict[str, Any], path: Path = README) -> None:
    """Replaces the results in the README."""
    path.write_text(with_results(path.read_text("utf-8"), found), "utf-8")


if __name__ == "__main__":
    write(json.loads((CHECKOUT / "bench" / "results" / "latest.json").read_text("utf-8")))
