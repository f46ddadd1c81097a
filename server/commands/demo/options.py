"""The options of `reportd demo`, apart from what it does: every command imports them, and only `demo` needs Pillow and
an HTTP client."""

import argparse
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from server.commands import epilogs

_LONGEST_DAYS = 90


def add_command(commands: Any, command: Callable[..., Any]) -> None:
    """Add `demo` to the parsers of `reportd`."""
    text = "send four weeks of an invented shop's test reports to a running server"
    added = command(commands, "demo", _demo, text, epilogs.DEMO)
    server = added.add_mutually_exclusive_group()
    text = "address of the server, like http://127.0.0.1:8000 (default: the `reportd up` that runs in this directory)"
    server.add_argument("--url", help=text)
    text = "use the `reportd up` that runs on this folder (default: .reportd)"
    server.add_argument("--data", type=Path, metavar="DIR", help=text)
    text = "file with a token of the server (default: REPORTD_TOKEN, or the admin token of that `reportd up`)"
    added.add_argument("--token-file", type=Path, metavar="FILE", help=text)
    text = "configuration of that `reportd up`, if it has one"
    added.add_argument("--config", type=Path, metavar="FILE", help=text)
    text = "number of the story; another one has other durations and commits, and is another demo (default: 1)"
    added.add_argument("--seed", type=_number(0, 10**6), default=1, metavar="N", help=text)
    text = f"how many days the story lasts, 1 to {_LONGEST_DAYS} (default: 28)"
    added.add_argument("--days", type=_number(1, _LONGEST_DAYS), metavar="N", help=text)
    text = "when the story ends, like 2026-11-30T12:00 in UTC (default: now)"
    added.add_argument("--until", type=_time, metavar="TIME", help=text)
    text = "go on adding a result each second to the run that is still running, until Ctrl-C"
    added.add_argument("--live", action="store_true", help=text)
    text = "if an earlier call was interrupted, delete what it sent, and send everything again"
    added.add_argument("--restart", action="store_true", help=text)
    text = "delete the runs of the demo with this --seed; needs an admin's token"
    added.add_argument("--remove", action="store_true", help=text)


def command_line(data: Path, config: Path | None) -> list[str]:
    """The command with which `reportd up --demo` fills its server. Nobody else sends the demo to a server that has just
    started, so an unfinished one was interrupted."""
    command = [sys.executable, "-m", "server", "demo", "--restart", "--data", str(data)]
    return [*command, "--config", str(config)] if config else command


def _demo(options: argparse.Namespace) -> None:
    from server.commands.demo import command  # imported late, see above

    command.demo(options)


def _number(least: int, most: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        if not (text.isascii() and text.isdigit() and least <= int(text[:9]) <= most and len(text) < 9):
            raise argparse.ArgumentTypeError(f"must be {least} to {most}")
        return int(text)

    return number


def _time(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or not 2000 <= moment.year <= 9000:
        raise argparse.ArgumentTypeError("must be like 2026-11-30T12:00 or 2026-11-30T12:00+01:00")
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
