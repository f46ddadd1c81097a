"""What all report formats share: JSON of any origin, steps within steps, and two reports of the same tests."""

import json
import re

import pytest
from reportd_client import limits
from reportd_client.formats import json_file
from reportd_client.formats.overlap import Titles, poorer
from reportd_client.formats.reports import _joined
from reportd_client.formats.result import Empty, File, Result, Unreadable, write
from reportd_client.formats.tree import Node, place, place_screenshots
from reportd_client.mask import Masks
from reportd_client.notes import Notes
from reportd_client.runs import Recorder
from reportd_client.spool import Spool

from tests.test_junit import looked

# --- JSON ---

VALUE = {"a": [{"b": 'x"[{,\\'}, {"c": [1, 2]}], "d": {"e": None}, "f": "é"}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
def test_json_of_every_encoding(tmp_path, encoding):
    path = tmp_path / "x.json"
    path.write_bytes(json.dumps(VALUE, ensure_ascii=False).encode(encoding))
    assert json_file.read(path) == (VALUE, False)


def test_a_cut_file_keeps_what_is_whole_and_marks_what_is_not():
    text = json.dumps(VALUE)
    for end in range(1, len(text)):
        value, is_cut = json_file.parse(text[:end], "x")
        assert is_cut and value[json_file.CUT]
        for item in value.get("a", ()):
            assert item in VALUE["a"] or json_file.CUT in item, text[:end]


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", "is empty"),
        (" \n", "is empty"),
        ("nothing", "is no JSON"),
        ('{"a": 1}}', "is no JSON"),
        ("[1,, 2]", "is no JSON"),
        ("[1,, 2", "is no JSON"),
        ("[" * 201, "nested too deeply"),
        ('{"a":' * 100_000, "nested too deeply"),
        ("[" + "{}," * 700_000 + "0]", "more than 2,000,000 values"),
    ],
    ids=lambda text: text[:12],
)
def test_json_that_cannot_be_read(text, error):
    with pytest.raises(Unreadable, match=error) as raised:
        json_file.parse(text, "x")
    assert isinstance(raised.value, Empty) == (error == "is empty")


def test_a_file_that_is_too_large_is_not_read(tmp_path):
    path = tmp_path / "x.json"
    with path.open("wb") as file:
        file.truncate(json_file.MAX_FILE + 1)
    with pytest.raises(Unreadable, match="larger than 128 MiB"):
        json_file.read(path)


# --- steps ---


def _picture():
    return File({"file_name": "x.png", "artifact_type": "screenshot"}, data=b"")


def test_steps_are_numbered_in_their_order_with_their_parents():
    pictures = [_picture() for _ in range(3)]
    nodes = [
        Node("open", {"status": "Passed"}, [Node("click a", {"status": "Passed"}, files=[pictures[0]]), Node("x\n y")]),
        Node(
            "t" * 101, {"status": "Failed"}, [Node("expect b", {"status": "Failed"}), Node("c", {"status": "Passed"})]
        ),
    ]
    result = Result({"name": "x", "status": "Failed"}, files=[pictures[1]])
    place(result, nodes)
    place_screenshots(result)
    found = [(step["step_number"], step.get("parent_step_number"), step["step_type"]) for step in result.steps]
    expected = [(1, None, "navigate"), (2, 1, "click"), (3, 1, "other"), (4, None, "group"), (5, 4, "assert")]
    assert found == [*expected, (6, 4, "other")]
    assert result.steps[2]["action"] == "x y" and result.steps[2]["description"] == "x\n y"
    assert result.steps[3]["action"] == "t" * 99 + "…" and result.steps[3]["description"] == "t" * 101
    assert (pictures[0].fields["step_number"], pictures[0].fields["artifact_category"]) == (2, "after")
    assert (pictures[1].fields["step_number"], pictures[1].fields["artifact_category"]) == (5, "error")


def test_steps_beyond_the_limit_are_left_out_and_their_files_are_not(monkeypatch):
    monkeypatch.setattr(limits, "MAX_STEPS", 2)
    result = Result({"name": "x", "status": "Passed"})
    place(result, [Node("a"), Node("b", children=[Node("c", files=[_picture()])])])
    assert len(result.steps) == 2 and "step_number" not in result.files[0].fields


def test_steps_a_thousand_deep():
    node = Node("deepest")
    for _ in range(5_000):
        node = Node("x", children=[node])
    result = Result({"name": "x", "status": "Passed"})
    place(result, [node])
    assert result.steps[-1]["parent_step_number"] == 5_000


