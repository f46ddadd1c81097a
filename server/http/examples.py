"""Examples and defaults of request bodies, for the OpenAPI document. By the name of their type.

Tests send each example, and compare the defaults with what is stored.
"""

from collections.abc import Mapping
from typing import Any

_ID = "019bef12-7a41-7c3e-8d25-5b0c1f6e9a01"
_CHECKSUM = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
_RUN = {
    "name": "nightly",
    "run_key": "build-4711",
    "environment": "staging",
    "branch": "main",
    "commit_sha": "8f3c2d1e",
    "tags": ["smoke"],
    "metadata": {"shard": 1},
}
_CASE = {
    "name": "log in",
    "test_id": "tests/login.spec.ts > log in",
    "status": "Failed",
    "duration_ms": 1850,
    "error_type": "TimeoutError",
    "error_message": "Element not found: #username",
    "started_at": "2026-01-24T12:00:00.000Z",
}
_STEPS = [
    {"step_number": 1, "step_type": "navigate", "description": "Open the page", "status": "Passed", "duration_ms": 420},
    {
        "step_number": 2,
        "parent_step_number": 1,
        "step_type": "type",
        "element_selector": "#username",
        "input_value": "anna",
        "status": "Failed",
        "error_message": "Element not found: #username",
        "screenshot_path": "step_002.png",
    },
]
_CONSOLE = {
    "level": "error",
    "message": "Uncaught TypeError",
    "source_url": "https://shop.example/app.js",
    "line_number": 7,
}
_NETWORK = {
    "method": "GET",
    "url": "https://shop.example/login",
    "status_code": 500,
    "response_headers": {"Content-Type": "text/html"},
    "duration_ms": 31,
    "started_at": "2026-01-24T12:00:00.000Z",
}

EXAMPLES: Mapping[str, Any] = {
    "NewSuiteRun": _RUN,
    "SuiteRunPatch": {"status": "Failed", "finished_at": "2026-01-24T12:30:00.000Z"},
    "NewTestCase": _CASE,
    "NewTestCases": {"test_cases": [_CASE, {"name": "log out", "status": "Passed"}]},
    "TestCasePatch": {"status": "Passed", "duration_ms": 2100},
    "TypedSteps": {"steps": _STEPS},
    "NewSteps": {"steps": _STEPS},
    "StepPatch": {"status": "Failed", "duration_ms": 1204, "error_message": "Element not clickable"},
    "NewCheckpoints": {"checkpoints": [{"checkpoint_number": 1, "name": "Logged in", "status": "Failed"}]},
    "NewConsoleLogs": {"entries": [_CONSOLE]},
    "NewNetworkLogs": {"entries": [_NETWORK]},
    "Bundle": {
        "tests": [
            {
                "client_ref": "7b0c4b8e-30a5-4b0f-9a53-0f1f6a7f2c11",
                "test": _CASE,
                "steps": _STEPS,
                "console_logs": [_CONSOLE],
                "artifacts": [
                    {
                        "later": True,
                        "artifact_type": "video",
                        "checksum": _CHECKSUM,
                        "file_size": 9_000_000,
                        "file_name": "video.webm",
                    }
                ],
            },
            {"client_ref": "a3a4ff0e-4a2f-4d52-8d0b-51f2a9d64c02", "test": {"name": "log out", "status": "Passed"}},
        ]
    },
    "Shard": {"total": 5, "status": "Failed", "tests_expected": 120, "errors": ["The browser could not be started"]},
    "Contents": {"files": [{"checksum": _CHECKSUM, "file_size": 4}]},
    "NewLink": {"test_case_result_id": _ID, "expires_in": 86400, "note": "for the vendor"},
    "Exchange": {"token": "eyJhbGciOiJSUzI1NiIs…", "project": "web"},
    "Login": {"name": "anna", "password": "correct horse battery"},
    # Of `metadata` in a batch, and the fields of a single upload.
    "ArtifactEntry": [
        {"file_index": 0, "artifact_type": "screenshot", "step_number": 2, "artifact_category": "error"},
        {"file_index": 1, "artifact_type": "log"},
    ],
}
_FIRST = {"iteration_number": 1}
DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "NewSuiteRun": {"status": "Running", "tags": [], "metadata": {}},
    "NewTestCase": {"status": "Pending", "attempt": 1, "tags": [], "metadata": {}},
    "NewStep": {"status": "Pending", **_FIRST},
    "TypedStep": {"status": "Pending", **_FIRST},
    "NewCheckpoint": {"status": "Pending", **_FIRST},
    "NewConsoleEntry": _FIRST,
    "NewNetworkEntry": {"request_headers": {}, "response_headers": {}, **_FIRST},
    "NewLink": {"expires_in": 7 * 24 * 3600},
    "ArtifactFields": _FIRST,
    "ArtifactEntry": _FIRST,
}
# Of query parameters, which have the same meaning in every list.
PAGING: Mapping[str, Mapping[str, Any]] = {
    "page": {"default": 1},
    "per_page": {"default": 100, "description": "Above 500 means 500"},
    "limit": {"default": 100, "description": "Above 500 means 500"},
    "cursor": {"description": "`next_cursor` of the page before; without it, the list begins with the newest"},
    "shape": {"description": "The form of the list; default: that of the token, else `[api] collection_shape`"},
}
