"""Sends the files of a test in batches, and writes down those that the server refuses."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Iterator, Sequence

from reportd_client import limits
from reportd_client.sender.body import Changed, Upload, checksum_of
from reportd_client.sender.http import Answer, Json, Server
from reportd_client.sender.offers import Offers
from reportd_client.sender.plan import Parcel
from reportd_client.sender.receipts import Receipts
from reportd_client.spool import Spool

FIELDS = ("artifact_type", "artifact_category", "step_number", "iteration_number", "description", "captured_at")
LATER = ("storage_full", "storage_unavailable", "try_again", "overloaded")  # of one file; a repetition may succeed
_WAIT = 5.0
_ASKED = 1_000  # files in one question
KNOWN = "known"


class Ready:
    """A file that can be sent: its metadata, path and size."""

    def __init__(self, entry: dict[str, Any], path: Path, checksum: str) -> None:
        self.name, self.path, self.checksum = str(entry["file_name"]), path, checksum
        self.size = int(entry["file_size"])
        self.fields = {name: entry[name] for name in FIELDS if entry.get(name) is not None}
        self.fields["checksum"] = checksum

    def known(self) -> dict[str, Any]:
        """The entry for bytes that the server has."""
        return {"known": True, "file_name": self.name, "file_size": self.size, **self.fields}


class Files:
    """Thread-safe. Counts what has arrived."""

    def __init__(self, spool: Spool, server: Server, receipts: Receipts, offers: Offers) -> None:
        self._spool, self._server, self._receipts, self._offers = spool, server, receipts, offers
        self.sent: list[bool] = []  # for each file that arrived: whether it was new
        self._there: set[str] = set()  # checksums of bytes that the project has

    def send(self, test: str, test_id: str, files: Sequence[Ready]) -> None:
        """Send files of a test. Raises Stopped, Fatal."""
        for batch in batches(files):
            self._batch(test, test_id, batch)

    # --- bytes that the server has ---

    def ask(self, files: Sequence[Ready]) -> None:
        """Find out which bytes the project has. Only a hint: bytes that are gone when they are linked are sent then."""
        if KNOWN not in self._offers.features:
            return
        unknown = list({file.checksum: file.size for file in files if file.checksum not in self._there}.items())
        project = self._spool.about["run"].get("project")
        for start in range(0, len(unknown), _ASKED):
            portion = unknown[start : start + _ASKED]
            value: dict[str, Any] = {"files": [{"checksum": checksum, "file_size": size} for checksum, size in portion]}
            if project:
                value["project"] = project
            answer = self._server.call("POST", "/artifacts/missing", Json(value))
            missing = answer.value.get("missing") if answer.status == 200 else None
            if isinstance(missing, list):
                self.are_there(
                    {checksum for checksum, _ in portion} - {name for name in missing if isinstance(name, str)}
                )

    def is_there(self, file: Ready) -> bool:
        return file.checksum in self._there

    def are_there(self, checksums: set[str]) -> None:
        if KNOWN in self._offers.features:
            self._there |= checksums

    def are_gone(self, files: Sequence[Ready]) -> None:
        self._there -= {file.checksum for file in files}

    # --- batches ---

    def ready(self, parcel: Parcel) -> Iterator[Ready]:
        """The files that can be sent. The others are refused: not found when attached, or changed since."""
        for entry in parcel.artifacts:
            refused = entry.get("refused") or self._offers.refusal(entry.get("file_size") or 0)
            if refused is None:
                path = self._spool.files / str(entry["file"])
                try:
                    yield Ready(entry, path, checksum_of(path, entry))
                    continue
                except Changed:
                    refused = "Its bytes have changed since it was attached"
                except OSError as error:
                    refused = f"Cannot be read: {error.strerror}"
            self._receipts.refuse(parcel.test_id, str(entry["file_name"]), refused)

    def _batch(self, test: str, test_id: str, files: Sequence[Ready]) -> None:
        path = f"/test-case-results/{test}/artifacts/batch"
        known, sent = (
            [file for file in files if self.is_there(file)],
            [file for file in files if not self.is_there(file)],
        )
        metadata = [{"file_index": i, **file.fields} for i, file in enumerate(sent)]
        metadata += [file.known() for file in known]
        names = [file.name for file in files]
        key = f"{self._spool.id}-{_digest([path, metadata, names])}"
        if key in self._receipts.done:
            return
        body = Upload("metadata", metadata, [(file.name, file.path, file.size) for file in sent])
        try:
            answer = self._server.call("POST", path, body, key)
        except Changed:
            self._one_by_one(test, test_id, files)
            return
        left = self._take(answer, test_id, sent, known)
        if left is None:
            self._one_by_one(test, test_id, files)
            return
        if left:
            self._batch(test, test_id, left)
        self._receipts.write({"done": key})

    def _one_by_one(self, test: str, test_id: str, files: Sequence[Ready]) -> None:
        """Halve a batch that was refused as a whole, so that one file does not cost the others."""
        if len(files) > 1:
            half = len(files) // 2
            self._batch(test, test_id, files[:half])
            self._batch(test, test_id, files[half:])
        else:
            self._receipts.refuse(test_id, files[0].name, "Its bytes have changed since it was attached")

    def _take(self, answer: Answer, test_id: str, sent: Sequence[Ready], known: Sequence[Ready]) -> list[Ready] | None:
        """Write down what became of each file. The files that are to be sent again; None: halve the batch."""
        value = answer.value
        if answer.status >= 300 and "failed" not in value:
            if len(sent) + len(known) > 1:
                return None
            self._receipts.refuse(test_id, [*sent, *known][0].name, answer.text())
            return []
        self.count(value.get("artifacts", ()), "Idempotent-Replayed" in answer.headers)
        return self.again(value.get("failed", ()), test_id, dict(enumerate(sent)), known)

    def count(self, artifacts: Sequence[dict[str, Any]], replayed: bool) -> None:
        self.sent += [not (replayed or artifact.get("duplicate")) for artifact in artifacts]

    def again(
        self, failed: Sequence[dict[str, Any]], test_id: str, sent: dict[int, Ready], known: Sequence[Ready]
    ) -> list[Ready]:
        """Write down the entries of `failed`. The files that are to be sent again: whose failure was the server's, and
        when bytes that the server had are gone, all known ones; those that it has linked already are duplicates."""
        later: list[Ready] = []
        for failure in failed:
            file = sent.get(failure.get("file_index", -1))
            if failure.get("code") == "content_missing" or (file is None and failure.get("code") in LATER):
                later += [file for file in known if self.is_there(file)]
                self.are_gone(known)
            elif file is not None and failure.get("code") in LATER:
                self._server.patience.sleep(_WAIT)
                later.append(file)
            else:
                name = file.name if file else str(failure.get("file_name"))
                self._receipts.refuse(test_id, name, str(failure.get("error")))
        self.are_there({file.checksum for file in sent.values() if file not in later})
        return later


def batches(files: Sequence[Ready]) -> Iterator[list[Ready]]:
    """The files in portions that one request may have."""
    batch: list[Ready] = []
    size = 0
    for file in files:
        if batch and (len(batch) >= limits.GROUP_FILES or size + file.size > limits.GROUP_FILE_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(file)
        size += file.size
    if batch:
        yield batch


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:32]
