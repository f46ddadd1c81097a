"""`reportd regroup`: gives stored failures the error that they have by the rules of this version."""

import argparse
import sys
from typing import Any
from uuid import UUID

from server.commands import epilogs
from server.commands.console import with_database
from server.reports import grouping

_BATCH = 200  # results locked at a time: a client that writes one of them waits for some milliseconds
_FIRST = UUID(int=0)


def add_command(commands: Any, command: Any, stored: Any) -> None:
    """Add `regroup` to the parser; `command` and `stored` are those of main.py."""
    text = "group stored failures by error again, after an upgrade that says so"
    added = stored(command(commands, "regroup", _run, text, epilogs.REGROUP))
    text = "go on after this result: the id that an interrupted run printed last"
    added.add_argument("--after", type=UUID, default=_FIRST, metavar="ID", help=text)


def _run(options: argparse.Namespace) -> None:
    with_database(options, lambda connection: regroup(connection, options.after))


async def regroup(connection: Any, after: UUID) -> None:
    """Go through all results by id, in short transactions. Prints where it is to standard error, at last the sum."""
    looked = changed = 0
    while True:
        last, failed = await grouping.sweep(connection, after)
        for i in range(0, len(failed), _BATCH):
            changed += await grouping.regroup(connection, failed[i : i + _BATCH])
        looked += len(failed)
        if last is None:
            break
        after = last
        print(f"reportd: done up to {after}", file=sys.stderr, flush=True)
    print(f"{looked} failed results, {changed} of them changed")
