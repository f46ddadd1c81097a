"""The types of requests and replies, made by `python -m tests.shapes` from the server's OpenAPI: do not edit."""

from typing import Any, Literal, TypedDict, Union

from typing_extensions import NotRequired

class Appended(TypedDict):
    created: int
    warnings: NotRequired[list[Warning]]

class Artifact(TypedDict):
    id: str
    test_case_result_id: str
    step_result_id: Union[str, None]
    artifact_type: Literal["har", "log", "other", "screenshot", "video"]
    artifact_category: Union[Literal["after", "before", "checkpoint", "error"], None]
    step_number: Union[int, None]
    iteration_number: int
    file_name: str
    file_size: int
    mime_type: str
    text_encoding: Union[Literal["unknown", "utf-16be", "utf-16le", "utf-8"], None]
    checksum: str
    storage_path: str
    description: Union[str, None]
    download_url: str
    captured_at: Union[str, None]
    uploaded_at: str
    created_at: str

class ArtifactEntry(TypedDict):
    artifact_type: Literal["har", "log", "other", "screenshot", "video"]
    step_number: NotRequired[Union[int, None]]
    iteration_number: NotRequired[Union[int, None]]
    artifact_category: NotRequired[Union[Literal["after", "before", "checkpoint", "error"], None]]
    description: NotRequired[Union[str, None]]
    captured_at: NotRequired[Union[str, float, None]]
    checksum: NotRequired[Union[str, None]]
    file_index: int

class ArtifactFields(TypedDict):
    artifact_type: Literal["har", "log", "other", "screenshot", "video"]
    step_number: NotRequired[Union[int, None]]
    iteration_number: NotRequired[Union[int, None]]
    artifact_category: NotRequired[Union[Literal["after", "before", "checkpoint", "error"], None]]
    description: NotRequired[Union[str, None]]
    captured_at: NotRequired[Union[str, float, None]]
    checksum: NotRequired[Union[str, None]]

class ArtifactPage(TypedDict):
    total: int
    page: int
    per_page: int
    items: list[Artifact]

class AuditEntry(TypedDict):
    id: str
    created_at: str
    action: str
    actor_kind: str
    actor_id: Union[str, None]
    actor_name: Union[str, None]
    project_id: Union[str, None]
    project: Union[str, None]
    subject_kind: str
    subject_id: Union[str, None]
    subject_name: Union[str, None]
    remote: Union[str, None]
    request_id: Union[str, None]
    detail: dict[str, Any]

class AuditPage(TypedDict):
    items: list[AuditEntry]
    next_cursor: Union[str, None]

class BatchArtifact(TypedDict):
    id: str
    test_case_result_id: str
    step_result_id: Union[str, None]
    artifact_type: Literal["har", "log", "other", "screenshot", "video"]
    artifact_category: Union[Literal["after", "before", "checkpoint", "error"], None]
    step_number: Union[int, None]
    iteration_number: int
    file_name: str
    file_size: int
    mime_type: str
    text_encoding: Union[Literal["unknown", "utf-16be", "utf-16le", "utf-8"], None]
    checksum: str
    storage_path: str
    description: Union[str, None]
    download_url: str
    captured_at: Union[str, None]
    uploaded_at: str
    created_at: str
    duplicate: bool
    file_index: Union[int, None]
    known_index: Union[int, None]

class BatchForm(TypedDict):
    metadata: list[ArtifactEntry]

class BatchUploaded(TypedDict):
    message: str
    artifacts: list[BatchArtifact]
    failed: list[FailedFile]
    warnings: NotRequired[list[Warning]]

class Bundle(TypedDict):
    tests: list[BundledTest]

class BundleStored(TypedDict):
    message: str
    tests: list[BundledResult]
    failed: list[FailedFile]
    warnings: NotRequired[list[Warning]]

class BundledFile(TypedDict):
    artifact_type: Literal["har", "log", "other", "screenshot", "video"]
    step_number: NotRequired[Union[int, None]]
    iteration_number: NotRequired[Union[int, None]]
    artifact_category: NotRequired[Union[Literal["after", "before", "checkpoint", "error"], None]]
    description: NotRequired[Union[str, None]]
    captured_at: NotRequired[Union[str, float, None]]
    checksum: NotRequired[Union[str, None]]
    file_index: NotRequired[Union[int, None]]
    known: NotRequired[bool]
    later: NotRequired[bool]
    refused: NotRequired[Union[str, None]]
    file_size: NotRequired[Union[int, None]]
    file_name: NotRequired[Union[str, None]]

