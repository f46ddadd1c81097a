"""`reportd-send check`: which server and token are used, and what they allow."""

from __future__ import annotations

import argparse
import os
import sys
import time
from email.utils import parsedate_to_datetime
from typing import Any

from reportd_client.commands.terminal import UNREACHED, say
from reportd_client.receipt import EXIT
from reportd_client.sender.connections import Fatal
from reportd_client.sender.http import Answer, Patience, Server, Stopped
from reportd_client.settings import SettingsError, base_url, token_of


def add(commands: Any) -> None:
    """Add the command to the parser."""
    check = commands.add_parser("check", help="say which server and token are used, and what they allow")
    check.set_defaults(work=_check)


def _check(options: argparse.Namespace) -> int:
    url = os.environ.get("REPORTD_URL", "").strip()
    if not url:
        raise SettingsError("Set REPORTD_URL to the address of the server")
    token = token_of(os.environ)
    print(f"Server: {base_url(url)}")
    print(f"Token: {f'{token[:8]}…' if token else 'none: set REPORTD_TOKEN or REPORTD_TOKEN_FILE'}")
    patience = Patience(UNREACHED)
    patience.drain()
    server = Server(base_url(url), token, patience, say)
    try:
        answer = server.call("GET", "/suite-runs?limit=1")
        print("Access: the token is accepted" if answer.status == 200 else f"Access: {answer.text()}")
        _show_limits(server.call("GET", "/limits"))
        _show_clock(answer)
    except Stopped:
        print(server.last_problem, file=sys.stderr)
        return EXIT.NOT_SENT
    except Fatal as error:
        print(error, file=sys.stderr)
        return error.code
    return 0 if answer.status == 200 else EXIT.NOT_SENT


def _show_limits(answer: Answer) -> None:
    if answer.status != 200:
        print("Limits: the server is older than this client, and does not say them")
        return
    for name, value in sorted(answer.value.items()):
        print(f"{name}: {', '.join(map(str, value)) if isinstance(value, list) else value}")


def _show_clock(answer: Answer) -> None:
    try:
        difference = time.time() - parsedate_to_datetime(answer.headers.get("Date", "")).timestamp()
    except (TypeError, ValueError):
        return
    print(f"Clock: {abs(difference):.0f} s {'ahead of' if difference > 0 else 'behind'} the server's")
