"""xUnit.net's XML, version 2, which version 3 writes, too."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Iterator

from reportd_client.formats import markup, xml_trees
from reportd_client.formats.embedded import IMAGES, MOST, decoded, file_with, suffix_of
from reportd_client.formats.failure import error_of
from reportd_client.formats.junit_case import iso, milliseconds, shortened
from reportd_client.formats.output import add_output
from reportd_client.formats.result import Result, Source, Told
from reportd_client.formats.tree import place_screenshots
from reportd_client.formats.xml_trees import Element
from reportd_client.texts import cut

NAME = "xunit"
_STATUSES = {"Pass": "Passed", "Fail": "Failed", "Skip": "Skipped", "NotRun": "Skipped"}
_ROOTS = ("assemblies", "assembly")


def looks(head: bytes, path: Path) -> bool:
    """Whether a file that begins with these bytes is of this format."""
    return markup.first_tag(head) in _ROOTS


def read(source: Source) -> Iterator[Result]:
    """The results of a file, one after the other. Raises Unreadable, Empty."""
    long = {"output": xml_trees.KEPT_OUTPUT, "attachment": MOST * 4 // 3 + 4}
    found = xml_trees.elements(source, "xUnit file", _ROOTS, ("test", "error"), long)
    yield from xml_trees.results(source, found, lambda element: _results(source, element))


def _results(source: Source, element: Element) -> Iterator[Result]:
    if element.tag == "test":
        yield _result(source, element)
    else:
        text = element.value("failure", "message").strip()
        xml_trees.add_error(source, ": ".join(filter(None, (element.get("type"), element.get("name")[:200], text))))


def _result(source: Source, element: Element) -> Result:
    assembly = element.parent("assembly")
    began = iso(assembly.get("start-rtf") or element.parent("assemblies").get("start-rtf"))
    if began is not None:
        source.suite.setdefault("started_at", began)
    word, of_class = element.get("result"), element.get("type")
    given = element.get("name") or element.get("method") or "(without a name)"
    test: dict[str, Any] = {"name": cut(given.removeprefix(f"{of_class}."), 500), "test_id": shortened(given)}
    test["status"] = _STATUSES.get(word, "Pending")
    test["started_at"], test["completed_at"] = iso(element.get("start-rtf")), iso(element.get("finish-rtf"))
    test["duration_ms"] = milliseconds(element.get("time"))
    failure = next(element.all("failure"), None)
    if test["status"] == "Failed" and failure is not None:
        kind = failure.get("exception-type")
        test.update(error_of(failure.value("stack-trace"), failure.value("message"), kind))
    elif test["status"] == "Failed":
        test["error_message"] = "Failed"
    else:
        test["error_message"] = cut(element.value("reason").strip()) if test["status"] != "Passed" else None
    traits = [(each.get("name"), each.get("value")) for each in element.all("traits", "trait")]
    test["tags"] = [value[:100] for name, value in traits if name == "Category" and value][:50]
    metadata: dict[str, Any] = {
        "suite": of_class[:500],
        "assembly": Path(assembly.get("name", "").replace("\\", "/")).name[:200],
        "location": ":".join(filter(None, (element.get("source-file"), element.get("source-line"))))[:1000],
        "outcome": "" if word in ("Pass", "Fail", "Skip") else word[:100],
        "properties": {name[:100]: value[:500] for name, value in traits if name != "Category"},
        "warnings": [cut(each.text.value().strip(), 1_000) for each in element.all("warnings", "warning")][:20],
    }
    test["metadata"] = {key: value for key, value in metadata.items() if value}
    result = Result({key: value for key, value in test.items() if value not in (None, "", {}, [])})
    date_and_time = f"{assembly.get('run-date', '')}T{assembly.get('run-time', '')}"
    result.told = Told(time=test["started_at"] or iso(date_and_time))
    add_output(result, "output", element.value("output").splitlines())
    _add_attachments(result, element)
    place_screenshots(result)
    return result


def _add_attachments(result: Result, element: Element) -> None:
    used = 0
    for attachment in element.all("attachments", "attachment"):
        kind, text = attachment.get("media-type").lower(), attachment.text.value()
        name = attachment.get("name").replace("\\", "/").rpartition("/")[2] or "attachment"
        suffix = suffix_of(kind or "text/plain")
        name = name if "." in name else name + suffix
        fields = {"artifact_type": "screenshot"} if kind in IMAGES else {}
        data = decoded(text) if kind else text.encode("utf-8", "replace")
        result.files.append(file_with(data, name, fields, used))
        used += len(data or b"")
