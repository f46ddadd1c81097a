"""The JSON Schema of result.json has the fields of the API, and describes the example that users read."""

import json
import re
from pathlib import Path

import jsonschema_rs
import pytest

from server.http.openapi import document
from server.routes import ROUTES

ROOT = Path(__file__).parent.parent
SCHEMA = json.loads((ROOT / "client/schema/result.json").read_text("utf-8"))
RESULT = SCHEMA["$defs"]["result"]["properties"]


@pytest.fixture(scope="module")
def shapes():
    return document(ROUTES, "x")["components"]["schemas"]


@pytest.mark.parametrize(
    ("part", "shape", "only_there"),
    [
        ("suite", "NewSuiteRun", {"status"}),
        ("test", "NewTestCase", set()),
        ("steps", "NewStep", set()),
        ("checkpoints", "NewCheckpoint", {"screenshot_artifact_id"}),
        ("console_logs", "NewConsoleEntry", set()),
        ("network_logs", "NewNetworkEntry", set()),
    ],
)
def test_the_fields_are_those_of_the_api(shapes, part, shape, only_there):
    described = RESULT[part].get("items", RESULT[part])["properties"]
    assert set(shapes[shape]["properties"]) - only_there <= set(described) | {"parent_step_number"}
    assert set(described) - set(shapes[shape]["properties"]) <= {"parent_step_number"}


def test_the_example_of_the_documentation_is_valid():
    text = (ROOT / "client/README.md").read_text("utf-8")
    (example,) = re.findall(r"```json\n(.*?)```", text, re.DOTALL)
    jsonschema_rs.validate(SCHEMA, json.loads(example))


@pytest.mark.parametrize("wrong", [{}, {"steps": {}}, {"steps": [{"status": "green"}]}, [{"steps": 1}], 5])
def test_wrong_files_are_not_valid(wrong):
    with pytest.raises(jsonschema_rs.ValidationError):
        jsonschema_rs.validate(SCHEMA, wrong)
