"""`reportd demo`: fills a running server with four weeks of a shop's test reports."""

import argparse
import asyncio
import os
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic
from typing import Any
from urllib.parse import quote

from server.commands import console, up, verify
from server.commands.console import Refused
from server.commands.demo import draw, send, story
from server.commands.demo.client import BASE, Client, runs_tagged
from server.database.queries import SQL
from server.ids import new_id

TOKEN_VARIABLE = "REPORTD_TOKEN"  # noqa: S105 - the name of a variable
Found = list[dict[str, Any]]


@dataclass(frozen=True)
class Target:
    """A server. `storage` is its storage folder if that is known and on this machine."""

    url: str
    token: str
    storage: Path | None = None


def demo(options: argparse.Namespace) -> None:
    target = find_server(options)
    console.run(_demo(options, target))


def find_server(options: argparse.Namespace) -> Target:
    """The server that the options name. Creates the demo's projects in the database of a `reportd up`, because no
    request can. Raises Refused."""
    token = _token(options.token_file)
    if options.url is not None:
        if token is None:  # another server must never be sent the admin token of the one here
            raise Refused(f"Name a file with a token of the server with --token-file, or set {TOKEN_VARIABLE}.")
        try:
            return Target(verify.server_address(options.url), token)
        except verify.CannotContinue as error:
            raise Refused(str(error)) from None
    data = (options.data or up.DEFAULT_DATA).absolute()
    server = up.server_of(data)
    if server is None:
        where = "this directory" if options.data is None else options.data
        raise Refused(f"No `reportd up` serves in {where}. Start it, or name the server with --url and --token-file.")
    token = token or server[1]
    if token is None:
        raise Refused(f"{data} has no admin-token file. Name a file with a token of the server with --token-file.")
    options.data = data
    if not options.remove:
        console.with_database(options, _create_projects)
    return Target(server[0], token, Path(up.settings(data, options.config, {}).artifacts.storage_path))


async def _create_projects(connection: Any) -> None:
    for name in story.PROJECTS:
        await connection.fetchval(SQL.projects.ensure, new_id(0), name)


def _token(file: Path | None) -> str | None:
    if file is None:
        return os.environ.get(TOKEN_VARIABLE) or None
    try:
        token = file.read_text("ascii").strip()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise Refused(f"Cannot read the token in {file}: {reason}.") from None
    if not token.isprintable() or not token:
        raise Refused(f"{file} holds no token.")
    return token


async def _demo(options: argparse.Namespace, target: Target) -> None:
    async with Client(target.url, target.token) as client:
        one_project = await _check_role(client)
        found = await _runs_of(client, options.seed)
        if options.remove:
            await _remove(client, found)
            print(f"{len(found)} runs of the demo are deleted." if found else "There is no run of this demo.")
            return
        async with draw.drawing() as pictures:
            sender = send.Sender(client, pictures, one_project, target.storage)
            if _complete(found):
                print("The demo is here already; nothing is added. `reportd demo --remove` deletes it.")
            else:
                await _send(client, sender, found, options)
                found = await _runs_of(client, options.seed)
            await _print_addresses(client, found)
            if options.live:
                await _live(client, sender, found, options)


async def _check_role(client: Client) -> bool:
    """Whether the token has one project only. Raises Refused for a token that may only read."""
    identity = await client.get("/api/v1/auth/session")
    try:
        roles = {(grant["role"], grant["project"]) for grant in identity["roles"]}
    except (TypeError, KeyError):
        raise client.stranger() from None
    if all(role == "viewer" for role, _ in roles):
        raise Refused("This token has the role viewer and may only read. The demo needs an uploader's or admin's.")
    return all(project is not None for _, project in roles)


async def _runs_of(client: Client, seed: int) -> Found:
    """The runs of a demo, the newest first."""
    found = await runs_tagged(client, f"demo-{seed}")
    return [run for run in found if (run["run_key"] or "").startswith(f"demo-{seed}-")]


