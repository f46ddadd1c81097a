"""Draws the CPU time of uploads, steps and whole tests as an SVG bar chart for light and dark pages.

`python -m bench.chart results.json > chart.svg`
"""

import json
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

_NAMES = ("batch", "large", "small", "steps", "whole-test", "squad")
_WIDTH, _LEFT, _LONGEST = 760, 190, 430
_TITLE, _BAR, _GAP = 30, 22, 18
_STYLE = """
text { font: 13px -apple-system, "Segoe UI", "Noto Sans", Helvetica, Arial, sans-serif; fill: #59636e; }
.title { font-weight: 600; fill: #1f2328; }
.ours { fill: #0969da; } .other { fill: #afb8c1; } .strong { font-weight: 600; fill: #1f2328; }
.postgres { fill-opacity: 0.55; }
@media (prefers-color-scheme: dark) {
  text { fill: #9198a1; } .title, .strong { fill: #f0f6fc; } .ours { fill: #4493f8; } .other { fill: #545d68; }
}
"""


def draw(rows: Sequence[dict[str, Any]]) -> str:
    """An SVG of the rows named in _NAMES of a results file, without those that were not measured."""
    parts: list[str] = []
    y = 4
    for name in _NAMES:
        group = [row for row in rows if row["name"] == name and row["ours"]]
        if group:
            bars = {"reportd": _medians(group[0], "ours")}
            bars.update((row["compared"], _medians(row, "theirs")) for row in group if row["theirs"])
            figure = group[0]["figure"].partition(",")[0]
            parts += _group(y, f"{figure[0].upper()}{figure[1:]}: {group[0]['unit']}", list(bars.items()))
            y += _TITLE + _BAR * len(bars) + _GAP
    parts.append(
        f'<text x="{_LEFT}" y="{y + 4}">CPU time of the server (dark) and PostgreSQL (light): shorter is better</text>'
    )
    y += _GAP
    size = f'width="{_WIDTH}" height="{y}" viewBox="0 0 {_WIDTH} {y}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">'
    title = "<title>CPU time of uploads, steps and whole tests; shorter is better</title>"
    return "\n".join([head, title, f"<style>{_STYLE}</style>", *parts, "</svg>"]) + "\n"


def _medians(row: dict[str, Any], side: str) -> tuple[float, float]:
    """Of the server and of its PostgreSQL."""
    return statistics.median(row[side]), statistics.median(row[f"{side}_postgres"])


def _group(y: int, title: str, bars: Sequence[tuple[str, tuple[float, float]]]) -> list[str]:
    lines = [f'<text class="title" x="{_LEFT}" y="{y + 18}">{escape(title)}</text>']
    largest = max(map(sum, (values for _, values in bars))) or 1.0
    for i, (name, (server, postgres)) in enumerate(bars):
        top, length, more = y + _TITLE + i * _BAR, *(value / largest * _LONGEST for value in (server, postgres))
        end, size = _LEFT + length, f'y="{top}" height="{_BAR - 5}"'
        kind, strong = ("other", "") if i else ("ours", ' class="strong"')
        middle = top + 13
        lines += [
            f'<text{strong} x="{_LEFT - 10}" y="{middle}" text-anchor="end">{escape(name)}</text>',
            f'<rect class="{kind}" x="{_LEFT}" width="{length:.1f}" {size}/>',
            f'<rect class="{kind} postgres" x="{end:.1f}" width="{more:.1f}" {size}/>',
            f'<text{strong} x="{end + more + 8:.1f}" y="{middle}">{server + postgres:.3g}</text>',
        ]
    return lines


if __name__ == "__main__":
    print(draw(json.loads(Path(sys.argv[1]).read_text("utf-8"))["rows"]), end="")
