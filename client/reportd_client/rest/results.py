"""Calls about what a test case result has: steps, checkpoints, logs, files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Iterator, Mapping, Optional, Sequence, Union

from reportd_client.rest.connection import at, root
from reportd_client.rest.form import File, Form
from reportd_client.rest.suites import Calls
from reportd_client.sender.body import Json

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from reportd_client.rest import shapes


class Steps(Calls):
    def create(
        self, case_id: str, steps: Sequence[shapes.TypedStep], *, idempotency_key: Optional[str] = None
    ) -> shapes.StepsCreated:
        """All steps of an iteration. ApiError 409 when it has steps already."""
        path = at("test-case-results", case_id, "steps")
        return self._connection.create(path, {"steps": list(steps)}, idempotency_key)

    def create_bulk(
        self, case_id: str, steps: Sequence[shapes.NewStep], *, idempotency_key: Optional[str] = None
    ) -> shapes.StepsCreatedWhole:
        """Steps in portions. ApiError 409 when one of the numbers exists."""
        path = at("test-case-results", case_id, "steps", "bulk")
        return self._connection.create(path, {"steps": list(steps)}, idempotency_key)

    def replace(
        self, case_id: str, steps: Sequence[shapes.NewStep], *, prune: Optional[bool] = None
    ) -> shapes.StepsReplaced:
        """Add steps, and overwrite those with the same number. `prune` removes the others, as an admin."""
        path = at("test-case-results", case_id, "steps")
        return self._connection.change("PUT", path, {"steps": list(steps)}, {"prune": prune})

    def index(
        self,
        case_id: str,
        *,
        status: Optional[str] = None,
        iteration_number: Optional[int] = None,
        include_artifacts: Optional[bool] = None,
    ) -> shapes.StepList:
        """All steps, counted by status."""
        query = {"status": status, "iteration_number": iteration_number, "include_artifacts": include_artifacts}
        return self._connection.get(at("test-case-results", case_id, "steps"), {**query, "shape": "object"})

    def update(self, step_id: str, **fields: Unpack[shapes.StepPatch]) -> shapes.StepUpdated:
        """Change the fields that are given."""
        return self._connection.change("PATCH", at("steps", step_id), fields)


class Checkpoints(Calls):
    def create_many(
        self, case_id: str, checkpoints: Sequence[shapes.NewCheckpoint], *, idempotency_key: Optional[str] = None
    ) -> shapes.Appended:
        path = at("test-case-results", case_id, "checkpoints")
        return self._connection.create(path, {"checkpoints": list(checkpoints)}, idempotency_key)

    def index(
        self, case_id: str, *, step_number: Optional[int] = None, iteration_number: Optional[int] = None
    ) -> Iterator[shapes.Checkpoint]:
        query = {"step_number": step_number, "iteration_number": iteration_number}
        return self._connection.numbered(at("test-case-results", case_id, "checkpoints"), query)


class Logs(Calls):
    def create_console(
        self,
        case_id: str,
        entries: Sequence[shapes.NewConsoleEntry],
        *,
        first_sequence: Optional[int] = None,
        idempotency_key: Optional[str] = None,
    ) -> shapes.EntriesCreated:
        """`first_sequence`: the caller's own number of the first entry; those that are stored already are skipped."""
        body = {"entries": list(entries), "first_sequence": first_sequence}
        return self._connection.create(at("test-case-results", case_id, "console-logs"), body, idempotency_key)

    def index_console(
        self,
        case_id: str,
        *,
        step_number: Optional[int] = None,
        iteration_number: Optional[int] = None,
        level: Optional[str] = None,
    ) -> Iterator[shapes.ConsoleEntry]:
        query = {"step_number": step_number, "iteration_number": iteration_number, "level": level}
        return self._connection.numbered(at("test-case-results", case_id, "console-logs"), query)

    def create_network(
        self,
        case_id: str,
        entries: Sequence[shapes.NewNetworkEntry],
        *,
        first_sequence: Optional[int] = None,
        idempotency_key: Optional[str] = None,
    ) -> shapes.EntriesCreated:
        """As create_console."""
        body = {"entries": list(entries), "first_sequence": first_sequence}
        return self._connection.create(at("test-case-results", case_id, "network-logs"), body, idempotency_key)

    def index_network(
        self,
        case_id: str,
        *,
        step_number: Optional[int] = None,
        iteration_number: Optional[int] = None,
        status_min: Optional[int] = None,
        resource_type: Optional[str] = None,
    ) -> Iterator[shapes.NetworkEntry]:
        query = {"step_number": step_number, "iteration_number": iteration_number, "status_min": status_min}
        path = at("test-case-results", case_id, "network-logs")
        return self._connection.numbered(path, {**query, "resource_type": resource_type})