class BundledResult(TypedDict):
    client_ref: str
    id: str
    created: bool
    step_ids: list[Union[str, None]]
    artifacts: list[BatchArtifact]
    failed: list[FailedFile]
    complete: bool

class BundledTest(TypedDict):
    client_ref: str
    test: NewTestCase
    steps: NotRequired[list[NewStep]]
    checkpoints: NotRequired[list[NewCheckpoint]]
    console_logs: NotRequired[list[NewConsoleEntry]]
    network_logs: NotRequired[list[NewNetworkEntry]]
    artifacts: NotRequired[list[BundledFile]]

class ChangeCounts(TypedDict):
    new_failures: int
    fixed: int
    still_failing: int
    slower: int
    appeared: int
    disappeared: int

class ChangedSelector(TypedDict):
    element_name: str
    selector: str
    before: str
    suite_run_id: str
    commit_sha: Union[str, None]
    started_at: str

class ChangedTest(TypedDict):
    test_id: str
    browser: Union[str, None]
    name: str
    base: Union[ComparedTest, None]
    head: Union[ComparedTest, None]
    error_changed: Union[bool, None]

class Checkpoint(TypedDict):
    id: str
    test_case_result_id: str
    iteration_number: int
    checkpoint_number: int
    step_number: Union[int, None]
    name: str
    checkpoint_type: Union[str, None]
    status: Literal["Failed", "Passed", "Pending", "Skipped"]
    expected_value: Union[str, None]
    actual_value: Union[str, None]
    message: Union[str, None]
    screenshot_artifact_id: Union[str, None]
    captured_at: Union[str, None]
    created_at: str

class CheckpointPage(TypedDict):
    total: int
    page: int
    per_page: int
    items: list[Checkpoint]

class ComparedResult(TypedDict):
    id: str
    project_id: str
    suite_run_id: str
    name: str
    test_id: str
    status: Literal["Failed", "Passed", "Pending", "Skipped"]
    browser: Union[str, None]
    attempt: int
    duration_ms: Union[int, None]
    run_name: str
    branch: Union[str, None]
    commit_sha: Union[str, None]
    started_at: str

class ComparedRow(TypedDict):
    base: Union[ComparedStep, None]
    head: Union[ComparedStep, None]
    differences: list[Difference]

class ComparedRun(TypedDict):
    id: str
    project_id: str
    name: str
    status: Literal["Failed", "Passed", "Pending", "Running", "Skipped"]
    branch: Union[str, None]
    commit_sha: Union[str, None]
    started_at: str

class ComparedStep(TypedDict):
    id: str
    iteration_number: int
    step_number: int
    label: str
    status: Literal["Failed", "Passed", "Pending", "Skipped"]
    duration_ms: Union[int, None]

class ComparedTest(TypedDict):
    test_case_result_id: str
    status: Literal["Failed", "Passed", "Pending", "Skipped"]
    duration_ms: Union[int, None]
    attempts: int
    error: Union[str, None]

class Completeness(TypedDict):
    complete: bool
    tests_expected: Union[int, None]
    tests_received: int
    shards: Shards
    artifacts_missing: list[MissingArtifact]
    truncated: bool

class ConsoleEntry(TypedDict):
    id: str
    test_case_result_id: str
    level: str
    message: str
    source_url: Union[str, None]
    line_number: Union[int, None]
    column_number: Union[int, None]
    step_number: Union[int, None]
    iteration_number: int
    logged_at: Union[str, None]
    created_at: str

class ConsolePage(TypedDict):
    total: int
    page: int
    per_page: int
    items: list[ConsoleEntry]

class Content(TypedDict):
    checksum: str
    file_size: int

class Contents(TypedDict):
    files: list[Content]
    project: NotRequired[Union[str, None]]

class Day(TypedDict):
    day: str
    runs: int
    failed_runs: int
    failed: int
    flaky: int
    passed: int
    duration_ms: int

class Difference(TypedDict):
    kind: Literal["console", "error", "iteration", "network", "picture", "selector", "status", "step", "time", "value"]
    weight: Literal["grey", "hard", "soft"]
    field: NotRequired[Union[str, None]]
    base: NotRequired[Union[str, int, None]]
    head: NotRequired[Union[str, int, None]]

