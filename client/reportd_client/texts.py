"""From what a test has at hand to the texts of a report: exceptions, titles, types of steps and files."""

from __future__ import annotations

import traceback
from typing import Any, Mapping

from reportd_client.limits import MAX_TEXT

STATUSES = ("Passed", "Failed", "Skipped", "Pending")
ARTIFACT_TYPES = ("screenshot", "log", "video", "har", "other")
CATEGORIES = ("before", "after", "error", "checkpoint")
ACTION = 100  # characters; a longer title is whole in the description

_VERBS = {
    "navigate": ("goto", "navigate", "open", "visit"),
    "click": ("click", "press", "tap", "check", "uncheck", "dblclick"),
    "type": ("fill", "type", "input", "enter"),
    "select": ("select",),
    "hover": ("hover",),
    "drag_drop": ("drag",),
    "scroll": ("scroll",),
    "upload_file": ("upload",),
    "wait": ("wait",),
    "assert": ("expect", "assert", "should", "verify", "then"),
    "screenshot": ("screenshot",),
}
_TYPE_OF_VERB = {verb: kind for kind, verbs in _VERBS.items() for verb in verbs}
_TYPES_OF_NAMES: Mapping[str, tuple[str, ...]] = {
    "screenshot": (".png", ".jpg", ".jpeg", ".gif", ".webp"),
    "video": (".webm", ".mp4", ".mov", ".mkv"),
    "har": (".har",),
    "log": (".log", ".txt", ".out", ".err"),
}
_IMAGES = ((b"\x89PNG", ".png"), (b"\xff\xd8", ".jpg"), (b"GIF8", ".gif"), (b"RIFF", ".webp"))


def cut(text: str, length: int = MAX_TEXT) -> str:
    """The text, with `…` at its end when it is too long."""
    return text if len(text) <= length else text[: length - 1] + "…"


def step_type_of(action: str, has_children: bool) -> str:
    """The type of a step by the first word of its title."""
    word = action.split(None, 1)[0].lower() if action.strip() else ""
    return _TYPE_OF_VERB.get(word) or ("group" if has_children else "other")


def artifact_type_of(file_name: str) -> str:
    name = file_name.lower()
    return next((kind for kind, ends in _TYPES_OF_NAMES.items() if name.endswith(ends)), "other")


def image_suffix(data: bytes) -> str:
    return next((suffix for start, suffix in _IMAGES if data.startswith(start)), ".png")


def is_skip(error: type[BaseException]) -> bool:
    """Whether an exception means that the test is skipped, in unittest or pytest."""
    if error.__name__ == "SkipTest":
        return True
    # By the name of the base class: pytest says that its exceptions are of the module `builtins`.
    is_outcome = any(base.__name__ == "OutcomeException" for base in error.__mro__)
    return is_outcome and error.__name__ in ("Skipped", "XFailed")


def error_fields(error: BaseException, with_trace: bool = True) -> dict[str, Any]:
    """`error_type`, `error_message` and, unless a step within has it already, `stack_trace`."""
    try:
        message = str(error)
    except Exception:
        message = f"<{type(error).__name__} whose text cannot be made>"
    fields = {"error_type": type(error).__name__[:100], "error_message": cut(message) or type(error).__name__}
    if with_trace:
        fields["stack_trace"] = _trace(error)
    return fields


def _trace(error: BaseException) -> str:
    """The stack trace with the exceptions that led to it. The end of a long one matters most."""
    try:
        text = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    except Exception:  # its source is gone, or its __str__ raises
        text = "".join(traceback.format_tb(error.__traceback__))
    return text if len(text) <= MAX_TEXT else "…" + text[1 - MAX_TEXT :]
