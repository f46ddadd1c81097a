"""`reportd open` and `reportd import`: a run that was downloaded as a zip."""

import argparse
from pathlib import Path
from typing import Any

from server.commands import epilogs
from server.commands.console import short_name


def add_commands(commands: Any, command: Any, stored: Any) -> None:
    """Add `open` and `import` to the parser; `command` and `stored` are those of main.py."""
    text = "look at a downloaded run in a browser, without a server or a database"
    added = command(commands, "open", _open, text, epilogs.OPEN)
    added.add_argument("archive", type=Path, metavar="ZIP", help="as a run's page or GET …/archive gives it")
    text = "port to listen on, on 127.0.0.1 alone (default: any that is free)"
    added.add_argument("--port", type=int, default=0, help=text)
    text = "store the run of a downloaded zip, under the ids that it has"
    added = stored(command(commands, "import", _import, text, epilogs.IMPORT))
    added.add_argument("archive", type=Path, metavar="ZIP", help="as a run's page or GET …/archive gives it")
    text = "into this project, which is created if there is none (default: the project that the run was in)"
    added.add_argument("--project", type=short_name, metavar="NAME", help=text)


def _open(options: argparse.Namespace) -> None:
    from server.commands.archive_work import open_archive  # imported late: other commands need no zip

    open_archive(options)


def _import(options: argparse.Namespace) -> None:
    from server.commands.archive_work import import_archive

    import_archive(options)
