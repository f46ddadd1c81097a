"""`reportd backup` and `reportd restore`: their options, and what they print."""

import argparse
import sys
from pathlib import Path
from typing import Any

from server.commands import epilogs, first_access, settings, up
from server.commands.backup.layout import Backups
from server.commands.check.findings import printable
from server.commands.console import Database, run, use_running_server
from server.config import Config


def add_commands(commands: Any, command: Any, stored: Any) -> None:
    """Add `backup` and `restore` to the parser; `command` and `stored` are those of main.py."""
    text = "back up the database and the files of its artifacts, beside running servers"
    added = stored(command(commands, "backup", _backup, text, epilogs.BACKUP))
    added.add_argument("folder", type=Path, metavar="DIR", help="folder of backups, created if it is missing")
    text = "remove all but the newest N backups of the folder afterwards (default: 7)"
    added.add_argument("--keep", type=_count, default=7, metavar="N", help=text)
    text = "also read the contents that DIR has already, and replace damaged ones; slow"
    added.add_argument("--verify-hashes", action="store_true", help=text)
    text = "bring back what a backup holds: the database, and the files of its artifacts"
    added = stored(command(commands, "restore", _restore, text, epilogs.RESTORE))
    added.add_argument("folder", type=Path, metavar="DIR", help="folder of backups")
    text = "this one, like 2026-11-30T06.41.09Z (default: the newest)"
    added.add_argument("--backup", metavar="NAME", help=text)
    text = "replace the database, even if it is not empty, and add the files to those that are there"
    choice = added.add_mutually_exclusive_group()
    choice.add_argument("--replace", action="store_true", help=text)
    text = "only put back missing files of artifacts that the database has; no row is changed"
    choice.add_argument("--files-only", action="store_true", help=text)


def _count(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return int(text)


def _config(options: argparse.Namespace) -> Config:
    if options.data is None:
        return settings.load(options.config)
    return up.settings(options.data.absolute(), options.config, {})


def _backup(options: argparse.Namespace) -> None:
    from server.commands.backup.making import make  # imported late: no other command needs it

    use_running_server(options)
    loaded = _config(options)
    with Database(options) as dsn:
        made = make(dsn, loaded, Backups(options.folder), options.keep, options.verify_hashes)
    rows, files, parts = made.manifest.rows, made.manifest.files, made.manifest.parts
    dump = sum(part.bytes for part in parts.values())
    print(f"backup {made.name} in {options.folder}")
    print(
        f"  {rows.suite_runs:,} runs, {rows.test_case_results:,} results, {rows.test_step_results:,} steps "
        f"and {rows.test_artifacts:,} artifacts: {dump:,} bytes"
    )
    print(f"  {files.contents:,} different files: {files.bytes:,} bytes")
    print(f"  {files.new:,} of them new: {files.new_bytes:,} bytes, {files.linked:,} as hard links")
    for name in made.removed:
        print(f"removed {name}")
    if files.missing:
        paths = "".join(f"\n  {printable(path)}" for path in made.missing)
        more = "\n  …" if files.missing > len(made.missing) else ""
        print(
            f"reportd: {files.missing} artifacts have no intact file: see `reportd check`{paths}{more}", file=sys.stderr
        )


def _restore(options: argparse.Namespace) -> int:
    from server.commands.backup.restoring import restore, restore_files, target

    use_running_server(options)
    loaded = _config(options)
    backups = Backups(options.folder)
    backups.choose(options.backup)  # before a PostgreSQL is made
    with target(options, loaded) as dsn:
        if options.files_only:
            done = restore_files(dsn, loaded, backups, options.backup)
        else:
            done = restore(dsn, loaded, backups, options.backup, options.replace, options.data is not None)
        if options.data is not None and run(first_access.forget_another_password(options.data, dsn)):
            print(f"removed {options.data / first_access.PASSWORD}: admin has another password in the backup")
    placed, missing = done.placed, done.manifest.files.missing
    print(f"restored {done.name}, taken at {done.manifest.taken_at:%Y-%m-%d %H:%M:%S} UTC")
    print(f"  files: {placed.kept:,} were there, {placed.linked:,} linked, {placed.copied:,} copied")
    if options.files_only and done.lost:
        print(f"  {done.lost:,} artifacts have no intact file: they came after the backup, or had none in it")
    elif missing:
        print(f"  {missing:,} artifacts had no intact file when the backup was made")
    if newer := done.checked["findings"].get("file_without_row"):
        print(f"  {newer:,} files are not of the backup. `reportd check --repair --grace 0s` would remove them")
    for path in placed.named:
        print(f"reportd: the backup has lost the file of {printable(path)}", file=sys.stderr)
    if done.is_whole:
        print("Everything that the backup has is there.")
        return 0
    print("reportd: The restored database misses files, or the check is incomplete: see above.", file=sys.stderr)
    return 1