class Uploads(Calls):
    """Files are paths, or pairs of a name and bytes. They are read while they are sent."""

    def create(
        self,
        case_id: str,
        file: File,
        *,
        idempotency_key: Optional[str] = None,
        **fields: Unpack[shapes.ArtifactFields],
    ) -> shapes.SentArtifact:
        form = Form(fields, [file], "file")
        return self._connection.create(at("test-case-results", case_id, "artifacts"), form, idempotency_key)

    def create_batch(
        self,
        case_id: str,
        files: Sequence[File],
        metadata: Sequence[Union[shapes.ArtifactEntry, shapes.KnownEntry]],
        *,
        idempotency_key: Optional[str] = None,
    ) -> shapes.BatchUploaded:
        """Up to 50 files. `metadata` has an entry for each, whose `file_index` counts the files from 0. `failed` of the
        reply has those that were refused; ApiError when all were."""
        entries: list[Mapping[str, object]] = list(metadata)
        form = Form({"metadata": Json(entries).data.decode()}, files, "files")
        return self._connection.create(at("test-case-results", case_id, "artifacts", "batch"), form, idempotency_key)


class Artifacts(Calls):
    def index(
        self,
        case_id: str,
        *,
        artifact_type: Optional[str] = None,
        step_number: Optional[int] = None,
        iteration_number: Optional[int] = None,
        artifact_category: Optional[str] = None,
    ) -> Iterator[shapes.Artifact]:
        query = {"artifact_type": artifact_type, "step_number": step_number, "iteration_number": iteration_number}
        path = at("test-case-results", case_id, "artifacts")
        return self._connection.numbered(path, {**query, "artifact_category": artifact_category, "shape": "object"})

    def missing(self, files: Sequence[shapes.Content], *, project: Optional[str] = None) -> shapes.MissingContent:
        """Which of these bytes the project does not have."""
        return self._connection.change("POST", at("artifacts", "missing"), {"files": list(files), "project": project})

    def show(self, artifact_id: str) -> shapes.Artifact:
        return self._connection.get(at("artifacts", artifact_id))

    def delete(self, artifact_id: str) -> None:
        """Needs the role admin."""
        self._connection.delete(at("artifacts", artifact_id))


class Downloads(Calls):
    def show(self, artifact_id: str, to: Union[str, os.PathLike[str]]) -> Path:
        """Write the bytes of an artifact to a file, which appears when it is whole."""
        return self._connection.download(at("artifacts", artifact_id, "download"), to)


class Thumbs(Calls):
    """Small pictures of screenshots. The first time, the server may still be making them: ApiError `not_ready`."""

    def show(self, artifact_id: str, width: int, to: Union[str, os.PathLike[str]]) -> Path:
        return self._connection.download(root("thumbs", f"{artifact_id}-{width}.webp"), to)

    def show_shared(self, link: str, artifact_id: str, width: int, to: Union[str, os.PathLike[str]]) -> Path:
        return self._connection.download(root("shared", link, "thumbs", f"{artifact_id}-{width}.webp"), to)
