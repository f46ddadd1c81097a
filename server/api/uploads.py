"""Uploads: how files become artifacts of a test case, one at a time or up to 50 in a batch."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import Annotated, Any
from uuid import UUID

import orjson
from aiohttp import web
from msgspec import Meta, Struct
from prometheus_client import Counter

from server.api.artifacts import Artifact
from server.config import ArtifactsConfig
from server.context import CALLER, CONFIG, MEMORY, SQL, STORAGE
from server.errors import Invalid, Problem, ReportError, StorageFull
from server.figures import RESENT
from server.http import decode, reply
from server.http.fields import ArtifactType, Category, FreeText, Instant, Natural, Positive
from server.http.idempotency import once, partial_failure
from server.http.reply import Response
from server.http.route import go_on, is_asking_or_large, must_exist
from server.ids import bucket_of, new_ids
from server.uploads import multipart, spool
from server.uploads.content import extension
from server.uploads.disk import Placement
from server.uploads.paths import relative_paths
from server.uploads.plan import Accepted, Entry, Plan, Refused, plan
from server.uploads.refusal import MIB, Refusal, bad_field, not_allowed, too_large
from server.uploads.storage import Stage

STORED = Counter("reportd_artifact_bytes", "Bytes of the artifacts that files became, each one's in full")
ACCEPTED = Counter(
    "reportd_artifacts",
    "Files accepted: duplicate=false, it became an artifact; duplicate=true, it was one already",
    ["duplicate"],
)
REFUSED = Counter(
    "reportd_artifacts_refused",
    "Files refused, alone or within a batch, by the error code of the reply. A request that is refused as a whole, "
    "before its files are looked at, is in reportd_requests_total alone",
    ["code"],
)
_NEW, _AGAIN = ACCEPTED.labels("false"), ACCEPTED.labels("true")


class ArtifactFields(Struct):
    """What a client says of a file: form fields of the single upload, an entry of a batch's `metadata`."""

    artifact_type: ArtifactType
    step_number: Natural | None = None
    iteration_number: Positive | None = None
    artifact_category: Category | None = None
    description: FreeText | None = None
    captured_at: Instant | None = None
    checksum: Annotated[str, Meta(pattern="^[0-9a-fA-F]{64}$")] | None = None


class ArtifactEntry(ArtifactFields, kw_only=True):
    file_index: Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]


class BatchForm(Struct):
    """The text field of a batch: a JSON array with an entry for each file."""

    metadata: list[ArtifactEntry]


@dataclass(slots=True)
class SentArtifact(Artifact):
    duplicate: bool


@dataclass(slots=True)
class BatchArtifact(SentArtifact):
    file_index: int


@dataclass(slots=True)
class FailedFile:
    file_index: int | None
    file_name: str | None
    error: str
    code: str


@dataclass(slots=True)
class BatchUploaded:
    message: str
    artifacts: list[BatchArtifact]
    failed: list[FailedFile]


@dataclass(frozen=True, slots=True)
class Saved:
    """An artifact as it is after a request that brought it, once more or for the first time."""

    row: tuple[Any, ...]
    duplicate: bool
    file_index: int
    size: int


async def create(request: web.Request, case_id: UUID) -> Response:
    """Stores one file. The same thing sent twice is one artifact."""
    config = request.app[CONFIG].artifacts
    async with request.app[STORAGE].stage() as stage:
        form = await _receive(request, case_id, single_rules(config), stage)
        if not form.files:
            raise Invalid(Problem("file", "is required"))
        entry = Entry(0, decode.from_text(_texts(form), ArtifactFields))
        planned = _plan(form, [entry], config)
        for refused in planned.refused:
            raise _as_error(refused.refusal)

        saved: list[Saved] = []

        async def work(connection: Any) -> web.Response:
            saved.extend(await _store(request, connection, stage, case_id, planned.accepted))
            return reply.created(SentArtifact(*[*saved[0].row, saved[0].duplicate]))

        response = await once(request, work, partial(_content_hash, form), stage.settle)
        _count(saved)
        return response


async def create_batch(request: web.Request, case_id: UUID) -> Response:
    """Stores many files at once; 207 when some are refused. One bad file never hurts the others."""
    config = request.app[CONFIG].artifacts
    async with request.app[STORAGE].stage() as stage:
        form = await _receive(request, case_id, batch_rules(config), stage)
        planned = _plan(form, _entries(form), config)
        if not planned.accepted and not planned.refused:
            raise Invalid(Problem("files", "is required"))
        if not planned.accepted:
            await must_exist(request, {"case_id": case_id})
            return _none_kept(request, planned.refused)

        saved: list[Saved] = []

        async def work(connection: Any) -> web.Response:
            saved.extend(await _store(request, connection, stage, case_id, planned.accepted))
            return _batch_reply(saved, planned.refused)

        response = await once(request, work, partial(_content_hash, form), stage.settle)
        _count(saved)
        return response


