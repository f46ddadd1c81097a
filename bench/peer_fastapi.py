"""The FastAPI peer: reportd's uploads and steps as an ordinary good team writes them.

It uses FastAPI, aiofiles, SQLAlchemy 2 and uvicorn. `python -m bench.peer_fastapi --dsn DSN --storage FOLDER
[--durable]` prints its port and serves until its standard input is closed. It uses the database tables of a reportd,
which also creates the runs and, for most rows, the test case results, and a separate storage folder.

It is tuned as the documentation of its parts advises: uvloop and httptools, no access log, replies serialized by
Pydantic models (FastAPI's advice since it deprecated ORJSONResponse), a connection pool, one transaction per request,
SQLAlchemy Core instead of the ORM for bulk rows with one INSERT for all (insertmanyvalues), and no endpoint or
dependency that runs in a thread.

What reportd does and the peer does not:
- Idempotency keys and deduplication. A request that is sent twice is stored twice.
- Complete file checks. The peer checks only the beginning and end of a file: no checksums of PNG chunks, no parsing of
  JPEGs and GIFs, and only the beginning of a text. One wrong value in `metadata` refuses the whole batch.
- Checks before the body. FastAPI reads the body, and Starlette spools it, before the token and the test case are
  checked. The total size of a body is not limited; that is left to a proxy.
- Locks. Two writers of one test case may miss each other's steps or screenshots, or both pass the 409 check.
- Choosing the best screenshot. A step shows the screenshot that was uploaded last for its number, whatever its
  `screenshot_path` names or a PATCH has pinned.
- Recovery. A crash may leave files without a row. A lost COMMIT counts as failed, although it may have succeeded.
  `--durable` syncs files and their folder, but not the parents of a new folder.
- Error objects with a code, request ids, metrics, and checks for values that PostgreSQL cannot store (a 500 here).
"""

import argparse
import asyncio
import codecs
import hashlib
import os
import socket
import sys
import threading
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path, PureWindowsPath
from typing import Annotated, Any, Literal
from uuid import UUID, uuid4

import aiofiles
import aiofiles.os
import uvicorn
from fastapi import APIRouter, Depends, FastAPI, Form, HTTPException, Request, Response, UploadFile
from fastapi.responses import FileResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import AfterValidator, BaseModel, Field, Json, StringConstraints
from sqlalchemy import (
    BigInteger,
    Column,
    DateTime,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Uuid,
    bindparam,
    exists,
    func,
    insert,
    make_url,
    or_,
    select,
    update,
)
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

MAX_FILE_SIZE = 10 << 20
MAX_FILES = 50
CHUNK = 1 << 20
END = 1024  # bytes at the end of a file that must contain its end mark
POOL_SIZE = 20
TOKEN_SECONDS = 5.0

# Signature at the beginning, MIME type, and end mark.
SIGNATURES = (
    (b"\x89PNG\r\n\x1a\n", "image/png", b"IEND\xaeB`\x82"),
    (b"\xff\xd8\xff", "image/jpeg", b"\xff\xd9"),
    (b"GIF87a", "image/gif", b";"),
    (b"GIF89a", "image/gif", b";"),
    (b"%PDF-", "application/pdf", b"%%EOF"),
)
# The allowed types.
EXTENSIONS = {
    "image/png": ".png",
    "image/jpeg": ".jpg",
    "image/gif": ".gif",
    "application/json": ".json",
    "text/plain": ".txt",
    "text/html": ".html",
    "application/pdf": ".pdf",
}
TEXT_TYPES = {".html": "text/html", ".htm": "text/html", ".json": "application/json", ".har": "application/json"}
STEP_TYPES = {
    *("click", "type", "assert", "navigate", "wait", "screenshot", "scroll", "select", "hover", "drag_drop"),
    *("execute_script", "switch_frame", "switch_window", "accept_alert", "dismiss_alert", "upload_file"),
}

