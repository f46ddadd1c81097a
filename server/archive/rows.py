"""The objects in the data of an archive, as far as an import checks them; the database checks the rest, like lengths.

They are decoded only to be checked: the database reads the same bytes. A field that is not known here is refused: a
later version has added it, and it would be lost.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, TypeVar
from uuid import UUID

import msgspec
from msgspec import Meta, Struct

from server.archive.opened import BadArchive
from server.bodies.steps import is_below
from server.http.fields import MAX_OBJECT_DEPTH, Natural, Positive
from server.reports.shards import MAX_SHARDS
from server.reports.words import ArtifactType, Category, Moment, RunStatus, ShardStatus, Status, TextEncoding

T = TypeVar("T")
Checksum = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
Size = Annotated[int, Meta(ge=0)]
Name = Annotated[str, Meta(min_length=1)]
_MAX_REASON = 4_000


class About(Struct):
    """`format`: of the archive. `run`: the run that it has."""

    format: int
    reportd: str
    run: UUID


class _Checked(Struct, forbid_unknown_fields=True):
    def __post_init__(self) -> None:
        """Pages could not show a time whose offset leads out of the calendar, or an object of any depth."""
        for name in self.__struct_fields__:
            value = getattr(self, name)
            if isinstance(value, datetime) and not 1 < value.year < 9999:
                raise ValueError(f"{name} must lie in the years 2 to 9998")
            if isinstance(value, dict) and _is_deep(value):
                raise ValueError(f"{name} must not be nested deeper than {MAX_OBJECT_DEPTH} levels")


class _Row(_Checked):
    id: UUID
    created_at: Moment


R = TypeVar("R", bound=_Row)


class Run(_Row, kw_only=True):
    project: Annotated[str, Meta(min_length=1, max_length=100)]
    run_key: str | None
    name: Name
    status: RunStatus
    environment: str | None
    branch: str | None
    commit_sha: str | None
    build_url: str | None
    browser: str | None
    platform: str | None
    triggered_by: str | None
    tags: list[str]
    metadata: dict[str, Any]
    started_at: Moment
    finished_at: Moment | None
    updated_at: Moment
    by_shards: bool = False


class Result(_Row, kw_only=True):
    suite_run_id: UUID
    client_ref: UUID | None
    name: Name
    test_id: Name
    status: Status
    duration_ms: Natural | None
    attempt: Positive
    error_message: str | None
    error_type: str | None
    stack_trace: str | None
    browser: str | None
    tags: list[str]
    metadata: dict[str, Any]
    started_at: Moment | None
    completed_at: Moment | None
    updated_at: Moment


class OfResult(_Row, kw_only=True):
    """What belongs to a result."""

    test_case_result_id: UUID
    iteration_number: Positive


class Step(OfResult, kw_only=True):
    step_number: Natural
    parent_step_number: Natural | None
    step_type: Name
    action: str | None
    description: str | None
    status: Status
    duration_ms: Natural | None
    element_selector: str | None
    element_name: str | None
    element_type: str | None
    input_value: str | None
    expected_value: str | None
    actual_value: str | None
    error_message: str | None
    error_type: str | None
    stack_trace: str | None
    screenshot_path: str | None
    screenshot_artifact_id: UUID | None
    screenshot_pinned: bool
    started_at: Moment | None
    completed_at: Moment | None
    updated_at: Moment

    def __post_init__(self) -> None:
        super().__post_init__()
        if not is_below(self.step_number, self.parent_step_number):
            raise ValueError("parent_step_number must be smaller than step_number")


class Checkpoint(OfResult, kw_only=True):
    checkpoint_number: Natural
    step_number: Natural | None
    name: Name
    checkpoint_type: str | None
    status: Status
    expected_value: str | None
    actual_value: str | None
    message: str | None
    screenshot_artifact_id: UUID | None
    captured_at: Moment | None


class ConsoleEntry(OfResult, kw_only=True):
    client_sequence: int | None
    level: str
    message: str
    source_url: str | None
    line_number: Natural | None
    column_number: Natural | None
    step_number: Natural | None
    logged_at: Moment | None


class NetworkEntry(OfResult, kw_only=True):
    client_sequence: int | None
    method: Name
    url: Name
    status_code: Natural | None
    resource_type: str | None
    request_headers: dict[str, Any]
    response_headers: dict[str, Any]
    request_size: Size | None
    response_size: Size | None
    duration_ms: Natural | None
    error_text: str | None
    step_number: Natural | None
    started_at: Moment | None


class Artifact(OfResult, kw_only=True):
    step_result_id: UUID | None
    artifact_type: ArtifactType
    artifact_category: Category | None
    step_number: Natural | None
    file_name: Annotated[str, Meta(min_length=1, max_length=255)]
    file_size: Annotated[int, Meta(ge=1)]
    mime_type: str
    text_encoding: TextEncoding | None
    checksum: Checksum
    description: str | None
    captured_at: Moment | None
    uploaded_at: Moment


class Shard(_Checked, kw_only=True):
    shard_index: Positive
    total: Annotated[int, Meta(ge=1, le=MAX_SHARDS)]
    tests_expected: Natural | None
    status: ShardStatus
    started_at: Moment | None
    finished_at: Moment | None
    errors: Annotated[list[Annotated[str, Meta(max_length=2000)]], Meta(max_length=100)]

    @property
    def key(self) -> Any:
        return self.shard_index


class ExpectedArtifact(_Checked, kw_only=True):
    """A file of a result that has not come. Its checksum and its name may be empty."""

    test_case_result_id: UUID
    checksum: Annotated[str, Meta(pattern="^([0-9a-f]{64})?$")]
    file_name: Annotated[str, Meta(max_length=255)]
    file_size: Size | None
    reason: Annotated[str, Meta(max_length=_MAX_REASON)]

    @property
    def key(self) -> Any:
        return self.test_case_result_id, self.checksum, self.file_name


OfRun = Shard | ExpectedArtifact
# Of each list of a run beside its results.
OF_RUN: dict[str, type[OfRun]] = {"shards": Shard, "expected_artifacts": ExpectedArtifact}

# Of each list below a result.
KINDS: dict[str, type[OfResult]] = {
    "steps": Step,
    "checkpoints": Checkpoint,
    "console_logs": ConsoleEntry,
    "network_logs": NetworkEntry,
    "artifacts": Artifact,
}


def decode(content: bytes, kind: type[T], name: str) -> T:
    """The value in the entry `name`. Raises BadArchive."""
    try:
        return msgspec.json.decode(content, type=kind)
    except (msgspec.DecodeError, RecursionError) as error:
        raise BadArchive(f"{name} is not what an archive of a run has there: {error}.") from error


def decode_list(content: bytes, kind: type[R], name: str) -> Sequence[R]:
    """As decode(), of a list. Raises BadArchive also for an id that it has twice: both would want the same file."""
    found: Sequence[R] = decode(content, list[kind], name)  # type: ignore[valid-type]
    if len({each.id for each in found}) < len(found):
        raise BadArchive(f"{name} has an id twice.")
    return found


def decode_of_run(content: bytes, kind: str, name: str) -> Sequence[OfRun]:
    """As decode(), of one of OF_RUN."""
    found: Sequence[OfRun] = decode(content, list[OF_RUN[kind]], name)  # type: ignore[valid-type]
    return found


def _is_deep(value: dict[str, Any]) -> bool:
    layer: list[Any] = [value]
    for _ in range(MAX_OBJECT_DEPTH + 1):
        inside = [each.values() if isinstance(each, dict) else each for each in layer if isinstance(each, dict | list)]
        if not inside:
            return False
        layer = [child for children in inside for child in children]
    return True
