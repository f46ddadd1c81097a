"""One attempt of a test in a report log: from its phases to what the pytest plugin would have made of it."""

from __future__ import annotations

import re
from typing import Any, Iterator

from reportd_client import limits
from reportd_client.formats import output, tree
from reportd_client.formats.files import file_of
from reportd_client.formats.junit_case import shortened
from reportd_client.formats.report_log_phase import Phase, Section, location, tags, times, title
from reportd_client.formats.result import Result, Source, Told, plain
from reportd_client.texts import artifact_type_of, cut

_CRASH = "???"
_PHASES = ("setup", "call", "teardown")
_SHORT_PHASE, _SMALL_SHARE = 0.1, 0.1  # seconds, and share of the whole test, as of the plugin
_FILES = ("screenshot", "trace", "video")
_CAPTURED = re.compile(r"Captured (.+?)(?: (?:setup|call|teardown))?\Z")


class Attempt:
    """`before`: fingerprints of the sections of the attempt before, which come again with this one."""

    def __init__(self, source: Source, node_id: str, copy: int, before: list[int]) -> None:
        self._source, self._node_id, self._copy, self._before = source, node_id, copy, before
        self._phases: dict[str, Phase] = {}
        self._sections: list[Section] = []
        self._tags: list[str] = []
        self._location = ""
        self._subtests: list[tree.Node] = []
        self._failed_subtests = 0
        self.size = 0  # characters that are kept

    @property
    def has_begun(self) -> bool:
        return bool(self._phases or self._subtests)

    def take(self, report: dict[str, Any]) -> None:
        """The report of a phase or of a subtest."""
        phase, context = Phase.of(report), report.get("_subtest.context")
        if isinstance(context, dict):
            self._take_subtest(phase, title(context))
            return
        self._phases[phase.when] = phase
        self._tags = self._tags or tags(report.get("keywords"), self._node_id)
        self._location = self._location or location(report.get("location"))
        if phase.when != _CRASH:  # sections come again with each phase
            self._sections, phase.sections = phase.sections, []
            self.size = sum(len(text) for _, text in self._sections)

    def _take_subtest(self, phase: Phase, name: str) -> None:
        self._failed_subtests += phase.failed
        if len(self._subtests) < limits.MAX_STEPS:
            fields = phase.step()
            if phase.failed:
                fields.update(error_type=None, error_message=phase.crash or fields.get("error_message"))
            if self.size > limits.MAX_TEST_BYTES:  # of steps that would not be kept
                fields.update(error_message=cut(fields.get("error_message") or "", 1_000) or None, stack_trace=None)
            self.size += len(fields.get("stack_trace") or "") + len(fields.get("error_message") or "")
            self._subtests.append(tree.Node(name, {"step_type": "subtest", **fields}))

    @property
    def fingerprints(self) -> list[int]:
        return [hash(section) for section in self._sections]

    # --- the result ---

    def result(self, is_whole: bool) -> Result:
        metadata: dict[str, Any] = {"location": self._location}
        name, identity = (plain(text) for text in (self._node_id.partition("::")[2], self._node_id))
        if self._copy > 1:
            name, identity = (f"{cut(text, 480)} #{self._copy}" for text in (name, shortened(identity)))
        test: dict[str, Any] = {"name": cut(name or identity, 500) or "?", "test_id": shortened(identity) or "?"}
        test.update(**self._verdict(metadata, is_whole), **self._time(), tags=self._tags)
        result = Result(test)
        self._add_properties(result, metadata)
        tree.place(result, self._steps())
        tree.place_screenshots(result)
        self._add_output(result)
        test["metadata"] = {key: value for key, value in metadata.items() if value}
        result.test = {key: value for key, value in test.items() if value not in (None, "", [], {})}
        result.told = Told(result.test.get("started_at"))
        return result

    def _verdict(self, metadata: dict[str, Any], is_whole: bool) -> dict[str, Any]:
        for phase in self._in_order():
            if phase.failed and phase.when == _CRASH:
                return {"status": "Failed", **phase.error, "error_type": "WorkerCrashed", "stack_trace": None}
            if phase.failed:
                metadata["phase"] = phase.when if phase.when != "call" else ""
                return {"status": "Failed", **(phase.error or {"error_message": "Failed"})}
        if self._failed_subtests:
            count = self._failed_subtests
            text = f"contains {count} failed subtest{'s' if count > 1 else ''}"
            return {"status": "Failed", "error_message": text}
        for phase in self._in_order():
            if phase.outcome == "skipped" or phase.expected is not None:
                return skipped(phase, metadata)
        if "call" not in self._phases:
            text = "The session ended before the test" if is_whole else "The test did not finish"
            return {"status": "Pending", "error_message": text}
        return {"status": "Passed"}

    def _in_order(self) -> list[Phase]:
        return [self._phases[name] for name in (*_PHASES, _CRASH) if name in self._phases]

    def _time(self) -> dict[str, Any]:
        """From the beginning of the setup to the end of the teardown."""
        phases = self._in_order()
        start = next((phase.start for phase in phases if phase.start is not None), None)
        stop = next((phase.stop for phase in reversed(phases) if phase.stop is not None), None)
        if start is not None and stop is not None:
            return times(start, stop, max(0.0, stop - start))
        return times(start, stop, sum(phase.seconds or 0 for phase in phases) if phases else None)

    def _steps(self) -> Iterator[tree.Node]:
        """The subtests, between a setup and a teardown that failed or took long."""
        whole = sum(phase.seconds or 0 for phase in self._phases.values())
        long = max(_SHORT_PHASE, _SMALL_SHARE * whole)
        steps = {
            phase.when: tree.Node(phase.when, {"step_type": "group", **phase.step()})
            for phase in self._phases.values()
            if phase.failed or (phase.seconds or 0) >= long
        }
        yield from [steps["setup"]] if "setup" in steps else []
        yield from self._subtests
        yield from [steps["teardown"]] if "teardown" in steps else []

    def _add_properties(self, result: Result, metadata: dict[str, Any]) -> None:
        """record_property: values into the metadata, and files that tools named in this way."""
        for phase in self._in_order()[-1:]:
            metadata["properties"] = phase.properties
            for name, value in phase.properties.items():
                if name.lower().endswith(_FILES) and 0 < len(value) < 1_000:
                    kind = {"artifact_type": artifact_type_of(value)}
                    file = file_of(self._source.path, value, kind, self._source.files)
                    result.files += [file] if file.path is not None else []  # else a text, as for the plugin

    def _add_output(self, result: Result) -> None:
        repeated = len(self._before) if self.fingerprints[: len(self._before)] == self._before else 0
        texts: list[output.Output] = []
        for name, text in self._sections[repeated:]:
            found = _CAPTURED.match(name)
            where = found[1] if found else name
            if where == "log":
                result.console_logs += output.records(plain(text), limits.MAX_CONSOLE - len(result.console_logs))
            elif text:
                texts.append(("warning" if where == "stderr" else "info", where, plain(text)))
        output.add(result, texts)


def skipped(phase: Phase, metadata: dict[str, Any]) -> dict[str, Any]:
    """The verdict of a phase that was skipped, or expected to fail."""
    if phase.expected is None:
        return {"status": "Skipped", "error_message": phase.reason}
    metadata["outcome"] = "xpassed" if phase.outcome == "passed" else "xfailed"
    if phase.outcome == "passed":
        return {"status": "Passed"}
    if phase.error:
        metadata["expected_error"] = cut(f"{phase.error['error_type']}: {phase.error['error_message']}", 2_000)
    return {"status": "Skipped", "error_message": phase.expected}


def collected(report: dict[str, Any]) -> Result:
    """A file whose tests could not be collected, or that skips itself: a test with its name, as in pytest's JUnit."""
    metadata: dict[str, Any] = {"phase": "collection"}
    name, phase = plain(str(report.get("nodeid") or "collection")), Phase.of(report)
    verdict = {"status": "Failed", **phase.error} if phase.failed else skipped(phase, metadata)
    test = {"name": cut(name, 500), "test_id": shortened(name), **verdict, "metadata": metadata}
    return Result({key: value for key, value in test.items() if value not in (None, "")}, told=Told())