# The tables, with the columns that are used here. reportd's migrations create them.

METADATA = MetaData()
TOKENS = Table(
    "tokens",
    METADATA,
    Column("token_hash", LargeBinary),
    Column("project_id", Uuid),
    Column("expires_at", DateTime(timezone=True)),
    Column("revoked_at", DateTime(timezone=True)),
)
RUNS = Table("suite_runs", METADATA, Column("id", Uuid, primary_key=True), Column("project_id", Uuid))
CASES = Table(
    "test_case_results",
    METADATA,
    Column("id", Uuid, primary_key=True),
    Column("suite_run_id", Uuid),
    Column("project_id", Uuid),
    Column("name", String(500)),
    Column("test_id", String(500)),
    Column("status", String(20)),
    Column("duration_ms", Integer),
    Column("created_at", DateTime(timezone=True), server_default=func.now()),
)
STEPS = Table(
    "test_step_results",
    METADATA,
    Column("id", Uuid, primary_key=True),
    Column("test_case_result_id", Uuid),
    Column("iteration_number", Integer),
    Column("step_number", Integer),
    Column("step_type", String(50)),
    Column("action", String(100)),
    Column("description", String),
    Column("status", String(20)),
    Column("duration_ms", Integer),
    Column("element_selector", String),
    Column("element_name", String(255)),
    Column("element_type", String(50)),
    Column("input_value", String),
    Column("expected_value", String),
    Column("actual_value", String),
    Column("error_message", String),
    Column("error_type", String(100)),
    Column("stack_trace", String),
    Column("screenshot_path", String(500)),
    Column("screenshot_artifact_id", Uuid),
    Column("started_at", DateTime(timezone=True)),
    Column("completed_at", DateTime(timezone=True)),
    Column("created_at", DateTime(timezone=True), server_default=func.now()),
    Column("updated_at", DateTime(timezone=True), server_default=func.now()),
)
ARTIFACTS = Table(
    "test_artifacts",
    METADATA,
    Column("id", Uuid, primary_key=True),
    Column("test_case_result_id", Uuid),
    Column("step_result_id", Uuid),
    Column("artifact_type", String(50)),
    Column("artifact_category", String(50)),
    Column("step_number", Integer),
    Column("iteration_number", Integer),
    Column("file_name", String(255)),
    Column("file_size", BigInteger),
    Column("mime_type", String(100)),
    Column("checksum", String(64)),
    Column("storage_path", String),
    Column("description", String),
    Column("dedupe_key", LargeBinary),
    Column("captured_at", DateTime(timezone=True)),
    Column("uploaded_at", DateTime(timezone=True), server_default=func.now()),
    Column("created_at", DateTime(timezone=True), server_default=func.now()),
)

# Request models.

INT32_MAX = 2**31 - 1
Natural = Annotated[int, Field(ge=0, le=INT32_MAX)]
Positive = Annotated[int, Field(ge=1, le=INT32_MAX)]
FreeText = Annotated[str, StringConstraints(max_length=1 << 20)]
Text50 = Annotated[str, StringConstraints(max_length=50)]
Text100 = Annotated[str, StringConstraints(max_length=100)]
Text255 = Annotated[str, StringConstraints(max_length=255)]
Text500 = Annotated[str, StringConstraints(max_length=500)]
StepType = Annotated[str, StringConstraints(min_length=1, max_length=50)]
Sha256 = Annotated[str, StringConstraints(pattern="^[0-9a-fA-F]{64}$")]
Instant = Annotated[datetime, AfterValidator(lambda value: value if value.tzinfo else value.replace(tzinfo=UTC))]
Status = Literal["Passed", "Failed", "Skipped", "Pending"]
ArtifactType = Literal["screenshot", "log", "video", "har", "other"]
Category = Literal["before", "after", "error", "checkpoint"]


