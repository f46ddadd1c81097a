"""What commands print beside their result."""

from __future__ import annotations

import sys

UNREACHED = 10.0  # seconds without any answer, after which a command gives up


def say(text: str) -> None:
    """One line for people, who read it in the log of a CI job."""
    print(f"reportd-send: {text}", file=sys.stderr)