async def _receive(request: web.Request, case_id: UUID, rules: spool.Rules, stage: Stage) -> spool.Form:
    """The body, staged, after the checks that come before a body is read."""
    boundary = multipart.boundary_of(request.headers.get("Content-Type", ""))
    if is_asking_or_large(request):
        await must_exist(request, {"case_id": case_id})
        await go_on(request)
    with decode.Body(request) as body:
        return await spool.receive(body.next_chunk, boundary, rules, stage, request.app[MEMORY])


async def _store(
    request: web.Request, connection: Any, stage: Stage, case_id: UUID, accepted: Sequence[Accepted]
) -> list[Saved]:
    """Names and rows for the accepted files, in their order. What is there already comes back as it is."""
    sql = request.app[SQL].artifacts
    today = datetime.now(UTC)
    ids = new_ids(bucket_of(case_id), len(accepted))
    wishes = [_paths(today, case_id, *each) for each in zip(accepted, ids, strict=True)]
    keys = [item.dedupe_key for item in accepted]
    names = [path for wish in wishes for path in wish]
    locked = await connection.fetchrow(sql.lock, case_id, request[CALLER].project_id, keys, names)
    taken = set(locked["taken"])
    known = {}
    if locked["known"]:
        rows = await connection.fetch(sql.duplicates, case_id, locked["known"])
        known = {key: tuple(columns) for key, *columns in rows}
    again = {item.dedupe_key: item for item in accepted if item.dedupe_key in known}
    # Of the same thing twice in one request, the first stays.
    fresh: dict[bytes, tuple[UUID, Accepted, list[str]]] = {}
    for artifact_id, item, wish in zip(ids, accepted, wishes, strict=True):
        if item.dedupe_key not in known:
            fresh.setdefault(item.dedupe_key, (artifact_id, item, [path for path in wish if path not in taken]))

    items = [item for _, item, _ in fresh.values()]
    placements = [_placement(item, free, locked["project_id"]) for _, item, free in fresh.values()]
    for key, item in again.items():
        stored = Artifact(*known[key]).storage_path.removeprefix("artifacts/")
        placements.append(replace(_placement(item, [stored], locked["project_id"]), existing=True))
    published = await stage.publish(placements)

    if fresh:
        columns = _columns([artifact_id for artifact_id, _, _ in fresh.values()], items, published[: len(fresh)])
        known |= zip(fresh, map(tuple, await connection.fetch(sql.insert_many, case_id, *columns)), strict=True)
    seen: set[bytes] = set(again)
    saved = []
    for item in accepted:
        saved.append(Saved(known[item.dedupe_key], item.dedupe_key in seen, item.file.index, item.file.size))
        seen.add(item.dedupe_key)
    return saved


def _count(saved: list[Saved]) -> None:
    """Once it is committed."""
    new = [item.size for item in saved if not item.duplicate]
    again = [item.size for item in saved if item.duplicate]
    _NEW.inc(len(new))
    STORED.inc(sum(new))
    if again:
        _AGAIN.inc(len(again))
        RESENT.inc(sum(again))


def _paths(day: datetime, case_id: UUID, item: Accepted, artifact_id: UUID) -> list[str]:
    return relative_paths(
        day,
        case_id,
        item.iteration_number,
        item.fields.step_number,
        item.fields.artifact_category,
        item.file.file_name,
        extension(item.mime_type),
        artifact_id,
    )


def _placement(item: Accepted, candidates: Sequence[str], project_id: UUID) -> Placement:
    return Placement(item.file.path, item.file.size, item.file.checksum, project_id, candidates)


def _columns(ids: list[UUID], items: list[Accepted], storage_paths: list[str]) -> list[list[Any]]:
    """One list a column, in the order that insert_many takes them."""
    return [
        ids,
        [item.fields.artifact_type for item in items],
        [item.fields.artifact_category for item in items],
        [item.fields.step_number for item in items],
        [item.iteration_number for item in items],
        [item.file.file_name for item in items],
        [item.file.size for item in items],
        [item.mime_type for item in items],
        [item.file.checksum for item in items],
        storage_paths,
        [item.fields.description for item in items],
        [item.dedupe_key for item in items],
        [item.fields.captured_at for item in items],
    ]


def _plan(form: spool.Form, entries: list[Entry], config: ArtifactsConfig) -> Plan:
    planned = plan(form.files, entries, config.allowed_types, not_allowed(config.allowed_types))
    for refused in planned.refused:
        REFUSED.labels(refused.refusal.code).inc()
    return planned


