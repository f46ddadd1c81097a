"""The output of a test: lines become console entries, and much of it a file, too."""

from __future__ import annotations

import re
from typing import Any, Iterator, Optional, Sequence

from reportd_client import limits
from reportd_client.formats.result import File, Result
from reportd_client.texts import cut

_RECORD = re.compile(r"([A-Z]+) +(\S+?):([^:\s]+):(\d+) (.*)", re.DOTALL)  # pytest's log_format

Output = tuple[str, str, str]  # level, where it was written to, text
_ERRORS = ("system-err", "stderr")


def add_output(result: Result, name: str, lines: Sequence[str], whole: Optional[str] = None) -> None:
    """Add the lines of the output `name` to a result, in which they are told apart by it. `whole`: what the file has,
    where that is more than the lines."""
    add(result, [("warning" if name in _ERRORS else "info", name, "\n".join(lines))], whole)


def add(result: Result, outputs: Sequence[Output], whole: Optional[str] = None) -> None:
    """Make console entries of the lines of these texts, and a file of all when they are more than a test may have."""
    size = lines = 0
    for level, where, text in outputs:
        lines += text.rstrip("\n").count("\n") + 1
        for line in _lines(text):
            size += len(line)
            if size > limits.MAX_OUTPUT or len(result.console_logs) >= limits.MAX_CONSOLE:
                break
            result.console_logs.append({"level": level, "message": cut(line), "source_url": where})
    if lines > limits.MAX_OUTPUT_LINES or size > limits.MAX_OUTPUT or len(whole or "") > limits.MAX_OUTPUT:
        name, text = outputs[0][1:]
        if len(outputs) > 1:
            name, text = "output", "".join(f"--- {where} ---\n{text}\n" for _, where, text in outputs)
        data = (text if whole is None else whole).encode("utf-8", "replace")
        result.files.append(File({"file_name": f"{name}.log", "artifact_type": "log"}, data=data, hides=True))


def _lines(text: str) -> Iterator[str]:
    """The first lines of a text that are not empty. A text of many is not split whole."""
    start = count = 0
    while start < len(text) and count < limits.MAX_OUTPUT_LINES:
        end = text.find("\n", start)
        end = len(text) if end < 0 else end
        line = text[start:end].rstrip("\r")
        if line.strip():
            count += 1
            yield line
        start = end + 1


def records(text: str, most: int) -> list[dict[str, Any]]:
    """Entries of the first records of a log of pytest. Lines of another format belong to the record before."""
    entries: list[dict[str, Any]] = []
    for line in text.rstrip().split("\n", limits.MAX_CONSOLE):
        found = _RECORD.match(line)
        if found is not None:
            level, name, file, number, message = found.groups()
            place = {"source_url": f"{name} {file}:{number}"[:1_000], "line_number": int(number[:9])}
            entries.append({"level": level, "message": cut(message), **place})
        elif entries and "line_number" in entries[-1]:
            entries[-1]["message"] = cut(f"{entries[-1]['message']}\n{line}")
        elif line.strip():
            entries.append({"level": "info", "message": cut(line), "source_url": "log"})
    return entries[: max(most, 0)]