class ArtifactFields(BaseModel):
    """The metadata of a file."""

    artifact_type: ArtifactType
    step_number: Natural | None = None
    iteration_number: Positive | None = None
    artifact_category: Category | None = None
    description: FreeText | None = None
    captured_at: Instant | None = None
    checksum: Sha256 | None = None


class ArtifactForm(ArtifactFields):
    """The form of the single upload."""

    file: UploadFile


class ArtifactEntry(ArtifactFields):
    """An entry of a batch's `metadata`."""

    file_index: int


class NewStep(BaseModel):
    """A step of `…/steps/bulk`. Without `step_type`, `action` may name the type."""

    step_number: Natural
    step_type: StepType | None = None
    iteration_number: Positive | None = None
    action: Text100 | None = None
    description: FreeText | None = None
    status: Status | None = None
    duration_ms: Natural | None = None
    element_selector: FreeText | None = None
    element_name: Text255 | None = None
    element_type: Text50 | None = None
    input_value: FreeText | None = None
    expected_value: FreeText | None = None
    actual_value: FreeText | None = None
    error_message: FreeText | None = None
    error_type: Text100 | None = None
    stack_trace: FreeText | None = None
    screenshot_path: Text500 | None = None
    started_at: Instant | None = None
    completed_at: Instant | None = None


class TypedStep(NewStep):
    """A step of `…/steps`."""

    step_type: StepType


class NewCase(BaseModel):
    """A test case result."""

    name: Annotated[str, StringConstraints(min_length=1, max_length=500)]
    test_id: Text500 | None = None
    status: Status | None = None
    duration_ms: Natural | None = None


class StepPatch(BaseModel):
    """The only field of a step that this peer changes."""

    screenshot_artifact_id: UUID | None


class NewSteps(BaseModel):
    steps: Annotated[list[NewStep], Field(max_length=10_000)]


class TypedSteps(BaseModel):
    steps: Annotated[list[TypedStep], Field(max_length=10_000)]


# Response models.


class Artifact(BaseModel):
    id: UUID
    test_case_result_id: UUID
    step_result_id: UUID | None
    artifact_type: str
    artifact_category: str | None
    step_number: int | None
    iteration_number: int
    file_name: str
    file_size: int
    mime_type: str
    checksum: str
    storage_path: str
    description: str | None
    download_url: str
    captured_at: datetime | None
    uploaded_at: datetime
    created_at: datetime
    duplicate: bool = False


class BatchArtifact(Artifact):
    file_index: int


class FailedFile(BaseModel):
    file_index: int
    file_name: str | None
    error: str
    code: str


class BatchUploaded(BaseModel):
    message: str
    artifacts: list[BatchArtifact]
    failed: list[FailedFile]


class Step(BaseModel):
    id: UUID
    test_case_result_id: UUID
    iteration_number: int
    step_number: int
    step_type: str
    action: str | None
    description: str | None
    status: str
    duration_ms: int | None
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
    started_at: datetime | None
    completed_at: datetime | None
    created_at: datetime
    updated_at: datetime


class StepsCreated(BaseModel):
    message: str
    step_ids: list[UUID]
    test_case_result_id: UUID


class StepsCreatedInBulk(BaseModel):
    created: int
    steps: list[Step]


class StepUpdated(BaseModel):
    id: UUID
    step_number: int
    screenshot_artifact_id: UUID | None
    message: str


class Case(BaseModel):
    id: UUID
    suite_run_id: UUID
    name: str
    test_id: str
    status: str
    duration_ms: int | None
    created_at: datetime


# Application state and authentication.


@dataclass(frozen=True, slots=True)
class Caller:
    """The owner of a token. `project_id` None: all projects."""

    project_id: UUID | None

    def sees(self, project_id: UUID | None) -> bool:
        return self.project_id is None or self.project_id == project_id


@dataclass(slots=True)
class Service:
    """The application's state."""

    engine: AsyncEngine
    storage: Path
    durable: bool
    callers: dict[bytes, tuple[Caller, float]] = field(default_factory=dict)


