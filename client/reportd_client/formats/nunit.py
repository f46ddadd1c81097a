"""NUnit's XML, version 3."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Iterator

from reportd_client.formats import markup, xml_trees
from reportd_client.formats.failure import error_of, joined
from reportd_client.formats.files import file_of
from reportd_client.formats.junit_case import iso, milliseconds, shortened
from reportd_client.formats.output import add_output
from reportd_client.formats.result import Result, Source, Told
from reportd_client.formats.tree import place_screenshots
from reportd_client.formats.xml_trees import Element
from reportd_client.texts import artifact_type_of, cut

NAME = "nunit"
_STATUSES = {"Passed": "Passed", "Warning": "Passed", "Failed": "Failed", "Skipped": "Skipped"}
_CATEGORIES = "\0categories"  # of a suite: no attribute of a file can have this name
_PHASES = {"SetUp": "setup", "TearDown": "teardown", "Parent": "setup of the class"}


def looks(head: bytes, path: Path) -> bool:
    """Whether a file that begins with these bytes is of this format."""
    return markup.first_tag(head) == "test-run"


def read(source: Source) -> Iterator[Result]:
    """The results of a file, one after the other. Raises Unreadable, Empty."""
    wanted = ("test-case", "failure", "environment", "properties")
    long = {"output": xml_trees.KEPT_OUTPUT}
    found = xml_trees.elements(source, "NUnit 3 file", ("test-run", "test-suite"), wanted, long)
    yield from xml_trees.results(source, found, lambda element: _results(source, element))


def _results(source: Source, element: Element) -> Iterator[Result]:
    if element.tag == "test-case":
        yield _result(source, element)
    elif element.tag == "environment":
        names = {"hostname": "machine-name", "os": "os-version", "framework": "framework-version"}
        found = {name: element.get(theirs)[:200] for name, theirs in names.items()}
        source.suite.setdefault("metadata", {}).update({name: text for name, text in found.items() if text})
    elif element.tag == "properties" and element.parents:
        # The elements that follow have the same object among their parents.
        element.parents[-1][1][_CATEGORIES] = "\n".join(_categories(element))
    elif element.parents and element.parents[-1][1].get("site") in ("SetUp", "TearDown"):
        attributes = element.parents[-1][1]
        name = attributes.get("fullname", "")[:200]
        xml_trees.add_error(source, f"{attributes['site']} of {name}: {element.value('message').strip()}")


def _result(source: Source, element: Element) -> Result:
    run = element.parent("test-run")
    source.names.update(filter(None, [run.get("name", "").strip()]))
    began = iso(run.get("start-time"))
    if began is not None:
        source.suite.setdefault("started_at", began)
    word = element.get("result")
    name = element.get("name") or element.get("fullname") or "(without a name)"
    test: dict[str, Any] = {"name": cut(name, 500), "test_id": shortened(element.get("fullname") or name)}
    test["status"] = _STATUSES.get(word, "Pending")
    test["started_at"], test["completed_at"] = iso(element.get("start-time")), iso(element.get("end-time"))
    test["duration_ms"] = milliseconds(element.get("duration"))
    reason = element.value("reason", "message").strip()
    if test["status"] == "Failed":
        test.update(_error(element))
    elif test["status"] != "Passed":
        test["error_message"] = cut(reason)
    properties = [(each.get("name"), each.get("value")) for each in element.all("properties", "property")]
    tags = [tag for _, attributes in element.parents for tag in attributes.get(_CATEGORIES, "").splitlines()]
    tags += [tag for each in element.all("properties") for tag in _categories(each)]
    test["tags"] = list(dict.fromkeys(tags))[:50]
    label = element.get("label") or ("" if word in ("Passed", "Failed", "Skipped") else word)
    metadata: dict[str, Any] = {
        "suite": element.get("classname")[:500],
        "outcome": label[:100],
        "phase": _PHASES.get(element.get("site"), ""),
        "warning": cut(reason, 4_000) if test["status"] == "Passed" else "",
        "description": next((value for name, value in properties if name == "Description"), "")[:4_000],
        "properties": {
            name[:100]: value[:500]
            for name, value in properties
            if name not in ("Category", "Description", "_SKIPREASON")
        },
    }
    test["metadata"] = {key: value for key, value in metadata.items() if value}
    result = Result({key: value for key, value in test.items() if value not in (None, "", {}, [])})
    result.told = Told(time=test["started_at"])
    add_output(result, "output", element.value("output").splitlines())
    for attachment in element.all("attachments", "attachment"):
        path, description = attachment.value("filePath").strip(), attachment.value("description").strip()
        fields = {
            "artifact_type": artifact_type_of(path),
            **({"description": cut(description, 500)} if description else {}),
        }
        result.files.append(file_of(source.path, path, fields, source.files))
    place_screenshots(result)
    return result


def _categories(properties: Element) -> list[str]:
    named = [each.get("value")[:100] for each in properties.all("property") if each.get("name") == "Category"]
    return list(filter(None, named))


def _error(element: Element) -> dict[str, Any]:
    """The failure, and the assertions of it that are told one by one."""
    failures = [*element.all("failure"), *element.all("assertions", "assertion")]
    errors = [error_of(each.value("stack-trace"), each.value("message")) for each in failures]
    different = [error for at, error in enumerate(errors) if error not in errors[:at]]
    return joined(different or [error_of("")])
