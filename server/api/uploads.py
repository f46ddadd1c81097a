"""Uploads: how files become artifacts of a test case, one at a time or up to 50 in a batch."""

import hashlib
import json
from functools import partial
from typing import Annotated, Any
from uuid import UUID

import orjson
from aiohttp import web
from msgspec import Meta, Struct
from prometheus_client import Counter

from server.config import ArtifactsConfig
from server.errors import Invalid, Problem, ReportError, StorageFull
from server.http import decode, reply
from server.http.fields import FreeText, Instant, Natural, Positive, Sha256
from server.http.idempotency import once, partial_failure
from server.http.reply import Response
from server.http.route import Incoming, must_exist
from server.observe.metrics import RESENT
from server.reports import artifacts
from server.reports.artifacts import BatchArtifact, BatchUploaded, FailedFile, Saved, SentArtifact
from server.reports.words import ArtifactType, Category
from server.services import CALL, SERVICES
from server.storage.stage import Stage
from server.uploads.plan import Entry, Plan, Refused, plan
from server.uploads.receive import Form, Rules, receive
from server.uploads.refusals import MIB, Refusal, bad_field, not_allowed, too_large

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
    checksum: Sha256 | None = None


class ArtifactEntry(ArtifactFields, kw_only=True):
    file_index: Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]


class BatchForm(Struct):
    """The text field of a batch: a JSON array with an entry for each file."""

    metadata: list[ArtifactEntry]


async def create(request: web.Request, case_id: UUID, incoming: Incoming) -> Response:
    """Stores one file. The same thing sent twice is one artifact."""
    async with Stage(request.app[SERVICES].storage) as stage:
        form = await _receive(request, incoming, stage)
        if not form.files:
            raise Invalid(Problem("file", "is required"))
        planned = _plan(request, form, [Entry(0, decode.from_text(_texts(form), ArtifactFields))])
        for refused in planned.refused:
            raise _as_error(refused.refusal)
        saved: list[Saved] = []

        async def work(connection: Any) -> web.Response:
            saved.extend(await artifacts.save(connection, stage, case_id, request[CALL].scope, planned.accepted))
            return reply.created(SentArtifact(*[*saved[0].row, saved[0].duplicate]))

        response = await once(request, work, partial(_content_hash, form), stage.settle)
        _count(saved)
        return response


async def create_batch(request: web.Request, case_id: UUID, incoming: Incoming) -> Response:
    """Stores many files at once; 207 when some are refused. One bad file never hurts the others."""
    async with Stage(request.app[SERVICES].storage) as stage:
        form = await _receive(request, incoming, stage)
        planned = _plan(request, form, _entries(form))
        if not planned.accepted and not planned.refused:
            raise Invalid(Problem("files", "is required"))
        if not planned.accepted:
            await must_exist(request, {"case_id": case_id})
            return _none_kept(request, planned.refused)
        saved: list[Saved] = []

        async def work(connection: Any) -> web.Response:
            saved.extend(await artifacts.save(connection, stage, case_id, request[CALL].scope, planned.accepted))
            return _batch_reply(saved, planned.refused)

        response = await once(request, work, partial(_content_hash, form), stage.settle)
        _count(saved)
        return response


async def _receive(request: web.Request, incoming: Incoming, stage: Stage) -> Form:
    """The body, staged."""
    memory = request.app[SERVICES].admission.reserve()
    with decode.Body(request) as body:
        return await receive(body.next_chunk, incoming.boundary, incoming.rules, stage, memory)


def _count(saved: list[Saved]) -> None:
    """Once it is committed."""
    new = [item.size for item in saved if not item.duplicate]
    again = [item.size for item in saved if item.duplicate]
    _NEW.inc(len(new))
    STORED.inc(sum(new))
    if again:
        _AGAIN.inc(len(again))
        RESENT.inc(sum(again))


def _plan(request: web.Request, form: Form, entries: list[Entry]) -> Plan:
    config = request.app[SERVICES].config.artifacts
    planned = plan(form.files, entries, config.allowed_types, not_allowed(config.allowed_types))
    for refused in planned.refused:
        REFUSED.labels(refused.refusal.code).inc()
    return planned


def single_rules(config: ArtifactsConfig) -> Rules:
    """What a single upload may be."""
    return Rules(
        file_fields=frozenset({"file"}),
        max_file_size=config.max_file_size,
        max_files=1,
        max_total=config.max_file_size + MIB,
        too_long=too_large(config.max_file_size).sentence,
        too_many="must be one file; send more with …/artifacts/batch",
        single=True,
    )


def batch_rules(config: ArtifactsConfig) -> Rules:
    """What a batch may be."""
    return Rules(
        file_fields=frozenset({"files", "files[]", "file"}),
        max_file_size=config.max_file_size,
        max_files=config.batch_max_files,
        max_total=config.batch_max_files * config.max_file_size + 2 * MIB,
        too_long=f"The body is larger than {config.batch_max_files * config.max_file_size + 2 * MIB} bytes.",
        too_many=f"Too many files (maximum {config.batch_max_files} per batch)",
    )


def _texts(form: Form) -> dict[str, str]:
    """The form's text fields. Raises Invalid for one that is not UTF-8."""
    texts = {}
    for name, value in form.fields.items():
        try:
            texts[name] = value.decode()
        except UnicodeDecodeError:
            raise Invalid(Problem(name, "must be UTF-8")) from None
    return texts


def _entries(form: Form) -> list[Entry]:
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


def _content_hash(form: Form) -> bytes:
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
