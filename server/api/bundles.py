"""Bundles: stores whole test case results with one request."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any
from uuid import UUID

from aiohttp import web

from server.background import aside
from server.bodies.bundles import Bundle, BundledTest, prepare
from server.config import ArtifactsConfig
from server.errors import Invalid, Problem, SuiteRunNotFound, TooLarge
from server.http import decode, reply
from server.http.idempotency import once, partial_failure
from server.http.reply import Response
from server.http.route import Incoming
from server.http.uploads import batch_rules, content_hash, count, count_refused, failed_files, plan_files, receive_form
from server.reports import bundles
from server.reports.bundles import BundledResult, BundleStored, Stored
from server.reports.scope import project_of
from server.services import CALL, SERVICES
from server.storage.stage import Stage
from server.uploads.expected import Expected, expected
from server.uploads.known import stage_known
from server.uploads.plan import Plan, Refused
from server.uploads.receive import Rules, StagedFile
from server.uploads.refusals import MANY_ENTRIES, NO_METADATA

_MAX_JSON = 16 << 20


@dataclass(slots=True)
class _Sent:
    """A received bundle: its JSON, its staged files, and a hash of its content."""

    raw: bytes
    files: Sequence[StagedFile]
    content: Callable[[], bytes]


async def create(request: web.Request, suite_id: UUID, incoming: Incoming) -> Response:
    """Stores up to 500 test case results with their steps, checkpoints, log entries and files.

    Send `multipart/form-data` with the field `bundle`, JSON of at most 16 MiB, and up to 50 files named `files`; or,
    without files, that JSON alone as `application/json`. `client_ref` is the client's own id of a result, unique in its
    run. When the run has it already, the result is not written again (`created: false`), and only its files are
    stored, as in an upload to it: so a bundle may be sent again at any time.

    All results are stored or, when a value is wrong, none; `errors` has its path, like `tests[3].steps[2].status`. A
    file hurts only itself: then the status is 207, and `failed` has the reason, in its test or, for a file that no test
    names, beside the tests. An artifact has a `file_index` (of the file, from 0 in the order sent); or `known` with
    `checksum`, `file_size` and `file_name`, for bytes that the project has already; or `later` with the same, for a
    file that comes in an upload of its own; or `refused`, the reason why the client does not send it, with `file_name`.
    A result is `complete` when no file failed and none of the last two kinds is left. Until they arrive, `GET
    …/completeness` of the run names these files.
    """
    services, call = request.app[SERVICES], request[CALL]
    async with Stage(services.storage) as stage:
        sent = await _receive(request, incoming, stage)
        bundle = call.body = await aside(len(sent.raw), decode.from_json, sent.raw, Bundle, call.warnings)
        await prepare(bundle, services.config.api.mask_passwords, services.patterns, len(sent.raw))
        known = await _stage_known(request, suite_id, stage, bundle.tests)
        plans, loose = _plan(request, bundle.tests, sent.files, known)
        missing = _missing(bundle.tests, sent.files, plans)
        stored: list[Stored] = []

        async def work(connection: Any) -> web.Response:
            accepted = [each.accepted for each in plans]
            stored.extend(await bundles.save(connection, stage, suite_id, call.scope, bundle.tests, accepted, missing))
            return await _reply(bundle.tests, stored, plans, loose, len(sent.raw))

        response = await once(request, work, sent.content, stage.settle)
        count([item for each in stored for item in each.saved])
        return response


def rules(config: ArtifactsConfig) -> Rules:
    """The limits of a bundle: those of a batch, and its JSON."""
    return batch_rules(config, "bundle", _MAX_JSON)


async def _receive(request: web.Request, incoming: Incoming, stage: Stage) -> _Sent:
    """Reads the body and stages its files. The memory of the JSON is reserved until the reply is sent."""
    services, call = request.app[SERVICES], request[CALL]
    memory = call.until_sent.enter_context(services.admission.reserve())
    most = min(services.config.api.max_json_size, _MAX_JSON)
    if incoming.is_json:
        raw = await decode.read_body(request, most, memory)
        digest = await aside(len(raw), hashlib.sha256, raw)
        sent = _Sent(raw, [], digest.digest)
    else:
        form = await receive_form(request, incoming, stage)
        if "bundle" not in form.fields:
            raise Invalid(Problem("bundle", "is required: a JSON object with the tests"))
        sent = _Sent(form.fields["bundle"], form.files, partial(content_hash, form))
        if len(sent.raw) > most:
            raise TooLarge(f"The field bundle is larger than {most >> 10} KiB.")
        if len(sent.raw) > decode.SMALL_BODY:
            memory.grow(len(sent.raw))
    call.body_size = len(sent.raw)
    return sent


async def _stage_known(
    request: web.Request, suite_id: UUID, stage: Stage, tests: Sequence[BundledTest]
) -> list[list[StagedFile]]:
    """The known files of each test: bytes of the run's project. Raises SuiteRunNotFound."""
    wanted = [each.known() for each in tests]
    if not any(wanted):
        return [[] for _ in tests]
    services = request.app[SERVICES]
    project_id = await project_of(services.pool, "suite_id", suite_id, request[CALL].scope)
    if project_id is None:
        raise SuiteRunNotFound()
    flat = [known for each in wanted for known in each]
    staged = iter(await stage_known(stage, project_id, flat, services.config.artifacts.max_file_size))
    return [[next(staged) for _ in each] for each in wanted]