async def get_service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


async def get_caller(
    service: Annotated[Service, Depends(get_service)],
    credentials: Annotated[HTTPAuthorizationCredentials, Depends(HTTPBearer())],
) -> Caller:
    """The caller with this token. Cached: a revocation takes effect within TOKEN_SECONDS."""
    key = hashlib.sha256(credentials.credentials.encode()).digest()
    cached = service.callers.get(key)
    if cached is not None and cached[1] > time.monotonic():
        return cached[0]
    query = select(TOKENS.c.project_id).where(
        TOKENS.c.token_hash == key,
        TOKENS.c.revoked_at.is_(None),
        or_(TOKENS.c.expires_at.is_(None), TOKENS.c.expires_at > func.now()),
    )
    async with service.engine.connect() as connection:
        row = (await connection.execute(query)).first()
    if row is None:
        raise HTTPException(401, "A valid token is needed", {"WWW-Authenticate": "Bearer"})
    caller = Caller(row.project_id)
    service.callers[key] = caller, time.monotonic() + TOKEN_SECONDS
    return caller


ServiceOf = Annotated[Service, Depends(get_service)]
CallerOf = Annotated[Caller, Depends(get_caller)]
router = APIRouter(prefix="/api/v1/reports")


async def must_exist(connection: AsyncConnection, case_id: UUID, caller: Caller) -> None:
    row = (await connection.execute(select(CASES.c.project_id).where(CASES.c.id == case_id))).first()
    if row is None or not caller.sees(row.project_id):
        raise HTTPException(404, "Test case result not found")


# Files.


class Refused(Exception):
    """A file is refused."""

    def __init__(self, status: int, code: str, sentence: str) -> None:
        super().__init__(sentence)
        self.status, self.code, self.sentence = status, code, sentence


def corrupted() -> Refused:
    return Refused(422, "file_corrupted", "File corrupted or unreadable")


@dataclass(slots=True)
class Stored:
    """A file in the storage folder under its final name."""

    id: UUID
    path: Path
    fields: ArtifactFields
    file_index: int
    file_name: str
    size: int
    checksum: str
    mime_type: str


def type_of(head: bytes, tail: bytes, file_name: str, declared: str) -> str:
    """The MIME type of a file by its content. Raises Refused for a truncated file or an unknown type."""
    for signature, mime_type, end in SIGNATURES:
        if head.startswith(signature):
            if end not in tail:
                raise corrupted()
            return mime_type
    if declared.startswith("image/") or declared == "application/pdf":
        raise corrupted()
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise Refused(415, "type_not_allowed", f"File type not allowed. Allowed types: {', '.join(EXTENSIONS)}")
    return TEXT_TYPES.get(Path(file_name).suffix.lower(), "text/plain")


async def store(
    service: Service, folder: Path, upload: UploadFile, fields: ArtifactFields | None, file_index: int
) -> Stored:
    """Copies a file into `folder` while it checks it. Raises Refused, and then removes the copy."""
    if fields is None:
        raise Refused(422, "no_metadata", "No metadata for this file")
    artifact_id = uuid4()
    temporary = folder / f".{artifact_id}.part"
    file_name = PureWindowsPath(upload.filename or "").name[:255] or "file"
    digest, size, head, tail = hashlib.sha256(), 0, b"", b""
    try:
        async with aiofiles.open(temporary, "wb") as file:
            while chunk := await upload.read(CHUNK):
                size += len(chunk)
                if size > MAX_FILE_SIZE:
                    raise Refused(413, "file_too_large", "File size exceeds maximum allowed (10MB)")
                # On the event loop: measured with screenshots, a thread costs more CPU and saves no time.
                digest.update(chunk)
                head = head or chunk[:END]
                tail = (tail + chunk[-END:])[-END:]
                await file.write(chunk)
            if service.durable:
                await file.flush()
                await asyncio.to_thread(os.fdatasync, file.fileno())
        if not size:
            raise Refused(422, "file_empty", "File is empty")
        mime_type = type_of(head, tail, file_name, upload.content_type or "")
        checksum = digest.hexdigest()
        if fields.checksum is not None and fields.checksum.lower() != checksum:
            raise Refused(422, "checksum_mismatch", "Checksum mismatch")
        stem = "artifact" if fields.step_number is None else f"step_{fields.step_number:03d}"
        path = folder / f"{stem}_{artifact_id.hex}{EXTENSIONS[mime_type]}"
        await aiofiles.os.replace(temporary, path)
    except BaseException:
        with suppress(FileNotFoundError):
            await aiofiles.os.remove(temporary)
        raise
    return Stored(artifact_id, path, fields, file_index, file_name, size, checksum, mime_type)


