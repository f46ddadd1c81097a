"""What a running test gathers: every call appends to the spool at once, within the limits of one test."""

from __future__ import annotations

import itertools
import os
import uuid
from typing import TYPE_CHECKING, Any

from reportd_client.entries import Entries
from reportd_client.mask import REDACTED, typed_secret
from reportd_client.notes import harmless
from reportd_client.screenshots import image_of
from reportd_client.steps import CURRENT_STEP, Step
from reportd_client.system import System
from reportd_client.texts import ARTIFACT_TYPES, CATEGORIES, STATUSES, artifact_type_of, cut, image_suffix

if TYPE_CHECKING:
    from reportd_client.runs import Recorder


class Evidence:
    """Steps, checkpoints, logs and files of one attempt of a test."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self.notes = recorder.notes
        self.ref = str(uuid.UUID(bytes=System.urandom(16), version=4))
        self.iteration_number = 1
        self._entries = Entries(recorder, self.ref)
        self._checkpoints = itertools.count(1)
        self._shots: dict[Step, list[dict[str, Any]]] = {}  # of open steps; their category follows from the step's end
        self._typed: list[str] = []  # what was typed into password fields
        self.innermost: Step | None = None  # the open step, for events that come from outside of its context
        self.failed_step: Step | None = None  # the deepest step that an exception has left
        self._pid = System.getpid()
        self._state = "new"

    def is_open(self) -> bool:
        """Whether entries are written. A forked child writes none to its parent's test: their numbers would clash."""
        return self._state == "open" and self._pid == System.getpid()

    def status_word(self, status: str) -> str:
        word = str(status).capitalize()
        if word not in STATUSES:
            self.notes.wrong(f"status must be one of {', '.join(STATUSES)}, not {status!r}")
            return "Pending"
        return word

    # --- steps ---

    def open_step(self) -> Step | None:
        step = CURRENT_STEP.get()
        return step if step is not None and step.test is self else None

    def write_step(self, step: Step, fields: dict[str, Any]) -> None:
        shots = self._shots.pop(step, [])
        if fields["status"] == "Failed" and shots and shots[-1].get("artifact_category") is None:
            shots[-1]["artifact_category"] = "error"
        for shot in shots:
            self._add("artifacts", {"artifact_category": "after", **{k: v for k, v in shot.items() if v is not None}})
        if shots and shots[-1].get("refused") is None:
            fields["screenshot_path"] = shots[-1]["file_name"]
        typed = typed_secret(fields)
        if typed is not None and typed not in self._typed:
            self._typed.append(typed)
        self._add("steps", self._recorder.masks.step(fields))

    # --- entries ---

    @harmless
    def checkpoint(
        self,
        name: str,
        *,
        expected: Any = None,
        actual: Any = None,
        status: str | None = None,
        message: str | None = None,
    ) -> None:
        """A named verification. Without `status` it has passed when `expected` equals `actual`."""
        word = self.status_word(status) if status else ("Passed" if expected == actual else "Failed")
        entry = {
            "checkpoint_number": next(self._checkpoints),
            "name": cut(str(name), 500) or "?",
            "status": word,
            "expected_value": None if expected is None else cut(str(expected)),
            "actual_value": None if actual is None else cut(str(actual)),
            "message": message,
            "captured_at": System.now(),
        }
        entry = self._recorder.masks.fields(entry, ("expected_value", "actual_value", "message"))
        self._add("checkpoints", {**entry, **self._place()})

    @harmless
    def console(
        self,
        level: str,
        message: str,
        *,
        source_url: str | None = None,
        line_number: int | None = None,
        column_number: int | None = None,
        logged_at: Any = None,
        **place: Any,
    ) -> None:
        """A line of a log. Unknown levels become `info` on the server. `place`: step_number and iteration_number."""
        masks = self._recorder.masks
        entry = {
            "level": str(level) or "info",
            "message": masks.text(cut(str(message))),
            "source_url": masks.url(source_url) if source_url else None,
            "line_number": line_number,
            "column_number": column_number,
            "logged_at": System.now() if logged_at is None else logged_at,
        }
        self._add("console_logs", {**entry, **(place or self._place())})

    @harmless
    def network(self, method: str, url: str, **fields: Any) -> None:
        """A request of the system under test: `status_code`, `duration_ms`, `request_headers`, … as in the API."""
        entry = {"method": str(method)[:20] or "?", "url": str(url) or "?", "started_at": System.now(), **fields}
        self._add("network_logs", {**self._recorder.masks.network(entry), **self._place(), **_given(fields)})

    def _place(self) -> dict[str, Any]:
        """The step that is open, and the iteration."""
        step = self.open_step()
        number = step._number if step is not None and step.iteration == self.iteration_number else None
        return {"step_number": number, "iteration_number": self.iteration_number}

    def innermost_place(self) -> dict[str, Any]:
        """The step that was opened last in any context, and the iteration."""
        step = self.innermost
        number = step._number if step is not None and step.iteration == self.iteration_number else None
        return {"step_number": number, "iteration_number": self.iteration_number}

    # --- files ---

    @harmless
    def attach(
        self,
        source: Any,
        name: str | None = None,
        *,
        type: str | None = None,
        category: str | None = None,
        description: str | None = None,
        step: Step | None = None,
    ) -> None:
        """A file: a path, or bytes with a `name`. Its bytes are those of this moment, whatever happens to it later."""
        if not self.is_open():
            return
        if name is None:
            name = os.path.basename(os.fspath(source)) if isinstance(source, (str, os.PathLike)) else "attachment"
        entry: dict[str, Any] = {
            "file_name": str(name),
            "artifact_type": self.notes.one_of("type", type or artifact_type_of(str(name)), ARTIFACT_TYPES, "other"),
            "artifact_category": self.notes.one_of("category", category, (*CATEGORIES, None), None),
            "description": description,
            "step_number": step.number if step is not None else None,
            "iteration_number": step.iteration if step is not None else self.iteration_number,
            "captured_at": System.now(),
        }
        entry.update(self._recorder.writer.store(source, important=category == "error"))
        self._add("artifacts", entry)

    def screenshot(self, source: Any, category: str | None = None) -> None:
        """A screenshot of the test, at the step that is open."""
        self.take_screenshot(source, category, self.open_step())

    @harmless
    def take_screenshot(self, source: Any, category: str | None, step: Step | None) -> None:
        if not self.is_open():
            return
        image = image_of(source)
        category = self.notes.one_of("category", category, (*CATEGORIES, None), None)
        if step is None:
            self.attach(image, f"screenshot{image_suffix(_head(image))}", type="screenshot", category=category)
            return
        shots = self._shots.setdefault(step, [])
        more = f"_{len(shots) + 1}" if shots else ""
        entry = {
            "file_name": f"step_{step.number:03d}{more}{image_suffix(_head(image))}",
            "artifact_type": "screenshot",
            "artifact_category": category,
            "step_number": step.number,
            "iteration_number": step.iteration,
            "captured_at": System.now(),
        }
        entry.update(self._recorder.writer.store(image, important=category == "error"))
        shots.append(entry)

    def _add(self, to: str, entry: dict[str, Any]) -> None:
        if self.is_open():
            self._entries.add(to, self._hidden(entry))

    def hidden(self, text: str) -> str:
        """Text without credentials, and without what was typed into password fields."""
        return str(self._hidden({"text": self._recorder.masks.text(text)})["text"])

    def _hidden(self, values: dict[str, Any]) -> dict[str, Any]:
        """Without what was typed into password fields: stack traces quote it from the source of the test."""
        for typed in self._typed:
            values = {name: _without(typed, value) for name, value in values.items()}
        return values


def _given(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: fields[name] for name in ("step_number", "iteration_number") if name in fields}


def _head(image: Any) -> bytes:
    return bytes(image[:4]) if isinstance(image, (bytes, bytearray, memoryview)) else b""


def _without(typed: str, value: Any) -> Any:
    return value.replace(typed, REDACTED) if isinstance(value, str) else value
