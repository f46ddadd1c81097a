"""One `testcase` of JUnit: from its attributes and elements to the fields of the API."""

from __future__ import annotations

import functools
import hashlib
import math
import re
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from typing import Any, Optional, Sequence

from reportd_client.formats import playwright_error
from reportd_client.formats.failure import error_of, joined, without_go_lines
from reportd_client.formats.files import file_of
from reportd_client.formats.markup import ESCAPE
from reportd_client.formats.output import add_output
from reportd_client.formats.result import Result, Source, Told
from reportd_client.texts import artifact_type_of, cut

_COLOURS = re.compile(rf"(?:{ESCAPE}|#x1B)\[[0-9;:?]*[ -/]*[@-~]")  # pytest writes the escape character as #x1B
_ATTACHMENT = re.compile(r"\[\[ATTACHMENT\|([^\]\n]+)\]\]")
_FRACTION = re.compile(r"\.(\d{1,6})\d*")
_PHASE = re.compile(r"failed on (setup|teardown) with \"(.*)\"\Z", re.DOTALL)  # pytest's
_KEPT = 1 << 20  # characters of a message; it is cut further when all of it is known
_KEPT_OUTPUT = 8 << 20
_MAX_ID = 500
_PROPERTIES = 200


class Text:
    """Text that comes in pieces, of which the beginning is kept."""

    def __init__(self, most: int = _KEPT) -> None:
        self.length = 0
        self._most, self._parts = most, [""]

    def add(self, text: str) -> None:
        if self.length < self._most:
            self._parts.append(text[: self._most - self.length])
        self.length += len(text)

    def value(self) -> str:
        return plain("".join(self._parts))


class Verdict:
    """A `failure`, `error`, `skipped`, or another attempt."""

    def __init__(self, tag: str, attributes: dict[str, str]) -> None:
        self.tag, self._attributes = tag, attributes
        self.text = Text()
        self.outputs: list[tuple[str, Text]] = []
        self.seconds = attributes.get("time")

    def phase(self) -> Optional[str]:
        """setup or teardown"""
        found = _PHASE.match(self._attributes.get("message", ""))
        return found[1] if found and self.tag == "error" else None

    def begin_trace(self) -> Text:
        """Where the text of an element within goes: without the white space before and after that element."""
        if not self.text.value().strip():
            self.text = Text()
        return self.text

    def reason(self) -> Optional[str]:
        text = plain(self._attributes.get("message", "")).strip() or self.text.value().strip()
        if text == "true":  # node's, when no reason is given
            return None
        return cut(without_go_lines(text).strip()) or None

    def kind(self) -> str:
        return self._attributes.get("type", "").strip()

    def error(self) -> dict[str, Any]:
        """`error_type`, `error_message` and `stack_trace`, as far as they are told."""
        message = plain(self._attributes.get("message", "")).strip()
        phase = _PHASE.match(message)
        message = phase[2] if phase else message
        of_playwright = playwright_error.of_junit(self.text.value())
        if of_playwright:
            return playwright_error.error_fields(of_playwright)
        # Some tools write `Failed` for every failure.
        return error_of(self.text.value(), "" if message == "Failed" else message, self.kind())

    def secrets(self) -> set[str]:
        """What Playwright quotes of the value of a password field."""
        errors = playwright_error.of_junit(self.text.value())
        return {secret for error in errors for secret in playwright_error.secrets_of(error)}


