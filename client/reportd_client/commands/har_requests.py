"""`reportd-send --test-case ID PATH…`: the requests of HAR files become those of a test that the server has."""

from __future__ import annotations

import argparse
import hashlib
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from reportd_client.commands.terminal import say
from reportd_client.formats import har, paths
from reportd_client.formats.result import Empty, Unreadable
from reportd_client.mask import Masks
from reportd_client.receipt import EXIT
from reportd_client.rest import Api, ApiError
from reportd_client.settings import SettingsError, read

_AT_ONCE = 500  # requests of one call
_SEQUENCE_BITS = 20  # a file has fewer requests than this allows


def add_requests(options: argparse.Namespace) -> int:
    """The work of the command: its exit code. What has been added is not added again. Raises SettingsError."""
    if options.format not in (None, har.NAME):
        raise SettingsError(f"--test-case takes HAR files, not --format {options.format}")
    masks = Masks(read({}).mask)
    notes: list[str] = []
    missing: list[str] = []
    unreadable, requests, new, files = 0, 0, 0, 0
    with ExitStack() as stack:
        api = None if options.dry_run else stack.enter_context(Api(retry_seconds=options.timeout))
        for path in paths.find(options.paths, missing.append, _is_har):
            try:
                found = [masks.network(entry) for entry in har.requests_of(path, notes.append)]
                files, requests = files + 1, requests + len(found)
                new += _add(api, options, path, found) if api is not None else 0
            except Empty as error:
                missing.append(str(error))
            except Unreadable as error:
                unreadable += 1
                notes.append(str(error))
            except ApiError as error:
                say(f"{path}: {error}")
                return int(EXIT.NO_RIGHT if error.status in (401, 403) else EXIT.NOT_SENT)
    for text in (*notes, *missing):
        say(text)
    if not requests:
        if not notes and not missing:
            say("no HAR file was found")
        return int(EXIT.UNREADABLE if unreadable else EXIT.NOTHING)
    if not options.quiet:
        added = "would be added" if options.dry_run else f"({new:,} new) added"
        print(f"{requests:,} requests of {files:,} {'file' if files == 1 else 'files'} {added} to {options.test_case}")
    return int(EXIT.REFUSED) if notes else 0


def _is_har(path: Path) -> bool:
    try:
        return har.looks(paths.head(path), path)
    except Unreadable:
        return True  # reading it says why


def _add(api: Api, options: argparse.Namespace, path: Path, requests: list[Any]) -> int:
    """Send the requests of a file: how many the test did not have. Their numbers are made of the file's content, so
    that other files and other clients have others."""
    first = int.from_bytes(hashlib.sha256(path.read_bytes()).digest()[:5], "big") << _SEQUENCE_BITS
    created = 0
    for at in range(0, len(requests), _AT_ONCE):
        entries = requests[at : at + _AT_ONCE]
        reply = api.logs.create_network(options.test_case, entries, first_sequence=first + at)
        created += reply["created"]
    if options.keep_har:
        api.uploads.create(options.test_case, path, artifact_type="har")
    return created
