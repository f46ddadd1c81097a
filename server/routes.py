"""ROUTES: all endpoints of the API, one row each. PAGES: the pages for people, likewise."""

from server.api import (
    archives,
    artifacts,
    audit,
    bundles,
    checkpoints,
    comparisons,
    downloads,
    errors,
    exchange,
    health,
    insights,
    limits,
    links,
    logs,
    openapi,
    reports,
    search,
    sessions,
    shards,
    steps,
    suite_runs,
    test_cases,
    tests,
    uploads,
)
from server.auth.roles import Role
from server.bodies.artifacts import ArtifactFields, KnownEntry
from server.bodies.bundles import Bundle
from server.http.authenticate import open_image, open_page
from server.http.route import Access, Handler, Route, Upload
from server.http.uploads import batch_rules
from server.pages import audit as audit_pages
from server.pages import comparisons as compare_pages
from server.pages import (
    docs,
    help,
    latest,
    people,
    projects,
    refusals,
    results,
    shared,
    sign_in,
    static,
    storage,
    thumbs,
    webhooks,
)
from server.pages import errors as error_pages
from server.pages import files as file_pages
from server.pages import insights as insight_pages
from server.pages import links as link_pages
from server.pages import search as search_pages
from server.pages import steps as step_pages
from server.pages import suite_runs as runs_pages
from server.pages import tests as test_pages
from server.pages import tokens as token_pages
from server.reports.artifacts import Artifact, ArtifactPage, BatchUploaded, MissingContent, SentArtifact
from server.reports.audit import AuditPage
from server.reports.bundles import BundleStored
from server.reports.checkpoints import Appended, CheckpointPage
from server.reports.comparisons import FirstDifference, LastGreen, ResultComparison
from server.reports.errors import ErrorDetail, ErrorPage, RunErrors
from server.reports.insights import Insights
from server.reports.links import LinkMade, LinkPage
from server.reports.logs import ConsolePage, EntriesCreated, NetworkPage
from server.reports.marks import RunMarks
from server.reports.reports import Report
from server.reports.run_comparisons import RunComparison
from server.reports.search import SearchResult
from server.reports.shards import Completeness
from server.reports.shared import SharedRun
from server.reports.steps import IllustratedStep, StepList, StepsCreated, StepsCreatedWhole, StepsReplaced, StepUpdated
from server.reports.suite_runs import SuiteRun, SuiteRunPage
from server.reports.test_cases import TestCase, TestCasePage, TestCasesCreated
from server.reports.tests import TestHistory

_BASE = "/api/v1/reports"
_RUN = f"{_BASE}/suite-runs/{{suite_id}}"
_CASE = f"{_BASE}/test-case-results/{{case_id}}"
_ARTIFACT = f"{_BASE}/artifacts/{{artifact_id}}"
_AUTH = "/api/v1/auth"
_LINK = "/shared/{link}"
_THUMB = "thumbs/{artifact_id}-{width}.webp"

_PUBLIC = Access(public=True)
_BY_LINK = Access(public=True, opened_by=open_page)
_IMAGE_BY_LINK = Access(public=True, opened_by=open_image)