class EntriesCreated(TypedDict):
    created: int
    warnings: NotRequired[list[Warning]]

class Error(TypedDict):
    detail: str
    code: str
    request_id: str
    errors: NotRequired[list[dict[str, Any]]]

class ErrorDay(TypedDict):
    day: str
    results: int

class ErrorDetail(TypedDict):
    project: str
    fingerprint: str
    error_type: Union[str, None]
    stable_text: str
    sample: str
    results: int
    first_seen: Seen
    last_seen: Seen
    days: list[ErrorDay]
    tests: list[ErrorTest]
    newest: list[HistoryEntry]

class ErrorGroup(TypedDict):
    project: str
    fingerprint: str
    error_type: Union[str, None]
    stable_text: str
    sample: str
    results: int
    first_seen: Seen
    last_seen: Seen

class ErrorPage(TypedDict):
    items: list[ErrorGroup]
    next_cursor: Union[str, None]

class ErrorTest(TypedDict):
    test_id: str
    name: str
    results: int

class Exchange(TypedDict):
    token: str
    project: NotRequired[Union[str, None]]

class ExchangedToken(TypedDict):
    token: str
    project: str
    role: Literal["admin", "uploader", "viewer"]
    expires_at: str

class FailedFile(TypedDict):
    file_index: Union[int, None]
    known_index: Union[int, None]
    file_name: Union[str, None]
    error: str
    code: str

class FailedTest(TypedDict):
    id: str
    test_id: str
    name: str
    duration_ms: Union[int, None]
    attempt: int
    browser: Union[str, None]

class FirstDifference(TypedDict):
    test_case_result_id: str
    compared_with: Union[ComparedResult, None]
    sentence: Union[str, None]
    row: Union[ComparedRow, None]
    failed_step: Union[ComparedStep, None]
    reason: Union[str, None]
    limited: list[str]

class FlakyMark(TypedDict):
    commits: int
    of: int
    evidence: list[FlakyPair]

class FlakyPair(TypedDict):
    failed_id: str
    passed_id: str
    commit_sha: Union[str, None]

class FlakyTest(TypedDict):
    test_id: str
    name: str
    browser: Union[str, None]
    status: Literal["Failed", "Passed", "Pending", "Skipped"]
    test_case_result_id: str
    flaky: FlakyMark

class FoundSelector(TypedDict):
    project: str
    selector: str
    element_name: Union[str, None]
    used: int
    failed: int
    test_case_result_id: Union[str, None]

class FoundTest(TypedDict):
    project: str
    test_id: str
    name: str
    test_case_result_id: str
    suite_run_id: str
    status: Literal["Failed", "Passed", "Pending", "Skipped"]

class FragileSelector(TypedDict):
    selector: str
    element_name: Union[str, None]
    used: int
    failed: int
    tests: int
    now_ms: Union[int, None]
    before_ms: Union[int, None]
    test_case_result_id: Union[str, None]

class Health(TypedDict):
    status: str

class HistoryEntry(TypedDict):
    id: str
    suite_run_id: str
    suite_run_name: str
    test_id: str
    name: str
    status: Literal["Failed", "Passed", "Pending", "Skipped"]
    duration_ms: Union[int, None]
    attempt: int
    browser: Union[str, None]
    error_fingerprint: Union[str, None]
    branch: Union[str, None]
    commit_sha: Union[str, None]
    environment: Union[str, None]
    build_url: Union[str, None]
    started_at: str

class HistorySummary(TypedDict):
    results: int
    passed: int
    failed: int
    skipped: int
    pending: int
    median_ms: Union[int, None]
    p95_ms: Union[int, None]

class Identity(TypedDict):
    kind: Literal["anyone", "person", "token"]
    name: Union[str, None]
    roles: list[OwnRole]
    csrf_token: Union[str, None]

