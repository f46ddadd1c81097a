"""`reportd-send PATH…`: report files into a spool, and the spool to the server."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Callable, Optional

from reportd_client import shards
from reportd_client.commands.completeness import missing_of
from reportd_client.commands.har_requests import add_requests
from reportd_client.commands.terminal import UNREACHED, Progress, say
from reportd_client.formats.markup import MAX_FILE
from reportd_client.formats.reports import Reports
from reportd_client.formats.result import name_based, write
from reportd_client.mask import Masks
from reportd_client.notes import Notes
from reportd_client.receipt import EXIT, Receipt, exit_code, show
from reportd_client.runs import DEFAULT_SPOOL, NO_KEY, Described, Recorder, describe
from reportd_client.sender.http import Patience
from reportd_client.sender.main import send
from reportd_client.settings import Settings, SettingsError, read, shard_of, token_of
from reportd_client.spool import Spool
from reportd_client.system import System

_RUN = ("name", "environment", "branch", "commit_sha", "build_url", "browser", "platform", "triggered_by")
_CHUNK = 1 << 20
_OFTEN = 100  # tests between two lines of progress


def send_paths(options: argparse.Namespace) -> int:
    """The work of the command: its exit code. Raises SettingsError, OSError."""
    if options.test_case is not None:
        return add_requests(options)
    bytes_of = _recompressed() if options.png else as_is
    if options.shard is not None:
        shard_of(options.shard)
    reports = Reports(options.format, options.files, options.keep_har)
    with ExitStack() as stack:
        reports.look([_standard_input(options, stack) if path == "-" else path for path in options.paths])
        for text in (*reports.notes, *reports.unreadable, *reports.empty, *reports.remarks):
            say(text)
        if not reports.count and not reports.failed:
            code = int(EXIT.UNREADABLE if reports.unreadable else EXIT.NOTHING)
            if code == EXIT.NOTHING and not reports.empty:
                say("no report was found")
        elif options.dry_run:
            code = _dry_run(reports, options)
        else:
            code = _send(reports, options, bytes_of)
    code = code or (EXIT.REFUSED if reports.notes or reports.unreadable else 0)
    return 0 if options.fail_on == "never" and code not in (EXIT.USAGE, EXIT.NO_RIGHT) else code


def _standard_input(options: argparse.Namespace, stack: ExitStack) -> str:
    """A file with the bytes of standard input, since reports are read twice. Raises SettingsError."""
    if options.format is None:
        raise SettingsError("Standard input needs --format")
    path = Path(stack.enter_context(TemporaryDirectory(prefix="reportd-")), "standard-input")
    with path.open("wb") as file:
        size = 0
        while size <= MAX_FILE and (chunk := sys.stdin.buffer.read(_CHUNK)):  # one more is too large for the reader
            size += file.write(chunk)
    return str(path)


# --- the run ---


def _described(reports: Reports, options: argparse.Namespace, settings: Settings) -> Described:
    """Options, else what the reports say of their suite, else the CI. Raises SettingsError."""
    described = describe(settings, {"tags": options.tag})
    given = described.fields
    in_ci = given.get("metadata", {}).get("ci", {}).get("system", "git") != "git"
    known = {"branch": settings.branch, "commit_sha": settings.commit, "build_url": settings.build_url}
    checkout = {} if in_ci else reports.suite.get("checkout", {})
    suite = {**{name: value for name, value in checkout.items() if not known.get(name)}, **reports.suite}
    fields = {**given, **{name: suite[name] for name in (*_RUN, "tags", "started_at") if suite.get(name) is not None}}
    chosen = {"name": options.name, "branch": options.branch, "commit_sha": options.commit, "tags": options.tag}
    chosen.update(build_url=options.build_url, environment=options.environment, project=options.project)
    fields.update({name: value for name, value in chosen.items() if value})
    of_suite = suite.get("metadata")
    metadata = {**(of_suite if isinstance(of_suite, dict) else {}), **given.get("metadata", {})}
    fields["run_key"] = settings.run_key or suite.get("run_key") or (given["run_key"] if in_ci else reports.key())
    shard = described.shard or (_shard_of(metadata) if described.is_shared else None)
    if described.shard and not (described.is_shared or suite.get("run_key")):
        raise SettingsError(f"Shard {described.shard} {NO_KEY}")
    fields["metadata"] = Masks(settings.mask).anything(metadata)
    return Described(fields, shard, described.is_shared)


def _shard_of(metadata: dict[str, Any]) -> Optional[str]:
    """The shard that the reports say they are. All of them together are no shard."""
    found = metadata.get("shards")
    parsed = shards.parse(found[0]) if isinstance(found, list) and len(found) == 1 else None
    return f"{parsed[0]}/{parsed[1]}" if parsed is not None and parsed[1] > 1 else None


def _send(reports: Reports, options: argparse.Namespace, bytes_of: Callable[[Path], Any]) -> int:
    arguments = {
        name: getattr(options, name)
        for name in ("name", "run_key", "branch", "commit", "build_url", "project", "environment", "shard")
    }
    settings = read(arguments)
    if settings.url is None:
        raise SettingsError("Set REPORTD_URL to the address of the server")
    token = token_of(os.environ)
    described = _described(reports, options, settings)
    fields = described.fields
    notes = Notes(say=say)
    # The same results have the same spool id, so that requests that are repeated have the same keys.
    about: dict[str, Any] = {"url": settings.url, "run": fields, "shard": described.shard}
    about["spool_id"] = name_based(fields["run_key"], reports.key())
    about["shard_started_at"] = reports.suite.get("started_at") or reports.written_at
    spool = Spool.create(Path(settings.spool or DEFAULT_SPOOL).absolute(), about)
    recorder = Recorder(spool, notes, Masks(settings.mask))
    with Progress(options.quiet) as progress:
        tests = record(recorder, reports, fields["run_key"], bytes_of, progress)
        recorder.append({"kind": "run", "tests_expected": tests}, verdict=True)
        end = {"kind": "end", "finished_at": System.now(), "finish": not options.no_finish}
        if reports.failed:
            end["status"] = "Failed"
        recorder.append(end, verdict=True)
        recorder.writer.close()
        progress.follow(spool.folder, reports.count)
        receipt = send(spool.folder, token, Patience(options.timeout, min(UNREACHED, options.timeout)), say=say)
    _show(receipt, options)
    code = exit_code(receipt)
    if code == 0 and options.fail_on == "incomplete" and receipt.run_id is not None:
        code = missing_of(settings.url, token, receipt.run_id, described.shard is not None or options.no_finish)
    return code


def record(
    recorder: Recorder, reports: Reports, run_key: str, bytes_of: Callable[[Path], Any], progress: Progress
) -> int:
    """Write all results to the spool: the number of tests."""
    tests = set[int]()
    for number, result in enumerate(reports.results()):
        if number % _OFTEN == 0:
            progress.show(f"{number:,} of {reports.count:,} tests read")
        write(recorder, run_key, result, bytes_of)
        tests.add(hash(result.test["test_id"]))  # a number, since there may be 100,000
    return len(tests)


def _show(receipt: Receipt, options: argparse.Namespace) -> None:
    if options.json:
        print(receipt.line().decode().strip())
    elif not options.quiet or exit_code(receipt):
        show(receipt)


def _dry_run(reports: Reports, options: argparse.Namespace) -> int:
    """Print the run as it would be. Opens no connection."""
    counts: dict[str, Counter[str]] = {"tests": Counter(), "attempts": Counter(), "files": Counter()}
    steps, refused = 0, []
    for result in reports.results():
        counts["tests"][str(result.test["status"])] += 1
        counts["attempts"][str(result.test.get("attempt") or 1)] += 1
        steps += len(result.steps)
        for file in result.files:
            if file.refused is None:
                counts["files"][str(file.fields["artifact_type"])] += 1
            else:
                refused.append(f"{file.fields['file_name']}: {file.refused}")
    tests, attempts, files = (dict(each) for each in counts.values())
    summary = {"tests": tests, "attempts": attempts, "steps": steps, "files": files, "refused": refused}
    if options.json:
        print(json.dumps(summary))
    else:
        for name, value in summary.items():
            text = ", ".join(f"{count} {word}" for word, count in value.items()) if isinstance(value, dict) else value
            print(f"{name}: {text if text else 'none'}")
    return EXIT.REFUSED if refused else 0


# --- files ---


def as_is(path: Path) -> Any:
    return path


def _recompressed() -> Callable[[Path], Any]:
    """A function that makes PNG files smaller without changing a pixel. Raises SettingsError."""
    try:
        import oxipng
    except ImportError:
        raise SettingsError("--png needs: pip install 'reportd-client[png]'") from None

    def smaller(path: Path) -> Any:
        if path.suffix.lower() != ".png":
            return path
        data = path.read_bytes()
        try:
            made = bytes(oxipng.optimize_from_memory(data, level=2))
        except Exception:  # no PNG, whatever its name: the server decides
            return path
        return made if len(made) < len(data) else path

    return smaller
