"""An archive becomes a run again, under the ids that it had: all of it, in one transaction, or nothing."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC
from itertools import count
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg

from server.archive import names, rows
from server.archive.opened import BadArchive, Opened
from server.archive.rows import Artifact, OfResult
from server.database.pool import Pool
from server.database.queries import SQL
from server.ids import new_id
from server.observe.audit import Action, Actor, Subject, record
from server.reports import grouping
from server.storage.disk import Disk, Placement
from server.storage.folder import Storage
from server.storage.paths import relative_paths
from server.storage.stage import Stage
from server.uploads.content import KNOWN_TYPES, extension
from server.uploads.names import link_name
from server.uploads.plan import dedupe_key

sql = SQL.archives
_INSERTS = {
    "checkpoints": sql.insert_checkpoints,
    "console_logs": sql.insert_console_logs,
    "network_logs": sql.insert_network_logs,
}
_OF_RUN = {"shards": sql.insert_shards, "expected_artifacts": sql.insert_expected_artifacts}
# Values that are too long, of another type, or too large for an index.
_REFUSED = (asyncpg.DataError, asyncpg.IntegrityConstraintViolationError, asyncpg.ProgramLimitExceededError)
_FAILED_AT_ONCE = 200  # results whose errors are grouped with one statement


class NotImported(Exception):
    """The archive is right, but this database cannot take it; the message gives the reason."""


@dataclass(slots=True)
class Imported:
    """What an import did. Not `is_new`: the run was there already, and nothing was changed. `lost`: artifacts whose
    file is not in the archive."""

    run_id: UUID
    name: str
    project: str
    is_new: bool = True
    results: int = 0
    artifacts: int = 0
    lost: int = 0


class Import:
    """The import of one archive into the project `project`, by default that of the archive, which is created if there
    is none."""

    def __init__(self, archive: Opened, project: str | None, actor: Actor) -> None:
        self._archive, self._actor = archive, actor
        self._used = set[str]()  # the entries of data that were read
        self._files = {name[6:70]: name for name in archive.names if name.startswith("files/")}  # by checksum
        self._run = self._checked_run()
        self._project = project or self._run.project
        self._project_id = UUID(int=0)
        self._done = Imported(self._run.id, self._run.name, self._project)
        self._placed: set[str] = set()  # checksums of the files that the project has from this archive

    async def save(self, pool: Pool, storage: Storage) -> Imported:
        """Raises NotImported, BadArchive, and what a database or a disk raises that is away or full."""
        try:
            async with Stage(storage) as stage, pool.transaction(stage.settle, for_files=True) as connection:
                if not await self._is_known(connection):
                    await self._save(connection, stage)
        except asyncpg.UniqueViolationError as error:
            raise NotImported(_taken(error, self._done)) from error
        except _REFUSED as error:
            raise BadArchive(f"{self._archive.path} has a value that the database refuses: {error}.") from error
        return self._done

    def _checked_run(self) -> rows.Run:
        about = rows.decode(self._read(names.ABOUT), rows.About, names.ABOUT)
        if about.format != names.FORMAT:
            raise BadArchive(
                f"{self._archive.path} has format {about.format} (reportd {about.reportd[:20]!a}); this version reads "
                f"format {names.FORMAT}. Import it with the version that made it, or a later one."
            )
        run = rows.decode(self._read(names.RUN), rows.Run, names.RUN)
        if run.id != about.run:
            raise BadArchive(f"{names.RUN} has another run than {names.ABOUT}.")
        return run

    async def _is_known(self, connection: Any) -> bool:
        """Whether the project has the run already. Also creates the project."""
        found = await connection.fetchrow(sql.known_run, self._run.id)
        if found is not None and found["name"] != self._project:
            raise NotImported(
                f"Run {self._run.id} is in the project {found['name']} of this server already. A run is in one "
                f"project: import it into another server, or delete it there first."
            )
        self._done.is_new = found is None
        if found is None:
            self._project_id = await connection.fetchval(SQL.projects.ensure, new_id(0), self._project)
        return found is not None

    async def _save(self, connection: Any, stage: Stage) -> None:
        await connection.execute(sql.insert_run, self._project_id, self._read(names.RUN))
        failed: list[UUID] = []
        for name in self._numbered(names.results):
            content = self._read(name)
            results = rows.decode_list(content, rows.Result, name)
            if any(each.suite_run_id != self._run.id for each in results):
                raise BadArchive(f"{name} has a result of another run.")
            await connection.execute(sql.insert_results, self._run.id, self._project_id, content)
            failed += [each.id for each in results if each.status == "Failed"]
            for each in results:
                await self._save_below(connection, stage, each.id)
            self._done.results += len(results)
        for kind in rows.OF_RUN:
            await self._save_of_run(connection, kind)
        self._check_all_used()
        for start in range(0, len(failed), _FAILED_AT_ONCE):
            await grouping.refresh(connection, failed[start : start + _FAILED_AT_ONCE])
        subject = Subject("suite_run", self._run.id, self._run.name, self._project_id)
        archive, done = self._archive.path.name, self._done
        detail = {"archive": archive, "results": done.results, "artifacts": done.artifacts}
        await record(connection, Action.SUITE_RUN_IMPORTED, self._actor, subject, **detail)

    async def _save_of_run(self, connection: Any, kind: str) -> None:
        """A list of the run. Raises BadArchive for what it has twice, or of another run."""
        seen, totals = set[Any](), set[int]()
        for name in self._numbered(lambda number: names.of_run(kind, number)):
            content = self._read(name)
            found = rows.decode_of_run(content, kind, name)
            keys = {each.key for each in found}
            if len(keys) < len(found) or keys & seen:
                raise BadArchive(f"{name} has something twice.")
            seen |= keys
            totals |= {each.total for each in found if isinstance(each, rows.Shard)}
            if len(totals) > 1:
                raise BadArchive(f"{name} has shards of {min(totals)} and of {max(totals)}.")
            if await connection.fetchval(_OF_RUN[kind], self._run.id, content) != len(found):
                raise BadArchive(f"{name} has something of another run.")

    async def _save_below(self, connection: Any, stage: Stage, case_id: UUID) -> None:
        """What belongs to a result. Artifacts come before steps, which show them, and then get their step."""
        for content, artifacts in self._lists(case_id, "artifacts"):
            found = [each for each in artifacts if isinstance(each, Artifact)]
            paths = await self._place(connection, stage, found)
            keys = [dedupe_key(each, each.file_name, each.checksum) for each in found]
            linked = [link_name(each.file_name) for each in found]
            await connection.execute(sql.insert_artifacts, case_id, content, paths, keys, linked)
            self._done.artifacts += len(found)
        for content, steps in self._lists(case_id, "steps"):
            linked = [link_name(each.screenshot_path) for each in steps if isinstance(each, rows.Step)]
            await connection.execute(sql.insert_steps, case_id, content, linked)
        for content, _ in self._lists(case_id, "artifacts"):
            await connection.execute(sql.own_artifacts, case_id, content)
        for kind, query in _INSERTS.items():
            for content, _ in self._lists(case_id, kind):
                await connection.execute(query, case_id, content)

    def _lists(self, case_id: UUID, kind: str) -> Iterator[tuple[bytes, Sequence[OfResult]]]:
        """A list below a result, in portions: as JSON, and decoded."""
        for name in self._numbered(lambda number: names.listed(case_id, kind, number)):
            content = self._read(name)
            found = rows.decode_list(content, rows.KINDS[kind], name)
            if any(each.test_case_result_id != case_id for each in found):
                raise BadArchive(f"{name} has something of another result.")
            yield content, found

    def _numbered(self, name: Any) -> Iterator[str]:
        """The entries name(1), name(2), … that the archive has."""
        for number in count(1):
            if not self._archive.has(name(number)):
                return
            yield name(number)

    def _read(self, name: str) -> bytes:
        self._used.add(name)
        return self._archive.read(name)

    def _check_all_used(self) -> None:
        """Raises BadArchive for data of results, or portions, that nothing leads to: they would be left out."""
        for name in self._archive.names:
            if name.startswith("data/") and name not in self._used:
                raise BadArchive(f"{name} belongs to nothing in the archive.")

    async def _place(self, connection: Any, stage: Stage, artifacts: Sequence[Artifact]) -> list[str]:
        """The paths of these artifacts. Their files, as far as the archive has them, are durable there."""
        candidates = [self._paths(each) for each in artifacts]
        wanted = [path for paths in candidates for path in paths]
        taken = {row["storage_path"] for row in await connection.fetch(sql.taken, wanted)}
        paths = []
        for each, own in zip(artifacts, candidates, strict=True):
            free = [path for path in own if path not in taken]
            staged = await self._staged(stage, each)
            if staged is None:
                self._done.lost += 1
                paths.append(free[0])
            else:
                placement = Placement(staged, each.file_size, each.checksum, self._project_id, free)
                paths += await stage.publish([placement])
            taken.add(paths[-1])
        return paths

    def _paths(self, each: Artifact) -> list[str]:
        if each.mime_type not in KNOWN_TYPES:
            raise BadArchive(f"Artifact {each.id} has the type {each.mime_type[:100]!a}, which reportd does not store.")
        place = each.uploaded_at.astimezone(UTC), each.test_case_result_id, each.iteration_number, each.step_number
        return relative_paths(*place, each.artifact_category, each.file_name, extension(each.mime_type), each.id)

    async def _staged(self, stage: Stage, each: Artifact) -> str | None:
        """A staged file with the bytes of an artifact; None when the archive does not have them."""
        if each.checksum in self._placed:
            path = stage.new_path()
            descriptor = await stage.run(stage.disk.adopt, self._project_id, each.checksum, each.file_size, path)
            if descriptor is not None:
                os.close(descriptor)
                return path
        name = self._files.get(each.checksum)
        if name is None or self._archive.sum(name) != each.checksum:
            return None
        if self._archive.size(name) != each.file_size:
            raise BadArchive(f"{name} does not have the size of artifact {each.id}.")
        path = stage.new_path()
        await self._unpack(stage, name, path)
        self._placed.add(each.checksum)
        return path

    async def _unpack(self, stage: Stage, name: str, path: str) -> None:
        """Writes an entry to a staged path, durably."""
        for part in self._archive.parts(name):
            await stage.run(_append, stage.disk, path, part)
        await stage.run(_sync, stage.disk, path)


def _append(disk: Disk, path: str, part: bytes) -> None:
    disk.ensure_space(len(part))
    with Path(path).open("ab", buffering=0) as file:
        file.write(part)


def _sync(disk: Disk, path: str) -> None:
    with Path(path).open("rb", buffering=0) as file:
        disk.sync(file.fileno())


def _taken(error: asyncpg.UniqueViolationError, done: Imported) -> str:
    if error.constraint_name == "unique_run_key":
        return (
            f"The project {done.project} has another run with the run_key of this one. Delete that run, or name "
            "another project with --project."
        )
    return (
        f"Something else in this database has an id of the archive ({error.detail or error}). If another import of the "
        "same archive runs, wait for it; otherwise the archive was made by hand."
    )
