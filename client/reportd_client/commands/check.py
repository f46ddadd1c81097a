"""`reportd-send check`: which server and token are used, on which way, and what they allow. On one screen."""

from __future__ import annotations

import argparse
import os
import time
from email.utils import parsedate_to_datetime
from typing import Any

from reportd_client.commands.terminal import UNREACHED, say
from reportd_client.mask import Masks
from reportd_client.receipt import EXIT
from reportd_client.sender.connections import Fatal, authority, proxy_of
from reportd_client.sender.http import Answer, Patience, Server, Stopped
from reportd_client.settings import SettingsError, base_url, flag, token_of

_NAMED = 12  # file types


def add(commands: Any) -> None:
    """Add the command to the parser."""
    check = commands.add_parser("check", help="say which server and token are used, and what they allow")
    check.set_defaults(work=_check)


def _check(options: argparse.Namespace) -> int:
    given = os.environ.get("REPORTD_URL", "").strip()
    if not given:
        raise SettingsError("Set REPORTD_URL to the address of the server")
    url, token = base_url(given), token_of(os.environ)
    print(f"Server: {url}")
    proxy = proxy_of(url)
    print(f"Proxy: {Masks().url(proxy) if proxy else 'none'}")
    if url.startswith("https:"):
        print(f"Certificates: {_certificates()}")
    print(f"Token: {f'{token[:8]}…' if token else 'none: set REPORTD_TOKEN or REPORTD_TOKEN_FILE'}")
    patience = Patience(UNREACHED)
    patience.drain()
    server = Server(url, token, patience, say)
    try:
        answer = server.call("GET", "/suite-runs?limit=1")
        print("Access: the token is accepted" if answer.status == 200 else f"Access: {answer.text()}")
        _show_limits(server.call("GET", "/limits"))
        _show_clock(answer)
    except Stopped:
        say(server.last_problem)
        return EXIT.NOT_SENT
    except Fatal as error:
        say(str(error))
        return error.code
    return 0 if answer.status == 200 else EXIT.NOT_SENT


def _certificates() -> str:
    if flag("insecure", os.environ):
        return "not checked (REPORTD_INSECURE)"
    name, path = authority()
    return f"{path} ({name})" if path else "those of the system"


def _show_limits(answer: Answer) -> None:
    value = answer.value
    if answer.status != 200:
        print("Limits: the server is older than this client, and does not say them")
        return
    print(f"Name: {value.get('caller') or 'not said'}")
    print(f"Role: {value.get('role')}")
    print(f"Project: {value.get('project') or 'several, or all: name one by REPORTD_PROJECT'}")
    sizes = [_size(value.get(name)) for name in ("max_file_size", "json_body_max")]
    print(f"Limits: {sizes[0]} a file, {value.get('batch_max_files')} files a request, {sizes[1]} of JSON")
    types = [str(each) for each in value.get("allowed_types") or ()]
    more = f" and {len(types) - _NAMED} more" if len(types) > _NAMED else ""
    print(f"File types: {', '.join(types[:_NAMED])}{more}")
    print(f"Version: {value.get('version')}, with {', '.join(map(str, value.get('features') or ['nothing more']))}")


def _size(value: Any) -> str:
    return f"{value / (1 << 20):g} MiB" if isinstance(value, int) else "?"


def _show_clock(answer: Answer) -> None:
    try:
        difference = time.time() - parsedate_to_datetime(answer.headers.get("Date", "")).timestamp()
    except (TypeError, ValueError):
        return
    print(f"Clock: {abs(difference):.0f} s {'ahead of' if difference > 0 else 'behind'} the server's")