# --- the same tests in two formats ---


def _titles(*names):
    titles = Titles()
    for name in names:
        titles.add(name)
    return titles


def test_the_poorer_of_two_formats_with_the_same_tests():
    rich, other = _titles("a › x", "a › y"), _titles("z")
    assert poorer([(3, _titles("x", "m::y")), (1, rich), (1, other), (2, _titles("p", "q"))]) == {0: 1}
    assert poorer([(3, _titles("x", "y", "z")), (1, rich), (1, other)]) == {0: 1}, (
        "two files of one format count together"
    )
    assert poorer([(1, rich), (1, rich)]) == {}, "the same format again is attempts"


def test_a_skipped_report_is_named_and_takes_no_part_in_attempts(tmp_path):
    (tmp_path / "a.xml").write_text(
        '<testsuite name="s"><testcase name="x"><failure/></testcase><testcase name="y"/></testsuite>'
    )
    steps = [{"step_number": 1, "action": "a"}]
    values = [{"steps": steps, "test": {"name": name, "status": "Failed"}} for name in ("x", "y")]
    (tmp_path / "result.json").write_text(json.dumps(values))
    reports, results = looked(tmp_path)
    assert [result.steps for result in results] == [steps, steps] and reports.count == 2
    assert reports.remarks == [
        f"{tmp_path / 'a.xml'} is skipped: {tmp_path / 'result.json'} has the same tests as result"
    ]


# --- what is written ---


def _written(tmp_path, result):
    spool = Spool.create(tmp_path / "spool", {"run": {}})
    recorder = Recorder(spool, Notes(say=print), Masks())
    write(recorder, "key", result, lambda path: path)
    recorder.writer.close()
    files = {path.name: path.read_bytes() for path in spool.files.iterdir()}
    return "".join(path.read_text() for path in spool.folder.glob("w-*.jsonl")), files


def test_what_was_typed_into_a_password_field_is_hidden_everywhere(tmp_path):
    """But not in fields whose words are given, or in the identity of the test."""
    error = 'Received: "info"'
    result = Result({"name": "info", "test_id": "info", "status": "Failed", "error_message": error})
    result.test["metadata"] = {"all": [{"of": "informed"}]}
    result.steps = [
        {"step_number": 1, "action": 'Fill "info"', "element_selector": "#password", "input_value": "info"},
        {"step_number": 2, "action": "x", "status": "Failed", "error_message": error, "stack_trace": "of infos"},
    ]
    result.console_logs = [{"level": "info", "message": "info"}]
    result.secrets = {"other secret"}
    result.files = [
        File({"file_name": "a.txt"}, data=b"other secret, info, https://x/?token=abc", hides=True),
        File({"file_name": "b.txt"}, data=b"info"),
    ]
    text, files = _written(tmp_path, result)
    assert re.findall("info", text) == ["info"] * 5  # name and test_id, twice, and the level
    assert "other secret" not in text and sorted(files.values())[1] == b"info"
    assert sorted(files.values())[0] == b"[redacted], [redacted], https://x/?token=[redacted]"


def test_files_that_are_made_when_they_are_written(tmp_path):
    path = tmp_path / "made"
    path.write_bytes(b"path")

    def fails():
        raise Unreadable("is damaged")

    result = Result({"name": "x", "test_id": "x", "status": "Passed"})
    result.files = [File({"file_name": "made"}, make=make) for make in (lambda: path, lambda: b"bytes", fails)]
    result.files.append(File({"file_name": "none"}))
    text, files = _written(tmp_path, result)
    assert sorted(files.values()) == [b"bytes", b"path"]
    assert '"refused":"is damaged"' in text.replace(": ", ":") and '"refused":"No such file"' in text.replace(": ", ":")
    assert result.files[0].path is None, "nothing is made before"


def test_fields_of_a_run_of_several_reports():
    first = {"name": "a", "metadata": {"expected_tests": 2, "shards": ["1/2"], "tool": "x"}}
    second = {"branch": "b", "status": "Failed", "metadata": {"expected_tests": 3, "shards": ["2/2", "1/2"], "more": 1}}
    metadata = {"expected_tests": 5, "shards": ["1/2", "2/2"], "tool": "x", "more": 1}
    assert _joined(first, second) == {"name": "a", "branch": "b", "status": "Failed", "metadata": metadata}
    assert _joined({}, first) == first and _joined(first, {}) == first
    assert _joined({"metadata": 1}, second)["metadata"] == 1
