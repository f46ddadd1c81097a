"""`reportd-send run -- COMMAND`: runs a command in a run of its own, and sends the reports that it writes."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, Optional, Sequence

from reportd_client.commands.child import run_child
from reportd_client.commands.terminal import Progress, say
from reportd_client.formats import paths
from reportd_client.formats.reports import FORMATS, Reports
from reportd_client.notes import Notes
from reportd_client.receipt import EXIT, exit_code, show
from reportd_client.runs import Run, make_run
from reportd_client.send import as_is, record
from reportd_client.settings import SettingsError

_NOT_EXECUTABLE, _NOT_FOUND = 126, 127  # as shells have them
_OPTIONS = ("name", "run_key", "branch", "commit", "build_url", "environment", "project")
CODES = (
    "Exit code: that of the command, 128 and more when a signal ended it, 126 and 127 when it cannot be run. Only when "
    "the command passed, that of sending: 1 settings; 2 --collect found no new report; 3 none could be read; 4 sent, "
    "but something was refused or cut; 5 not all sent, the rest is kept in the named folder; 6 token or role. Without "
    "REPORTD_URL the command runs as it is."
)


def add(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "run",
        help="run a command, and send the reports that it writes",
        usage="%(prog)s [OPTIONS] -- COMMAND [ARGUMENT ...]",
        description="Runs a command in a run of its own: REPORTD_RUN_KEY in its environment lets pytest --reportd and "
        "other reporters meet in it. Then the report files that the command has written are sent. Input, output, "
        "signals and exit code are the command's; what there is to say about sending goes to standard error.",
        epilog=CODES,
    )
    for name in _OPTIONS:
        option = name.replace("_", "-")
        parser.add_argument(f"--{option}", help=f"{option} of the run")
    parser.add_argument("--shard", metavar="K/N", help="which part of the run this is, of how many")
    parser.add_argument("--tag", action="append", help="tag of the run; may be repeated")
    parser.add_argument(
        "--collect",
        action="append",
        default=[],
        metavar="GLOB",
        help="report files, folders or quoted patterns, of which those are sent that the command writes; repeatable",
    )
    parser.add_argument("--format", choices=tuple(FORMATS), help="of the files; by default it is recognised")
    parser.add_argument("--files", type=Path, metavar="DIR", help="where files are that reports name and were moved")
    parser.add_argument("--keep-har", action="store_true", help="also send HAR files as they are, with secrets")
    parser.add_argument("--quiet", action="store_true", help="print only problems")
    parser.add_argument("--timeout", type=float, default=600, metavar="SECONDS", help="for sending, at the end (600)")
    parser.add_argument("--fail-on", choices=("never", "refused"), default="refused", help="never: 0 instead of 2 to 5")
    parser.set_defaults(work=run)


def split(given: Sequence[str]) -> tuple[list[str], list[str]]:
    """The options of `run`, and the command behind `--`."""
    at = given.index("--") if "--" in given else len(given)
    return list(given[:at]), list(given[at + 1 :])


def run(options: argparse.Namespace) -> int:
    """The work of the command: its exit code. Raises SettingsError."""
    command = options.command
    if not command:
        raise SettingsError("Write the command behind --, as in: reportd-send run -- pytest -q")
    if shutil.which(command[0]) is None:
        return _not_run(command[0])
    notes = Notes(say=say)
    chosen = {name: getattr(options, name) for name in (*_OPTIONS, "shard")}
    given = {name: value for name, value in chosen.items() if value is not None}
    made = make_run(notes, drain=options.timeout, tags=options.tag, **given)
    if made.shard and not options.collect:  # a word about the shard would replace what reporters in it have said
        made.shard = None
        made.leave_open()
    before = Before(options.collect)
    made.open()
    try:
        code = run_child(command, _environment(made, given))
    except OSError as error:
        say(f"{command[0]}: {error.strerror}")
        code = _NOT_EXECUTABLE
    try:
        own = _send(made, code, before, options)
    except KeyboardInterrupt:
        if made.receipt is None:  # else close() has said it
            say(f"Interrupted while sending. See reportd-send status {made.spool.folder.parent if made.spool else ''}")
        own = EXIT.NOT_SENT
    except Exception as error:  # the exit code of the command must not be lost
        say(f"Sending failed: {type(error).__name__}: {error}")
        made.close()
        own = EXIT.NOT_SENT
    return code or (0 if options.fail_on == "never" and own not in (EXIT.USAGE, EXIT.NO_RIGHT) else own)


def _not_run(name: str) -> int:
    """Say why a command cannot be run, before anything is sent."""
    if os.path.dirname(name) and os.path.exists(name):
        say(f"{name}: {'Is a directory' if os.path.isdir(name) else 'Permission denied'}")
        return _NOT_EXECUTABLE
    say(f"{name}: command not found")
    return _NOT_FOUND


def _environment(made: Run, given: dict[str, str]) -> dict[str, str]:
    """That of the command. Whoever sends first creates the run, so all get its fields."""
    if made.spool is None:
        return dict(os.environ)
    fields = {f"REPORTD_{name.upper()}": value for name, value in given.items()}
    return {**os.environ, **fields, "REPORTD_RUN_KEY": made.fields["run_key"]}


# --- reports ---


class Before:
    """The files of some patterns as they are before a command writes its own."""

    def __init__(self, patterns: Sequence[str]) -> None:
        found = paths.find(patterns, lambda text: None, lambda path: True)
        self._known = {path.resolve(): _state(path) for path in found}

    def has_changed(self, path: Path) -> bool:
        """Whether a file is new or another one. Times are compared with those before: the clock of a file system may
        differ from this machine's."""
        return self._known.get(path.resolve()) != _state(path)


def _state(path: Path) -> Optional[tuple[int, int, int]]:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def _send(made: Run, code: int, before: Before, options: argparse.Namespace) -> int:
    """Send what the command has written, and end the run: the exit code of sending."""
    if made.spool is None:
        if not made.settings.on:
            return EXIT.USAGE if os.environ.get("REPORTD_URL", "").strip() else 0
        return EXIT.NOT_SENT
    reports = Reports(options.format, options.files, options.keep_har)
    reports.look(options.collect, before.has_changed)
    for text in (*reports.notes, *reports.unreadable, *reports.empty, *reports.remarks):
        say(text)
    if code or reports.failed:
        made.set_status("Failed")
    metadata = reports.suite.get("metadata")
    if isinstance(metadata, dict):
        made.add_metadata(**{name: value for name, value in metadata.items() if name != "self"})
    with Progress(options.quiet) as progress:
        tests = record(made.recorder, reports, made.fields["run_key"], as_is, progress)
        if made.shard:
            made.expect(tests)
        progress.follow(made.spool.folder)
        made.close()
    if made.receipt is None:
        return EXIT.NOT_SENT
    if exit_code(made.receipt) or (options.collect and not options.quiet):
        show(replace(made.receipt, message=None), sys.stderr)  # which close() has said
    elif not options.quiet:
        say(str(made.receipt.run_url))
    if not exit_code(made.receipt) and options.collect and not (reports.count or reports.failed):
        say("The command wrote no report that --collect finds")
        return EXIT.UNREADABLE if reports.unreadable else EXIT.NOTHING
    return exit_code(made.receipt) or (EXIT.REFUSED if reports.notes or reports.unreadable else 0)
