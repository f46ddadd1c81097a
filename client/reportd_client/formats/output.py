"""Lines of output, and what is said when a test has more of them than are kept."""

from __future__ import annotations

from typing import Iterator

from reportd_client import limits
from reportd_client.formats.result import File, Result

Lines = tuple[str, str, str]  # level, where it was written to, text


def add(result: Result, outputs: list[Lines]) -> None:
    """Make console entries of the lines of these texts, and a file of all when they are more than a test may have."""
    size = lines = 0
    for level, where, text in outputs:
        lines += text.count("\n")
        for line in _lines(text):
            size += len(line)
            if size > limits.MAX_OUTPUT or len(result.console_logs) >= limits.MAX_CONSOLE:
                break
            result.console_logs.append({"level": level, "message": line, "source_url": where})
    if lines > limits.MAX_OUTPUT_LINES or size > limits.MAX_OUTPUT:
        whole = "".join(f"--- {where} ---\n{text}\n" for _, where, text in outputs)
        data = whole.encode("utf-8", "replace")
        result.files.append(File({"file_name": "output.log", "artifact_type": "log"}, data=data))


def _lines(text: str) -> Iterator[str]:
    """The first lines of a text that are not empty. A text of many is not split whole."""
    start = count = 0
    while start < len(text) and count < limits.MAX_OUTPUT_LINES:
        end = text.find("\n", start)
        end = len(text) if end < 0 else end
        line = text[start:end].rstrip("\r")
        if line:
            count += 1
            yield line
        start = end + 1
