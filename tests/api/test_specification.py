"""The specification ("Full Test Report Artifact Storage"): its client's flow and example replies, on `reportd up`."""

import hashlib
import json
import shutil
import subprocess
import uuid
from datetime import UTC, datetime

import pytest

from tests.makers import cut, png
from tests.up_server import up_server

__all__ = ["up_server"]  # a fixture

BASE = "/api/v1/reports"

# Section "1. Upload Step Results (Bulk)", request body.
STEPS_BODY = {
    "steps": [
        {
            "step_number": 1,
            "step_type": "navigate",
            "action": "Navigate to Login Page",
            "description": "Opening https://example.com/login",
            "status": "Passed",
            "duration_ms": 1250,
            "element_selector": None,
            "element_name": None,
            "element_type": None,
            "input_value": "https://example.com/login",
            "expected_value": None,
            "actual_value": None,
            "error_message": None,
            "error_type": None,
            "stack_trace": None,
            "started_at": "2026-01-24T12:00:00.000Z",
            "completed_at": "2026-01-24T12:00:01.250Z",
        },
        {
            "step_number": 2,
            "step_type": "type",
            "action": "Enter Username",
            "description": "Typing username into email field",
            "status": "Passed",
            "duration_ms": 350,
            "element_selector": "#email-input",
            "element_name": "Email Input",
            "element_type": "input",
            "input_value": "testuser@example.com",
            "expected_value": None,
            "actual_value": None,
            "error_message": None,
            "error_type": None,
            "stack_trace": None,
            "started_at": "2026-01-24T12:00:01.250Z",
            "completed_at": "2026-01-24T12:00:01.600Z",
        },
        {
            "step_number": 3,
            "step_type": "click",
            "action": "Click Login Button",
            "description": "Clicking the submit button",
            "status": "Failed",
            "duration_ms": 5000,
            "element_selector": "button[type='submit']",
            "element_name": "Login Button",
            "element_type": "button",
            "input_value": None,
            "expected_value": None,
            "actual_value": None,
            "error_message": "Element not clickable: obscured by overlay",
            "error_type": "ElementClickInterceptedException",
            "stack_trace": "Traceback (most recent call last):\n  File...",
            "started_at": "2026-01-24T12:00:01.600Z",
            "completed_at": "2026-01-24T12:00:06.600Z",
        },
    ]
}
# Section "4. Upload Multiple Artifacts (Batch)", and a third entry for step 3, whose screenshot is in other examples.
METADATA = [
    {
        "file_index": 0,
        "artifact_type": "screenshot",
        "step_number": 1,
        "artifact_category": "after",
        "captured_at": "2026-01-24T12:00:01.250Z",
    },
    {
        "file_index": 1,
        "artifact_type": "screenshot",
        "step_number": 2,
        "artifact_category": "after",
        "captured_at": "2026-01-24T12:00:01.600Z",
    },
    {
        "file_index": 2,
        "artifact_type": "screenshot",
        "step_number": 3,
        "artifact_category": "error",
        "captured_at": "2026-01-24T12:00:06.600Z",
    },
]
NAMES = ["step_001_navigate.png", "step_002_type.png", "step_003_click_error.png"]
PICTURES = [png(120, 120, seed) for seed in range(3)]
# Section "File Storage Structure".
STORED = ["step_001_after.png", "step_002_after.png", "step_003_error.png"]
COLUMNS = {
    "test_step_results": "id test_case_result_id step_number step_type action description status duration_ms"
    " element_selector element_name element_type input_value expected_value actual_value error_message error_type"
    " stack_trace screenshot_artifact_id started_at completed_at created_at",
    "test_artifacts": "id test_case_result_id artifact_type file_name file_size mime_type checksum storage_path"
    " step_number iteration_number artifact_category description captured_at uploaded_at created_at",
}