class Case:
    def __init__(self, attributes: dict[str, str], suites: Sequence[str]) -> None:
        self.attributes = attributes
        self.verdicts: list[Verdict] = []
        self._suites = " / ".join(name for name in suites if name)[:1000]
        self._outputs: list[tuple[str, Text]] = []
        self._properties: list[tuple[str, Text]] = []

    # --- what is within ---

    def verdict(self, tag: str, attributes: dict[str, str]) -> Verdict:
        self.verdicts.append(Verdict(tag, attributes))
        return self.verdicts[-1]

    def output(self, tag: str, of: Optional[Verdict]) -> Text:
        text = Text(_KEPT_OUTPUT)
        (self._outputs if of is None else of.outputs).append((tag, text))
        return text

    def property(self, name: str, value: Optional[str]) -> Text:
        text = Text()
        text.add(value or "")
        if len(self._properties) < _PROPERTIES:
            self._properties.append((name[:200], text))
        return text

    # --- the result ---

    def result(self, source: Source, verdicts: Sequence[Verdict], is_own: bool) -> Result:
        """One attempt; `is_own`: the one that has the output and the properties of the element."""
        name, identity = _names(self.attributes, self._suites)
        test: dict[str, Any] = {"name": name, "test_id": identity, "status": "Passed"}
        skipped = next((verdict for verdict in verdicts if verdict.tag == "skipped"), None)
        failed = [verdict for verdict in verdicts if verdict.tag != "skipped"]
        metadata = {"suite": self._suites, "location": _location(self.attributes)}
        if skipped is not None:
            test.update(status="Skipped", error_message=skipped.reason())
            metadata["outcome"] = "xfailed" if skipped.kind() == "pytest.xfail" else ""
        elif failed:
            test.update(status="Failed", **joined([verdict.error() for verdict in failed]))
            metadata["phase"] = failed[0].phase() or ""
        seconds = self.attributes.get("time") if is_own else verdicts[0].seconds
        test["duration_ms"] = milliseconds(seconds)
        secrets = {secret for verdict in failed for secret in verdict.secrets()}
        result = Result(
            test, secrets=secrets, told=Told(silent=not verdicts, of_teardown=metadata.get("phase") == "teardown")
        )
        if is_own:
            self._add_properties(source, result, metadata)
        outputs = [*(self._outputs if is_own else ()), *(each for verdict in verdicts for each in verdict.outputs)]
        for tag, text in outputs:
            _add_output(source, result, tag, text)
        test["metadata"] = {key: value for key, value in metadata.items() if value}
        result.test = {key: value for key, value in test.items() if value not in (None, "", {})}
        return result

    def _add_properties(self, source: Source, result: Result, metadata: dict[str, Any]) -> None:
        values = {name: text.value() for name, text in self._properties}
        metadata["properties"] = {name: cut(value.strip(), 1_000) for name, value in values.items()}
        for value in values.values():
            if 0 < len(value) < 1_000 and "\n" not in value and artifact_type_of(value) != "other":
                file = file_of(source.path, value, {"artifact_type": artifact_type_of(value)}, source.files)
                result.files += [file] if file.path is not None else []  # else a text that ends like a file's name


def _names(attributes: dict[str, str], suites: str) -> tuple[str, str]:
    """Name and `test_id`."""
    name, of_class = plain(attributes.get("name", "")).strip(), plain(attributes.get("classname", "")).strip()
    name = name or of_class or "(without a name)"
    if of_class == "test":  # node's, for every test
        of_class = suites
    identity = name if name.startswith(of_class) or name.endswith(of_class) else f"{of_class}::{name}"
    return cut(name, _MAX_ID), shortened(identity)


def shortened(identity: str) -> str:
    """Cut when too long, but still unique."""
    if len(identity) <= _MAX_ID:
        return identity
    digest = hashlib.sha256(identity.encode("utf-8", "replace")).hexdigest()[:8]
    return f"{identity[: _MAX_ID - 9]}…{digest}"


def _location(attributes: dict[str, str]) -> str:
    return ":".join(filter(None, (attributes.get("file", ""), attributes.get("line", ""))))[:1000]


def _add_output(source: Source, result: Result, tag: str, text: Text) -> None:
    """Playwright and others name attachments in the output."""
    value = text.value()
    for name in dict.fromkeys(_ATTACHMENT.findall(value)):
        result.files.append(file_of(source.path, name, {"artifact_type": artifact_type_of(name)}, source.files))
    lines = [line for line in value.splitlines() if not _ATTACHMENT.fullmatch(line.strip())]
    add_output(result, tag, lines, value)
    if text.length > _KEPT_OUTPUT:
        source.note(
            f"{source.path}: more than {_KEPT_OUTPUT >> 20} MiB of {tag} of {result.test['name'][:100]} are cut"
        )


def plain(text: str) -> str:
    """Without the colours of terminals."""
    return _COLOURS.sub("", text) if ESCAPE in text or "#x1B" in text else text


def milliseconds(seconds: Optional[str]) -> Optional[int]:
    """Of a number of seconds, as tools write it in any language: 1,234.5 and 0,5, too."""
    text = (seconds or "").strip()
    text = text.replace(",", "") if "." in text else text.replace(",", ".", 1)
    try:
        value = float(text) * 1000
    except ValueError:
        return None
    return round(value) if math.isfinite(value) and 0 <= value < 2**31 else None


@functools.lru_cache(1024)  # tests of a suite share its time
def iso(text: Optional[str]) -> Optional[str]:
    """A time in UTC, so that texts sort by time; without an offset it is UTC. None when it is none."""
    text = (text or "").strip()
    try:
        if text.endswith("GMT"):  # mocha's, as in HTTP
            found = parsedate_to_datetime(text)
        else:
            six = _FRACTION.sub(lambda digits: f".{digits[1]:0<6}", text)  # all that every Python reads
            found = datetime.fromisoformat(six.replace("Z", "+00:00"))
        found = found.astimezone(timezone.utc) if found.tzinfo else found.replace(tzinfo=timezone.utc)
    except (ValueError, TypeError, OverflowError):
        return None
    return found.isoformat(timespec="milliseconds") if 1970 <= found.year < 9998 else None
