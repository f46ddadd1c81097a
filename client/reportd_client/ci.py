"""What the environment of a CI job says about the run: branch, commit, address, and what identifies the build."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Mapping

from reportd_client.ci_systems import SYSTEMS, Build, Environment

_GIT_SECONDS = 2.0
_SHA = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")


def detect(values: Mapping[str, str], folder: Path) -> Build | None:
    """What the first CI whose sign is found says, completed by git in `folder`. None: neither CI nor git."""
    env = Environment(values)
    build = next((read(env) for sign, read in SYSTEMS if sign(env)), None)
    if build is not None and build.commit and build.branch:
        return build
    commit, branch = _git(folder)
    if build is None:
        return Build("git", branch, commit) if commit else None
    build.commit, build.branch = build.commit or commit, build.branch or branch
    return build


def _git(folder: Path) -> tuple[str | None, str | None]:
    """Commit and branch of the checkout; None for what it does not say, such as the branch of a detached HEAD."""
    try:
        done = subprocess.run(  # noqa: S603
            ["git", "-C", str(folder), "rev-parse", "HEAD", "--abbrev-ref", "HEAD"],  # noqa: S607
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_GIT_SECONDS,
        )
    except (OSError, subprocess.SubprocessError, ValueError):
        return None, None
    lines = done.stdout.split()
    if done.returncode or len(lines) != 2 or not _SHA.fullmatch(lines[0]):
        return None, None
    return lines[0], None if lines[1] == "HEAD" else lines[1]
