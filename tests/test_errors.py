"""The errors that a client can receive: texts that the specification prescribes, and unique codes."""

import inspect
import re

from server import errors
from server.errors import Invalid, Problem, ReportError

SPECIFIED = {
    "CaseNotFound": (404, "Test case result not found"),
    "StepsExist": (409, "Steps already exist for this test case. Use PUT to update."),
    "ArtifactNotFound": (404, "Artifact not found"),
    "SuiteRunNotFound": (404, "Suite run not found"),
    "StepNotFound": (404, "Step not found"),
    "ContentMissing": (410, "Artifact content is missing"),
    "StorageFull": (507, "Storage is full"),
}
KINDS = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, ReportError)]


def made(kind):
    return kind(Problem("a", "b")) if kind is Invalid else kind()


def test_error_texts_are_those_of_the_specification():
    for name, expected in SPECIFIED.items():
        error = getattr(errors, name)()
        assert (error.status, error.detail) == expected


def test_every_error_has_a_text_a_status_and_a_unique_code():
    assert len(KINDS) > 20
    for kind in KINDS:
        error = made(kind)
        assert kind.__doc__ and len(error.detail.splitlines()) == 1 and str(error) == error.detail
        assert 400 <= error.status <= 599 and re.fullmatch("[a-z_]+", error.code)
        assert all(isinstance(value, str) for value in error.headers.values())
    codes = [kind.code for kind in KINDS]
    assert len(set(codes)) == len(codes)


def test_errors_to_retry_have_a_retry_after_header():
    for kind in KINDS:
        error = made(kind)
        retry = error.status in (429, 503) or kind.code == "idempotency_in_progress"
        assert ("Retry-After" in error.headers) == retry, kind


def test_the_detail_of_invalid_is_its_first_problem():
    error = Invalid(Problem("steps[2].status", "must be x"), Problem("", "and more"))
    assert (error.detail, len(error.problems)) == ("steps[2].status: must be x", 2)
    assert Invalid(Problem("", "the whole")).detail == "the whole"
    assert Invalid(Problem("", "x"), code="own").code == "own" and Invalid(Problem("", "x")).code == "invalid"
