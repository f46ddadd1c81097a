"""Attachments and output of Playwright's tests: their names, types and bytes."""

from __future__ import annotations

import re
from io import StringIO
from pathlib import Path
from typing import Any, Optional

from reportd_client import limits
from reportd_client.formats.playwright_error import text_of
from reportd_client.formats.result import File, Result, Unreadable
from reportd_client.mask import REDACTED, is_password_field
from reportd_client.texts import artifact_type_of, cut

KEPT_OUTPUT = 8 << 20  # characters of a result's output
_MAX_CONTEXT = 1 << 20
_MAX_LINES = 10_000  # that are kept apart, those that are blank, too
_SOURCE = re.compile(r"^# Test source\s*$.*", re.MULTILINE | re.DOTALL)
_FIELD = re.compile(r'^(\s*- \w+ "((?:[^"\\\n]|\\.)*)"[^:\n]*: )(.+)$', re.MULTILINE)  # of a page: its name, its value
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_ENDINGS = {
    **{f"image/{name}": name for name in ("png", "gif", "webp")},
    **{"image/jpeg": "jpg", "image/svg+xml": "svg", "video/webm": "webm", "video/mp4": "mp4"},
    **{f"application/{name}": name for name in ("zip", "json", "xml", "pdf")},
    **{f"text/{name}": name for name in ("html", "csv", "xml")},
    **{"text/plain": "txt", "text/markdown": "md"},
}


def is_shown(attachment: dict[str, Any]) -> bool:
    """Playwright's own reporters leave out attachments whose names begin with `_`."""
    return not text_of(attachment.get("name")).startswith("_")


def fields_of(attachment: dict[str, Any]) -> dict[str, Any]:
    """The name and the type of a file."""
    kind = _kind(attachment)
    name = re.sub(r"[/\\]", "-", _CONTROL.sub("", text_of(attachment.get("name")))).strip()
    name = cut(name, 200) or "attachment"
    ending = _ENDINGS.get(kind)
    lower = name.lower().replace(".jpeg", ".jpg")
    if ending and not lower.endswith(f".{ending}") and artifact_type_of(name) == "other":
        name = f"{name}.{ending}"
    return {"file_name": name, "artifact_type": _type(kind, name)}


def _kind(attachment: dict[str, Any]) -> str:
    return text_of(attachment.get("contentType")).partition(";")[0].strip().lower()


def _type(kind: str, name: str) -> str:
    if kind.startswith("image/"):
        return "screenshot"
    if kind.startswith("video/"):
        return "video"
    if name.lower().endswith(".har"):
        return "har"
    if kind.startswith("text/") and kind != "text/html":
        return "log"
    return artifact_type_of(name)


def hidden(attachment: dict[str, Any], file: File) -> File:
    """The same file. What Playwright writes for assistants is sent without the source of the test, as a text in which
    credentials are hidden: the source has what the test types."""
    if attachment.get("name") != "error-context" or _kind(attachment) != "text/markdown" or file.refused is not None:
        return file

    def without_source() -> bytes:
        made = file.bytes_or_path()
        data = _read(made) if isinstance(made, Path) else made
        if len(data) > _MAX_CONTEXT:
            raise Unreadable(f"More than {_MAX_CONTEXT >> 20} MiB")
        text = _SOURCE.sub("", data.decode("utf-8", "replace").replace("\r\n", "\n"))
        text = _FIELD.sub(_without_password, text)
        return f"{text.rstrip()}\n".encode()

    return File(file.fields, make=without_source, hides=True)


def _without_password(field: re.Match[str]) -> str:
    return f"{field[1]}{REDACTED}" if is_password_field(field[2]) else field[0]


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            return stream.read(_MAX_CONTEXT + 1)
    except OSError as error:
        raise Unreadable(f"Cannot be read: {error.strerror}") from None


class Output:
    """Output of a result: the first lines of both streams, in the order in which they began, and all of each."""

    def __init__(self) -> None:
        self._lines: list[tuple[str, list[str]]] = []
        self._open: dict[str, list[str]] = {}
        self._whole: dict[str, StringIO] = {}
        self.length = 0

    def add(self, stream: str, text: str) -> None:
        kept = text[: max(0, KEPT_OUTPUT - self.length)]
        self.length += len(text)
        self._whole.setdefault(stream, StringIO()).write(kept)
        for number, part in enumerate(kept.split("\n") if len(self._lines) <= _MAX_LINES else ()):
            if number:
                self._open.pop(stream, None)
            if part and stream not in self._open:
                self._open[stream] = []
                self._lines.append((stream, self._open[stream]))
            if part:
                self._open[stream].append(part)

    def place(self, result: Result) -> None:
        """Lines become console entries; what is more, a file for each stream."""
        size, count = 0, 0
        for stream, parts in self._lines:
            line = text_of("".join(parts)).rstrip("\r")
            if not line.strip():
                continue
            size, count = size + len(line), count + 1
            if count > limits.MAX_OUTPUT_LINES or size > limits.MAX_OUTPUT:
                break
            level = "warning" if stream == "stderr" else "info"
            result.console_logs.append({"level": level, "message": cut(line), "source_url": stream})
        else:
            if len(self._lines) <= _MAX_LINES:
                return
        for stream, whole in sorted(self._whole.items(), reverse=True):  # stdout first
            fields = {"file_name": f"{stream}.log", "artifact_type": "log"}
            data = text_of(whole.getvalue()).encode("utf-8", "replace")
            result.files.append(File(fields, data=data, hides=True))


def text_of_chunk(text: Any, data: Optional[bytes]) -> str:
    return data.decode("utf-8", "replace") if data is not None else text if isinstance(text, str) else ""
