"""`python -m reportd_client.sender DIR`: the process that a recording process starts. Its last line is the receipt."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from reportd_client.limits import DRAIN_SECONDS
from reportd_client.receipt import Receipt
from reportd_client.sender.http import Patience
from reportd_client.sender.main import send
from reportd_client.settings import SettingsError, token_of

_NICE = 5


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m reportd_client.sender", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--drain", type=float, default=DRAIN_SECONDS)
    parser.add_argument("--parent", type=int, required=True)
    options = parser.parse_args()
    if hasattr(os, "nice"):
        os.nice(_NICE)
    try:
        receipt = send(
            options.folder, token_of(os.environ), Patience(options.drain), orphaned=lambda: _gone(options.parent)
        )
    except SettingsError as error:
        receipt = Receipt(spool=options.folder, message=str(error), code=1)
    try:
        sys.stdout.buffer.write(receipt.line())
        sys.stdout.flush()
    except OSError:  # nobody reads it any more
        pass


def _gone(parent: int) -> bool:
    """Whether the recording process has ended. On Windows the parent's id stays: there the `stop` file ends it."""
    return os.name != "nt" and os.getppid() != parent


if __name__ == "__main__":
    main()