def describe(file_index: int, file_name: str | None, refused: Refused) -> FailedFile:
    return FailedFile(file_index=file_index, file_name=file_name, error=refused.sentence, code=refused.code)


async def make_folder(service: Service, case_id: UUID) -> Path:
    folder = service.storage / f"{datetime.now(UTC):%Y/%m/%d}" / str(case_id)
    await aiofiles.os.makedirs(folder, exist_ok=True)
    return folder


def sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


async def save(
    service: Service, connection: AsyncConnection, case_id: UUID, folder: Path, files: Sequence[Stored]
) -> list[dict[str, Any]]:
    """Inserts rows for files and links them with their steps; the artifacts of the reply, in the same order."""
    if service.durable:
        await asyncio.to_thread(sync_folder, folder)
    numbers = {file.fields.step_number for file in files if file.fields.step_number is not None}
    steps: dict[tuple[int, int | None], UUID] = {}
    if numbers:
        found = await connection.execute(
            select(STEPS.c.iteration_number, STEPS.c.step_number, STEPS.c.id).where(
                STEPS.c.test_case_result_id == case_id, STEPS.c.step_number.in_(numbers)
            )
        )
        steps = {(iteration, number): step_id for iteration, number, step_id in found}
    rows: list[dict[str, Any]] = [
        {
            "id": file.id,
            "test_case_result_id": case_id,
            "step_result_id": steps.get((file.fields.iteration_number or 1, file.fields.step_number)),
            "artifact_type": file.fields.artifact_type,
            "artifact_category": file.fields.artifact_category,
            "step_number": file.fields.step_number,
            "iteration_number": file.fields.iteration_number or 1,
            "file_name": file.file_name,
            "file_size": file.size,
            "mime_type": file.mime_type,
            "checksum": file.checksum,
            "storage_path": str(file.path.relative_to(service.storage)),
            "description": file.fields.description,
            "dedupe_key": file.id.bytes,
            "captured_at": file.fields.captured_at,
        }
        for file in files
    ]
    times = await connection.execute(insert(ARTIFACTS).returning(ARTIFACTS.c.uploaded_at, ARTIFACTS.c.created_at), rows)
    uploaded_at, created_at = times.all()[0]  # the same for all rows of a transaction
    shown = {
        row["step_result_id"]: row["id"]
        for row in rows
        if row["step_result_id"] is not None and row["artifact_type"] == "screenshot"
    }
    if shown:
        await connection.execute(
            update(STEPS)
            .where(STEPS.c.id == bindparam("step_id"))
            .values(screenshot_artifact_id=bindparam("artifact_id"), updated_at=func.now()),
            [{"step_id": step_id, "artifact_id": artifact_id} for step_id, artifact_id in shown.items()],
        )
    return [
        {
            **row,
            "storage_path": f"artifacts/{row['storage_path']}",
            "download_url": f"/api/v1/reports/artifacts/{row['id']}/download",
            "uploaded_at": uploaded_at,
            "created_at": created_at,
            "file_index": file.file_index,
        }
        for row, file in zip(rows, files, strict=True)
    ]


