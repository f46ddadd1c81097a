"""The errors of failed results as they are written, see server/compare/failures.py."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol
from uuid import UUID

from msgspec import UNSET, Struct

from server.background import aside
from server.compare.failures import TEXT, TRACE, Failed, Group, group_of
from server.database.queries import SQL
from server.errors import CaseNotFound

# stable() takes 0.3 ms for 1,000 characters, as long as other work on 20 times as many.
_WEIGHT = 20
_SWEPT = 5_000  # results that one statement of `reportd regroup` reads
_DECIDE = ("status", "error_type", "error_message", "stack_trace")  # fields of a result that decide its group


class SentResult(Protocol):
    """A result that a client sent."""

    @property
    def status(self) -> str | None: ...
    @property
    def error_type(self) -> str | None: ...
    @property
    def error_message(self) -> str | None: ...
    @property
    def stack_trace(self) -> str | None: ...


class SentStep(Protocol):
    """A step that a client sent."""

    @property
    def status(self) -> str | None: ...
    @property
    def error_type(self) -> str | None: ...
    @property
    def error_message(self) -> str | None: ...
    @property
    def position(self) -> tuple[int, int]: ...


@dataclass(frozen=True, slots=True)
class Explained:
    """The error of a step, and its place in the test case; all None when no step says why it failed."""

    group: Group | None
    iteration_number: int | None
    step_number: int | None

    @property
    def columns(self) -> tuple[bytes | None, int | None, int | None]:
        """Fingerprint, iteration and number."""
        return (self.group.fingerprint if self.group else None), self.iteration_number, self.step_number


async def of_results(
    new: Sequence[SentResult], steps: Sequence[Sequence[SentStep]] | None = None
) -> list[Group | None]:
    """The error of each result with these steps, or when it has no steps yet. An empty list when no result failed."""
    if not any(each.status == "Failed" for each in new):
        return []
    reasons = [_reason(each) for each in steps] if steps is not None else [None] * len(new)
    texts = [
        each.error_message or (reason and reason.error_message) or each.stack_trace or ""
        for each, reason in zip(new, reasons, strict=True)
        if each.status == "Failed"
    ]
    size = sum(len(text[:TEXT]) for text in texts)
    return await aside(_WEIGHT * size, lambda: list(map(_of_result, new, reasons)))


def _of_result(each: SentResult, reason: SentStep | None) -> Group | None:
    if each.status != "Failed":
        return None
    step = Failed(reason.error_type, reason.error_message) if reason is not None else None
    return group_of(Failed(each.error_type, each.error_message, each.stack_trace), step)


async def after_patch(connection: Any, case_id: UUID, scope: UUID | None, patch: Struct) -> tuple[bool, Group | None]:
    """Whether the patch of a result can change its error, and that error after it. Raises CaseNotFound.

    Locks the row, and reads it, only when the patch can give it an error.
    """
    sent = {name: getattr(patch, name) for name in _DECIDE if getattr(patch, name) is not UNSET}
    if sent.get("status", "Failed") != "Failed":
        return True, None
    if not sent:
        return False, None
    if await connection.fetchval(SQL.test_cases.lock, case_id, scope) is None:
        raise CaseNotFound()
    (row,) = await connection.fetch(SQL.errors.sources, [case_id], TEXT, TRACE, True)
    return True, _of_row({**row, **sent})


def of_steps(new: Sequence[SentStep]) -> Explained:
    """The first step that says why it failed, and its error."""
    first = _reason(new)
    if first is None:
        return _UNEXPLAINED
    return Explained(group_of(Failed(None, None), Failed(first.error_type, first.error_message)), *first.position)


def _reason(new: Sequence[SentStep]) -> SentStep | None:
    """The first step that says why it failed."""
    failed = [step for step in new if step.status == "Failed" and step.error_message]
    return min(failed, key=lambda step: step.position, default=None)


_UNEXPLAINED = Explained(None, None, None)


async def add(connection: Any, cases: Collection[UUID], groups: Iterable[Group | None]) -> None:
    """Adds those of `groups` that these results have. Call it after everything that waits for a lock."""
    new = list({group.fingerprint: group for group in groups if group is not None}.values())
    if new:
        columns = [[getattr(group, name) for group in new] for name in Group.__slots__]
        await connection.execute(SQL.errors.add, cases, *columns)


async def refresh(connection: Any, cases: Collection[UUID], *, only_changed: bool = False) -> int:
    """Sets the error of these results from what is stored. The caller holds their locks. Returns how many it set.

    It UPDATEs the results, so the transaction must not have done so before, see `touch` in sql/test_cases.sql. It does
    so also without a change, because writers of steps need the new version, unless `only_changed`.
    """
    rows = await connection.fetch(SQL.errors.sources, cases, TEXT, TRACE, False)
    size = sum(len(row["error_message"] or row["step_error_message"] or row["stack_trace"] or "") for row in rows)
    found = zip(rows, await aside(_WEIGHT * size, lambda: [_of_row(row) for row in rows]), strict=True)
    new = {
        row["id"]: group
        for row, group in found
        if not only_changed or row["error_fingerprint"] != (group and group.fingerprint)
    }
    if new:
        await connection.execute(SQL.errors.assign, list(new), [group and group.fingerprint for group in new.values()])
        await add(connection, list(new), new.values())
    return len(new)


async def sweep(connection: Any, after: UUID) -> tuple[UUID | None, list[UUID]]:
    """The next results after this id: the last one's id, None at the end; and those whose error may be outdated."""
    rows = await connection.fetch(SQL.errors.sweep, after, _SWEPT)
    return (rows[-1]["id"] if rows else None), [row["id"] for row in rows if row["failed"]]


async def regroup(connection: Any, cases: Sequence[UUID]) -> int:
    """Brings the error of these results up to date, in a transaction of its own. Returns how many changed."""
    async with connection.transaction():
        await connection.execute(SQL.errors.lock, cases)
        return await refresh(connection, cases, only_changed=True)


def _of_row(row: Mapping[str, Any]) -> Group | None:
    if row["status"] != "Failed":
        return None
    step = Failed(row["step_error_type"], row["step_error_message"])
    return group_of(Failed(row["error_type"], row["error_message"], row["stack_trace"]), step)