def _complete(found: Found) -> bool:
    return any(run["metadata"].get("demo_complete") for run in found)


async def _remove(client: Client, found: Found) -> None:
    for run in found:
        await client.call("DELETE", f"{BASE}/suite-runs/{run['id']}")


async def _send(client: Client, sender: send.Sender, found: Found, options: argparse.Namespace) -> None:
    if found and not options.restart:
        raise Refused(
            f"An unfinished demo is here ({len(found)} runs): another call is sending it, or was interrupted. "
            "`reportd demo --restart` deletes them and begins again."
        )
    await _remove(client, found)
    began = monotonic()
    runs = story.runs(options.seed, options.days or story.LAST_DAY, options.until or datetime.now(UTC))
    print(f"Sending the demo: {len(runs)} runs, in a minute or two.", file=sys.stderr, flush=True)
    sent = await sender.send(runs, lambda text: print(f"  {text}", file=sys.stderr, flush=True))
    counts = f"{sent.runs} runs, {sent.results:,} results, {sent.steps:,} steps and {sent.files:,} files"
    print(f"The demo is here: {counts}, sent in {monotonic() - began:.0f} seconds.")
    if not sent.removed:
        print("No stored file was removed, because the server's storage folder is not at hand here.")


async def _live(client: Client, sender: send.Sender, found: Found, options: argparse.Namespace) -> None:
    running = [run for run in found if run["status"] == "Running"]
    if not running:
        raise Refused("No run of the demo is running any more. `reportd demo --remove`, then --live again, makes one.")
    print("One result a second is added to the running run, until Ctrl-C.", flush=True)
    try:
        await send.feed(sender, client, running[0]["id"], options.seed, lambda: datetime.now(UTC))
    except asyncio.CancelledError:
        print("The run stays as it is: Running.", flush=True)
        raise


async def _print_addresses(client: Client, found: Found) -> None:
    """The pages worth opening, those that this server has."""
    newest = next((run for run in found if run["name"] == "checkout" and run["branch"] == "main"), None)
    if newest is None:
        return
    listed = await client.get(f"{BASE}/suite-runs/{newest['id']}/test-cases?per_page=500")
    ids = {case["name"]: case["id"] for case in listed["items"] if case["status"] != "Passed"}
    flaky = quote(f"basket/{story.FLAKY.replace(' ', '-')}", safe="")
    running = next((run["id"] for run in found if run["status"] == "Running"), newest["id"])

    def result(name: str, query: str = "") -> str:
        return f"/results/{ids[name]}{query}" if name in ids else ""  # somebody has changed or deleted it

    pages = [
        ("/", "what needs a look"),
        (result(story.FEATURED, "?step=1.16"), "a time-out, and what was different before it; files of every kind"),
        (result(story.AMOUNTS, "?step=3.5"), "a total that differs by one cent, in iteration 3 of 5"),
        (result("imports the catalogue"), "2,000 steps"),
        (result("returns an order"), "a service that answers 503, and a file that is missing on the disk"),
        (f"/runs/{newest['id']}", "the newest run: 9 failed, 4 flaky, a quiet shard"),
        (f"/runs/{running}", "a run that is still running"),
        (f"/compare?base=previous&head={newest['id']}", "what the newest run changed"),
        (f"/tests?project={newest['project']}&id={flaky}", "a flaky test"),
        ("/search?q=teapot", "what is called or has failed like this"),
        (f"/insights?project={newest['project']}&show=selectors", "selectors, one of them changed on day 10"),
    ]
    shown = [(path, text) for path, text in pages if path and await client.status(path) not in (0, 404)]
    if not shown:  # a server without pages
        shown = [(f"{BASE}/suite-runs/{newest['id']}", "the newest run")]
    print("\nWorth opening:\n")
    for path, text in shown:
        print(f"  {client.url}{path}\n      {text}")
    print(flush=True)
