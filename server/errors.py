"""Every error that a client can receive: its name, HTTP status, code and sentence (the docstring)."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class Problem:
    """One wrong value. `path` is like `steps[2].status`, or empty for the whole body. It is cut at MAX_PATH characters:
    a client's keys may be as long as its body."""

    MAX_PATH: ClassVar[int] = 200

    path: str
    message: str

    def __post_init__(self) -> None:
        if len(self.path) > self.MAX_PATH:
            object.__setattr__(self, "path", self.path[: self.MAX_PATH - 1] + "…")


class ReportError(Exception):
    """An unexpected error occurred on the server. Report the request_id to its operator."""

    status = 500
    code = "internal_error"

    def __init__(
        self,
        detail: str = "",
        *,
        problems: Sequence[Problem] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.detail = detail or " ".join((type(self).__doc__ or self.code).split())
        self.problems = tuple(problems)
        self.headers = dict(headers or {})
        super().__init__(self.detail)


class MalformedRequest(ReportError):
    """This is not a valid HTTP/1.1 request. Check the request line, Host, Content-Length and Transfer-Encoding."""

    status, code = 400, "malformed_request"


class MalformedBody(ReportError):
    """The request body could not be read. Check that it is complete and valid."""

    status, code = 400, "malformed_body"


class Unauthorized(ReportError):
    """A valid token is needed: send it as Authorization: Bearer <token>, or log in again if the session has ended."""

    status, code = 401, "unauthorized"

    def __init__(self, detail: str = "") -> None:
        super().__init__(detail, headers={"WWW-Authenticate": "Bearer"})


class SessionNeeded(Unauthorized):
    """This is for a person who is logged in (POST /api/v1/auth/login). A token cannot log out: revoke it instead."""

    code = "session_needed"


class TokenNeeded(Unauthorized):
    """This is for callers with a token: send it as Authorization: Bearer <token>."""

    code = "token_needed"


class WrongCredentials(Unauthorized):
    """The name or the password is wrong."""

    code = "wrong_credentials"


class WrongToken(WrongCredentials):
    """This token is not valid. It may have expired or been revoked."""

    code = "wrong_token"


class SignInFailed(WrongCredentials):
    """This sign-in has expired, or began in another browser. Sign in again."""

    code = "sign_in_failed"


class WrongIdToken(WrongCredentials):
    """This ID token is not valid. Get a new one from its issuer."""

    code = "wrong_id_token"


class ClaimsRefused(ReportError):
    """The ID token is genuine, but nothing here is for its owner. Ask the operator of this server."""

    status, code = 403, "claims_refused"


class RoleTooSmall(ReportError):
    """This needs a higher role than yours. Ask an admin of the project for it."""

    status, code = 403, "role_too_small"

    @classmethod
    def of(cls, role: str, needed: str) -> "RoleTooSmall":
        """The error that names the caller's role and the role that is needed."""
        return cls(f"This needs the role {needed}; yours is {role}.")


class AllProjectsNeeded(ReportError):
    """This shows data of all projects. Use a token or an account with a role in all projects."""

    status, code = 403, "all_projects_needed"


class CsrfTokenNeeded(ReportError):
    """A session cookie alone cannot change data. Also send the session's csrf_token as X-CSRF-Token."""

    status, code = 403, "csrf_token_needed"


class CrossSite(ReportError):
    """A page of another site may not send this request. Send it from a page of this server."""

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


class ErrorNotFound(ReportError):
    """Error not found: the project has no such fingerprint, or no result with it any more"""

    status, code = 404, "error_not_found"


class TestNotFound(ReportError):
    """Test not found: no result in the project has this test_id"""

    status, code = 404, "test_not_found"


class NotListed(ReportError):
    """There is no such entry, or it belongs to a project in which you are not admin."""

    status, code = 404, "not_listed"


class MethodNotAllowed(ReportError):
    """This address does not support this method. The Allow header lists the methods that it supports."""

    status, code = 405, "method_not_allowed"


class BodyTimeout(ReportError):
    """The request body arrived too slowly. Check the connection and send the request again."""

    status, code = 408, "body_timeout"


class StepsExist(ReportError):
    """Steps already exist for this test case. Use PUT to update."""

    status, code = 409, "steps_exist"


class CheckpointsExist(ReportError):
    """Checkpoints with these numbers already exist for this test case. Send only checkpoints with other numbers."""

    status, code = 409, "checkpoints_exist"


class ShardTotalDiffers(ReportError):
    """Another shard of this run has sent another total. Send the same total with each shard."""

    status, code = 409, "shard_total_differs"

    @classmethod
    def of(cls, sent: int, stored: int) -> "ShardTotalDiffers":
        """The error that names both totals."""
        return cls(f"This shard says total {sent}, and another one of this run said {stored}. Send the same with each.")


class ArtifactElsewhere(ReportError):
    """The artifact belongs to another test case. Use an artifact of the step's test case."""

    status, code = 409, "artifact_of_other_test_case"


class NotTyped(ReportError):
    """Nothing was changed: the name that was typed is another one. Type it exactly as it is shown."""

    status, code = 422, "not_typed"


class NotYours(ReportError):
    """This also concerns projects in which you are not admin. An admin of all projects can do it."""

    status, code = 403, "not_yours"


class OwnAccount(ReportError):
    """This is your own account. Another admin can do this, or `reportd user` on the server: nobody locks themselves
    out by mistake."""

    status, code = 409, "own_account"


class ByProvider(ReportError):
    """This person signs in at the provider of [auth.oidc]: the password is there, and the roles come from there at each
    sign-in (role_map). Disable the account to end all access at once."""

    status, code = 409, "signs_in_at_provider"


class NameTaken(ReportError):
    """This name is taken already. Choose another one."""

    status, code = 409, "name_taken"


class InProgress(ReportError):
    """Another request with this Idempotency-Key is still running. Send this one again in a moment."""

    status, code = 409, "idempotency_in_progress"

    def __init__(self) -> None:
        super().__init__(headers={"Retry-After": "1"})


class ContentMissing(ReportError):
    """Artifact content is missing"""

    status, code = 410, "artifact_content_missing"


class TooLarge(ReportError):
    """The request body is larger than allowed. Send less in one request."""

    status, code = 413, "too_large"


class NotMultipart(ReportError):
    """Send the file as multipart/form-data with a boundary, and without compressing the body."""

    status, code = 415, "not_multipart"


class NotForm(ReportError):
    """Send the fields as application/x-www-form-urlencoded, as a browser does."""

    status, code = 415, "not_form"


class UnknownEncoding(ReportError):
    """This Content-Encoding is not supported. Send the body uncompressed, or compressed with gzip or deflate."""

    status, code = 415, "unknown_encoding"


class RangeNotSatisfiable(ReportError):
    """The requested range is outside the file. The Content-Range header has the size of the file."""

    status, code = 416, "range_not_satisfiable"


class HostNotServed(ReportError):
    """This server does not serve the requested host. Use a host name that is configured for it."""

    status, code = 421, "host_not_served"


class Invalid(ReportError):
    """The request has invalid values."""

    status, code = 422, "invalid"

    def __init__(self, *problems: Problem, code: str = "") -> None:
        first = problems[0]
        super().__init__(f"{first.path}: {first.message}" if first.path else first.message, problems=problems)
        self.code = code or self.code


class TooManyLogins(ReportError):
    """Too many login attempts or new sessions. Try again after the number of seconds in the Retry-After header."""

    status, code = 429, "too_many_logins"

    def __init__(self, seconds: float = 1) -> None:
        super().__init__(headers={"Retry-After": str(max(1, math.ceil(seconds)))})


class KeyReused(ReportError):
    """This Idempotency-Key was used for a different request. Use a new key for each new request."""

    status, code = 422, "idempotency_key_reused"

    def __init__(self) -> None:
        super().__init__(problems=[Problem("Idempotency-Key", "was used for a different request")])


class Unavailable(ReportError):
    """The database is not available right now. Send the request again in a moment."""

    status, code = 503, "database_unavailable"

    def __init__(self, detail: str = "") -> None:
        super().__init__(detail, headers={"Retry-After": "2"})


class IssuerAway(ReportError):
    """The issuer of the token cannot be asked right now. Send the request again in a moment."""

    status, code = 503, "issuer_unavailable"

    def __init__(self, detail: str = "") -> None:
        super().__init__(detail, headers={"Retry-After": "5"})


class TryAgain(Unavailable):
    """Another request changed the same data at the same time. Send this request again in a moment."""

    code = "try_again"


class OutcomeUnknown(Unavailable):
    """The database connection was lost while saving. Uploads and requests with an Idempotency-Key may be repeated."""

    code = "outcome_unknown"


class Overloaded(ReportError):
    """The server has too many requests in progress. Send this request again in a moment."""

    status, code = 503, "overloaded"

    def __init__(self) -> None:
        super().__init__(headers={"Retry-After": "1"})


class StorageFull(ReportError):
    """Storage is full"""

    status, code = 507, "storage_full"
