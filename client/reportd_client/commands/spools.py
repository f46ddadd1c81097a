"""`reportd-send resume` and `reportd-send status`: what is left in spools."""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path
from typing import Any

from reportd_client import limits
from reportd_client.commands.terminal import UNREACHED, Progress, say
from reportd_client.receipt import exit_code, show
from reportd_client.runs import DEFAULT_SPOOL
from reportd_client.sender.http import Patience
from reportd_client.sender.main import send
from reportd_client.settings import base_url, token_of
from reportd_client.spool import Spool, SpoolError, spools_in


def add(commands: Any) -> None:
    """Add the commands to the parser."""
    resume = commands.add_parser("resume", help="send what an interrupted or unreachable run has left in its spool")
    resume.add_argument("folders", nargs="*", type=Path, default=[Path(DEFAULT_SPOOL)], metavar="DIR")
    resume.add_argument("--timeout", type=float, default=600, metavar="SECONDS", help="give up after so long (600)")
    resume.add_argument("--keep", action="store_true", help="keep the spool when everything is sent")
    resume.set_defaults(work=_resume)
    status = commands.add_parser("status", help="list spools that are not sent")
    status.add_argument("folders", nargs="*", type=Path, default=[Path(DEFAULT_SPOOL)], metavar="DIR")
    status.set_defaults(work=_status)


def _resume(options: argparse.Namespace) -> int:
    folders = [folder for root in options.folders for folder in spools_in(root)]
    missing = [root for root in options.folders if not root.exists() and root != Path(DEFAULT_SPOOL)]
    for root in missing:
        print(f"{root}: there is no such folder. If it was a spool, it has been sent")
    if not folders:
        print("Nothing to send")
        return 0
    given = os.environ.get("REPORTD_URL", "").strip()
    url, token = base_url(given) if given else None, token_of(os.environ)
    codes = []
    for folder in folders:
        patience = Patience(options.timeout, unreached=min(UNREACHED, options.timeout))
        with Progress() as progress:
            progress.follow(folder)
            receipt = send(folder, token, patience, url=url, ended=True, keep=options.keep, say=say)
        show(receipt)
        codes.append(exit_code(receipt))
    return max(codes)


def _status(options: argparse.Namespace) -> int:
    folders = [folder for root in options.folders for folder in spools_in(root)]
    for folder in folders:
        try:
            about = Spool.open(folder).about
        except SpoolError as error:
            print(error)
            continue
        age = (time.time() * 1000 - about["created_at"]) / 86_400_000
        old = f", older than {limits.OLD_SPOOL_DAYS} days" if age > limits.OLD_SPOOL_DAYS else ""
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        print(f"{folder}: {about['run'].get('name')}, {size / 1e6:.1f} MB, {age:.1f} days old{old}")
    if not folders:
        print("Nothing is left to send")
    return 0