ROUTES = [
    Route("POST", f"{_BASE}/suite-runs", suite_runs.create, SuiteRun, 201, also=(200,)),
    Route("GET", f"{_BASE}/suite-runs", suite_runs.index, SuiteRunPage, reading=True),
    Route("GET", _RUN, suite_runs.show, SuiteRun),
    Route("PUT", f"{_RUN}/shards/{{index}}", shards.replace, SuiteRun, errors=(409,)),
    Route("GET", f"{_RUN}/completeness", shards.show, Completeness),
    Route("GET", f"{_RUN}/archive", archives.show, "application/zip", reading=True),
    Route("PATCH", _RUN, suite_runs.update, SuiteRun),
    Route("DELETE", _RUN, suite_runs.delete, None, 204),
    Route("POST", f"{_RUN}/test-cases", test_cases.create, TestCase, 201),
    Route("POST", f"{_RUN}/test-cases/bulk", test_cases.create_many, TestCasesCreated, 201),
    Route(
        "POST",
        f"{_RUN}/bundle",
        bundles.create,
        BundleStored,
        201,
        also=(207,),
        upload=Upload("files", Bundle, bundles.rules, or_json=True),
    ),
    Route("GET", f"{_RUN}/test-cases", test_cases.index, TestCasePage, reading=True),
    Route("GET", f"{_RUN}/errors", errors.index_of_run, RunErrors, reading=True),
    Route("GET", _CASE, test_cases.show, TestCase),
    Route("PATCH", _CASE, test_cases.update, TestCase),
    Route("GET", f"{_CASE}/report", reports.show, Report, reading=True),
    Route("GET", f"{_CASE}/last-green", comparisons.last_green, LastGreen, reading=True),
    Route("GET", f"{_CASE}/first-difference", comparisons.first_difference, FirstDifference, reading=True),
    Route("GET", f"{_CASE}/comparison", comparisons.show, ResultComparison, reading=True),
    Route("GET", f"{_RUN}/comparison", comparisons.show_runs, RunComparison, reading=True),
    Route("GET", f"{_RUN}/marks", comparisons.show_marks, RunMarks, reading=True),
    Route("POST", f"{_CASE}/steps", steps.create, StepsCreated, 201),
    Route("POST", f"{_CASE}/steps/bulk", steps.create_bulk, StepsCreatedWhole, 201),
    Route("PUT", f"{_CASE}/steps", steps.replace, StepsReplaced, access=Access(admin_if="prune")),
    Route("GET", f"{_CASE}/steps", steps.index, StepList, array=IllustratedStep, reading=True),
    Route("PATCH", f"{_BASE}/steps/{{step_id}}", steps.update, StepUpdated),
    Route("POST", f"{_CASE}/checkpoints", checkpoints.create_many, Appended, 201),
    Route("GET", f"{_CASE}/checkpoints", checkpoints.index, CheckpointPage, reading=True),
    Route("POST", f"{_CASE}/console-logs", logs.create_console, EntriesCreated, 201),
    Route("GET", f"{_CASE}/console-logs", logs.index_console, ConsolePage, reading=True),
    Route("POST", f"{_CASE}/network-logs", logs.create_network, EntriesCreated, 201),
    Route("GET", f"{_CASE}/network-logs", logs.index_network, NetworkPage, reading=True),
    Route(
        "POST",
        f"{_CASE}/artifacts",
        uploads.create,
        SentArtifact,
        201,
        upload=Upload("file", ArtifactFields, uploads.single_rules),
    ),
    Route(
        "POST",
        f"{_CASE}/artifacts/batch",
        uploads.create_batch,
        BatchUploaded,
        201,
        also=(207,),
        upload=Upload("files", uploads.BatchForm, batch_rules, known=KnownEntry),
    ),
    Route("GET", f"{_CASE}/artifacts", artifacts.index, ArtifactPage, array=Artifact, reading=True),
    Route("POST", f"{_BASE}/artifacts/missing", artifacts.missing, MissingContent, once=False),
    Route("GET", _ARTIFACT, artifacts.show, Artifact),
    Route("GET", f"{_ARTIFACT}/download", downloads.show, "*/*", also=(206, 304)),
    Route("DELETE", _ARTIFACT, artifacts.delete, None, 204),
    Route("GET", f"{_BASE}/errors", errors.index, ErrorPage, reading=True),
    Route("GET", f"{_BASE}/errors/{{fingerprint}}", errors.show, ErrorDetail, reading=True),
    Route("GET", f"{_BASE}/tests", tests.show, TestHistory, reading=True),
    Route("GET", f"{_BASE}/search", search.show, SearchResult, reading=True),
    Route("GET", f"{_BASE}/insights", insights.show, Insights, reading=True),
    Route("GET", f"{_BASE}/limits", limits.show, limits.Limits),
    Route("POST", f"{_BASE}/links", links.create, LinkMade, 201, once=False),
    Route("GET", f"{_BASE}/links", links.index, LinkPage, access=Access(role=Role.UPLOADER)),
    Route("DELETE", f"{_BASE}/links/{{link_id}}", links.delete, None, 204, access=Access(role=Role.UPLOADER, own=True)),
    Route(
        "GET",
        _LINK,
        shared.show,
        SharedRun,
        also=(206, 304),
        others=(Report, "text/html", "*/*"),
        access=_BY_LINK,
        refusal=shared.refusal,
        reading=True,
    ),
    Route(
        "GET",
        f"{_LINK}/test-case-results/{{case_id}}",
        shared.show_case,
        Report,
        others=("text/html",),
        access=_BY_LINK,
        refusal=shared.refusal,
        reading=True,
    ),
    Route(
        "GET",
        f"{_LINK}/artifacts/{{artifact_id}}",
        shared.show_image,
        "*/*",
        also=(206, 304),
        access=_IMAGE_BY_LINK,
        refusal=shared.refusal,
    ),
    Route("GET", f"/{_THUMB}", thumbs.show, "image/webp", also=(202, 304), others=("image/svg+xml",), errors=(410,)),
    Route(
        "GET",
        f"{_LINK}/{_THUMB}",
        thumbs.show_shared,
        "image/webp",
        also=(202, 304),
        errors=(410,),
        others=("image/svg+xml",),
        access=_IMAGE_BY_LINK,
        refusal=shared.refusal,
    ),
    Route(
        "POST",
        f"{_AUTH}/session",
        sessions.create,
        sessions.Session,
        201,
        access=Access(role=Role.VIEWER, only="token"),
        errors=(429,),
        once=False,
    ),
    Route("GET", f"{_AUTH}/session", sessions.show, sessions.Identity),
    Route(
        "POST",
        f"{_AUTH}/login",
        sessions.login,
        sessions.PersonsSession,
        201,
        access=_PUBLIC,
        max_json=sessions.MAX_LOGIN_SIZE,
        errors=(401, 403, 429),
        once=False,
    ),
    Route(
        "POST",
        f"{_AUTH}/exchange",
        exchange.create,
        exchange.ExchangedToken,
        201,
        access=_PUBLIC,
        max_json=exchange.MAX_SIZE,
        errors=(401, 403, 429),
        once=False,
    ),
    Route(
        "POST",
        f"{_AUTH}/logout",
        sessions.logout,
        None,
        204,
        access=Access(role=Role.VIEWER, only="person"),
        once=False,
    ),
    Route("GET", "/api/v1/audit", audit.index, AuditPage, access=Access(role=Role.ADMIN)),
    Route("GET", "/healthz", health.live, health.Health, access=_PUBLIC),
    Route("GET", "/readyz", health.ready, health.Health, access=_PUBLIC),
    Route(
        "GET",
        "/metrics",
        health.metrics,
        "text/plain",
        access=Access(public=lambda config: config.auth.metrics_public, all_projects=True),
    ),
    Route("GET", "/api/v1/openapi.json", openapi.show, "application/json", access=_PUBLIC),
    Route("GET", "/docs", docs.show, "text/html", access=_PUBLIC),
    Route(
        "GET",
        "/static/{file}",
        static.show,
        "text/javascript",
        access=_PUBLIC,
        errors=(404,),
        others=("text/css", "image/svg+xml"),
    ),
]


