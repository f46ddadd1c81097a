"""`--fail-on incomplete`: whether all of a run that was just sent is on the server."""

from __future__ import annotations

from typing import Optional

from reportd_client.commands.questions import Questions
from reportd_client.commands.summary import Terminal, missing
from reportd_client.commands.terminal import UNREACHED, say
from reportd_client.receipt import EXIT
from reportd_client.sender.connections import Fatal
from reportd_client.sender.http import Patience, Server, Stopped


def missing_of(url: str, token: Optional[str], run_id: str, is_part: bool) -> int:
    """Say what of a run is missing: the exit code.

    `is_part`: others send the rest. Before all of them have finished, only missing files count: nobody knows which
    tests will come.
    """
    patience = Patience(UNREACHED)
    patience.drain()
    server = Server(url, token, patience, say)
    try:
        found = Questions(server).get(f"/suite-runs/{run_id}/completeness")
    except Stopped:
        say(server.last_problem or f"{url} does not answer")
        return EXIT.NOT_SENT
    except Fatal as error:
        say(str(error))
        return error.code
    if found is None:
        say("The server is older than this client: it does not say what is missing")
        return 0
    shards = found["shards"]
    if is_part and shards["finished"] < shards["total"]:
        parts = f"{shards['finished']} of {shards['total']} parts of the run have finished"
        say(f"{parts}: ask later, by reportd-send finish")
        if not found["artifacts_missing"]:
            return 0
    if found["complete"]:
        return 0
    for section in missing(Terminal(), found):
        for line in section.lines():
            say(line)
    return EXIT.REFUSED
