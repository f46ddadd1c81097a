"""Sends the files of a test in batches, and writes down those that the server refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Iterator, Optional, Sequence

from reportd_client.sender.body import Changed, Json, Upload, checksum_of, key_of
from reportd_client.sender.http import Answer, Server, TestDeleted
from reportd_client.sender.offers import KNOWN, Offers
from reportd_client.sender.plan import Parcel
from reportd_client.sender.receipts import Receipts
from reportd_client.spool import Spool
from reportd_client.texts import cut

FIELDS = ("artifact_type", "artifact_category", "step_number", "iteration_number", "description", "captured_at")
LATER = ("storage_full", "storage_unavailable", "try_again", "overloaded")  # of one file; a repetition may succeed
_WAIT = 5.0
_MAX_REASON = 2_000
_ASKED = 1_000  # files in one question


class Ready:
    """A file of a test that can be sent: its metadata, path and size."""

    def __init__(self, parcel: Parcel, entry: dict[str, Any], path: Path, checksum: str) -> None:
        self.parcel, self.name, self.path, self.checksum = parcel, str(entry["file_name"]), path, checksum
        self.size = int(entry["file_size"])
        self.fields = {name: entry[name] for name in FIELDS if entry.get(name) is not None}
        self.fields["checksum"] = checksum
        self.step = (entry.get("iteration_number"), entry.get("step_number"))

    def known(self) -> dict[str, Any]:
        """The entry for bytes that the server has."""
        return {"known": True, "file_name": self.name, "file_size": self.size, **self.fields}

    def later(self) -> dict[str, Any]:
        """The entry for a file that comes in another request."""
        return {"later": True, **named(self.name, self.size, self.checksum)}

    def refuse(self, reason: str) -> None:
        """It is not sent: the server is to hear why."""
        self.parcel.refused.append({"refused": cut(reason, _MAX_REASON), **named(self.name, self.size, self.checksum)})


def named(name: str, size: Any, checksum: Optional[str]) -> dict[str, Any]:
    """The entry for a file that a request does not bring: only what the server remembers of it."""
    known = {"checksum": checksum, "file_size": size if isinstance(size, int) and size > 0 else None}
    return {"artifact_type": "other", "file_name": name, **{key: value for key, value in known.items() if value}}


class Files:
    """Thread-safe. Counts what has arrived."""

    def __init__(self, spool: Spool, server: Server, receipts: Receipts, offers: Offers) -> None:
        self._spool, self._server, self._receipts, self._offers = spool, server, receipts, offers
        self.sent: list[bool] = []  # for each file that arrived: whether it was new
        self._there: set[str] = set()  # checksums of bytes that the project has

    def send(self, test: str, test_id: str, files: Sequence[Ready]) -> None:
        """Send files of a test that is stored. Raises Stopped, Fatal, TestDeleted."""
        for batch in batches(files, self._offers.max_files, self._server.most_file_bytes):
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
            answer = self._server.call("POST", "/artifacts/missing", Json(value), question=True)
            missing = answer.value.get("missing") if answer.status == 200 else None
            if isinstance(missing, list):
                self._are_there(
                    {checksum for checksum, _ in portion} - {name for name in missing if isinstance(name, str)}
                )

    def is_there(self, file: Ready) -> bool:
        return file.checksum in self._there

    def _are_there(self, checksums: set[str]) -> None:
        if KNOWN in self._offers.features:
            self._there |= checksums

    # --- batches ---

    def ready(self, parcel: Parcel) -> Iterator[Ready]:
        """The files that can be sent. The others are refused: not found when attached, or changed since."""
        for entry in parcel.artifacts:
            refused = entry.get("refused") or self._offers.refusal(entry.get("file_size") or 0)
            if refused is None:
                path = self._spool.files / str(entry["file"])
                try:
                    yield Ready(parcel, entry, path, checksum_of(path, entry))
                    continue
                except Changed as error:
                    refused = str(error)
                except OSError as error:
                    refused = f"Cannot be read: {error.strerror}"
            name = str(entry["file_name"])
            self._receipts.refuse(parcel.test_id, name, refused)
            parcel.refused.append({"refused": cut(refused, _MAX_REASON), **named(name, entry.get("file_size"), None)})

    def leave_out(self, error: Changed, files: list[Ready]) -> None:
        """Refuse and remove the file that could not be sent."""
        for file in [file for file in files if file.path == error.path]:
            self._refuse(file, str(error))
            files.remove(file)

    def _refuse(self, file: Ready, reason: str) -> None:
        self._receipts.refuse(file.parcel.test_id, file.name, reason)
        file.refuse(reason)

    def _batch(self, test: str, test_id: str, files: list[Ready]) -> None:
        """Send files until each has been stored or refused."""
        while files:
            known = [file for file in files if self.is_there(file)]
            sent = [file for file in files if not self.is_there(file)]
            metadata = [{"file_index": i, **file.fields} for i, file in enumerate(sent)]
            metadata += [file.known() for file in known]
            path = f"/test-case-results/{test}/artifacts/batch"
            body = Upload("metadata", metadata, [(file.name, file.path, file.size) for file in sent])
            key = key_of(self._spool.id, path, body.data, [file.name for file in files])
            if key in self._receipts.done:
                return
            try:
                answer = self._server.call("POST", path, body, key, divisible=len(files) > 1)
            except Changed as error:
                self.leave_out(error, files)
                continue
            if answer.status == 404:
                raise TestDeleted
            if answer.status >= 300 and "failed" not in answer.value:
                self._halve(answer, test, test_id, files)
                return
            self.count(answer.value.get("artifacts", ()), answer.replayed)
            failed = answer.value.get("failed", ())
            files = self.again(failed, test_id, dict(enumerate(sent)), known, is_named=False)
            if not files:
                self._receipts.write({"done": key})
            self.wait_for_space(failed)

    def _halve(self, answer: Answer, test: str, test_id: str, files: list[Ready]) -> None:
        """Halve a batch that was refused as a whole, so that one file does not cost the others."""
        if len(files) == 1:
            self._refuse(files[0], answer.text())
            return
        half = len(files) // 2
        self._batch(test, test_id, files[:half])
        self._batch(test, test_id, files[half:])

    def count(self, artifacts: Sequence[dict[str, Any]], replayed: bool) -> None:
        self.sent += [not (replayed or artifact.get("duplicate")) for artifact in artifacts]

    def again(
        self,
        failed: Sequence[dict[str, Any]],
        test_id: str,
        sent: dict[int, Ready],
        known: Sequence[Ready],
        is_named: bool,
    ) -> list[Ready]:
        """Write down the entries of `failed`. The files to be sent again: those of which the failure was the server's,
        and those whose bytes the server did not have after all. `is_named`: the server counts the others as missing."""
        again: list[Ready] = []
        refused: list[Ready | None] = []
        for failure in failed:
            code, index = failure.get("code"), failure.get("known_index")
            file = sent.get(failure.get("file_index", -1))
            if file is None and isinstance(index, int) and 0 <= index < len(known):
                file = known[index]
            if file is not None and (code in LATER or code == "content_missing"):
                again.append(file)
            else:
                refused.append(file)
                if file is not None and not is_named:
                    file.refuse(str(failure.get("error")))
                name = file.name if file else str(failure.get("file_name"))
                self._receipts.refuse(test_id, name, str(failure.get("error")))
        self._are_there({file.checksum for file in sent.values() if file not in again and file not in refused})
        self._there -= {file.checksum for file in again}
        return again

    def wait_for_space(self, failed: Sequence[dict[str, Any]]) -> None:
        """Wait a while when any of the entries of `failed` is the server's failure. Raises Stopped."""
        if any(failure.get("code") in LATER for failure in failed):
            self._server.patience.sleep(_WAIT)


def batches(files: Sequence[Ready], max_files: int, max_bytes: int) -> Iterator[list[Ready]]:
    """The files in portions that one request may have."""
    batch: list[Ready] = []
    size = 0
    for file in files:
        if batch and (len(batch) >= max_files or size + file.size > max_bytes):
            yield batch
            batch, size = [], 0
        batch.append(file)
        size += file.size
    if batch:
        yield batch