def single_rules(config: ArtifactsConfig) -> spool.Rules:
    """What a single upload may be."""
    return spool.Rules(
        file_fields=frozenset({"file"}),
        max_file_size=config.max_file_size,
        max_files=1,
        max_total=config.max_file_size + MIB,
        too_long=too_large(config.max_file_size).sentence,
        too_many="must be one file; send more with …/artifacts/batch",
        single=True,
    )


def batch_rules(config: ArtifactsConfig) -> spool.Rules:
    """What a batch may be."""
    return spool.Rules(
        file_fields=frozenset({"files", "files[]", "file"}),
        max_file_size=config.max_file_size,
        max_files=config.batch_max_files,
        max_total=config.batch_max_files * config.max_file_size + 2 * MIB,
        too_long=f"The body is larger than {config.batch_max_files * config.max_file_size + 2 * MIB} bytes.",
        too_many=f"Too many files (maximum {config.batch_max_files} per batch)",
    )


def _texts(form: spool.Form) -> dict[str, str]:
    """The form's text fields. Raises Invalid for one that is not UTF-8."""
    texts = {}
    for name, value in form.fields.items():
        try:
            texts[name] = value.decode()
        except UnicodeDecodeError:
            raise Invalid(Problem(name, "must be UTF-8")) from None
    return texts


def _entries(form: spool.Form) -> list[Entry]:
    """The entries of a batch's `metadata`. Raises Invalid unless it is an array of objects."""
    if "metadata" not in form.fields:
        raise Invalid(Problem("metadata", "is required: a JSON array with an object for each file"))
    try:
        # Python's own decoder lets lone surrogates through: they are then a wrong value of one file.
        entries = json.loads(form.fields["metadata"])
    except (ValueError, RecursionError):
        entries = None
    if not isinstance(entries, list) or len(entries) > 1000 or not all(isinstance(item, dict) for item in entries):
        raise Invalid(Problem("metadata", "must be a JSON array of objects, at most 1000"))
    return [_entry(entry) for entry in entries]


def _entry(entry: dict[str, Any]) -> Entry:
    number = entry.get("file_index")
    # What JSON can carry back; true is no number.
    file_index = number if type(number) is int and abs(number) < 2**53 else None
    try:
        decode.check_text(entry)
        return Entry(file_index, decode.from_plain(entry, ArtifactEntry))
    except Invalid as error:
        problem = error.problems[0]
        return Entry(file_index, None, bad_field(problem.path, problem.message))


def _content_hash(form: spool.Form) -> bytes:
    """What an upload brought, never how the multipart was written: fields, and each file's name and bytes."""
    parts = [
        sorted((name, hashlib.sha256(value).hexdigest()) for name, value in form.fields.items()),
        [(file.file_name, file.refusal.code if file.refusal else file.checksum) for file in form.files],
    ]
    return hashlib.sha256(orjson.dumps(parts)).digest()


def _as_error(refusal: Refusal) -> ReportError:
    """A refusal as the reply of the single upload; its sentence is S1's, to the letter."""
    problems = [Problem("file", refusal.sentence)] if refusal.status == Invalid.status else []
    error = ReportError(refusal.sentence, problems=problems)
    error.status, error.code = refusal.status, refusal.code
    return error


def _batch_reply(saved: list[Saved], refused: list[Refused]) -> web.Response:
    artifacts = [BatchArtifact(*[*item.row, item.duplicate, item.file_index]) for item in saved]
    if not refused:
        return reply.created(BatchUploaded(f"Successfully uploaded {len(saved)} artifacts", artifacts, []))
    message = f"Uploaded {len(saved)} of {len(saved) + len(refused)} artifacts"
    response = reply.json(207, BatchUploaded(message, artifacts, _failed(refused)))
    return partial_failure(response) if any(item.refusal.by_server for item in refused) else response


def _none_kept(request: web.Request, refused: list[Refused]) -> web.Response:
    error: ReportError = (
        StorageFull()
        if any(item.refusal.by_server for item in refused)
        else Invalid(*[Problem(_where(item), item.refusal.sentence) for item in refused], code="no_file_kept")
    )
    message = f"Uploaded 0 of {len(refused)} artifacts"
    body = reply.error_body(request, error)
    return reply.json(error.status, {**body, "message": message, "artifacts": [], "failed": _failed(refused)})


def _where(refused: Refused) -> str:
    return "metadata" if refused.index is None else f"files[{refused.index}]"


def _failed(refused: list[Refused]) -> list[FailedFile]:
    return [
        FailedFile(item.index, item.file_name, item.refusal.sentence, item.refusal.code)
        for item in sorted(refused, key=lambda item: (item.index is None, item.index or 0))
    ]
