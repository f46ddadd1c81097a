"""What PostgreSQL's and asyncpg's errors mean for a client."""

import asyncio

import asyncpg

from server.errors import (
    ArtifactNotFound,
    CaseNotFound,
    CheckpointsExist,
    InProgress,
    Invalid,
    Problem,
    ReportError,
    StepsExist,
    StorageFull,
    SuiteRunNotFound,
    TryAgain,
    Unavailable,
)

_CONSTRAINTS: dict[str, type[ReportError]] = {
    "unique_step_per_test": StepsExist,
    "unique_checkpoint_per_test": CheckpointsExist,
    "test_case_results_suite_run_id_fkey": SuiteRunNotFound,
    "evidence_links_suite_run_id_fkey": SuiteRunNotFound,
    "evidence_links_test_case_result_id_fkey": CaseNotFound,
    "evidence_links_artifact_id_fkey": ArtifactNotFound,
}
# Nobody told us how a statement ended; asyncpg raises Interface- and InternalClientError in failovers.
LOST = (
    OSError,
    asyncio.TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    asyncpg.AdminShutdownError,  # it may come after the commit, while that waits for a standby
    asyncpg.CrashShutdownError,
)
# The database or the way to it is gone for now.
AWAY = (
    *LOST,
    asyncpg.OperatorInterventionError,  # 57…: it shuts down, starts, or has ended a statement
    asyncpg.InsufficientResourcesError,  # 53…: no connection is free, or no memory
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.ObjectNotInPrerequisiteStateError,  # the database takes no connections
    asyncpg.InvalidCatalogNameError,  # it is away, for a restore
)


def as_report_error(error: Exception) -> ReportError | None:
    """The error that a client gets for a database error; None for a mistake of our own."""
    if isinstance(error, asyncpg.IntegrityConstraintViolationError):
        known = _CONSTRAINTS.get(error.constraint_name or "")
        return known() if known else None
    if isinstance(error, asyncpg.LockNotAvailableError):
        return InProgress()
    if isinstance(error, asyncpg.DeadlockDetectedError | asyncpg.SerializationError):
        return TryAgain()
    if isinstance(error, asyncpg.DiskFullError):
        return StorageFull()
    if isinstance(error, asyncpg.DataError):
        # Validation comes first and is stricter; what slips through is still the caller's value, not our crash.
        return Invalid(Problem("", "A value does not fit into the database."))
    if isinstance(error, AWAY):
        return Unavailable()
    return None