def _plan(
    request: web.Request,
    tests: Sequence[BundledTest],
    files: Sequence[StagedFile],
    known: Sequence[Sequence[StagedFile]],
) -> tuple[list[Plan], list[Refused]]:
    """Which files of each test are stored, in the order of their entries, and the refusals of files that no test names.
    A file has one test."""
    plans, claimed = [], set[int]()
    for test, own in zip(tests, known, strict=True):
        entries = test.entries()
        taken = [entry for entry in entries if not entry.known and entry.index in claimed]
        entries = [entry for entry in entries if entry.known or entry.index not in claimed]
        named = {entry.index for entry in entries if not entry.known and entry.index is not None}
        claimed |= named
        places = {(entry.known, entry.index): place for place, entry in enumerate(entries)}
        its_files = [*(file for file in files if file.index in named), *own]
        its_files.sort(key=lambda file: places[file.known, file.index])
        planned = plan_files(request, its_files, entries)
        twice = [Refused(entry.index, None, MANY_ENTRIES) for entry in taken]
        count_refused(twice)
        plans.append(Plan(planned.accepted, [*planned.refused, *twice]))
    loose = [
        Refused(file.index, file.file_name, file.refusal or NO_METADATA) for file in files if file.index not in claimed
    ]
    count_refused(loose)
    return plans, loose


def _missing(tests: Sequence[BundledTest], files: Sequence[StagedFile], plans: Sequence[Plan]) -> list[list[Expected]]:
    """The files of each test that come later or were refused."""
    by_index = {file.index: file for file in files}
    return [
        list(expected(test.artifacts, test.known() if planned.refused else [], planned.refused, by_index))
        for test, planned in zip(tests, plans, strict=True)
    ]


async def _reply(
    tests: Sequence[BundledTest], stored: Sequence[Stored], plans: Sequence[Plan], loose: list[Refused], size: int
) -> web.Response:
    results = [
        BundledResult(
            test.client_ref,
            result.id,
            result.is_new,
            result.step_ids,
            [item.of_batch() for item in sorted(result.saved, key=lambda item: (item.known, item.index))],
            failed_files(planned.refused),
            not planned.refused and all(file.is_here for file in test.artifacts),
        )
        for test, result, planned in zip(tests, stored, plans, strict=True)
    ]
    refused = [*loose, *(item for planned in plans for item in planned.refused)]
    kept = sum(len(result.artifacts) for result in results)
    files = f"{kept} of {kept + len(refused)} artifacts" if refused else f"{kept} artifacts"
    message = f"Successfully stored {len(results)} tests with {files}"
    body = await aside(size, reply.encode, BundleStored(message, results, failed_files(loose)))
    response = reply.raw(207 if refused else 201, body)
    return partial_failure(response) if any(item.refusal.by_server for item in refused) else response