async def remove(files: Sequence[Stored]) -> None:
    for file in files:
        with suppress(FileNotFoundError):
            await aiofiles.os.remove(file.path)


@router.post("/test-case-results/{case_id}/artifacts", status_code=201, response_model=Artifact)
async def upload_one(
    case_id: UUID, form: Annotated[ArtifactForm, Form()], service: ServiceOf, caller: CallerOf
) -> dict[str, Any]:
    """Stores one file."""
    stored: list[Stored] = []
    try:
        # Not as a dependency: FastAPI would commit after it has sent the reply.
        async with service.engine.begin() as connection:
            await must_exist(connection, case_id, caller)
            folder = await make_folder(service, case_id)
            stored.append(await store(service, folder, form.file, form, 0))
            (artifact,) = await save(service, connection, case_id, folder, stored)
    except Refused as refused:
        raise HTTPException(refused.status, refused.sentence) from None
    except BaseException:
        await remove(stored)
        raise
    return artifact


@router.post("/test-case-results/{case_id}/artifacts/batch", status_code=201, response_model=BatchUploaded)
async def upload_batch(
    case_id: UUID,
    metadata: Annotated[Json[list[ArtifactEntry]], Form()],
    files: list[UploadFile],
    service: ServiceOf,
    caller: CallerOf,
    response: Response,
) -> dict[str, Any]:
    """Stores many files; 207 when some are refused."""
    if len(files) > MAX_FILES:
        raise HTTPException(413, f"Too many files (maximum {MAX_FILES} per batch)")
    entries = {entry.file_index: entry for entry in metadata}
    stored: list[Stored] = []
    failed: list[FailedFile] = []
    artifacts: list[dict[str, Any]] = []
    try:
        async with service.engine.begin() as connection:
            await must_exist(connection, case_id, caller)
            folder = await make_folder(service, case_id)
            outcomes = await asyncio.gather(
                *[store(service, folder, file, entries.pop(i, None), i) for i, file in enumerate(files)],
                return_exceptions=True,  # waits for all files even when one fails
            )
            stored = [outcome for outcome in outcomes if isinstance(outcome, Stored)]
            for i, outcome in enumerate(outcomes):
                if isinstance(outcome, Refused):
                    failed.append(describe(i, files[i].filename, outcome))
                elif isinstance(outcome, BaseException):
                    raise outcome
            if stored:
                artifacts = await save(service, connection, case_id, folder, stored)
    except BaseException:
        await remove(stored)
        raise
    for i in entries:
        failed.append(describe(i, None, Refused(422, "no_file", "No file with this index")))
    message = f"Successfully uploaded {len(stored)} artifacts"
    if failed:
        response.status_code = 207 if stored else 422
        message = f"Uploaded {len(stored)} of {len(stored) + len(failed)} artifacts"
    return {"message": message, "artifacts": artifacts, "failed": failed}


@router.get("/artifacts/{artifact_id}/download")
async def download(artifact_id: UUID, service: ServiceOf, caller: CallerOf) -> FileResponse:
    """The bytes of an artifact."""
    query = (
        select(ARTIFACTS.c.storage_path, ARTIFACTS.c.file_name, ARTIFACTS.c.mime_type, CASES.c.project_id)
        .join(CASES, CASES.c.id == ARTIFACTS.c.test_case_result_id)
        .where(ARTIFACTS.c.id == artifact_id)
    )
    async with service.engine.connect() as connection:
        row = (await connection.execute(query)).first()
    if row is None or not caller.sees(row.project_id):
        raise HTTPException(404, "Artifact not found")
    path = service.storage / row.storage_path
    return FileResponse(path, media_type=row.mime_type, filename=row.file_name, content_disposition_type="inline")


# Steps.