class IllustratedStep(TypedDict):
    id: str
    test_case_result_id: str
    iteration_number: int
    step_number: int
    parent_step_number: Union[int, None]
    step_type: str
    action: Union[str, None]
    description: Union[str, None]
    status: Literal["Failed", "Passed", "Pending", "Skipped"]
    duration_ms: Union[int, None]
    element_selector: Union[str, None]
    element_name: Union[str, None]
    element_type: Union[str, None]
    input_value: Union[str, None]
    expected_value: Union[str, None]
    actual_value: Union[str, None]
    error_message: Union[str, None]
    error_type: Union[str, None]
    stack_trace: Union[str, None]
    screenshot_path: Union[str, None]
    screenshot_artifact_id: Union[str, None]
    started_at: Union[str, None]
    completed_at: Union[str, None]
    created_at: str
    updated_at: str
    screenshot: NotRequired[Union[Screenshot, None]]
    artifacts: NotRequired[list[StepArtifact]]

class Insights(TypedDict):
    project: str
    days: int
    flaky: NotRequired[Union[list[FlakyTest], None]]
    selectors: NotRequired[Union[Selectors, None]]
    slow: NotRequired[Union[list[SlowTest], None]]
    trends: NotRequired[Union[list[Day], None]]
    limited: NotRequired[bool]

class KnownEntry(TypedDict):
    artifact_type: Literal["har", "log", "other", "screenshot", "video"]
    step_number: NotRequired[Union[int, None]]
    iteration_number: NotRequired[Union[int, None]]
    artifact_category: NotRequired[Union[Literal["after", "before", "checkpoint", "error"], None]]
    description: NotRequired[Union[str, None]]
    captured_at: NotRequired[Union[str, float, None]]
    checksum: str
    known: bool
    file_size: int
    file_name: str

class LastGreen(TypedDict):
    test_case_result_id: str
    last_green: Union[ComparedResult, None]
    same_browser: Union[bool, None]
    searched: int

class Limits(TypedDict):
    version: str
    features: list[str]
    max_file_size: int
    batch_max_files: int
    allowed_types: list[str]
    json_body_max: int
    project: Union[str, None]
    role: Literal["admin", "uploader", "viewer"]
    caller: Union[str, None]

class Link(TypedDict):
    id: str
    suite_run_id: Union[str, None]
    test_case_result_id: Union[str, None]
    artifact_id: Union[str, None]
    created_by: Union[str, None]
    created_at: str
    expires_at: str
    revoked_at: Union[str, None]
    note: Union[str, None]
    opened: int
    downloads: int
    last_used_at: Union[str, None]

class LinkMade(TypedDict):
    id: str
    suite_run_id: Union[str, None]
    test_case_result_id: Union[str, None]
    artifact_id: Union[str, None]
    created_by: Union[str, None]
    created_at: str
    expires_at: str
    revoked_at: Union[str, None]
    note: Union[str, None]
    opened: int
    downloads: int
    last_used_at: Union[str, None]
    url: str
    warnings: NotRequired[list[Warning]]

class LinkPage(TypedDict):
    items: list[Link]
    next_cursor: Union[str, None]

class Login(TypedDict):
    name: str
    password: str

class MarkedTest(TypedDict):
    test_case_result_id: str
    test_id: str
    browser: Union[str, None]
    name: str
    status: Literal["Failed", "Passed", "Pending", "Skipped"]
    marks: Marks

class Marks(TypedDict):
    new: NotRequired[bool]
    failing_since: NotRequired[Union[SinceMark, None]]
    flaky_here: NotRequired[bool]
    flaky: NotRequired[Union[FlakyMark, None]]
    slower: NotRequired[Union[SlowerMark, None]]

class MissingArtifact(TypedDict):
    test_case_result_id: str
    test_id: str
    file_name: Union[str, None]
    checksum: Union[str, None]
    file_size: Union[int, None]
    reason: str

class MissingContent(TypedDict):
    missing: list[str]
    warnings: NotRequired[list[Warning]]

class NetworkEntry(TypedDict):
    id: str
    test_case_result_id: str
    method: str
    url: str
    status_code: Union[int, None]
    resource_type: Union[str, None]
    request_headers: dict[str, Any]
    response_headers: dict[str, Any]
    request_size: Union[int, None]
    response_size: Union[int, None]
    duration_ms: Union[int, None]
    error_text: Union[str, None]
    step_number: Union[int, None]
    iteration_number: int
    started_at: Union[str, None]
    created_at: str

class NetworkPage(TypedDict):
    total: int
    page: int
    per_page: int
    items: list[NetworkEntry]

