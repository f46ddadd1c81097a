"""The sync document ("Test Report Sync Endpoints"): its six verification steps, literally, against `reportd up`."""

import uuid
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from tests.makers import png
from tests.up_server import UpServer, reportd, up_server

__all__ = ["up_server"]  # a fixture

BASE = "/api/v1/reports"

# Section "1. Bulk Create Step Results", request body.
STEPS_BODY = {
    "steps": [
        {
            "step_number": 1,
            "action": "navigate",
            "description": "Navigate to https://example.com",
            "status": "Passed",
            "duration_ms": 1500,
            "error_message": None,
            "screenshot_path": "step_001.png",
        },
        {
            "step_number": 2,
            "action": "click",
            "description": "Click on Login button",
            "status": "Passed",
            "duration_ms": 250,
            "error_message": None,
            "screenshot_path": "step_002.png",
        },
        {
            "step_number": 3,
            "action": "fill",
            "description": "Enter username",
            "status": "Failed",
            "duration_ms": 100,
            "error_message": "Element not found: #username",
            "screenshot_path": "step_003.png",
        },
    ]
}
# Section "2. Upload Artifact (Screenshot)", all form fields of the table.
UPLOAD_FIELDS = {
    "artifact_type": "screenshot",
    "step_number": "1",
    "iteration_number": "1",
    "artifact_category": "after",
    "description": "The page after it was opened",
    "captured_at": "2026-01-24T12:00:00Z",
}
# Section "Database Schema Verification".
COLUMNS = {
    "test_step_results": "id test_case_result_id step_number action description status duration_ms error_message"
    " screenshot_path screenshot_artifact_id created_at updated_at",
    "test_artifacts": "id test_case_result_id step_result_id artifact_type artifact_category step_number"
    " iteration_number file_name file_size mime_type storage_path description captured_at created_at",
}


@pytest.fixture
def array_client(up_server) -> UpServer:
    """The server with a token of shape "array": lists come as bare arrays, as the sync document's client reads them."""
    name = f"array-{uuid.uuid4()}"
    made = reportd("token", "create", "--data", str(up_server.data), "--name", name, "--shape", "array")
    assert made.returncode == 0, made.stderr
    return replace(up_server, token=made.stdout.strip())


def is_id(text: str) -> bool:
    return str(uuid.UUID(text)) == text


def is_now(text: str) -> bool:
    moment = datetime.fromisoformat(text)
    return text.endswith("Z") and abs((datetime.now(UTC) - moment).total_seconds()) < 600


def test_the_six_verification_steps(array_client):
    server, logged = array_client, array_client.log.stat().st_size
    suite_id = server.ask_json("POST", f"{BASE}/suite-runs", {"name": "nightly"}, status=201)["id"]

    # 1. Create a test case result.
    case = server.ask_json("POST", f"{BASE}/suite-runs/{suite_id}/test-cases", {"name": "Login"}, status=201)
    case_id = case["id"]
    case_url = f"{BASE}/test-case-results/{case_id}"

    # 2. Bulk create steps; verify response includes created steps with IDs.
    reply = server.ask_json("POST", f"{case_url}/steps/bulk", STEPS_BODY, status=201)
    assert reply["created"] == 3
    assert len(reply["steps"]) == 3
    for sent, step in zip(STEPS_BODY["steps"], reply["steps"], strict=True):
        assert {key: step[key] for key in sent} == sent
        assert step["test_case_result_id"] == case_id
        assert is_id(step["id"]) and is_now(step["created_at"])
    step_ids = [step["id"] for step in reply["steps"]]
    assert len(set(step_ids)) == 3

    # 3. Upload a screenshot; verify response includes artifact ID and download URL.
    picture = png(100, 100, seed=1)
    file = ("file", "step_001.png", picture, "image/png")
    artifact = server.send(f"{case_url}/artifacts", file, *UPLOAD_FIELDS.items())
    expected = {
        "test_case_result_id": case_id,
        "artifact_type": "screenshot",
        "step_number": 1,
        "file_name": "step_001.png",
        "file_size": len(picture),
        "mime_type": "image/png",
        "download_url": f"{BASE}/artifacts/{artifact['id']}/download",
    }
    assert {key: artifact[key] for key in expected} == expected
    assert is_id(artifact["id"]) and is_now(artifact["created_at"])
    assert server.data.joinpath(artifact["storage_path"].lstrip("/")).read_bytes() == picture
    assert artifact["description"] == UPLOAD_FIELDS["description"]

    # 4. Retrieve steps; verify the steps created in step 2 are returned.
    steps = server.ask_json("GET", f"{case_url}/steps?include_artifacts=true")
    assert isinstance(steps, list) and [step["id"] for step in steps] == step_ids
    for sent, step in zip(STEPS_BODY["steps"], steps, strict=True):
        assert {key: step[key] for key in sent} == sent
        assert step["test_case_result_id"] == case_id
    assert [step["screenshot_artifact_id"] for step in steps] == [artifact["id"], None, None]
    (shown,) = steps[0]["artifacts"]
    assert {key: shown[key] for key in ("id", "artifact_type", "download_url")} == {
        "id": artifact["id"],
        "artifact_type": "screenshot",
        "download_url": artifact["download_url"],
    }
    assert [step["artifacts"] for step in steps[1:]] == [[], []]

    # 5. Retrieve artifacts; verify the artifact uploaded in step 3 is returned.
    listed = server.ask_json("GET", f"{case_url}/artifacts")
    assert isinstance(listed, list) and len(listed) == 1
    shown = {**expected, "id": artifact["id"], "created_at": artifact["created_at"]}
    assert {key: listed[0][key] for key in shown} == shown

    # 6. Download artifact; verify the file downloads correctly.
    download = server.ask("GET", artifact["download_url"])
    assert (download.status, download.headers["Content-Type"]) == (200, "image/png")
    assert download.body == picture

    # "Please provide": the rows of the tables, and the server's log.
    rows = server.rows("SELECT id::text, screenshot_artifact_id::text FROM test_step_results ORDER BY id")
    assert [row for row in rows if row[0] in step_ids] == list(zip(step_ids, [artifact["id"], None, None], strict=True))
    rows = server.rows("SELECT id::text, step_result_id::text FROM test_artifacts")
    assert (artifact["id"], step_ids[0]) in rows
    with server.log.open("rb") as log:
        log.seek(logged)
        lines = log.read().decode().splitlines()
    assert len([line for line in lines if case_id in line]) >= 4
    assert not [line for line in lines if " INFO " not in line]


def test_the_tables_have_the_columns_of_the_sync_document(up_server):
    query = "SELECT column_name FROM information_schema.columns WHERE table_name = %s"
    for table, columns in COLUMNS.items():
        found = {row[0] for row in up_server.rows(query, table)}
        assert set(columns.split()) <= found, table
