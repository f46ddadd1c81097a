"""ROUTES: every endpoint, one row each. The table of contents of the API."""

from server.api import (
    artifacts,
    audit,
    checkpoints,
    docs,
    downloads,
    health,
    logs,
    reports,
    sessions,
    steps,
    suite_runs,
    test_cases,
    uploads,
)
from server.auth.roles import Role
from server.http.route import Route, Upload

_BASE = "/api/v1/reports"
_RUN = f"{_BASE}/suite-runs/{{suite_id}}"
_CASE = f"{_BASE}/test-case-results/{{case_id}}"
_ARTIFACT = f"{_BASE}/artifacts/{{artifact_id}}"
_AUTH = "/api/v1/auth"

ROUTES = [
    Route("POST", f"{_BASE}/suite-runs", suite_runs.create, suite_runs.SuiteRun, 201, also=(200,)),
    Route("GET", f"{_BASE}/suite-runs", suite_runs.index, suite_runs.SuiteRunPage),
    Route("GET", _RUN, suite_runs.show, suite_runs.SuiteRun),
    Route("PATCH", _RUN, suite_runs.update, suite_runs.SuiteRun),
    Route("DELETE", _RUN, suite_runs.delete, None, 204),
    Route("POST", f"{_RUN}/test-cases", test_cases.create, test_cases.TestCase, 201),
    Route("POST", f"{_RUN}/test-cases/bulk", test_cases.create_many, test_cases.TestCasesCreated, 201),
    Route("GET", f"{_RUN}/test-cases", test_cases.index, test_cases.TestCasePage),
    Route("GET", _CASE, test_cases.show, test_cases.TestCase),
    Route("PATCH", _CASE, test_cases.update, test_cases.TestCase),
    Route("GET", f"{_CASE}/report", reports.show, reports.Report),
    Route("POST", f"{_CASE}/steps", steps.create, steps.StepsCreated, 201),
    Route("POST", f"{_CASE}/steps/bulk", steps.create_bulk, steps.StepsCreatedWhole, 201),
    Route("PUT", f"{_CASE}/steps", steps.replace, steps.StepsReplaced, admin_if="prune"),
    Route("GET", f"{_CASE}/steps", steps.index, steps.StepList, array=steps.IllustratedStep),
    Route("PATCH", f"{_BASE}/steps/{{step_id}}", steps.link, steps.StepLinked),
    Route("POST", f"{_CASE}/checkpoints", checkpoints.create_many, checkpoints.Appended, 201),
    Route("GET", f"{_CASE}/checkpoints", checkpoints.index, checkpoints.CheckpointPage),
    Route("POST", f"{_CASE}/console-logs", logs.create_console, logs.EntriesCreated, 201),
    Route("GET", f"{_CASE}/console-logs", logs.index_console, logs.ConsolePage),
    Route("POST", f"{_CASE}/network-logs", logs.create_network, logs.EntriesCreated, 201),
    Route("GET", f"{_CASE}/network-logs", logs.index_network, logs.NetworkPage),
    Route(
        "POST",
        f"{_CASE}/artifacts",
        uploads.create,
        uploads.SentArtifact,
        201,
        upload=Upload("file", uploads.ArtifactFields, uploads.single_rules),
    ),
    Route(
        "POST",
        f"{_CASE}/artifacts/batch",
        uploads.create_batch,
        uploads.BatchUploaded,
        201,
        also=(207,),
        upload=Upload("files", uploads.BatchForm, uploads.batch_rules),
    ),
    Route("GET", f"{_CASE}/artifacts", artifacts.index, artifacts.ArtifactPage, array=artifacts.Artifact),
    Route("GET", _ARTIFACT, artifacts.show, artifacts.Artifact),
    Route("GET", f"{_ARTIFACT}/download", downloads.show, "*/*", also=(206, 304)),
    Route("DELETE", _ARTIFACT, artifacts.delete, None, 204),
    Route("POST", f"{_AUTH}/session", sessions.create, sessions.Session, 201, role=Role.VIEWER, only="token"),
    Route("GET", f"{_AUTH}/session", sessions.show, sessions.Identity),
    Route("POST", f"{_AUTH}/login", sessions.login, sessions.PersonsSession, 201, public=True, errors=(401, 403, 429)),
    Route("POST", f"{_AUTH}/logout", sessions.logout, None, 204, role=Role.VIEWER, only="person"),
    Route("GET", "/api/v1/audit", audit.index, audit.AuditPage, role=Role.ADMIN),
    Route("GET", "/healthz", health.live, health.Health, public=True),
    Route("GET", "/readyz", health.ready, health.Health, public=True),
    Route(
        "GET",
        "/metrics",
        health.metrics,
        "text/plain",
        public=lambda config: config.auth.metrics_public,
        about_all=True,
    ),
    Route("GET", "/api/v1/openapi.json", docs.openapi, "application/json", public=True),
    Route("GET", "/docs", docs.page, "text/html", public=True),
]