class NewCheckpoint(TypedDict):
    checkpoint_number: int
    name: str
    checkpoint_type: NotRequired[Union[str, None]]
    status: NotRequired[Union[Literal["Failed", "Passed", "Pending", "Skipped"], None]]
    expected_value: NotRequired[Union[str, None]]
    actual_value: NotRequired[Union[str, None]]
    message: NotRequired[Union[str, None]]
    step_number: NotRequired[Union[int, None]]
    iteration_number: NotRequired[Union[int, None]]
    screenshot_artifact_id: NotRequired[Union[str, None]]
    captured_at: NotRequired[Union[str, float, None]]

class NewCheckpoints(TypedDict):
    checkpoints: list[NewCheckpoint]

class NewConsoleEntry(TypedDict):
    level: str
    message: str
    source_url: NotRequired[Union[str, None]]
    line_number: NotRequired[Union[int, None]]
    column_number: NotRequired[Union[int, None]]
    step_number: NotRequired[Union[int, None]]
    iteration_number: NotRequired[Union[int, None]]
    logged_at: NotRequired[Union[str, float, None]]

class NewConsoleLogs(TypedDict):
    entries: list[NewConsoleEntry]
    first_sequence: NotRequired[Union[int, None]]

class NewLink(TypedDict):
    suite_run_id: NotRequired[Union[str, None]]
    test_case_result_id: NotRequired[Union[str, None]]
    artifact_id: NotRequired[Union[str, None]]
    expires_in: NotRequired[Union[int, None]]
    note: NotRequired[Union[str, None]]

class NewNetworkEntry(TypedDict):
    method: str
    url: str
    status_code: NotRequired[Union[int, None]]
    resource_type: NotRequired[Union[str, None]]
    request_headers: NotRequired[Union[dict[str, Union[str, list[str]]], None]]
    response_headers: NotRequired[Union[dict[str, Union[str, list[str]]], None]]
    request_size: NotRequired[Union[int, None]]
    response_size: NotRequired[Union[int, None]]
    duration_ms: NotRequired[Union[int, None]]
    error_text: NotRequired[Union[str, None]]
    step_number: NotRequired[Union[int, None]]
    iteration_number: NotRequired[Union[int, None]]
    started_at: NotRequired[Union[str, float, None]]

class NewNetworkLogs(TypedDict):
    entries: list[NewNetworkEntry]
    first_sequence: NotRequired[Union[int, None]]

class NewStep(TypedDict):
    step_number: int
    step_type: NotRequired[Union[str, None]]
    iteration_number: NotRequired[Union[int, None]]
    parent_step_number: NotRequired[Union[int, None]]
    action: NotRequired[Union[str, None]]
    description: NotRequired[Union[str, None]]
    status: NotRequired[Union[Literal["Failed", "Passed", "Pending", "Skipped"], None]]
    duration_ms: NotRequired[Union[int, None]]
    element_selector: NotRequired[Union[str, None]]
    element_name: NotRequired[Union[str, None]]
    element_type: NotRequired[Union[str, None]]
    input_value: NotRequired[Union[str, None]]
    expected_value: NotRequired[Union[str, None]]
    actual_value: NotRequired[Union[str, None]]
    error_message: NotRequired[Union[str, None]]
    error_type: NotRequired[Union[str, None]]
    stack_trace: NotRequired[Union[str, None]]
    screenshot_path: NotRequired[Union[str, None]]
    started_at: NotRequired[Union[str, float, None]]
    completed_at: NotRequired[Union[str, float, None]]

class NewSteps(TypedDict):
    steps: list[NewStep]

class NewSuiteRun(TypedDict):
    name: str
    project: NotRequired[Union[str, None]]
    run_key: NotRequired[Union[str, None]]
    status: NotRequired[Union[Literal["Failed", "Passed", "Pending", "Running", "Skipped"], None]]
    environment: NotRequired[Union[str, None]]
    branch: NotRequired[Union[str, None]]
    commit_sha: NotRequired[Union[str, None]]
    build_url: NotRequired[Union[str, None]]
    browser: NotRequired[Union[str, None]]
    platform: NotRequired[Union[str, None]]
    triggered_by: NotRequired[Union[str, None]]
    tags: NotRequired[Union[list[str], None]]
    metadata: NotRequired[Union[dict[str, Any], None]]
    started_at: NotRequired[Union[str, float, None]]

