"""`reportd webhook`: lists the configured webhooks with what became of their events, and sends a test."""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from server.commands import epilogs, settings
from server.commands.console import Refused, minute, piped, run, with_database
from server.database.queries import SQL
from server.hooks import WebhookConfig
from server.ids import new_id
from server.observe.log import visible
from server.reports import webhooks
from server.webhooks.events import body, ping
from server.webhooks.send import Answer, Target


def add_commands(commands: Any, command: Callable[..., Any], stored: Callable[[Any], Any]) -> None:
    """Adds `webhook` to the parsers of `reportd`."""
    text = "list webhooks and send a test to them"
    added = commands.add_parser("webhook", help=text, description=f"{text[0].upper()}{text[1:]}.")
    several = added.add_subparsers(required=True, metavar="COMMAND", title="commands")
    stored(command(several, "list", _list, "list the configured webhooks, what waits for them, and their last answers"))
    text = "send a test event from this machine, at once, and print the answer"
    one = command(several, "test", _test, text, epilogs.TEST_WEBHOOK)
    one.add_argument("name", metavar="NAME", nargs="?", help="see `reportd webhook list` (default: all)")
    text = "TOML file with the configuration"
    one.add_argument("--config", type=Path, metavar="FILE", help=text)


def _list(options: argparse.Namespace) -> None:
    hooks = _configured(options)

    async def work(connection: Any) -> tuple[Any, ...]:
        names = [hook.name for hook in hooks]
        waiting, last = await webhooks.waiting(connection, names), await webhooks.latest(connection, names, 1)
        projects = {row["name"] for row in await connection.fetch(SQL.projects.all)}
        return waiting, {each.webhook: each for each in last}, projects

    waiting, last, projects = with_database(options, work)
    with piped():
        for hook in hooks:
            missing = "" if not hook.project or hook.project in projects else " (no such project yet)"
            print(f"{hook.name}: {hook.target}, {hook.format}, {visible(hook.project) or 'all projects'}{missing}")
            print(f"  {', '.join(hook.events)}; {waiting[hook.name]} waiting")
            if (each := last.get(hook.name)) is not None:
                tried = minute(each.attempted_at) if each.attempted_at else "not tried yet"
                print(f"  last: {each.event}, {each.state}, {tried}: {each.status or ''} {visible(each.answer or '')}")


def _test(options: argparse.Namespace) -> None:
    hooks = _configured(options)
    chosen = [hook for hook in hooks if options.name in (None, hook.name)]
    if not chosen:
        raise Refused(f"No webhook has the name {options.name}. There are: {', '.join(hook.name for hook in hooks)}.")
    answers = run(_send(chosen))
    for hook, answer in zip(chosen, answers, strict=True):
        print(f"{hook.name}: {answer.status or 'no reply'}", answer.text)
    if not all(answer.delivered for answer in answers):
        raise Refused("A test was not delivered: the reply must be 2xx.")


async def _send(hooks: Sequence[WebhookConfig]) -> list[Answer]:
    answers = []
    for hook in hooks:
        target = Target(hook)
        answers.append(await target.send(new_id(0), body(ping(hook.name), hook)))
        target.close()
    return answers


def _configured(options: argparse.Namespace) -> list[WebhookConfig]:
    hooks = settings.load(options.config).webhooks
    if not hooks:
        raise Refused("The configuration has no [[webhooks]]. Name its file with --config.")
    return hooks
