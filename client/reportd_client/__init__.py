"""Sends test results to a reportd server. Recording appends to files; a process of its own sends them.

    import reportd_client as reportd

    with reportd.run(name="nightly") as run:
        with run.test("login works") as test, test.step("Open the login page"):
            ...

Address, token and all other settings come from the environment: REPORTD_URL, REPORTD_TOKEN, ….
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from reportd_client.version import VERSION as __version__

if TYPE_CHECKING:
    from reportd_client.api import attach, current_test, run, screenshot
    from reportd_client.notes import ReportdWarning
    from reportd_client.receipt import Receipt
    from reportd_client.runs import Run
    from reportd_client.settings import SettingsError
    from reportd_client.steps import Step
    from reportd_client.steps import Step as step
    from reportd_client.tests import Test

_HOMES = {
    **dict.fromkeys(("attach", "current_test", "run", "screenshot"), "api"),
    **{"ReportdWarning": "notes", "Receipt": "receipt", "Run": "runs", "SettingsError": "settings"},
    **{"Step": "steps", "step": "steps", "Test": "tests"},
}


def __getattr__(name: str) -> Any:
    """Modules are imported when they are first used: every start of pytest imports this package."""
    import sys

    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = f"{__name__}.{_HOMES[name]}"
    __import__(home)
    return getattr(sys.modules[home], "Step" if name == "step" else name)


__all__ = [
    "Receipt",
    "ReportdWarning",
    "Run",
    "SettingsError",
    "Step",
    "Test",
    "__version__",
    "attach",
    "current_test",
    "run",
    "screenshot",
    "step",
]