class NewTestCase(TypedDict):
    name: str
    test_id: NotRequired[Union[str, None]]
    status: NotRequired[Union[Literal["Failed", "Passed", "Pending", "Skipped"], None]]
    duration_ms: NotRequired[Union[int, None]]
    error_message: NotRequired[Union[str, None]]
    error_type: NotRequired[Union[str, None]]
    stack_trace: NotRequired[Union[str, None]]
    attempt: NotRequired[Union[int, None]]
    browser: NotRequired[Union[str, None]]
    tags: NotRequired[Union[list[str], None]]
    metadata: NotRequired[Union[dict[str, Any], None]]
    started_at: NotRequired[Union[str, float, None]]
    completed_at: NotRequired[Union[str, float, None]]

class NewTestCases(TypedDict):
    test_cases: list[NewTestCase]

class OwnRole(TypedDict):
    project: Union[str, None]
    role: Literal["admin", "uploader", "viewer"]

class PersonsSession(TypedDict):
    name: str
    expires_at: str
    csrf_token: str

class Report(TypedDict):
    test_case_result: TestCase
    steps: list[IllustratedStep]
    artifacts: list[Artifact]
    checkpoints: list[Checkpoint]
    console_log_count: int
    network_log_count: int
    truncated: bool

class ResultComparison(TypedDict):
    test_case_result_id: str
    compared_with: Union[ComparedResult, None]
    total: int
    differing: int
    first_difference: Union[int, None]
    rows: list[ComparedRow]
    limited: list[str]

class RunComparison(TypedDict):
    head: ComparedRun
    base: Union[ComparedRun, None]
    counts: ChangeCounts
    new_failures: list[ChangedTest]
    fixed: list[ChangedTest]
    still_failing: list[ChangedTest]
    slower: list[ChangedTest]
    appeared: list[ChangedTest]
    disappeared: list[ChangedTest]
    limited: list[str]

class RunError(TypedDict):
    error: Union[ErrorGroup, None]
    tests: int
    results: list[FailedTest]

class RunErrors(TypedDict):
    suite_run_id: str
    failed_tests: int
    groups: list[RunError]
    truncated: bool

class RunMarks(TypedDict):
    suite_run_id: str
    previous_run_id: Union[str, None]
    tests: list[MarkedTest]
    limited: list[str]

class Screenshot(TypedDict):
    id: str
    url: str
    download_url: str
    file_name: str
    file_size: int

class SearchResult(TypedDict):
    errors: Union[list[ErrorGroup], None]
    tests: Union[list[FoundTest], None]
    complete: bool
    selectors: NotRequired[Union[list[FoundSelector], None]]

class Seen(TypedDict):
    test_case_result_id: str
    suite_run_id: str
    branch: Union[str, None]
    commit_sha: Union[str, None]
    started_at: str

class Selectors(TypedDict):
    runs: int
    counted: int
    fragile: list[FragileSelector]
    changed: list[ChangedSelector]

class SentArtifact(TypedDict):
    id: str
    test_case_result_id: str
    step_result_id: Union[str, None]
    artifact_type: Literal["har", "log", "other", "screenshot", "video"]
    artifact_category: Union[Literal["after", "before", "checkpoint", "error"], None]
    step_number: Union[int, None]
    iteration_number: int
    file_name: str
    file_size: int
    mime_type: str
    text_encoding: Union[Literal["unknown", "utf-16be", "utf-16le", "utf-8"], None]
    checksum: str
    storage_path: str
    description: Union[str, None]
    download_url: str
    captured_at: Union[str, None]
    uploaded_at: str
    created_at: str
    duplicate: bool
    warnings: NotRequired[list[Warning]]

class Session(TypedDict):
    expires_at: str

class Shard(TypedDict):
    total: int
    status: Literal["Failed", "Passed", "Running"]
    tests_expected: NotRequired[Union[int, None]]
    started_at: NotRequired[Union[str, float, None]]
    finished_at: NotRequired[Union[str, float, None]]
    errors: NotRequired[Union[list[str], None]]

class ShardError(TypedDict):
    index: int
    error: str

class Shards(TypedDict):
    total: int
    finished: int
    running: list[int]
    silent: list[int]
    errors: list[ShardError]

class SharedCase(TypedDict):
    id: str
    suite_run_id: str
    name: str
    test_id: str
    status: Literal["Failed", "Passed", "Pending", "Skipped"]
    duration_ms: Union[int, None]
    attempt: int
    error_message: Union[str, None]
    error_type: Union[str, None]
    stack_trace: Union[str, None]
    browser: Union[str, None]
    tags: list[str]
    metadata: dict[str, Any]
    started_at: Union[str, None]
    completed_at: Union[str, None]
    created_at: str
    updated_at: str
    url: str

