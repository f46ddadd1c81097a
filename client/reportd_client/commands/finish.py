"""`reportd-send finish`: what a run shows, for people on the page of the CI job, and as an exit code."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from reportd_client.commands.chosen import choose
from reportd_client.commands.findings import Findings, find, wait
from reportd_client.commands.questions import Questions
from reportd_client.commands.summary import Summary
from reportd_client.commands.terminal import UNREACHED, say
from reportd_client.receipt import EXIT
from reportd_client.sender.connections import Fatal
from reportd_client.sender.http import Patience, Server, Stopped
from reportd_client.settings import API, SettingsError, read, token_of

INCOMPLETE, NEW_FAILURES, NEVER = "incomplete", "new-failures", "never"
CODES = (
    "Exit codes: 0 fine, or not asked to fail; 1 usage or settings; 2 there is no such run; 4 not complete; 5 the "
    "server cannot be reached; 6 token or role; 7 new failures, also when the run is not complete. Without --fail-on, "
    "what the run shows does not make the command fail. An older server, and a first run that has nothing to be "
    "compared with, are said and do not make it fail either."
)


def add(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "finish",
        help="sum up a run: what newly fails, what is flaky, what is missing",
        description="Sums up a run that was sent: its new failures against the main branch with their first difference "
        "from the last green, flaky tests, what is missing, the address of its page. Writes Markdown to "
        "$GITHUB_STEP_SUMMARY if it is set. It changes nothing on the server; a token with the role viewer is enough.",
        epilog=CODES,
    )
    parser.add_argument("run", nargs="?", metavar="RUN", help="id or address of a run; by default, that of this build")
    parser.add_argument("--run-key", metavar="KEY", help="key of the run (REPORTD_RUN_KEY)")
    parser.add_argument("--name", help="name of the run, if this build has several (REPORTD_NAME)")
    parser.add_argument("--project", help="project of the run, for a token of several projects")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="also write the Markdown to this file")
    parser.add_argument(
        "--fail-on",
        action="append",
        type=_words,
        metavar="WHAT",
        help="fail for: incomplete, new-failures, or both with a comma; never: 0 also instead of 2 to 5",
    )
    parser.add_argument("--wait", type=_seconds, default=0.0, metavar="SECONDS", help="wait for shards to finish (0)")
    parser.add_argument("--timeout", type=_seconds, default=60.0, metavar="SECONDS", help="give up after so long (60)")
    parser.set_defaults(work=finish)


def _words(text: str) -> list[str]:
    words = [word.strip() for word in text.split(",")]
    wrong = [word for word in words if word not in (INCOMPLETE, NEW_FAILURES, NEVER)]
    if wrong:
        raise argparse.ArgumentTypeError(f"must be {INCOMPLETE}, {NEW_FAILURES} or {NEVER}, not {wrong[0]!r}")
    return words


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= 86_400:
        raise argparse.ArgumentTypeError(f"must be a number of seconds from 0 to 86400, not {text!r}")
    return seconds


def finish(options: argparse.Namespace) -> int:
    """The work of the command: its exit code. Raises SettingsError, OSError."""
    fail_on = {word for words in options.fail_on or () for word in words}
    if NEVER in fail_on and len(fail_on) > 1:
        raise SettingsError("--fail-on never cannot be used with another --fail-on")
    code = _finish(options, fail_on)
    return 0 if NEVER in fail_on and code not in (EXIT.USAGE, EXIT.NO_RIGHT) else code


def _finish(options: argparse.Namespace, fail_on: set[str]) -> int:
    settings = read({name: getattr(options, name) for name in ("run_key", "name", "project")})
    if settings.url is None:
        raise SettingsError("Set REPORTD_URL to the address of the server")
    patience = Patience(options.timeout + options.wait, min(UNREACHED, options.timeout))
    patience.drain()
    server = Server(settings.url, token_of(os.environ), patience, say)
    questions = Questions(server)
    try:
        run = choose(questions, options.run, settings)
        if run is None:
            say("There is no such run on the server. Was it sent with the same name and key, to the same project?")
            return EXIT.NOTHING
        completeness = wait(questions, run["id"], options.wait, lambda found: _say_waiting(found, options.wait))
        found = find(questions, run, completeness)
        summary = Summary(found, settings.url[: -len(API)])
        print(summary.terminal(), end="")
        return _write(summary.markdown(), options) or _code(found, fail_on)
    except Stopped:
        say(server.last_problem or f"{settings.url} does not answer in {options.timeout:g} s")
        return EXIT.NOT_SENT
    except Fatal as error:
        say(str(error))
        return error.code
    except (KeyError, TypeError, AttributeError):  # JSON of something else, such as another API at this address
        say(f"{settings.url} does not answer as a reportd server: a proxy may have answered")
        return EXIT.NOT_SENT


def _say_waiting(completeness: dict[str, Any], seconds: float) -> None:
    shards = completeness["shards"]
    say(f"{shards['finished']} of {shards['total']} shards have finished. Waiting up to {seconds:g} s")


def _code(found: Findings, fail_on: set[str]) -> int:
    if NEW_FAILURES in fail_on and found.has_new_failures:
        return EXIT.NEW_FAILURES
    return EXIT.REFUSED if INCOMPLETE in fail_on and found.is_incomplete else 0


def _write(text: str, options: argparse.Namespace) -> int:
    """Write the Markdown where it is wanted: the exit code, 1 when a file that an option names cannot be written."""
    page = os.environ.get("GITHUB_STEP_SUMMARY", "").strip()
    if page:
        try:
            with open(page, "a", encoding="utf-8") as file:
                file.write(f"\n{text}")
        except OSError as error:  # the job's own page is a convenience
            say(f"Cannot write to GITHUB_STEP_SUMMARY ({page}): {error.strerror}")
    if options.markdown is not None:
        try:
            options.markdown.write_text(text, "utf-8")
        except OSError as error:
            say(f"Cannot write {options.markdown}: {error.strerror}")
            return EXIT.USAGE
    return 0