@pytest.fixture
def case_id(up_server) -> str:
    """A new test case result in a new suite run."""
    run = up_server.ask_json("POST", f"{BASE}/suite-runs", {"name": "nightly"}, status=201)
    url = f"{BASE}/suite-runs/{run['id']}/test-cases"
    return up_server.ask_json("POST", url, {"name": "Login", "status": "Failed"}, status=201)["id"]


def is_id(text: str) -> bool:
    return str(uuid.UUID(text)) == text


def is_now(text: str) -> bool:
    """Whether this is the current time, written as in the examples: with milliseconds and Z."""
    moment = datetime.strptime(text, "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=UTC)
    return len(text) == 24 and abs((datetime.now(UTC) - moment).total_seconds()) < 600


def a_png(name: str, data: bytes, field: str = "files") -> tuple[str, str, bytes, str]:
    return field, name, data, "image/png"


def test_the_client_flow_of_the_specification(up_server, case_id):
    server, case_url = up_server, f"{BASE}/test-case-results/{case_id}"

    # After test completion: POST /steps with all step data.
    reply = server.ask_json("POST", f"{case_url}/steps", STEPS_BODY, status=201)
    step_ids = reply["step_ids"]
    assert len(set(step_ids)) == 3 and all(is_id(step_id) for step_id in step_ids)
    assert reply == {
        "message": "Successfully created 3 step results",
        "step_ids": step_ids,
        "test_case_result_id": case_id,
    }

    # POST /artifacts/batch to upload all screenshots.
    files = [a_png(name, data) for name, data in zip(NAMES, PICTURES, strict=True)]
    batch = server.send(f"{case_url}/artifacts/batch", *files, ("metadata", json.dumps(METADATA)))
    assert batch["message"] == "Successfully uploaded 3 artifacts"
    assert batch["failed"] == []
    artifact_ids = [artifact["id"] for artifact in batch["artifacts"]]
    assert len(set(artifact_ids)) == 3 and all(is_id(artifact_id) for artifact_id in artifact_ids)
    urls = [f"{BASE}/artifacts/{artifact_id}/download" for artifact_id in artifact_ids]
    for i, artifact in enumerate(batch["artifacts"]):
        expected = {"file_name": NAMES[i], "step_number": i + 1, "download_url": urls[i]}
        assert {key: artifact[key] for key in expected} == expected

    # PATCH /steps/{id} to link screenshots to steps.
    for i, (step_id, artifact_id) in enumerate(zip(step_ids, artifact_ids, strict=True)):
        linked = server.ask_json("PATCH", f"{BASE}/steps/{step_id}", {"screenshot_artifact_id": artifact_id})
        assert linked == {
            "id": step_id,
            "step_number": i + 1,
            "screenshot_artifact_id": artifact_id,
            "message": "Step updated successfully",
        }

    # When viewing reports: GET /steps?include_artifacts=true.
    report = server.ask_json("GET", f"{case_url}/steps?include_artifacts=true")
    counts = {"total_steps": 3, "passed_steps": 2, "failed_steps": 1, "skipped_steps": 0}
    expected = {"test_case_result_id": case_id, **counts}
    assert {key: report[key] for key in expected} == expected
    assert len(report["steps"]) == 3
    for i, step in enumerate(report["steps"]):
        sent = STEPS_BODY["steps"][i]
        assert {key: step[key] for key in sent} == sent
        assert step["id"] == step_ids[i]
        screenshot = {"id": artifact_ids[i], "url": urls[i], "file_name": NAMES[i], "file_size": len(PICTURES[i])}
        assert {key: step["screenshot"][key] for key in screenshot} == screenshot
    failed = server.ask_json("GET", f"{case_url}/steps?status=Failed")
    assert [step["id"] for step in failed["steps"]] == step_ids[2:]
    assert failed["total_steps"] == 3

    # GET /artifacts: the list with its paging fields.
    page = server.ask_json("GET", f"{case_url}/artifacts")
    assert (page["total"], page["page"], page["per_page"]) == (3, 1, 100)
    items = [
        {
            "id": artifact_ids[i],
            "artifact_type": "screenshot",
            "file_name": NAMES[i],
            "file_size": len(PICTURES[i]),
            "mime_type": "image/png",
            "step_number": i + 1,
            "iteration_number": 1,
            "artifact_category": METADATA[i]["artifact_category"],
            "download_url": urls[i],
            "captured_at": METADATA[i]["captured_at"],
        }
        for i in range(3)
    ]
    assert [{key: found[key] for key in item} for found, item in zip(page["items"], items, strict=True)] == items
    second = server.ask_json("GET", f"{case_url}/artifacts?artifact_type=screenshot&page=2&per_page=2")
    assert (second["total"], second["page"], second["per_page"]) == (3, 2, 2)
    assert [item["id"] for item in second["items"]] == artifact_ids[2:]
    of_step = server.ask_json("GET", f"{case_url}/artifacts?step_number=2")
    assert [item["id"] for item in of_step["items"]] == artifact_ids[1:2]

    for i, artifact_id in enumerate(artifact_ids):
        # GET /artifacts/{id}: its metadata.
        metadata = server.ask_json("GET", f"{BASE}/artifacts/{artifact_id}")
        expected = {
            **items[i],
            "test_case_result_id": case_id,
            "checksum": hashlib.sha256(PICTURES[i]).hexdigest(),
            "description": None,
        }
        assert {key: metadata[key] for key in expected} == expected
        assert is_now(metadata["uploaded_at"])

        # GET /artifacts/{id}/download: the bytes, with four headers.
        download = server.ask("GET", urls[i])
        assert download.status == 200 and download.body == PICTURES[i]
        headers = {
            "Content-Type": "image/png",
            "Content-Disposition": f'inline; filename="{NAMES[i]}"',
            "Content-Length": str(len(PICTURES[i])),
            "Cache-Control": "public, max-age=31536000",
        }
        assert {name: download.headers[name] for name in headers} == headers

        # The stored path is that of "File Storage Structure".
        day = metadata["uploaded_at"][:10].replace("-", "/")
        assert metadata["storage_path"] == f"artifacts/{day}/{case_id}/{STORED[i]}"
        assert (server.data / metadata["storage_path"]).read_bytes() == PICTURES[i]


def test_a_screenshot_can_be_downloaded_with_the_session_cookie(up_server, case_id):
    file = a_png("a.png", PICTURES[0], "file")
    sent = up_server.send(f"{BASE}/test-case-results/{case_id}/artifacts", file, ("artifact_type", "screenshot"))
    cookie = up_server.ask("POST", "/api/v1/auth/session").headers["Set-Cookie"].partition(";")[0]
    with_cookie = {"Authorization": "", "Cookie": cookie}
    shown = up_server.ask("GET", sent["download_url"], **with_cookie)
    assert (shown.status, shown.body) == (200, PICTURES[0])
    assert up_server.ask("GET", sent["download_url"], Authorization="").status == 401


def test_the_curl_example_of_the_specification(up_server, case_id, tmp_path):
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    (tmp_path / "screenshot.png").write_bytes(PICTURES[1])
    script = r"""
    curl -sS -X POST \
    "$URL/api/v1/reports/test-case-results/$ID/artifacts" \
    -H "Authorization: Bearer $TOKEN" \
    -F "file=@screenshot.png" \
    -F "artifact_type=screenshot" \
    -F "step_number=1" \
    -F "artifact_category=after" \
    -F "captured_at=2026-01-24T12:00:01.250Z"
    """
    environment = {"PATH": "/usr/bin:/bin", "URL": up_server.url, "ID": case_id, "TOKEN": up_server.token}
    done = subprocess.run(["sh", "-c", script], cwd=tmp_path, env=environment, capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr
    artifact = json.loads(done.stdout)
    expected = {
        "test_case_result_id": case_id,
        "artifact_type": "screenshot",
        "file_name": "screenshot.png",
        "file_size": len(PICTURES[1]),
        "mime_type": "image/png",
        "checksum": hashlib.sha256(PICTURES[1]).hexdigest(),
        "step_number": 1,
        "iteration_number": 1,
        "artifact_category": "after",
        "download_url": f"{BASE}/artifacts/{artifact['id']}/download",
    }
    assert {key: artifact[key] for key in expected} == expected
    assert is_id(artifact["id"]) and is_now(artifact["uploaded_at"])
    day = artifact["uploaded_at"][:10].replace("-", "/")
    assert artifact["storage_path"] == f"artifacts/{day}/{case_id}/step_001_after.png"


def test_a_second_iteration_has_its_own_folder(up_server, case_id):
    fields = {"artifact_type": "screenshot", "step_number": "1", "artifact_category": "after"}
    url = f"{BASE}/test-case-results/{case_id}/artifacts"
    paths = [
        up_server.send(url, a_png("x.png", data, "file"), ("iteration_number", number), *fields.items())["storage_path"]
        for number, data in (("1", PICTURES[0]), ("2", PICTURES[1]))
    ]
    folder = paths[0].removesuffix("/step_001_after.png")
    assert paths == [f"{folder}/step_001_after.png", f"{folder}/iteration_002/step_001_after.png"]


def test_a_batch_stores_its_valid_files_and_reports_the_others(up_server, case_id):
    files = [a_png("step_001.png", PICTURES[0]), a_png("step_002.png", cut(PICTURES[1], 20))]
    metadata = ("metadata", json.dumps(METADATA[:2]))
    reply = up_server.send(f"{BASE}/test-case-results/{case_id}/artifacts/batch", *files, metadata, status=207)
    assert reply["message"] == "Uploaded 1 of 2 artifacts"
    (kept,) = reply["artifacts"]
    expected = {
        "file_name": "step_001.png",
        "step_number": 1,
        "download_url": f"{BASE}/artifacts/{kept['id']}/download",
    }
    assert {key: kept[key] for key in expected} == expected
    (failed,) = reply["failed"]
    expected = {"file_index": 1, "file_name": "step_002.png", "error": "File corrupted or unreadable"}
    assert {key: failed[key] for key in expected} == expected


def test_the_error_replies_of_the_specification(up_server, case_id):
    case_url, unknown = f"{BASE}/test-case-results/{case_id}", uuid.uuid4()
    screenshot = ("artifact_type", "screenshot")

    missing = up_server.ask_json("POST", f"{BASE}/test-case-results/{unknown}/steps", STEPS_BODY, status=404)
    assert missing["detail"] == "Test case result not found"
    up_server.ask_json("POST", f"{case_url}/steps", STEPS_BODY, status=201)
    again = up_server.ask_json("POST", f"{case_url}/steps", STEPS_BODY, status=409)
    assert again["detail"] == "Steps already exist for this test case. Use PUT to update."

    large = a_png("large.png", PICTURES[0] + bytes(10 * 1024 * 1024), "file")
    refused = up_server.send(f"{case_url}/artifacts", large, screenshot, status=413)
    assert refused["detail"] == "File size exceeds maximum allowed (10MB)"
    program = ("file", "a.zip", b"PK\x03\x04" + bytes(60), "application/zip")
    refused = up_server.send(f"{case_url}/artifacts", program, screenshot, status=415)
    types = "image/png, image/jpeg, image/gif, application/json, text/plain, text/html, application/pdf"
    assert refused["detail"].startswith(f"File type not allowed. Allowed types: {types}. ")

    missing = up_server.ask_json("GET", f"{BASE}/artifacts/{unknown}/download", status=404)
    assert missing["detail"] == "Artifact not found"


def test_the_tables_have_the_columns_of_the_specification(up_server):
    query = "SELECT column_name FROM information_schema.columns WHERE table_name = %s"
    for table, columns in COLUMNS.items():
        found = {row[0] for row in up_server.rows(query, table)}
        assert set(columns.split()) <= found, table