class SharedCasePage(TypedDict):
    total: int
    page: int
    per_page: int
    items: list[SharedCase]

class SharedRun(TypedDict):
    suite_run: SuiteRun
    test_case_results: SharedCasePage

class SinceMark(TypedDict):
    test_case_result_id: str
    suite_run_id: str
    commit_sha: Union[str, None]
    failures: int
    at_least: bool

class SlowTest(TypedDict):
    test_id: str
    name: str
    status: Literal["Failed", "Passed", "Pending", "Skipped"]
    test_case_result_id: str
    results: int
    median_ms: int
    p95_ms: int
    total_ms: int
    now_ms: Union[int, None]
    before_ms: Union[int, None]
    slower: bool

class SlowerMark(TypedDict):
    now_ms: int
    before_ms: int

class Step(TypedDict):
    id: str
    test_case_result_id: str
    iteration_number: int
    step_number: int
    parent_step_number: Union[int, None]
    step_type: str
    action: Union[str, None]
    description: Union[str, None]
    status: Literal["Failed", "Passed", "Pending", "Skipped"]
    duration_ms: Union[int, None]
    element_selector: Union[str, None]
    element_name: Union[str, None]
    element_type: Union[str, None]
    input_value: Union[str, None]
    expected_value: Union[str, None]
    actual_value: Union[str, None]
    error_message: Union[str, None]
    error_type: Union[str, None]
    stack_trace: Union[str, None]
    screenshot_path: Union[str, None]
    screenshot_artifact_id: Union[str, None]
    started_at: Union[str, None]
    completed_at: Union[str, None]
    created_at: str
    updated_at: str

class StepArtifact(TypedDict):
    id: str
    artifact_type: str
    artifact_category: Union[str, None]
    file_name: str
    file_size: int
    mime_type: str
    captured_at: Union[str, None]
    download_url: str

class StepList(TypedDict):
    test_case_result_id: str
    total_steps: int
    passed_steps: int
    failed_steps: int
    skipped_steps: int
    pending_steps: int
    steps: list[IllustratedStep]

class StepPatch(TypedDict):
    step_number: NotRequired[int]
    iteration_number: NotRequired[int]
    parent_step_number: NotRequired[Union[int, None]]
    step_type: NotRequired[str]
    action: NotRequired[Union[str, None]]
    description: NotRequired[Union[str, None]]
    status: NotRequired[Literal["Failed", "Passed", "Pending", "Skipped"]]
    duration_ms: NotRequired[Union[int, None]]
    element_selector: NotRequired[Union[str, None]]
    element_name: NotRequired[Union[str, None]]
    element_type: NotRequired[Union[str, None]]
    input_value: NotRequired[Union[str, None]]
    expected_value: NotRequired[Union[str, None]]
    actual_value: NotRequired[Union[str, None]]
    error_message: NotRequired[Union[str, None]]
    error_type: NotRequired[Union[str, None]]
    stack_trace: NotRequired[Union[str, None]]
    screenshot_path: NotRequired[Union[str, None]]
    screenshot_artifact_id: NotRequired[Union[str, None]]
    started_at: NotRequired[Union[str, float, None]]
    completed_at: NotRequired[Union[str, float, None]]

class StepUpdated(TypedDict):
    id: str
    step_number: int
    screenshot_artifact_id: Union[str, None]
    message: str
    warnings: NotRequired[list[Warning]]

class StepsCreated(TypedDict):
    message: str
    step_ids: list[str]
    test_case_result_id: str
    warnings: NotRequired[list[Warning]]

class StepsCreatedWhole(TypedDict):
    created: int
    steps: list[Step]
    warnings: NotRequired[list[Warning]]

class StepsReplaced(TypedDict):
    message: str
    created: int
    updated: int
    removed: int
    step_ids: list[str]
    warnings: NotRequired[list[Warning]]