async def insert_steps(connection: AsyncConnection, case_id: UUID, steps: Sequence[NewStep]) -> list[dict[str, Any]]:
    """Inserts rows for steps and links them with artifacts uploaded before; the steps of the reply."""
    numbers = [step.step_number for step in steps]
    found = await connection.execute(
        select(ARTIFACTS.c.id, ARTIFACTS.c.iteration_number, ARTIFACTS.c.step_number, ARTIFACTS.c.artifact_type).where(
            ARTIFACTS.c.test_case_result_id == case_id, ARTIFACTS.c.step_number.in_(numbers)
        )
    )
    artifacts = found.all()
    screenshots = {
        (item.iteration_number, item.step_number): item.id for item in artifacts if item.artifact_type == "screenshot"
    }
    rows = []
    for step in steps:
        row = step.model_dump()
        row["id"] = uuid4()
        row["test_case_result_id"] = case_id
        row["iteration_number"] = step.iteration_number or 1
        row["step_type"] = step.step_type or (step.action if step.action in STEP_TYPES else "other")
        row["status"] = step.status or "Pending"
        row["screenshot_artifact_id"] = screenshots.get((row["iteration_number"], step.step_number))
        rows.append(row)
    times = await connection.execute(insert(STEPS).returning(STEPS.c.created_at, STEPS.c.updated_at), rows)
    created_at, updated_at = times.all()[0]  # the same for all rows of a transaction
    ids = {(row["iteration_number"], row["step_number"]): row["id"] for row in rows}
    owned = [
        {"artifact_id": item.id, "step_id": ids[item.iteration_number, item.step_number]}
        for item in artifacts
        if (item.iteration_number, item.step_number) in ids
    ]
    if owned:
        await connection.execute(
            update(ARTIFACTS)
            .where(ARTIFACTS.c.id == bindparam("artifact_id"))
            .values(step_result_id=bindparam("step_id")),
            owned,
        )
    return [{**row, "created_at": created_at, "updated_at": updated_at} for row in rows]


async def create(
    service: Service, caller: Caller, case_id: UUID, steps: Sequence[NewStep], complete: bool
) -> list[dict[str, Any]]:
    """Inserts steps. With `complete`, 409 when their iterations already have steps."""
    positions = {(step.iteration_number or 1, step.step_number) for step in steps}
    if len(positions) < len(steps):
        raise HTTPException(422, "A step is sent twice for the same iteration")
    try:
        async with service.engine.begin() as connection:
            await must_exist(connection, case_id, caller)
            if not steps:
                return []
            if complete:
                existing = exists().where(
                    STEPS.c.test_case_result_id == case_id,
                    STEPS.c.iteration_number.in_({iteration for iteration, _ in positions}),
                )
                if await connection.scalar(select(existing)):
                    raise HTTPException(409, "Steps already exist for this test case. Use PUT to update.")
            return await insert_steps(connection, case_id, steps)
    except IntegrityError:
        raise HTTPException(409, "Steps already exist for this test case. Use PUT to update.") from None


@router.post("/test-case-results/{case_id}/steps", status_code=201, response_model=StepsCreated)
async def create_steps(case_id: UUID, body: TypedSteps, service: ServiceOf, caller: CallerOf) -> dict[str, Any]:
    """Creates all steps of a test case; 409 when an iteration already has steps."""
    rows = await create(service, caller, case_id, body.steps, complete=True)
    return {
        "message": f"Successfully created {len(rows)} step results",
        "step_ids": [row["id"] for row in rows],
        "test_case_result_id": case_id,
    }


@router.post("/test-case-results/{case_id}/steps/bulk", status_code=201, response_model=StepsCreatedInBulk)
async def create_steps_bulk(case_id: UUID, body: NewSteps, service: ServiceOf, caller: CallerOf) -> dict[str, Any]:
    """Creates steps of a test case, which may be sent in several requests."""
    rows = await create(service, caller, case_id, body.steps, complete=False)
    return {"created": len(rows), "steps": rows}


