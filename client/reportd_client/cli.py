"""`reportd-send`: sends report files and what a spool holds, runs commands, sums runs up."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import NoReturn, Optional, Sequence

from reportd_client.commands import check, finish, run, spools
from reportd_client.commands.terminal import say
from reportd_client.formats.reports import FORMATS
from reportd_client.receipt import EXIT
from reportd_client.send import send_paths
from reportd_client.settings import SettingsError
from reportd_client.spool import SpoolError
from reportd_client.version import VERSION


def main(arguments: Optional[Sequence[str]] = None) -> None:
    """The console script. Exits with one of the codes of EXIT, 0 when all is sent."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # names of tests may have characters that the terminal cannot show
            stream.reconfigure(errors="backslashreplace")
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        sys.exit(_main(given))
    except (SettingsError, SpoolError, OSError) as error:
        say(str(error))
        sys.exit(EXIT.USAGE)
    except KeyboardInterrupt:
        say("Interrupted. What was not sent is kept: see reportd-send status")
        sys.exit(_INTERRUPTED)


def _main(given: list[str]) -> int:
    parser = _commands() if given[:1] and given[0] in _COMMANDS else _sending()
    command: list[str] = []
    if given[:1] == ["run"]:
        given, command = run.split(given)
    options = parser.parse_args(given, argparse.Namespace(command=command))
    return int(options.work(options))


class _Parser(argparse.ArgumentParser):
    """Wrong options end with the code of wrong settings: argparse's own 2 says that there is no report."""

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(EXIT.USAGE, f"{self.prog}: {message}\n")


_INTERRUPTED = 130  # as shells have it
_COMMANDS = ("resume", "status", "check", "finish", "run")
_CODES = (
    "Exit codes: 0 all sent; 1 usage or settings; 2 no report found, or no test in it; 3 none could be read; 4 sent, "
    "but something was refused, cut or is missing; 5 not all sent, the rest is kept in the named folder; 6 token or "
    "role."
)


def _sending() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="reportd-send",
        description="Sends report files to a reportd server. Address and token: REPORTD_URL, and REPORTD_TOKEN or "
        "REPORTD_TOKEN_FILE. Other commands, each with its own --help: " + ", ".join(_COMMANDS) + ".",
        epilog=_CODES,
    )
    parser.add_argument("paths", nargs="+", metavar="PATH", help="report files, folders, quoted patterns, or -")
    parser.add_argument("--format", choices=tuple(FORMATS), help="of the files; by default it is recognised")
    parser.add_argument(
        "--files", type=Path, metavar="DIR", help="where files are that reports name and that were moved"
    )
    for name in ("name", "run-key", "branch", "commit", "build-url", "environment", "project"):
        parser.add_argument(f"--{name}", help=f"{name} of the run")
    parser.add_argument("--tag", action="append", help="tag of the run; may be repeated")
    parser.add_argument("--shard", metavar="K/N", help="which part of the run this is, of how many")
    parser.add_argument("--dry-run", action="store_true", help="print what would be sent, and send nothing")
    parser.add_argument("--keep-har", action="store_true", help="also send HAR files as they are, with secrets")
    parser.add_argument("--test-case", metavar="ID", help="add the requests of HAR files to this result on the server")
    parser.add_argument("--png", action="store_true", help="make PNG files smaller without loss; slow")
    parser.add_argument("--no-finish", action="store_true", help="do not set the end and the status of the run")
    parser.add_argument("--json", action="store_true", help="print the summary as JSON")
    parser.add_argument("--quiet", action="store_true", help="print only problems")
    parser.add_argument("--timeout", type=float, default=600, metavar="SECONDS", help="give up after so long (600)")
    parser.add_argument(
        "--fail-on",
        choices=("never", "refused", "incomplete"),
        default="refused",
        help="never: 0 instead of 2 to 5; incomplete: 4 also when anything of the run is missing on the server",
    )
    parser.add_argument("--version", action="version", version=VERSION)
    parser.set_defaults(work=send_paths)
    return parser


def _commands() -> argparse.ArgumentParser:
    parser = _Parser(prog="reportd-send", epilog=_CODES)
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for command in (spools, check, finish, run):
        command.add(commands)
    return parser