def _page(
    path: str,
    handler: Handler,
    method: str = "GET",
    access: Access = Access(),  # noqa: B008
    reading: bool = False,
) -> Route:
    return Route(method, path, handler, "text/html", access=access, refusal=refusals.page, once=False, reading=reading)


_READ_BY_ADMIN, _CHANGED_BY_ADMIN = Access(role=Role.ADMIN), Access(role=Role.ADMIN, only="person")

PAGES = [
    _page("/", runs_pages.index, reading=True),
    _page("/runs", runs_pages.index, reading=True),
    _page("/runs/{suite_id}.zip", archives.show, reading=True),
    _page("/runs/{suite_id}", runs_pages.show, reading=True),
    _page("/help", help.show),
    _page("/help", help.set_theme, "POST", access=_PUBLIC),
    _page("/sign-in", sign_in.show, access=_PUBLIC),
    _page("/sign-in", sign_in.create, "POST", access=_PUBLIC),
    _page("/sign-in/start", sign_in.start, access=_PUBLIC),
    _page("/sign-in/callback", sign_in.come_back, access=_PUBLIC),
    _page("/sign-out", sign_in.confirm),
    _page("/sign-out", sign_in.delete, "POST", access=_PUBLIC),
    _page("/tests", test_pages.show, reading=True),
    _page("/results/{case_id}/compare", compare_pages.show_results, reading=True),
    _page("/latest", latest.show, reading=True),
    _page("/search", search_pages.show, reading=True),
    _page("/insights", insight_pages.show, reading=True),
    _page("/errors", error_pages.index, reading=True),
    _page("/errors/{project}/{fingerprint}", error_pages.show, reading=True),
    _page("/compare", compare_pages.show_runs, reading=True),
    _page("/results/{case_id}", results.show, reading=True),
    _page("/results/{case_id}/difference", results.show_difference, reading=True),
    _page("/results/{case_id}/steps/{at}", step_pages.show, reading=True),
    _page("/results/{case_id}/files/{artifact_id}", file_pages.show, reading=True),
    _page("/admin/projects", projects.index, access=_READ_BY_ADMIN),
    _page("/admin/projects", projects.update, "POST", access=_CHANGED_BY_ADMIN),
    _page("/admin/people", people.index, access=_READ_BY_ADMIN),
    _page("/admin/people", people.update, "POST", access=_CHANGED_BY_ADMIN),
    _page("/admin/tokens", token_pages.index, access=_READ_BY_ADMIN),
    _page("/admin/tokens", token_pages.update, "POST", access=_CHANGED_BY_ADMIN),
    _page("/admin/links", link_pages.index, access=_READ_BY_ADMIN),
    _page("/admin/links", link_pages.update, "POST", access=_CHANGED_BY_ADMIN),
    _page("/admin/audit", audit_pages.index, access=_READ_BY_ADMIN),
    _page("/admin/storage", storage.index, access=_READ_BY_ADMIN),
    _page("/admin/webhooks", webhooks.index, access=_READ_BY_ADMIN),
    _page("/admin/webhooks", webhooks.update, "POST", access=_CHANGED_BY_ADMIN),
    Route(
        "GET",
        f"{_LINK}/test-case-results/{{case_id}}/steps/{{at}}",
        shared.show_step,
        "text/html",
        access=_BY_LINK,
        refusal=shared.refusal,
        reading=True,
    ),
]
