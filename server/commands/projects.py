"""`reportd project`: lists projects and sets their main branch."""

import argparse
from collections.abc import Callable
from typing import Any

from server.commands.console import Refused, in_transaction, minute, piped, with_database
from server.database.queries import SQL
from server.observe.audit import operator
from server.observe.log import visible
from server.reports import projects


def add_commands(commands: Any, command: Callable[..., Any], stored: Callable[[Any], Any]) -> None:
    """Adds `project` to the parsers of `reportd`."""
    text = "list projects and set their main branch"
    added = commands.add_parser("project", help=text, description=f"{text[0].upper()}{text[1:]}.")
    parsers = added.add_subparsers(required=True, metavar="COMMAND", title="commands")
    stored(command(parsers, "list", _project_list, "list all projects"))
    text = "set the branch that runs and results of a project are compared with"
    one = stored(command(parsers, "set-main-branch", _project_set_main_branch, text))
    one.add_argument("project", metavar="NAME", help="see `reportd project list`")
    one.add_argument("branch", metavar="BRANCH", type=_branch, help="as clients send it in `branch` of a run")


def _project_list(options: argparse.Namespace) -> None:
    rows = with_database(options, lambda connection: connection.fetch(SQL.projects.all))
    with piped():
        print(f"{'ID':36}  {'NAME':20}  {'CREATED':16}  MAIN BRANCH")
        for row in rows:
            name, branch = visible(row["name"]), visible(row["main_branch"])
            print(row["id"], f"{name:20}", f"{minute(row['created_at']):16}", branch, sep="  ")


def _project_set_main_branch(options: argparse.Namespace) -> None:
    async def work(connection: Any) -> None:
        if not await projects.set_main_branch(connection, options.project, options.branch, operator()):
            raise Refused(f"No project has the name {options.project}. See `reportd project list`.")

    in_transaction(options, work)
    print(f"the main branch of {visible(options.project)} is {visible(options.branch)}")


def _branch(text: str) -> str:
    if not 1 <= len(text) <= 500 or not text.isprintable():
        raise argparse.ArgumentTypeError("must be 1 to 500 printable characters")
    return text
