"""Sends the files of a test in batches, and writes down those that the server refuses."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Iterator, Sequence

from reportd_client import limits
from reportd_client.sender.body import Changed, Upload, checksum_of
from reportd_client.sender.http import Answer, Server
from reportd_client.sender.offers import Offers
from reportd_client.sender.plan import Parcel
from reportd_client.sender.receipts import Receipts
from reportd_client.spool import Spool

FIELDS = ("artifact_type", "artifact_category", "step_number", "iteration_number", "description", "captured_at")
_LATER = ("storage_full", "storage_unavailable", "try_again", "overloaded")  # of one file; a repetition may succeed
_WAIT = 5.0


class Ready:
    """A file that can be sent: its metadata, path and size."""

    def __init__(self, entry: dict[str, Any], path: Path, checksum: str) -> None:
        self.name, self.path, self.checksum = str(entry["file_name"]), path, checksum
        self.size = int(entry["file_size"])
        self.fields = {name: entry[name] for name in FIELDS if entry.get(name) is not None}
        self.fields["checksum"] = checksum


class Files:
    """Thread-safe. Counts what has arrived."""

    def __init__(self, spool: Spool, server: Server, receipts: Receipts, offers: Offers) -> None:
        self._spool, self._server, self._receipts, self._offers = spool, server, receipts, offers
        self.sent: list[bool] = []  # for each file that arrived: whether it was new

    def send(self, test: str, parcel: Parcel) -> None:
        """Send all files of a test that are not there yet. Raises Stopped, Fatal."""
        for batch in batches(list(self.ready(parcel))):
            self._batch(test, parcel.test_id, batch)

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
        metadata = [{"file_index": i, **file.fields} for i, file in enumerate(files)]
        names = [file.name for file in files]
        key = f"{self._spool.id}-{_digest([path, metadata, names])}"
        if key in self._receipts.done:
            return
        body = Upload("metadata", metadata, [(file.name, file.path, file.size) for file in files])
        try:
            answer = self._server.call("POST", path, body, key)
        except Changed:
            self._one_by_one(test, test_id, files)
            return
        left = self._take(answer, test_id, files)
        if left is None:
            self._one_by_one(test, test_id, files)
            return
        if left:
            self._server.patience.sleep(_WAIT)
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

    def _take(self, answer: Answer, test_id: str, files: Sequence[Ready]) -> list[Ready] | None:
        """Write down what became of each file. The files that are to be sent again; None: halve the batch."""
        value = answer.value
        if answer.status >= 300 and "failed" not in value:
            if len(files) > 1:
                return None
            self._receipts.refuse(test_id, files[0].name, answer.text())
            return []
        replayed = "Idempotent-Replayed" in answer.headers
        self.sent += [not (replayed or artifact.get("duplicate")) for artifact in value.get("artifacts", ())]
        return self.refused(value.get("failed", ()), test_id, files)

    def refused(self, failed: Sequence[dict[str, Any]], test_id: str, files: Sequence[Ready]) -> list[Ready]:
        """Write down the entries of `failed`. The files whose failure was the server's."""
        later: list[Ready] = []
        for failure in failed:
            index = failure.get("file_index")
            file = files[index] if isinstance(index, int) and 0 <= index < len(files) else None
            if file is not None and failure.get("code") in _LATER:
                later.append(file)
            else:
                name = file.name if file else str(failure.get("file_name"))
                self._receipts.refuse(test_id, name, str(failure.get("error")))
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