class SuiteRun(TypedDict):
    id: str
    project: str
    run_key: Union[str, None]
    name: str
    status: Literal["Failed", "Passed", "Pending", "Running", "Skipped"]
    environment: Union[str, None]
    branch: Union[str, None]
    commit_sha: Union[str, None]
    build_url: Union[str, None]
    browser: Union[str, None]
    platform: Union[str, None]
    triggered_by: Union[str, None]
    tags: list[str]
    metadata: dict[str, Any]
    started_at: str
    finished_at: Union[str, None]
    created_at: str
    updated_at: str
    test_counts: TestCounts
    total_duration_ms: int
    warnings: NotRequired[list[Warning]]

class SuiteRunPage(TypedDict):
    items: list[SuiteRun]
    next_cursor: Union[str, None]

class SuiteRunPatch(TypedDict):
    name: NotRequired[str]
    status: NotRequired[Literal["Failed", "Passed", "Pending", "Running", "Skipped"]]
    environment: NotRequired[Union[str, None]]
    branch: NotRequired[Union[str, None]]
    commit_sha: NotRequired[Union[str, None]]
    build_url: NotRequired[Union[str, None]]
    browser: NotRequired[Union[str, None]]
    platform: NotRequired[Union[str, None]]
    triggered_by: NotRequired[Union[str, None]]
    tags: NotRequired[list[str]]
    metadata: NotRequired[dict[str, Any]]
    started_at: NotRequired[Union[str, float]]
    finished_at: NotRequired[Union[str, float, None]]

class TestCase(TypedDict):
    id: str
    suite_run_id: str
    name: str
    test_id: str
    status: Literal["Failed", "Passed", "Pending", "Skipped"]
    duration_ms: Union[int, None]
    attempt: int
    error_message: Union[str, None]
    error_type: Union[str, None]
    stack_trace: Union[str, None]
    browser: Union[str, None]
    tags: list[str]
    metadata: dict[str, Any]
    started_at: Union[str, None]
    completed_at: Union[str, None]
    created_at: str
    updated_at: str
    warnings: NotRequired[list[Warning]]

class TestCasePage(TypedDict):
    total: int
    page: int
    per_page: int
    items: list[TestCase]

class TestCasePatch(TypedDict):
    name: NotRequired[str]
    test_id: NotRequired[str]
    status: NotRequired[Literal["Failed", "Passed", "Pending", "Skipped"]]
    duration_ms: NotRequired[Union[int, None]]
    error_message: NotRequired[Union[str, None]]
    error_type: NotRequired[Union[str, None]]
    stack_trace: NotRequired[Union[str, None]]
    attempt: NotRequired[int]
    browser: NotRequired[Union[str, None]]
    tags: NotRequired[list[str]]
    metadata: NotRequired[dict[str, Any]]
    started_at: NotRequired[Union[str, float, None]]
    completed_at: NotRequired[Union[str, float, None]]

class TestCasesCreated(TypedDict):
    created: int
    test_cases: list[TestCase]
    warnings: NotRequired[list[Warning]]

class TestCounts(TypedDict):
    total: NotRequired[int]
    passed: NotRequired[int]
    failed: NotRequired[int]
    skipped: NotRequired[int]
    pending: NotRequired[int]

class TestHistory(TypedDict):
    test_id: str
    name: str
    summary: HistorySummary
    items: list[HistoryEntry]
    next_cursor: Union[str, None]

class TypedStep(TypedDict):
    step_number: int
    iteration_number: NotRequired[Union[int, None]]
    parent_step_number: NotRequired[Union[int, None]]
    action: NotRequired[Union[str, None]]
    description: NotRequired[Union[str, None]]
    status: NotRequired[Union[Literal["Failed", "Passed", "Pending", "Skipped"], None]]
    duration_ms: NotRequired[Union[int, None]]
    element_selector: NotRequired[Union[str, None]]
    element_name: NotRequired[Union[str, None]]
    element_type: NotRequired[Union[str, None]]
    input_value: NotRequired[Union[str, None]]
    expected_value: NotRequired[Union[str, None]]
    actual_value: NotRequired[Union[str, None]]
    error_message: NotRequired[Union[str, None]]
    error_type: NotRequired[Union[str, None]]
    stack_trace: NotRequired[Union[str, None]]
    screenshot_path: NotRequired[Union[str, None]]
    started_at: NotRequired[Union[str, float, None]]
    completed_at: NotRequired[Union[str, float, None]]
    step_type: str

class TypedSteps(TypedDict):
    steps: list[TypedStep]

class Warning(TypedDict):
    path: str
    message: str
