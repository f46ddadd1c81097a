"""Every error a client can meet: its name, HTTP status, code and sentence (the docstring)."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Problem:
    """One wrong value. `path` is like `steps[2].status`, empty for the body as a whole."""

    path: str
    message: str


class ReportError(Exception):
    """Something went wrong on the server."""

    status = 500
    code = "internal_error"

    def __init__(
        self,
        detail: str = "",
        *,
        problems: Sequence[Problem] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.detail = detail or type(self).__doc__ or self.code
        self.problems = tuple(problems)
        self.headers = dict(headers or {})
        super().__init__(self.detail)


class MalformedRequest(ReportError):
    """This is not a request as HTTP/1.1 has it."""

    status, code = 400, "malformed_request"


class MalformedBody(ReportError):
    """The body could not be read."""

    status, code = 400, "malformed_body"


class Unauthorized(ReportError):
    """A valid token is needed, as Authorization: Bearer <token>, or a session that has not ended."""

    status, code = 401, "unauthorized"

    def __init__(self) -> None:
        super().__init__(headers={"WWW-Authenticate": "Bearer"})


class WrongCredentials(Unauthorized):
    """The name or the password is wrong."""

    code = "wrong_credentials"


class RoleTooSmall(ReportError):
    """This needs a larger role than yours."""

    status, code = 403, "role_too_small"

    @classmethod
    def of(cls, role: str, needed: str) -> "RoleTooSmall":
        """Says which role it is, and which one is needed."""
        return cls(f"This needs the role {needed}; yours is {role}.")


class AllProjectsNeeded(ReportError):
    """This tells about all projects: it needs a role in all of them."""

    status, code = 403, "all_projects_needed"


class CsrfTokenNeeded(ReportError):
    """A cookie alone changes nothing: send the session's csrf_token as X-CSRF-Token."""

    status, code = 403, "csrf_token_needed"


class CrossSite(ReportError):
    """Pages of other sites may not ask for this."""

    status, code = 403, "cross_site"


class RouteNotFound(ReportError):
    """There is nothing at this address. The API is described at /docs."""

    status, code = 404, "route_not_found"


class SuiteRunNotFound(ReportError):
    """Suite run not found"""

    status, code = 404, "suite_run_not_found"


class CaseNotFound(ReportError):
    """Test case result not found"""

    status, code = 404, "test_case_result_not_found"


class StepNotFound(ReportError):
    """Step not found"""

    status, code = 404, "step_not_found"


class ArtifactNotFound(ReportError):
    """Artifact not found"""

    status, code = 404, "artifact_not_found"


class LinkNotFound(ReportError):
    """Link not found"""

    status, code = 404, "link_not_found"


class MethodNotAllowed(ReportError):
    """This address does not take this method; Allow names those it takes."""

    status, code = 405, "method_not_allowed"


class BodyTimeout(ReportError):
    """The body stopped coming."""

    status, code = 408, "body_timeout"


class StepsExist(ReportError):
    """Steps already exist for this test case. Use PUT to update."""

    status, code = 409, "steps_exist"


class CheckpointsExist(ReportError):
    """Checkpoints with these numbers already exist for this test case."""

    status, code = 409, "checkpoints_exist"


class ArtifactElsewhere(ReportError):
    """The artifact belongs to another test case."""

    status, code = 409, "artifact_of_other_test_case"


class InProgress(ReportError):
    """A request with this Idempotency-Key is still running. Send it again in a moment."""

    status, code = 409, "idempotency_in_progress"

    def __init__(self) -> None:
        super().__init__(headers={"Retry-After": "1"})


class ContentMissing(ReportError):
    """Artifact content is missing"""

    status, code = 410, "artifact_content_missing"


class TooLarge(ReportError):
    """The request is larger than allowed."""

    status, code = 413, "too_large"


class NotMultipart(ReportError):
    """Send the file as multipart/form-data with a boundary, not compressed."""

    status, code = 415, "not_multipart"


class UnknownEncoding(ReportError):
    """Send the body as it is, or compressed with gzip or deflate."""

    status, code = 415, "unknown_encoding"


class RangeNotSatisfiable(ReportError):
    """The range lies outside the file."""

    status, code = 416, "range_not_satisfiable"


class HostNotServed(ReportError):
    """This server does not answer for the host that the request names."""

    status, code = 421, "host_not_served"


class Invalid(ReportError):
    """The request has wrong values."""

    status, code = 422, "invalid"

    def __init__(self, *problems: Problem, code: str = "") -> None:
        first = problems[0]
        super().__init__(f"{first.path}: {first.message}" if first.path else first.message, problems=problems)
        self.code = code or self.code


class TooManyLogins(ReportError):
    """There were too many logins. Try again later."""

    status, code = 429, "too_many_logins"

    def __init__(self, seconds: float = 1) -> None:
        super().__init__(headers={"Retry-After": str(max(1, math.ceil(seconds)))})


class KeyReused(ReportError):
    """This Idempotency-Key was used for a different request."""

    status, code = 422, "idempotency_key_reused"

    def __init__(self) -> None:
        super().__init__(problems=[Problem("Idempotency-Key", "was used for a different request")])


class Unavailable(ReportError):
    """The database is not available right now. Send the request again in a moment."""

    status, code = 503, "database_unavailable"

    def __init__(self, detail: str = "") -> None:
        super().__init__(detail, headers={"Retry-After": "2"})


class TryAgain(Unavailable):
    """Another request changed the same thing at the same time. Send it again in a moment."""

    code = "try_again"


class OutcomeUnknown(Unavailable):
    """The connection to the database was lost while saving. Sending the request again is safe."""

    code = "outcome_unknown"


class Overloaded(ReportError):
    """The server has as much in progress as it can take. Send the request again in a moment."""

    status, code = 503, "overloaded"

    def __init__(self) -> None:
        super().__init__(headers={"Retry-After": "1"})


class StorageFull(ReportError):
    """Storage is full"""

    status, code = 507, "storage_full"
