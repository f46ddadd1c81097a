"""Uploads: stores files as artifacts of a test case, one alone or several in a batch."""

import hashlib
from functools import partial
from typing import Annotated, Any
from uuid import UUID

import orjson
from aiohttp import web
from msgspec import Meta, Struct
from prometheus_client import Counter

from server.background import aside
from server.config import ArtifactsConfig
from server.errors import Invalid, Problem, ReportError, StorageFull
from server.http import decode, reply
from server.http.fields import FreeText, Instant, Natural, Positive, Sha256
from server.http.idempotency import once, partial_failure
from server.http.repair import MAX_WARNINGS
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
from server.uploads.refusals import MIB, Refusal, bad_field, too_large

STORED = Counter("reportd_artifact_bytes", "Bytes of new artifacts, each in full even if its content is already stored")
ACCEPTED = Counter(
    "reportd_artifacts",
    "Files accepted: duplicate=false, as a new artifact; duplicate=true, the artifact existed already",
    ["duplicate"],
)
REFUSED = Counter(
    "reportd_artifacts_refused",
    "Files refused, alone or within a batch, by error code. A request that is refused as a whole, before its files "
    "are checked, only counts in reportd_requests_total",
    ["code"],
)
_ENTRIES_COST = 16  # decoding `metadata` takes as long as decoding this many times its bytes of other JSON
_NEW, _DUPLICATE = ACCEPTED.labels("false"), ACCEPTED.labels("true")


class ArtifactFields(Struct):
    """The metadata of a file: form fields of a single upload, or an entry of the `metadata` of a batch."""

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
    """Uploads a file as an artifact of a test case.

    The MIME type is detected from the content. A file may be sent again: with the same content, name, type, step,
    iteration and category, the reply is the existing artifact with `duplicate: true`. `checksum` is the expected
    SHA-256; a file with another checksum is refused.
    """
    async with Stage(request.app[SERVICES].storage) as stage:
        form = await _receive(request, incoming, stage)
        if not form.files:
            raise Invalid(Problem("file", "is required"))
        planned = _plan(
            request, form, [Entry(0, decode.from_text(_texts(form), ArtifactFields, request[CALL].warnings))]
        )
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
    """Uploads several files as artifacts of a test case, by default at most 50.

    The field of a file is named `files`, `files[]`, `files[0]` (any number) or `file`. `metadata` has one entry for
    each file; `file_index` is the position of the file in the order sent, from 0. Each file is stored or refused on
    its own. The status is 201 when all files are stored, and 207 when some are. When none is stored, it is 507 if the
    storage is full, else 422. `failed` has the reasons. Files may be sent again, as in the upload of a single file.
    """
    async with Stage(request.app[SERVICES].storage) as stage:
        form = await _receive(request, incoming, stage)
        cost = _ENTRIES_COST * len(form.fields.get("metadata", b""))
        entries = await aside(cost, _entries, form, request[CALL].warnings)
        planned = _plan(request, form, entries)
        if not planned.accepted and not planned.refused:
            raise Invalid(Problem("files", "is required"))
        if not planned.accepted:
            await must_exist(request, {"case_id": case_id})
            return _all_refused(request, planned.refused)
        saved: list[Saved] = []

        async def work(connection: Any) -> web.Response:
            saved.extend(await artifacts.save(connection, stage, case_id, request[CALL].scope, planned.accepted))
            return _batch_reply(saved, planned.refused)

        response = await once(request, work, partial(_content_hash, form), stage.settle)
        _count(saved)
        return response


async def _receive(request: web.Request, incoming: Incoming, stage: Stage) -> Form:
    """Reads the body and stages its files."""
    memory = request.app[SERVICES].admission.reserve()
    with decode.Body(request) as body:
        user_agent = request.headers.get("User-Agent", "")
        return await receive(body.next_chunk, incoming.boundary, incoming.rules, stage, memory, user_agent)


def _count(saved: list[Saved]) -> None:
    """Counts saved files. To be called after the commit."""
    new = [item.size for item in saved if not item.duplicate]
    duplicates = [item.size for item in saved if item.duplicate]
    _NEW.inc(len(new))
    STORED.inc(sum(new))
    if duplicates:
        _DUPLICATE.inc(len(duplicates))
        RESENT.inc(sum(duplicates))


def _plan(request: web.Request, form: Form, entries: list[Entry]) -> Plan:
    config = request.app[SERVICES].config.artifacts
    planned = plan(form.files, entries, config.allowed_types)
    for refused in planned.refused:
        REFUSED.labels(refused.refusal.code).inc()
    return planned


def single_rules(config: ArtifactsConfig) -> Rules:
    """The limits of a single upload."""
    return Rules(
        file_fields=frozenset({"file"}),
        max_file_size=config.max_file_size,
        max_files=1,
        max_total=config.max_file_size + MIB,
        too_long=too_large(config.max_file_size).sentence,
        too_many="must be one file; send several files with POST …/artifacts/batch",
        single=True,
    )


def batch_rules(config: ArtifactsConfig) -> Rules:
    """The limits of a batch."""
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


def _entries(form: Form, warnings: list[Problem]) -> list[Entry]:
    """The entries of a batch's `metadata`. Raises Invalid unless it is an array of objects."""
    if "metadata" not in form.fields:
        raise Invalid(Problem("metadata", "is required: a JSON array with an object for each file"))
    try:
        # Not msgspec, which refuses lone surrogates: _entry() then refuses one file instead of the whole batch.
        entries = decode.parse(form.fields["metadata"], "metadata")
    except ValueError:
        entries = None
    if not isinstance(entries, list) or len(entries) > 1000 or not all(isinstance(item, dict) for item in entries):
        raise Invalid(Problem("metadata", "must be a JSON array of objects, at most 1000"))
    return [_entry(i, entry, warnings) for i, entry in enumerate(entries)]


def _entry(i: int, entry: dict[str, Any], warnings: list[Problem]) -> Entry:
    number = entry.get("file_index")
    if isinstance(number, float) and number.is_integer():
        number = int(number)
    # JSON clients handle integers below 2**53 exactly; `true` is not a number.
    file_index = number if type(number) is int and abs(number) < 2**53 else None
    repairs: list[Problem] = []
    try:
        fields = decode.from_plain(entry, ArtifactEntry, repairs)
    except Invalid as error:
        problem = error.problems[0]
        return Entry(file_index, None, bad_field(problem.path, problem.message))
    warnings += [Problem(f"metadata[{i}].{each.path}", each.message) for each in repairs][
        : MAX_WARNINGS - len(warnings)
    ]
    return Entry(file_index, fields)


def _content_hash(form: Form) -> bytes:
    """A hash of the fields and of each file's name and content; boundary and part headers may differ in a retry."""
    parts = [
        sorted((name, hashlib.sha256(value).hexdigest()) for name, value in form.fields.items()),
        [(file.file_name, file.refusal.code if file.refusal else file.checksum) for file in form.files],
    ]
    return hashlib.sha256(orjson.dumps(parts)).digest()


def _as_error(refusal: Refusal) -> ReportError:
    """The error of a single upload whose file was refused. Its sentence must stay as the specification gives it."""
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


def _all_refused(request: web.Request, refused: list[Refused]) -> web.Response:
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
