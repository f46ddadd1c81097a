"""Uploads: stores files as artifacts of a test case, one alone or several in a batch."""

from functools import partial
from typing import Any
from uuid import UUID

from aiohttp import web
from msgspec import Struct

from server.background import aside
from server.bodies.artifacts import ArtifactEntry, ArtifactFields, Entries, entries_of
from server.config import ArtifactsConfig
from server.errors import Invalid, Problem, ReportError, StorageFull
from server.http import decode, reply
from server.http.idempotency import once, partial_failure
from server.http.reply import Response
from server.http.route import Incoming, must_exist
from server.http.uploads import content_hash, count, failed_files, plan_files, receive_form, stage_known_of_case
from server.reports import saving
from server.reports.artifacts import BatchUploaded, SentArtifact
from server.reports.saving import Saved
from server.services import CALL, SERVICES
from server.storage.stage import Stage
from server.uploads.plan import Entry, Refused
from server.uploads.receive import Form, Rules
from server.uploads.refusals import MIB, Refusal, too_large

_ENTRIES_COST = 16  # decoding `metadata` takes as long as decoding this many times its bytes of other JSON


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
        form = await receive_form(request, incoming, stage)
        if not form.files:
            raise Invalid(Problem("file", "is required"))
        fields = decode.from_text(_texts(form), ArtifactFields, request[CALL].warnings)
        planned = plan_files(request, form.files, [Entry(0, fields)])
        for refused in planned.refused:
            raise _as_error(refused.refusal)
        saved: list[Saved] = []

        async def work(connection: Any) -> web.Response:
            saved.extend(await saving.save(connection, stage, case_id, request[CALL].scope, planned.accepted))
            return reply.created(SentArtifact(*[*saved[0].row, saved[0].duplicate]))

        response = await once(request, work, partial(content_hash, form), stage.settle)
        count(saved)
        return response


async def create_batch(request: web.Request, case_id: UUID, incoming: Incoming) -> Response:
    """Uploads several files as artifacts of a test case, by default at most 50.

    The field of a file is named `files`, `files[]`, `files[0]` (any number) or `file`. `metadata` has one entry for
    each file; `file_index` is the position of the file in the order sent, from 0. Each file is stored or refused on
    its own. The status is 201 when all files are stored, and 207 when some are. When none is stored, it is 507 if the
    storage is full, else 422. `failed` has the reasons. Files may be sent again, as in the upload of a single file.

    Bytes that the project has already need not be sent: up to 500 further entries may have `"known": true` with
    `checksum`, `file_size` and `file_name`, and no `file_index`. When the project does not have the bytes (any more),
    `failed` has such an entry with the code `content_missing`: then send the file. `known_index` counts these entries
    from 0 in the order sent. `POST /artifacts/missing` says beforehand which bytes the project has.
    """
    async with Stage(request.app[SERVICES].storage) as stage:
        form = await receive_form(request, incoming, stage)
        cost = _ENTRIES_COST * len(form.fields.get("metadata", b""))
        entries = await aside(cost, _entries, form, request[CALL].warnings)
        files = [*form.files, *await stage_known_of_case(request, case_id, stage, entries.known)]
        planned = plan_files(request, files, entries.of_files)
        if not planned.accepted and not planned.refused:
            raise Invalid(Problem("files", "is required"))
        if not planned.accepted:
            await must_exist(request, {"case_id": case_id})
            return _all_refused(request, planned.refused)
        saved: list[Saved] = []

        async def work(connection: Any) -> web.Response:
            saved.extend(await saving.save(connection, stage, case_id, request[CALL].scope, planned.accepted))
            return _batch_reply(saved, planned.refused)

        response = await once(request, work, partial(content_hash, form), stage.settle)
        count(saved)
        return response


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


def _texts(form: Form) -> dict[str, str]:
    """The form's text fields. Raises Invalid for one that is not UTF-8."""
    texts = {}
    for name, value in form.fields.items():
        try:
            texts[name] = value.decode()
        except UnicodeDecodeError:
            raise Invalid(Problem(name, "must be UTF-8")) from None
    return texts


def _entries(form: Form, warnings: list[Problem]) -> Entries:
    """The entries of a batch's `metadata`. Raises Invalid unless it is an array of objects."""
    if "metadata" not in form.fields:
        raise Invalid(Problem("metadata", "is required: a JSON array with an object for each file"))
    try:
        # Not msgspec, which refuses lone surrogates: one file is then refused instead of the whole batch.
        entries = decode.parse(form.fields["metadata"], "metadata")
    except ValueError:
        entries = None
    if not isinstance(entries, list) or len(entries) > 1000 or not all(isinstance(item, dict) for item in entries):
        raise Invalid(Problem("metadata", "must be a JSON array of objects, at most 1000"))
    return entries_of(entries, warnings)


def _as_error(refusal: Refusal) -> ReportError:
    """The error of a single upload whose file was refused. Its sentence must stay as the specification gives it."""
    problems = [Problem("file", refusal.sentence)] if refusal.status == Invalid.status else []
    error = ReportError(refusal.sentence, problems=problems)
    error.status, error.code = refusal.status, refusal.code
    return error


def _batch_reply(saved: list[Saved], refused: list[Refused]) -> web.Response:
    artifacts = [item.of_batch() for item in saved]
    if not refused:
        return reply.created(BatchUploaded(f"Successfully uploaded {len(saved)} artifacts", artifacts, []))
    message = f"Uploaded {len(saved)} of {len(saved) + len(refused)} artifacts"
    response = reply.json(207, BatchUploaded(message, artifacts, failed_files(refused)))
    return partial_failure(response) if any(item.refusal.by_server for item in refused) else response


def _all_refused(request: web.Request, refused: list[Refused]) -> web.Response:
    error: ReportError = (
        StorageFull()
        if any(item.refusal.by_server for item in refused)
        else Invalid(*[Problem(_where(item), item.refusal.sentence) for item in refused], code="no_file_kept")
    )
    message = f"Uploaded 0 of {len(refused)} artifacts"
    body = reply.error_body(request, error)
    return reply.json(error.status, {**body, "message": message, "artifacts": [], "failed": failed_files(refused)})


def _where(refused: Refused) -> str:
    if refused.known:
        return f"known[{refused.index}]"
    return "metadata" if refused.index is None else f"files[{refused.index}]"
