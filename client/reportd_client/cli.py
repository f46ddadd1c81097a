"""`reportd-send`: sends report files and what a spool holds, and says what is left."""

from __future__ import annotations

import argparse
import os
import sys
import time
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Optional, Sequence

from reportd_client import limits
from reportd_client.formats.reports import FORMATS
from reportd_client.receipt import EXIT, exit_code, show
from reportd_client.runs import DEFAULT_SPOOL
from reportd_client.send import send_paths
from reportd_client.sender.connections import Fatal
from reportd_client.sender.http import Answer, Patience, Server, Stopped
from reportd_client.sender.main import send
from reportd_client.settings import SettingsError, base_url, token_of
from reportd_client.spool import Spool, SpoolError, spools_in
from reportd_client.version import VERSION

_UNREACHED = 10.0  # seconds without any answer, after which a command gives up


def main(arguments: Optional[Sequence[str]] = None) -> None:
    """The console script. Exits with one of the codes above, 0 when all is sent."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        sys.exit(_main(given))
    except (SettingsError, SpoolError, OSError) as error:
        print(f"reportd-send: {error}", file=sys.stderr)
        sys.exit(EXIT.USAGE)


def _main(given: list[str]) -> int:
    words = [word for word in given if not word.startswith("-")]
    parser = _commands() if words and words[0] in _COMMANDS else _sending()
    options = parser.parse_args(given)
    return int(options.work(options))


_COMMANDS = ("resume", "status", "check")
_CODES = (
    "Exit codes: 0 all sent; 1 usage or settings; 2 no report found, or no test in it; 3 none could be read; 4 sent, "
    "but something was refused or cut; 5 not all sent, the rest is kept in the named folder; 6 token or role."
)


def _sending() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="reportd-send",
        description="Sends report files to a reportd server. Address and token: REPORTD_URL, and REPORTD_TOKEN or "
        "REPORTD_TOKEN_FILE. Other commands: reportd-send resume DIR, reportd-send status, reportd-send check.",
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
    parser.add_argument("--shard", metavar="K/N", help="which part of the run this is")
    parser.add_argument("--dry-run", action="store_true", help="print what would be sent, and send nothing")
    parser.add_argument("--png", action="store_true", help="make PNG files smaller without loss; slow")
    parser.add_argument("--no-finish", action="store_true", help="do not set the end and the status of the run")
    parser.add_argument("--json", action="store_true", help="print the summary as JSON")
    parser.add_argument("--quiet", action="store_true", help="print only problems")
    parser.add_argument("--timeout", type=float, default=600, metavar="SECONDS", help="give up after so long (600)")
    parser.add_argument("--fail-on", choices=("never", "refused"), default="refused", help="never: 0 instead of 2 to 5")
    parser.add_argument("--version", action="version", version=VERSION)
    parser.set_defaults(work=send_paths)
    return parser


def _commands() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="reportd-send", epilog=_CODES)
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    resume = commands.add_parser("resume", help="send what an interrupted or unreachable run has left in its spool")
    resume.add_argument("folders", nargs="*", type=Path, default=[Path(DEFAULT_SPOOL)], metavar="DIR")
    resume.add_argument("--timeout", type=float, default=600, metavar="SECONDS", help="give up after so long (600)")
    resume.add_argument("--keep", action="store_true", help="keep the spool when everything is sent")
    resume.set_defaults(work=_resume)
    status = commands.add_parser("status", help="list spools that are not sent")
    status.add_argument("folders", nargs="*", type=Path, default=[Path(DEFAULT_SPOOL)], metavar="DIR")
    status.set_defaults(work=_status)
    check = commands.add_parser("check", help="say which server and token are used, and what they allow")
    check.set_defaults(work=_check)
    return parser


# --- resume ---


def _resume(options: argparse.Namespace) -> int:
    folders = [folder for root in options.folders for folder in spools_in(root)]
    missing = [root for root in options.folders if not root.exists() and root != Path(DEFAULT_SPOOL)]
    for root in missing:
        print(f"{root}: there is no such folder. If it was a spool, it has been sent")
    if not folders:
        print("Nothing to send")
        return 0
    given = os.environ.get("REPORTD_URL", "").strip()
    url, token = base_url(given) if given else None, token_of(os.environ)
    codes = []
    for folder in folders:
        patience = Patience(options.timeout, unreached=min(_UNREACHED, options.timeout))
        receipt = send(folder, token, patience, url=url, ended=True, keep=options.keep, say=_say)
        show(receipt)
        codes.append(exit_code(receipt))
    return max(codes)


def _say(text: str) -> None:
    print(f"reportd-send: {text}", file=sys.stderr)


# --- status ---


def _status(options: argparse.Namespace) -> int:
    folders = [folder for root in options.folders for folder in spools_in(root)]
    for folder in folders:
        try:
            about = Spool.open(folder).about
        except SpoolError as error:
            print(error)
            continue
        age = (time.time() * 1000 - about["created_at"]) / 86_400_000
        old = f", older than {limits.OLD_SPOOL_DAYS} days" if age > limits.OLD_SPOOL_DAYS else ""
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        print(f"{folder}: {about['run'].get('name')}, {size / 1e6:.1f} MB, {age:.1f} days old{old}")
    if not folders:
        print("Nothing is left to send")
    return 0


# --- check ---


def _check(options: argparse.Namespace) -> int:
    url = os.environ.get("REPORTD_URL", "").strip()
    if not url:
        raise SettingsError("Set REPORTD_URL to the address of the server")
    token = token_of(os.environ)
    print(f"Server: {base_url(url)}")
    print(f"Token: {f'{token[:8]}…' if token else 'none: set REPORTD_TOKEN or REPORTD_TOKEN_FILE'}")
    patience = Patience(_UNREACHED)
    patience.drain()
    server = Server(base_url(url), token, patience, _say)
    try:
        answer = server.call("GET", "/suite-runs?limit=1")
        print("Access: the token is accepted" if answer.status == 200 else f"Access: {answer.text()}")
        _show_limits(server.call("GET", "/limits"))
        _show_clock(answer)
    except Stopped:
        print(server.last_problem, file=sys.stderr)
        return EXIT.NOT_SENT
    except Fatal as error:
        print(error, file=sys.stderr)
        return error.code
    return 0 if answer.status == 200 else EXIT.NOT_SENT


def _show_limits(answer: Answer) -> None:
    if answer.status != 200:
        print("Limits: the server is older than this client, and does not say them")
        return
    for name, value in sorted(answer.value.items()):
        print(f"{name}: {', '.join(map(str, value)) if isinstance(value, list) else value}")


def _show_clock(answer: Answer) -> None:
    try:
        difference = time.time() - parsedate_to_datetime(answer.headers.get("Date", "")).timestamp()
    except (TypeError, ValueError):
        return
    print(f"Clock: {abs(difference):.0f} s {'ahead of' if difference > 0 else 'behind'} the server's")
