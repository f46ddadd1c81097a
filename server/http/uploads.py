"""What the endpoints that receive files share: reading the body, deciding about its files, counting them."""

import hashlib
from collections.abc import Sequence
from uuid import UUID

import orjson
from aiohttp import web
from prometheus_client import Counter

from server.config import ArtifactsConfig
from server.errors import CaseNotFound
from server.http import decode
from server.http.route import Incoming
from server.observe.metrics import RESENT
from server.reports.artifacts import FailedFile
from server.reports.saving import Saved
from server.reports.scope import project_of
from server.services import CALL, SERVICES
from server.storage.stage import Stage
from server.uploads.known import Known, stage_known
from server.uploads.plan import Entry, Plan, Refused, plan
from server.uploads.receive import MAX_METADATA, Form, Rules, StagedFile, receive
from server.uploads.refusals import MIB

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
KNOWN = Counter("reportd_uploads_known", "Files accepted without their bytes, which the project had already")
KNOWN_BYTES = Counter("reportd_uploads_known_bytes", "Bytes that clients did not send, because the project had them")
_NEW, _DUPLICATE = ACCEPTED.labels("false"), ACCEPTED.labels("true")


def batch_rules(config: ArtifactsConfig, json_field: str = "metadata", json_size: int = MAX_METADATA) -> Rules:
    """The limits of a batch. `json_size`: of its field with JSON, in bytes."""
    most = config.batch_max_files * config.max_file_size + json_size + MIB
    return Rules(
        file_fields=frozenset({"files", "files[]", "file"}),
        max_file_size=config.max_file_size,
        max_files=config.batch_max_files,
        max_total=most,
        too_long=f"The body is larger than {most} bytes.",
        json_field=json_field,
        json_size=json_size,
        too_many=f"Too many files (maximum {config.batch_max_files} per batch)",
    )


async def receive_form(request: web.Request, incoming: Incoming, stage: Stage) -> Form:
    """Reads the body and stages its files."""
    memory = request.app[SERVICES].admission.reserve()
    with decode.Body(request) as body:
        user_agent = request.headers.get("User-Agent", "")
        return await receive(body.next_chunk, incoming.boundary, incoming.rules, stage, memory, user_agent)


async def stage_known_of_case(
    request: web.Request, case_id: UUID, stage: Stage, wanted: Sequence[Known]
) -> list[StagedFile]:
    """The known files of an upload to a test case: bytes of the project of that test case. Raises CaseNotFound."""
    if not wanted:
        return []
    services = request.app[SERVICES]
    project_id = await project_of(services.pool, "case_id", case_id, request[CALL].scope)
    if project_id is None:
        raise CaseNotFound()
    return await stage_known(stage, project_id, wanted, services.config.artifacts.max_file_size)


def plan_files(request: web.Request, files: Sequence[StagedFile], entries: Sequence[Entry]) -> Plan:
    """Which files are stored; counts the others."""
    planned = plan(files, entries, request.app[SERVICES].config.artifacts.allowed_types)
    count_refused(planned.refused)
    return planned


def count_refused(refused: Sequence[Refused]) -> None:
    """Counts refused files."""
    for item in refused:
        REFUSED.labels(item.refusal.code).inc()


def count(saved: Sequence[Saved]) -> None:
    """Counts saved files. To be called after the commit."""
    new = [item.size for item in saved if not item.duplicate]
    duplicates = [item.size for item in saved if item.duplicate]
    known = [item.size for item in saved if item.known]
    _NEW.inc(len(new))
    STORED.inc(sum(new))
    if duplicates:
        _DUPLICATE.inc(len(duplicates))
        RESENT.inc(sum(duplicates))
    if known:
        KNOWN.inc(len(known))
        KNOWN_BYTES.inc(sum(known))


def failed_files(refused: Sequence[Refused]) -> list[FailedFile]:
    """The `failed` of a reply: received files by their index, then known ones."""
    return [
        FailedFile(
            None if item.known else item.index,
            item.index if item.known else None,
            item.file_name,
            item.refusal.sentence,
            item.refusal.code,
        )
        for item in sorted(refused, key=lambda item: (item.known, item.index is None, item.index or 0))
    ]


def content_hash(form: Form) -> bytes:
    """A hash of the fields and of each file's name and content; boundary and part headers may differ in a retry."""
    parts = [
        sorted((name, hashlib.sha256(value).hexdigest()) for name, value in form.fields.items()),
        [(file.file_name, file.refusal.code if file.refusal else file.checksum) for file in form.files],
    ]
    return hashlib.sha256(orjson.dumps(parts)).digest()
