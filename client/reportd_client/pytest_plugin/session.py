"""The session: the controller makes the run and waits for the sender; it and the workers of xdist record tests."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Mapping, Optional

import pytest

from reportd_client.mask import Masks
from reportd_client.notes import Notes, harmless
from reportd_client.pytest_plugin import setting
from reportd_client.pytest_plugin.attempts import Attempts
from reportd_client.pytest_plugin.options import Options
from reportd_client.receipt import sentence
from reportd_client.runs import Recorder, Run, make_run
from reportd_client.spool import SpoolError

_SHOWN = 5


class Controller:
    """In the process that the user started. With xdist it records no tests itself."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self.said: list[str] = []
        self.notes = Notes(say=self.said.append)
        self._run: Optional[Run] = None
        self._expected: Optional[int] = None
        self._collection_failed = False
        self._strict = bool(setting(config, "strict"))
        self._printed = False

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionstart(self, session: pytest.Session) -> None:
        run = self._open()
        if run.recorder.on:
            attempts = Attempts(run.recorder, Options.of(self._config))
            self._config.pluginmanager.register(attempts, "reportd-attempts")

    def _open(self) -> Run:
        """The run, which is made when it is first needed."""
        if self._run is None:
            arguments = {name: setting(self._config, name) for name in ("name", "run_key", "shard", "spool", "drain")}
            arguments["spool"] = arguments["spool"] or os.environ.get("REPORTD_SPOOL") or _default_spool(self._config)
            arguments["url"] = setting(self._config, "url") or None
            arguments["tags"] = setting(self._config, "tag")
            self._run = make_run(self.notes, metadata={"pytest": pytest.__version__}, **arguments)
            self._run.open()
            self._strict = self._strict or self._run.settings.strict
            self.notes.strict = False  # a wrong argument must not fail a test, the summary names it
        return self._run

    # --- xdist ---

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        run = self._open()
        if run.spool is not None:
            node.workerinput["reportd"] = {
                "folder": str(run.spool.folder),
                "mask": run.settings.mask,
                "options": vars(Options.of(self._config)),
            }

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, node: Any, ids: list[str]) -> None:
        self._expect(len(set(ids)))

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any, error: object) -> None:
        for text in getattr(node, "workeroutput", {}).get("reportd", ()):
            self.notes.problem(text, text)

    @pytest.hookimpl(optionalhook=True)
    def pytest_handlecrashitem(self, crashitem: str, report: Any, sched: Any) -> None:
        """A worker died during this test: what it wrote of it is kept, and gets this verdict."""
        test = {"status": "Failed", "error_type": "WorkerCrashed", "error_message": str(report.longrepr)}
        self._open().recorder.append({"kind": "crash", "test_id": crashitem, "test": test}, verdict=True)

    # --- the session ---

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        if not self._config.pluginmanager.hasplugin("dsession"):  # with xdist the workers collect
            self._expect(len(session.items))

    def _expect(self, tests: int) -> None:
        if tests != self._expected:  # all workers say the same
            self._expected = tests
            self._open().expect(tests)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self._collection_failed = True
            self._open().add_error(f"{report.nodeid or 'collection'}: {report.longreprtext}")

    def pytest_keyboard_interrupt(self, excinfo: pytest.ExceptionInfo[BaseException]) -> None:
        self._open().add_metadata(interrupted=excinfo.typename)
        is_well = getattr(excinfo.value, "returncode", None) == 0  # as pytest.exit() may say
        is_said = isinstance(excinfo.value, pytest.Session.Interrupted) and self._collection_failed
        if not is_well and not is_said:
            self._open().add_error(f"Interrupted: {str(excinfo.value) or excinfo.typename}")

    def pytest_internalerror(self, excrepr: object) -> None:
        self._open().add_metadata(internal_error=str(excrepr)[-4000:])
        self._open().add_error(f"Internal error: {(str(excrepr).strip().splitlines() or ['?'])[-1]}")

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        self._close()
        if self._strict and session.exitstatus == 0 and not self._complete():
            session.exitstatus = 1

    @harmless
    def _close(self) -> None:
        run = self._run
        if run is not None and run.receipt is None:
            if self._expected is not None and run.shard is None:
                run.add_metadata(expected_tests=self._expected)
            run.close()

    def _complete(self) -> bool:
        receipt = self._run.receipt if self._run is not None else None
        return receipt is not None and receipt.complete

    def pytest_unconfigure(self) -> None:
        """After an internal error pytest prints no summary."""
        self._close()
        terminal = self._config.pluginmanager.get_plugin("terminalreporter")
        if terminal is not None and not self._printed:
            self.pytest_terminal_summary(terminal)

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        self._printed = True
        receipt = self._run.receipt if self._run is not None else None
        lines = list(self.said)
        if receipt is not None and receipt.run_id is not None:
            lines.append(sentence(receipt))
        if receipt is not None:
            lines += [*receipt.notes, *(f"refused: {text}" for text in receipt.refused[:_SHOWN])]
        for line in lines:
            terminalreporter.write_line(f"reportd: {line}")


class Worker:
    """In a worker process of xdist."""

    def __init__(self, config: pytest.Config, given: Mapping[str, Any]) -> None:
        self._config = config
        self._said: list[str] = []
        notes = Notes(say=self._said.append)
        try:
            recorder = Recorder.join(Path(given["folder"]), notes, Masks(given["mask"]))
        except SpoolError as error:
            notes.problem("spool", f"A worker on another machine cannot write to the spool: {error}")
            return
        config.pluginmanager.register(Attempts(recorder, Options(**given["options"])), "reportd-attempts")

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self) -> None:
        output = getattr(self._config, "workeroutput", None)
        if output is not None and self._said:
            output["reportd"] = self._said


def _default_spool(config: pytest.Config) -> str:
    """Below pytest's cache folder, which projects already ignore; else in the root folder."""
    cache = getattr(config, "cache", None)
    folder = getattr(cache, "_cachedir", None) or config.rootpath
    return str(Path(folder) / ".reportd-spool")
