"""The pytest plugin. This module only adds the options: without `--reportd` or REPORTD_URL nothing else is imported."""

from __future__ import annotations

import argparse
import os
from typing import Any

import pytest

_WHEN = ("failed", "all", "off")
# Name, default, help. Each is `--reportd-<name>` and, in a configuration file, `reportd_<name>`.
_OPTIONS = (
    ("name", None, "name of the run"),
    ("run-key", None, "key under which parallel jobs of one build meet in one run"),
    ("shard", None, "which part of the run this is, such as 2/5 (from the CI)"),
    ("spool", None, "folder in which the run is written down before it is sent (in pytest's cache folder)"),
    ("drain", None, "seconds to wait at the end until everything is sent (30)"),
    ("screenshots", "failed", "take a screenshot of open browsers: failed, all, off (failed)"),
    ("network", "all", "requests of browsers: failed, all, off (all)"),
    ("output", "all", "captured stdout and stderr: failed, all, off (all)"),
    ("log-level", "INFO", "lowest level of log records (INFO)"),
)


def _address(text: str) -> str:
    if text and "://" not in text:
        raise argparse.ArgumentTypeError(f"{text!r} is no address: write --reportd=URL, or --reportd at the end")
    return text


def _shard(text: str) -> str:
    from reportd_client import settings  # here, because pytest starts without the client

    try:
        return settings.shard_of(text)
    except settings.SettingsError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("reportd", "reportd (test reports)")
    group.addoption(
        "--reportd",
        dest="reportd_url",
        nargs="?",
        const="",
        default=None,
        type=_address,
        metavar="URL",
        help="send a report to this server, or to that of REPORTD_URL or of the configuration file",
    )
    parser.addini("reportd_url", "address of the reportd server", default=None)
    for name, _, text in _OPTIONS:
        dest = f"reportd_{name.replace('-', '_')}"
        choices = _WHEN if "failed, all, off" in text else None
        kind = _shard if name == "shard" else str
        group.addoption(f"--reportd-{name}", dest=dest, default=None, type=kind, choices=choices, help=text)
        parser.addini(dest, text, default=None)
    group.addoption(
        "--reportd-tag", dest="reportd_tag", action="append", default=None, metavar="TAG", help="tag of the run"
    )
    parser.addini("reportd_tag", "tags of the run", type="linelist", default=None)
    group.addoption(
        "--reportd-strict",
        dest="reportd_strict",
        action="store_true",
        default=None,
        help="exit code 1 when the tests passed and the report is not complete",
    )
    parser.addini("reportd_strict", "exit code 1 when the report is not complete", type="bool", default=None)


def setting(config: pytest.Config, name: str) -> Any:
    """An option, else the value of the configuration file, else the default."""
    value = config.getoption(f"reportd_{name}", None)
    if value is None:
        try:
            value = config.getini(f"reportd_{name}")
        except (KeyError, ValueError):
            value = None
    if value in (None, "", []):
        value = {option.replace("-", "_"): default for option, default, _ in _OPTIONS}.get(name)
    return value


def pytest_configure(config: pytest.Config) -> None:
    worker = getattr(config, "workerinput", None)
    if worker is not None:
        if "reportd" in worker:
            from reportd_client.pytest_plugin.session import Worker

            config.pluginmanager.register(Worker(config, worker["reportd"]), "reportd-worker")
    elif _asked_for(config) and not config.getoption("collectonly", False):
        from reportd_client.pytest_plugin.session import Controller

        config.pluginmanager.register(Controller(config), "reportd-controller")


def _asked_for(config: pytest.Config) -> bool:
    return config.getoption("reportd_url", None) is not None or bool(os.environ.get("REPORTD_URL", "").strip())
