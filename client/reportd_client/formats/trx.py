"""TRX, of `dotnet test --logger trx` and Visual Studio."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Iterator, Optional

from reportd_client.formats import markup, xml_trees
from reportd_client.formats.failure import error_of
from reportd_client.formats.files import file_of
from reportd_client.formats.junit_case import iso, shortened
from reportd_client.formats.output import add_output
from reportd_client.formats.result import Result, Source, Told, Unreadable
from reportd_client.formats.tree import place_screenshots
from reportd_client.formats.values import duration
from reportd_client.formats.xml_trees import Element
from reportd_client.texts import artifact_type_of, cut

NAME = "trx"
MAX_TESTS = 200_000  # whose classes are kept
_WHAT = "TRX file"
_STATUSES = {
    **dict.fromkeys(("Passed", "PassedButRunAborted", "Warning", "Completed"), "Passed"),
    **dict.fromkeys(("Failed", "Error", "Timeout"), "Failed"),
    **dict.fromkeys(("NotExecuted", "NotRunnable"), "Skipped"),
}
_SPAN = re.compile(r"(?:(\d{1,3})\.)?(\d{1,3}):(\d{1,2}):(\d{1,2}(?:\.\d{1,12})?)$")
_OUTPUTS = {"StdOut": "stdout", "StdErr": "stderr", "DebugTrace": "debug"}
_NO_MORE = ("Passed", "Failed", "NotExecuted")  # which says no more than our own statuses


@dataclass
class _Definition:
    of_class: str
    method: str
    tags: list[str]
    metadata: dict[str, str] = field(default_factory=dict)


def looks(head: bytes, path: Path) -> bool:
    """Whether a file that begins with these bytes is of this format."""
    return markup.first_tag(head) == "TestRun"


def read(source: Source) -> Iterator[Result]:
    """The results of a file, one after the other. Raises Unreadable, Empty."""
    definitions = _definitions(source)  # which come after the results
    reader = _Reader(source, definitions)
    wanted = ("UnitTestResult", "Times", "Deployment", "RunInfo")
    found = xml_trees.elements(source, _WHAT, ("TestRun",), wanted, dict.fromkeys(_OUTPUTS, xml_trees.KEPT_OUTPUT))
    yield from xml_trees.results(source, found, reader.results)
    if reader.unknown:
        source.note(f"{source.path} does not say the classes of {reader.unknown:,} tests")


def _definitions(source: Source) -> dict[str, _Definition]:
    found: dict[str, _Definition] = {}
    elements = xml_trees.elements(source, _WHAT, ("TestRun",), ("UnitTest",))
    for count, element in enumerate(elements):
        if element is None:
            break
        if count == MAX_TESTS:
            raise Unreadable(f"{source.path} has more than {MAX_TESTS:,} tests")
        method = next(element.all("TestMethod"), None)
        categories = element.all("TestCategory", "TestCategoryItem")
        metadata = {
            "description": cut(element.value("Description").strip(), 4_000),
            "owner": ", ".join(owner.get("name") for owner in element.all("Owners", "Owner"))[:200],
        }
        found[element.get("id")] = _Definition(
            method.get("className").partition(",")[0] if method is not None else "",  # else the assembly follows
            method.get("name") if method is not None else "",
            [category.get("TestCategory")[:100] for category in categories if category.get("TestCategory")][:50],
            {name: value for name, value in metadata.items() if value},
        )
    return found


class _Reader:
    def __init__(self, source: Source, definitions: dict[str, _Definition]) -> None:
        self._source, self._definitions = source, definitions
        self._folder = ""
        self.unknown = 0

    def results(self, element: Element) -> Iterator[Result]:
        if element.tag == "UnitTestResult":
            yield from self._of_test(element)
        elif element.tag == "Times":
            began = iso(element.get("start") or element.get("creation"))
            self._source.suite.update({"started_at": began} if began else {})
        elif element.tag == "Deployment":
            self._folder = element.get("runDeploymentRoot")
        elif element.get("outcome") in ("Error", "Failed", "Aborted", "Timeout"):
            xml_trees.add_error(self._source, element.value("Text").strip() or "The run failed")

    def _of_test(self, element: Element) -> Iterator[Result]:
        """A result; of a test with data the results of its rows."""
        rows = list(element.all("InnerResults", "UnitTestResult"))
        for row in rows:
            yield from self._of_test(row)
        if not rows:
            yield self._result(element)

    def _result(self, element: Element) -> Result:
        outcome = element.get("outcome")
        definition = self._definitions.get(element.get("testId"))
        self.unknown += definition is None
        name, identity = _names(element.get("testName"), definition)
        test: dict[str, Any] = {"name": name, "test_id": identity, "status": _STATUSES.get(outcome, "Pending")}
        test["started_at"], test["completed_at"] = iso(element.get("startTime")), iso(element.get("endTime"))
        test["duration_ms"] = _milliseconds(element.get("duration"))
        message = element.value("Output", "ErrorInfo", "Message").strip()
        if test["status"] == "Failed":
            test.update(error_of(element.value("Output", "ErrorInfo", "StackTrace"), message))
        elif test["status"] != "Passed":
            test["error_message"] = cut(message)
        metadata = {
            **(definition.metadata if definition else {}),
            "suite": definition.of_class if definition else "",
            "outcome": "" if outcome in _NO_MORE else outcome,
            "hostname": element.get("computerName")[:200],
        }
        test["tags"] = definition.tags if definition else []
        test["metadata"] = {key: value for key, value in metadata.items() if value}
        result = Result({key: value for key, value in test.items() if value not in (None, "", {}, [])})
        result.told = Told(time=test["started_at"])
        self._add_output(result, element)
        return result

    def _add_output(self, result: Result, element: Element) -> None:
        for tag, name in _OUTPUTS.items():
            add_output(result, name, element.value("Output", tag).splitlines())
        messages = [each.text.value() for each in element.all("Output", "TextMessages", "Message")]
        add_output(result, "message", "\n".join(messages).splitlines())
        folder = "/".join(filter(None, (self._folder, "In", element.get("relativeResultsDirectory"))))
        for file in element.all("ResultFiles", "ResultFile"):
            path = file.get("path").replace("\\", "/")
            fields = {"artifact_type": artifact_type_of(path)}
            result.files.append(file_of(self._source.path, f"{folder}/{path}", fields, self._source.files))
        place_screenshots(result)


def _names(given: str, definition: Optional[_Definition]) -> tuple[str, str]:
    """Name and `test_id`. Some adapters write the class before the name; a name of one's own keeps the method's
    identity, and that of its row."""
    if definition is None:
        return cut(given or "(without a name)", 500), shortened(given or "(without a name)")
    prefix = f"{definition.of_class}."
    name, method = given.removeprefix(prefix), definition.method.removeprefix(prefix)
    name = name or method or "(without a name)"
    inner = name
    if method and not name.startswith(method):
        inner = method + (name[name.index("(") :] if "(" in name and name.endswith(")") and "(" not in method else "")
    return cut(name, 500), shortened(f"{definition.of_class}::{inner}" if definition.of_class else inner)


def _milliseconds(text: str) -> Optional[int]:
    """Of a span of time as .NET writes it: 1.02:03:04.5678901 are a day and two hours."""
    found = _SPAN.match(text)
    if found is None:
        return None
    days, hours, minutes = (int(part or 0) for part in found.groups()[:3])
    return duration((((days * 24 + hours) * 60 + minutes) * 60 + float(found[4])) * 1000)
