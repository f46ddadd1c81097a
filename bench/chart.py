"""Draws the CPU time of uploads and steps as an SVG bar chart for light and dark pages.

`python -m bench.chart results.json > chart.svg`
"""

import json
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

_NAMES = ("batch", "large", "small", "steps")
_WIDTH, _LEFT, _LONGEST = 760, 190, 430
_TITLE, _BAR, _GAP = 30, 22, 18
_STYLE = """
text { font: 13px -apple-system, "Segoe UI", "Noto Sans", Helvetica, Arial, sans-serif; fill: #59636e; }
.title { font-weight: 600; fill: #1f2328; }
.ours { fill: #0969da; } .other { fill: #afb8c1; } .strong { font-weight: 600; fill: #1f2328; }
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
            bars = [("reportd", statistics.median(group[0]["ours"]))]
            bars += [(row["compared"], statistics.median(row["theirs"])) for row in group if row["theirs"]]
            figure = group[0]["figure"].partition(",")[0]
            parts += _group(y, f"{figure[0].upper()}{figure[1:]}: {group[0]['unit']}", bars)
            y += _TITLE + _BAR * len(bars) + _GAP
    parts.append(
        f'<text x="{_LEFT}" y="{y + 4}">CPU time of the server alone, without PostgreSQL: shorter is better</text>'
    )
    y += _GAP
    size = f'width="{_WIDTH}" height="{y}" viewBox="0 0 {_WIDTH} {y}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">'
    title = "<title>Server CPU time of uploads and of steps; shorter is better</title>"
    return "\n".join([head, title, f"<style>{_STYLE}</style>", *parts, "</svg>"]) + "\n"


def _group(y: int, title: str, bars: Sequence[tuple[str, float]]) -> list[str]:
    lines = [f'<text class="title" x="{_LEFT}" y="{y + 18}">{escape(title)}</text>']
    largest = max(value for _, value in bars) or 1.0
    for i, (name, value) in enumerate(bars):
        top, length = y + _TITLE + i * _BAR, max(2.0, value / largest * _LONGEST)
        kind, strong = ("other", "") if i else ("ours", ' class="strong"')
        middle = top + 13
        lines += [
            f'<text{strong} x="{_LEFT - 10}" y="{middle}" text-anchor="end">{escape(name)}</text>',
            f'<rect class="{kind}" x="{_LEFT}" y="{top}" width="{length:.1f}" height="{_BAR - 5}" rx="2"/>',
            f'<text{strong} x="{_LEFT + length + 8:.1f}" y="{middle}">{value:.3g}</text>',
        ]
    return lines


if __name__ == "__main__":
    print(draw(json.loads(Path(sys.argv[1]).read_text("utf-8"))["rows"]), end="")
