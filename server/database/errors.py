"""Maps errors of PostgreSQL and asyncpg to the errors that clients get."""

import asyncio

import asyncpg

from server.errors import (
    ArtifactNotFound,
    CaseNotFound,
    CheckpointsExist,
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
# The connection was lost, so the outcome of a statement is unknown. In a failover, asyncpg also raises InterfaceError
# and InternalClientError.
LOST = (
    OSError,
    asyncio.TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    asyncpg.AdminShutdownError,  # may arrive after the local commit, while it waits for a standby
    asyncpg.CrashShutdownError,
)
# The database, or the connection to it, is temporarily unavailable.
UNAVAILABLE = (
    *LOST,
    asyncpg.OperatorInterventionError,  # 57…: the database shuts down, starts, or has cancelled a statement
    asyncpg.InsufficientResourcesError,  # 53…: too many connections, or out of memory
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.ObjectNotInPrerequisiteStateError,  # the database accepts no connections
    asyncpg.InvalidCatalogNameError,  # the database does not exist, during a restore
)
# Another transaction uses the same rows.
_CONFLICTS = (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError, asyncpg.SerializationError)


def as_report_error(error: Exception) -> ReportError | None:
    """The error that a client gets for a database error; None when it is a bug of the server."""
    if isinstance(error, asyncpg.IntegrityConstraintViolationError):
        known = _CONSTRAINTS.get(error.constraint_name or "")
        return known() if known else None
    if isinstance(error, _CONFLICTS):
        return TryAgain()
    if isinstance(error, asyncpg.DiskFullError):
        return StorageFull()
    if isinstance(error, asyncpg.DataError):
        # Validation runs first and is stricter. A value that slips through is still the client's error, not a 500.
        return Invalid(Problem("", "A value does not fit into the database."))
    if isinstance(error, UNAVAILABLE):
        return Unavailable()
    return None