@router.patch("/steps/{step_id}", response_model=StepUpdated)
async def link_screenshot(step_id: UUID, body: StepPatch, service: ServiceOf, caller: CallerOf) -> dict[str, Any]:
    """Links a step with an artifact of its test case, or with none."""
    query = (
        select(STEPS.c.test_case_result_id, STEPS.c.step_number, CASES.c.project_id)
        .join(CASES, CASES.c.id == STEPS.c.test_case_result_id)
        .where(STEPS.c.id == step_id)
    )
    artifact_id = body.screenshot_artifact_id
    async with service.engine.begin() as connection:
        row = (await connection.execute(query)).first()
        if row is None or not caller.sees(row.project_id):
            raise HTTPException(404, "Step not found")
        if artifact_id is not None:
            case_of = select(ARTIFACTS.c.test_case_result_id).where(ARTIFACTS.c.id == artifact_id)
            if await connection.scalar(case_of) != row.test_case_result_id:
                raise HTTPException(409, "The artifact belongs to another test case")
        changes = {"screenshot_artifact_id": artifact_id, "updated_at": func.now()}
        await connection.execute(update(STEPS).where(STEPS.c.id == step_id).values(changes))
    return {
        "id": step_id,
        "step_number": row.step_number,
        "screenshot_artifact_id": artifact_id,
        "message": "Step updated successfully",
    }


# Test case results.


@router.post("/suite-runs/{run_id}/test-cases", status_code=201, response_model=Case)
async def create_case(run_id: UUID, body: NewCase, service: ServiceOf, caller: CallerOf) -> dict[str, Any]:
    """Creates a test case result in a run."""
    async with service.engine.begin() as connection:
        run = (await connection.execute(select(RUNS.c.project_id).where(RUNS.c.id == run_id))).first()
        if run is None or not caller.sees(run.project_id):
            raise HTTPException(404, "Suite run not found")
        row = {
            "id": uuid4(),
            "suite_run_id": run_id,
            "project_id": run.project_id,
            "name": body.name,
            "test_id": body.test_id or body.name,
            "status": body.status or "Pending",
            "duration_ms": body.duration_ms,
        }
        created_at = await connection.scalar(insert(CASES).values(row).returning(CASES.c.created_at))
    return {**row, "created_at": created_at}


# The server.


def create_app(dsn: str, storage: Path, durable: bool) -> FastAPI:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        url = make_url(dsn).set(drivername="postgresql+asyncpg")
        engine = create_async_engine(url, pool_size=POOL_SIZE, max_overflow=0)
        app.state.service = Service(engine, storage, durable)
        yield
        await engine.dispose()

    app = FastAPI(lifespan=lifespan)
    app.include_router(router)
    return app


class Server(uvicorn.Server):
    """Prints its port when it accepts requests, and stops when its standard input is closed."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if sockets and self.started:
            print(sockets[0].getsockname()[1], flush=True)
            threading.Thread(target=self._await_end, daemon=True).start()

    def _await_end(self) -> None:
        while os.read(sys.stdin.fileno(), 4096):
            pass
        self.should_exit = True


def main() -> None:
    """Serves on a free port."""
    parser = argparse.ArgumentParser(prog="python -m bench.peer_fastapi")
    parser.add_argument("--dsn", required=True, help="of a database with reportd's tables")
    parser.add_argument("--storage", required=True, type=Path, help="the folder for files")
    parser.add_argument("--durable", action="store_true", help="sync files and folders before the rows are committed")
    options = parser.parse_args()
    config = uvicorn.Config(
        create_app(options.dsn, options.storage, options.durable),
        loop="uvloop",
        http="httptools",
        log_level="warning",
        access_log=False,
        proxy_headers=False,
    )
    Server(config).run(sockets=[socket.create_server(("127.0.0.1", 0), backlog=1024)])


if __name__ == "__main__":
    main()
