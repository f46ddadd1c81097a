"""Which run a command is about: its id, its key, or the build that the CI says it is in."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any, Optional

from reportd_client import ci
from reportd_client.ci_systems import Build
from reportd_client.commands.questions import Questions
from reportd_client.settings import Settings, SettingsError

_ID = re.compile(r"(?:.*/)?([0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12})/?", re.IGNORECASE)
_LOOKED = 500  # of the newest runs, on a server that does not find a run by its key
_NAMED = 5


def choose(questions: Questions, given: Optional[str], settings: Settings) -> Optional[dict[str, Any]]:
    """The run; None when the server does not have it. `given`: its id, or the address of its page.

    Raises SettingsError when nothing says which run is meant, or several are.
    """
    if given is not None:
        found = _ID.fullmatch(given.strip())
        if found is None:
            raise SettingsError(f"{given!r} is neither the id of a run nor the address of its page")
        return questions.get(f"/suite-runs/{found[1].lower()}")
    build = None if settings.run_key else ci.detect(os.environ, Path.cwd())
    name = settings.name or (build.name if build else None) or Path.cwd().name
    key = settings.run_key or (build.run_key(name) if build else None)
    if key is None:
        raise SettingsError("Outside of a CI, say which run is meant: its id, or --run-key")
    runs = [
        run
        for run in questions.runs(_LOOKED, run_key=key)
        if run["run_key"] == key and settings.project in (None, run["project"])
    ]
    if not runs and build is not None and settings.name is None:
        runs = _of_build(questions, build, settings.project)
    if len(runs) > 1:
        named = ", ".join(f"{run['name']} ({run['project']})" for run in runs[:_NAMED])
        raise SettingsError(f"There are several runs: {named}. Choose one by --name, --project or its id")
    return runs[0] if runs else None


def _of_build(questions: Questions, build: Build, project: Optional[str]) -> list[dict[str, Any]]:
    """The runs of the other jobs of this build: a job that sums up has a name of its own."""
    start = build.run_key("")
    return [
        run
        for run in questions.runs(_LOOKED)
        if start and str(run["run_key"]).startswith(start) and project in (None, run["project"])
    ]
