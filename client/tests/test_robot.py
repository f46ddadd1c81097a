"""Files that Robot Framework writes here, compared with its own model of them; and small and hostile ones."""

import base64
import json
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path

import pytest
from reportd_client.formats import robot, robot_times, robot_xml
from reportd_client.formats.result import Source
from reportd_client.formats.robot_message import files_of, text_of_html
from robot.api import ExecutionResult

from tests.images import png
from tests.server import CLEAN
from tests.test_junit import BOMB, looked, rows
from tests.test_send import run_of

PICTURE = base64.b64encode(png(1)).decode()
SHOP = f"""
*** Settings ***
Documentation     All of it
Metadata          Version    1.2
Library           ${{CURDIR}}/Cart.py
Suite Setup       Log    the shop is open
Test Timeout      1 minute
*** Test Cases ***
Passes
    [Documentation]    Does *it*
    [Tags]    smoke    ui
    [Setup]    Log    in the setup
    Log    <b>bold</b> text<br>line    html=True
    Log    careful    WARN
    ${{y}}=    Set Variable    3
    IF    ${{y}} == 4
        Fail    never
    ELSE
        Log    taken
    END
    FOR    ${{i}}    IN    a    b
        Log    ${{i}}
    END
    TRY
        Fail    caught
    EXCEPT    caught
        Log    handled
    END
    WHILE    True    limit=1    on_limit=pass
        No Operation
    END
    GROUP    Named group
        No Operation
    END
    VAR    ${{z}}    1
    [Teardown]    Login    root    down-s3cret
Fails
    Login    anna    hunter2
    Log    not reached
Fails In Setup
    [Setup]    Fail    no database
    Log    not reached
Fails In Teardown
    No Operation
    [Teardown]    Fail    cannot remove
Has An Error
    Look Up    cart
Is Skipped
    Skip    no browser
Pictures
    Log    <img src="data:image/png;base64,{PICTURE}">    html=True
    Run Keyword And Ignore Error    Fail    quiet
    Look
Set By Hand
    Set Test Message    fine
*** Keywords ***
Login
    [Arguments]    ${{name}}    ${{password}}
    Input Password    id=pw    ${{password}}
    Log    Typed ${{password}} for ${{name}}
    Should Be Equal    ${{name}}    root
Input Password
    [Arguments]    ${{locator}}    ${{text}}
    No Operation
Look
    Log    <a href="shot.png"><img src="shot.png"></a><a href="gone.txt">x</a><a href="https://x">y</a>    html=True
    Fail    *HTML*the <i>page</i> is empty
"""
LEAKS = """
*** Settings ***
Suite Teardown    Fail    cannot close
*** Test Cases ***
Is Fine
    No Operation
Is Not
    Fail    own
"""
SKIPS = LEAKS.replace("Fail    cannot close", "Skip    not here")
CLOSED = """
*** Settings ***
Suite Setup    Fail    is closed
*** Test Cases ***
Cannot Run
    No Operation
"""


@pytest.fixture(scope="module")
def outputs(tmp_path_factory):
    """The files that Robot Framework writes: XML at the most detailed level, JSON, and XML of versions before 7."""
    folder = tmp_path_factory.mktemp("robot")
    for name, text in (("shop", SHOP), ("leaks", LEAKS), ("skips", SKIPS), ("closed", CLOSED)):
        (folder / f"suites/{name}").mkdir(parents=True)
        (folder / f"suites/{name}/tests.robot").write_text(text)
    (folder / "suites/shop/Cart.py").write_text("def look_up(name):\n    raise LookupError(f'no {name}')\n")
    (folder / "shot.png").write_bytes(png(2))
    for options in (("output.xml", "-L", "TRACE"), ("output.json",), ("old.xml", "--legacyoutput")):
        name, *more = options
        command = [
            sys.executable,
            "-m",
            "robot",
            "--log",
            "NONE",
            "--report",
            "NONE",
            "--output",
            name,
            *more,
            "suites",
        ]
        done = subprocess.run(command, cwd=folder, env=CLEAN, capture_output=True, text=True, timeout=120)
        assert (folder / name).exists(), done.stdout + done.stderr
    return folder


def keywords_of(item):
    """Names of the keywords that ran, as Robot Framework has them, in their order."""
    for each in item:
        if each.type == "MESSAGE" or getattr(each, "status", "") == "NOT RUN":
            continue
        if each.type == "KEYWORD":
            yield each.name
        yield from keywords_of(each.body)


STATUSES = {"PASS": "Passed", "FAIL": "Failed", "SKIP": "Skipped"}


@pytest.mark.parametrize("name", ["output.xml", "output.json", "old.xml"])
def test_a_file_has_what_robot_framework_says(outputs, name):
    model = ExecutionResult(outputs / name)
    reports, results = looked(outputs / name)
    expected = {test.full_name: test for test in model.suite.all_tests}
    assert [result.test["test_id"] for result in results] == list(expected) and reports.notes == []
    assert (reports.suite["name"], reports.suite["metadata"]["robot"]) == ("Suites", model.generator)
    assert reports.suite["metadata"]["suites"] == {"Suites.Shop.Tests": {"Version": "1.2"}}
    assert reports.suite["metadata"]["failed_teardowns"] == {"Suites.Leaks.Tests": "cannot close"}
    for result in results:
        test, other = result.test, expected[result.test["test_id"]]
        assert (test["name"], test["status"]) == (other.name, STATUSES[other.status])
        assert test.get("tags", []) == list(other.tags)
        assert abs(test["duration_ms"] - other.elapsed_time.total_seconds() * 1000) <= 1
        assert test["started_at"] == other.start_time.astimezone().astimezone(robot_times.timezone.utc).isoformat(
            timespec="milliseconds"
        )
        assert test["metadata"]["suite"] == other.parent.full_name
        assert (
            test["metadata"]["location"]
            == f"{outputs}/suites/{other.parent.parent.name.lower()}/tests.robot:{other.lineno}"
        )
        check_message(test, other)
        assert list(names_of(result)) == list(keywords_of(other.body))


def names_of(result):
    """Names of the keywords of the body that ran: steps that are not below a setup or a teardown."""
    outside = set()
    for step in result.steps:
        if step["action"].endswith(("setup", "teardown")) or step.get("parent_step_number") in outside:
            outside.add(step["step_number"])
        elif step["status"] == "Skipped" and step["action"] != "Skip":
            continue
        elif "    " in step.get("description", "") or step["action"] in ("No Operation", "Look"):
            yield step["action"]


def check_message(test, other):
    told = test.get("error_message") or test["metadata"].get("message", "")
    message = other.message
    for prefix in ("Setup failed:\n", "Teardown failed:\n"):
        message = message.removeprefix(prefix)
    assert told == (message if not message.startswith("*HTML*") else "the page is empty")


def test_what_becomes_of_a_file(outputs, send, server):
    done = send(outputs / "output.xml", "--run-key", "robot")
    assert done.returncode == 0, done.stdout + done.stderr
    run = run_of(server, done)
    tests = {test["test_id"].rpartition(".")[2]: test for test in run["tests"]}
    assert (run["name"], run["status"], len(run["tests"])) == ("Suites", "Failed", 13)
    check_passes(tests["Passes"])
    fails = tests["Fails"]
    assert (fails["status"], fails["error_message"]) == ("Failed", "anna != root")
    actions = [(step["action"], step["parent_step_number"], step["status"]) for step in fails["steps"]]
    assert actions[0] == ("Login", None, "Failed") and actions[-2:] == [
        ("Should Be Equal", 1, "Failed"),
        ("Log", None, "Skipped"),
    ]
    assert fails["steps"][0]["description"] == "Login    anna    [redacted]"
    assert "Typed [redacted] for anna" in [entry["message"] for entry in fails["console"]]
    error = tests["Has An Error"]
    assert (error["error_type"], error["stack_trace"].splitlines()[0]) == (
        "LookupError",
        "Traceback (most recent call last):",
    )
    phases = {name: test["metadata"].get("phase") for name, test in tests.items() if test["metadata"].get("phase")}
    assert phases == {"Fails In Setup": "setup", "Fails In Teardown": "teardown", "Cannot Run": "suite setup"}
    assert [step["action"] for step in tests["Fails In Setup"]["steps"]][:2] == ["setup", "Fail"]
    assert [step["action"] for step in tests["Cannot Run"]["steps"]][:2] == ["suite setup", "Fail"]
    assert (
        tests["Set By Hand"]["metadata"]["message"] == "fine" and tests["Passes"]["metadata"]["timeout"] == "1 minute"
    )
    check_pictures(tests["Pictures"], server)
    assert not any(word in json.dumps(run) for word in ("hunter2", "s3cret"))
    again = send(outputs / "output.xml", "--run-key", "robot")
    assert "13 tests (0 new)" in again.stdout, again.stdout


def check_passes(test):
    steps = [(step["action"], step["parent_step_number"], step["status"]) for step in test["steps"]]
    assert steps == [
        ("Log", None, "Passed"),
        ("Log", None, "Passed"),
        ("Set Variable", None, "Passed"),
        ("ELSE", None, "Passed"),
        ("Log", 4, "Passed"),
        ("FOR ${i} IN a b", None, "Passed"),
        ("${i} = a", 6, "Passed"),
        ("Log", 7, "Passed"),
        ("${i} = b", 6, "Passed"),
        ("Log", 9, "Passed"),
        ("TRY", None, "Failed"),
        ("Fail", 11, "Failed"),
        ("EXCEPT caught", None, "Passed"),
        ("Log", 13, "Passed"),
        ("WHILE True", None, "Passed"),
        ("iteration", 15, "Passed"),
        ("No Operation", 16, "Passed"),
        ("Named group", None, "Passed"),
        ("No Operation", 18, "Passed"),
        ("VAR ${z} 1", None, "Passed"),
        ("teardown", None, "Passed"),
        ("Login", 21, "Passed"),
        ("Input Password", 22, "Passed"),
        ("No Operation", 23, "Passed"),
        ("Log", 22, "Passed"),
        ("Should Be Equal", 22, "Passed"),
    ]
    shown = [(entry["level"], entry["message"], entry["step_number"]) for entry in test["console"]]
    for entry in (("info", "the shop is open", None), ("info", "in the setup", None), ("info", "bold text\nline", 1)):
        assert entry in shown
    assert ("warning", "careful", 2) in shown and ("info", "b", 10) in shown
    assert (test["tags"], test["metadata"]["documentation"]) == (["smoke", "ui"], "Does *it*")


def check_pictures(test, server):
    files = {each["file_name"]: each for each in test["artifacts"]}
    steps = {step["step_number"]: step for step in test["steps"]}
    assert sorted(files) == ["shot.png", "step_001.png"]
    assert server.bytes_of(files["step_001.png"]) == png(1) and files["step_001.png"]["artifact_category"] == "after"
    shot = files["shot.png"]
    assert server.bytes_of(shot) == png(2) and steps[shot["step_number"]]["description"].startswith("Log    <a href")
    assert test["error_message"] == "the page is empty"


# --- by hand ---


def xml(tests, before="", more=""):
    return (
        f'<robot generator="Robot 7"><suite id="s1" name="S" source="/t/s.robot">{before}{tests}{more}</suite></robot>'
    )


def case(name="a", inner="", status="PASS", message="", start="2026-01-02T03:04:05"):
    ended = f'<status status="{status}" start="{start}" elapsed="1.5">{message}</status>'
    return f'<test id="t" name="{name}" line="3">{inner}{ended}</test>'


def kw(name="k", inner="", status="PASS", more=""):
    return f'<kw name="{name}" owner="l" {more}>{inner}<status status="{status}" start="2026-01-02T03:04:05"/></kw>'


def msg(text, level="INFO", more=""):
    return f'<msg time="2026-01-02T03:04:05" level="{level}" {more}>{text}</msg>'


def read(tmp_path, text, name="output.xml"):
    (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return looked(tmp_path / name)


OLD = """<robot generator="Robot 3.2"><suite id="s1" name="S"><test id="t" name="old">
<kw type="setup" name="Log" library="BuiltIn"><arguments><arg>x</arg></arguments>
<msg timestamp="20200102 03:04:05.678" level="FAIL">no</msg>
<status status="FAIL" starttime="20200102 03:04:05.678" endtime="20200102 03:04:06.000"/></kw>
<kw type="for" name="${i} IN [ a ]"><kw type="foritem" name="${i} = a"><kw name="Log"><arg>${i}</arg>
<status status="NOT_RUN" starttime="N/A" endtime="N/A"/></kw><status status="PASS"/></kw><status status="PASS"/></kw>
<tags><tag>one</tag><tag>two</tag></tags>
<status status="FAIL" starttime="20200102 03:04:05.000" endtime="20200102 03:04:07.250" critical="yes">Setup failed:
no</status></test><metadata><item name="Version">1</item></metadata><status status="FAIL"/></suite>
<statistics><total><stat pass="0" fail="1">All</stat></total><tag><stat>one</stat></tag>
<suite><stat name="S">S</stat></suite>
</statistics><errors><msg timestamp="20200102 03:04:05.678" level="ERROR">import failed</msg></errors></robot>"""


def test_files_of_old_versions(tmp_path):
    reports, (found,) = read(tmp_path, OLD)
    test = found.test
    assert (test["test_id"], test["status"], test["error_message"]) == ("S.old", "Failed", "no")
    assert (test["tags"], test["duration_ms"], test["metadata"]["phase"]) == (["one", "two"], 2_250, "setup")
    steps = [(step["action"], step["status"], step.get("parent_step_number")) for step in found.steps]
    assert steps[:2] == [("setup", "Failed", None), ("Log", "Failed", 1)] and steps[2][0].startswith("FOR")
    assert reports.suite["metadata"] == {
        "robot": "Robot 3.2",
        "suites": {"S": {"Version": "1"}},
        "errors": ["ERROR: import failed"],
    }


def test_attempts_are_by_start_over_all_files(tmp_path):
    first = xml(case(status="FAIL", start="2026-01-02T03:04:05") + case("b"))
    again = xml(case(start="2026-01-02T04:04:05"))
    (tmp_path / "z-first.xml").write_text(first)
    (tmp_path / "a-again.xml").write_text(again)
    _, results = looked(tmp_path)
    assert sorted(rows(results, "test_id", "attempt", "status")) == [
        ("S.a", 1, "Failed"),
        ("S.a", 2, "Passed"),
        ("S.b", 1, "Passed"),
    ]


def test_secrets(tmp_path, send, server):
    inner = kw("Fill Secret", "<arg>id=x</arg><arg>s3cret-1</arg>")
    inner += kw("Input Text", "<arg>css=#password</arg><arg>s3cret-2</arg>")
    inner += kw("Call", "<arg>token</arg><arg>password=s3cret-3</arg><arg>plain</arg>")
    inner += kw("Own", msg("Arguments: [ ${password}='s3cret-4' | 'seen' ]", "TRACE"))
    inner += kw("Set", msg("${password} = s3cret-5"))
    inner += kw("Input Password", "<arg>x</arg><arg>${p}</arg>" + msg("Arguments: [ 'x' | 's3cret-6' ]", "TRACE"))
    inner += '<variable name="${api_secret}"><var>s3cret-7</var><status status="PASS"/></variable>'
    inner += kw("Log", msg("all: s3cret-1 s3cret-2 s3cret-3 s3cret-4 s3cret-5 s3cret-6 s3cret-7 seen"))
    (tmp_path / "output.xml").write_text(xml(case(inner=inner, status="FAIL", message="was s3cret-4")))
    (test,) = run_of(server, send(tmp_path / "output.xml"))["tests"]
    text = json.dumps(test)
    assert "s3cret" not in text and "seen" in text and "plain" in text and test["error_message"] == "was [redacted]"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a<br>b  c", "a\nb c"),
        ("<table><tr><td>1</td><td>2</td></tr><tr><td>3</td></tr></table>", "1 2\n3"),
        ("&lt;b&gt; &amp; &#65;", "<b> & A"),
        ("<![broken <b", "<![broken <b"),
        ("a<!-- x -->b<p class='x'>c</p>d", "ab\nc\nd"),
        ("<img alt='' SRC = x.png/>y < z", "y < z"),
        ("<script>x</script><img src='data:image/png;base64,AAAA'>y", "xy"),
    ],
)
def test_html_becomes_text(text, expected):
    assert text_of_html(text) == expected


@pytest.mark.parametrize("part", ["<a ", "<a href='", "<!--", "<!-- <a", "&", "data:image/png;base64,", "<", "src='"])
def test_half_open_html_costs_little(part):
    """The time of twice as much text is not four times as much."""
    times = []
    for length in (100_000, 200_000):
        text = part * (length // len(part))
        began = time.thread_time()
        for _ in range(3):
            text_of_html(text)
            files_of(Source(Path("x/output.xml")), text)
        times.append(time.thread_time() - began)
    assert times[1] < max(3 * times[0], 0.5)


def test_files_are_of_the_folder(tmp_path, send, server):
    folder = tmp_path / "out"
    (folder / "sub").mkdir(parents=True)
    (tmp_path / "secret.png").write_bytes(png(3))
    (folder / "ok.png").write_bytes(png(7))
    (folder / "sub/log.txt").write_text("of the browser")
    (folder / "link.png").symlink_to("/etc/passwd")
    names = ["ok.png", "../secret.png", "/etc/passwd", str(tmp_path / "secret.png"), "link.png", "gone.png"]
    names += [
        f"file://{tmp_path}/secret.png",
        "https://x.example/y.png",
        "..\\secret.png",
        "C:\\x.png",
        "",
        "%2e%2e/secret.png",
    ]
    html = "".join(f"<img src='{name}'>" for name in names) + "<a href='sub/log.txt'>log</a><a href='gone.txt'>x</a>"
    html += f"<img src='data:image/png;base64,{PICTURE}'><img src='data:image/png;base64,A'>"
    text = html.replace("<", "&lt;").replace("&lt;img", "&lt;img")
    folder.joinpath("output.xml").write_text(xml(case(inner=kw(inner=msg(text, more='html="true"')))))
    done = send(folder)
    assert done.returncode == 4 and "is outside of the folder of output.xml" in done.stdout, done.stdout
    (test,) = run_of(server, done)["tests"]
    files = {each["file_name"]: server.bytes_of(each) for each in test["artifacts"]}
    assert files == {"ok.png": png(7), "log.txt": b"of the browser", "step_001.png": png(1)}


@pytest.mark.parametrize("odd", [None, 3, "x", [], {}, [[]], [{}], {"a": {"b": []}}, True, -1, 1e300, [None, 1, "x"]])
def test_odd_values_of_json(tmp_path, odd):
    names = ("id", "name", "doc", "tags", "timeout", "lineno", "setup", "teardown", "body", "status", "message", "args")
    names += (
        "start_time",
        "elapsed_time",
        "assign",
        "values",
        "condition",
        "type",
        "level",
        "html",
        "timestamp",
        "owner",
    )
    tests = [{"name": f"t{i}", "status": "PASS", name: odd} for i, name in enumerate(names)]
    kinds = ("IF/ELSE ROOT", "TRY/EXCEPT ROOT", "FOR", "ITERATION", "WHILE", "VAR", "MESSAGE", "GROUP", "x")
    body = [{**dict.fromkeys(names, odd), "type": kind} for kind in kinds]
    tests.append({"name": "b", "status": "FAIL", "setup": body[0], "body": [odd, *body, {"type": "FOR", "body": body}]})
    suites = [{"tests": [odd, *tests], "suites": odd, "metadata": odd, "name": odd, "setup": odd, "teardown": odd}]
    value = {"generator": "Robot 7.2 (x)", "suite": {"suites": suites, "tests": odd}, "errors": [odd, {"message": odd}]}
    reports, results = read(tmp_path, json.dumps(value), "output.json")
    assert len(results) >= len(tests) and all(each.test["name"] and each.test["status"] for each in results), (
        reports.notes
    )


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "latin-1"])
def test_encodings(tmp_path, encoding):
    declared = f'<?xml version="1.0" encoding="{encoding.removesuffix("-sig")}"?>'
    _, (found,) = read(tmp_path, (declared + xml(case("Prüfung"))).encode(encoding))
    assert found.test["name"] == "Prüfung"


def test_odd_characters_and_long_names(tmp_path):
    inner = kw("a\0b", msg("&#27;[31mred&#27;[0m &#0;")) + kw("")
    text = xml(case("x" * 200_000, inner) + case("x" * 199_999) + case(""))
    _, results = read(tmp_path, text)
    identities = [each.test["test_id"] for each in results]
    assert [len(each) for each in identities] == [500, 500, 1] and len(set(identities)) == 3
    assert results[0].console_logs[0]["message"] == "red \ufffd" and results[0].steps[0]["action"] == "a\ufffdb"
    assert (results[2].test["name"], results[0].steps[1]["action"]) == ("(without a name)", "keyword")


WHOLE = xml(case() + case("b"))
HOSTILE = [
    ("", 2, "is empty"),
    (xml(""), 2, "is empty: it has no test"),
    ('{"generator": "Robot 7.2", "suite": {}}', 2, "is empty: it has no test"),
    (WHOLE[: WHOLE.index('name="b"') + 20], 4, "is cut or damaged: 1 whole results were read"),
    (WHOLE[:90], 3, "is cut or damaged before the end of its first test"),
    (
        '{"generator": "Robot 7.2", "suite": {"tests": [{"name": "a", "status": "PASS"}, {"name": "b"',
        4,
        "1 whole results",
    ),
    ('{"generator": "Robot 7.2", "suite": {"tests": [{"name": "a"', 3, "before the end of its first test"),
    (BOMB.replace("testsuites", "robot"), 3, "has a document type or entities"),
    (f"<!--{'x' * 70_000}-->" + BOMB, 3, "is of no format that is known"),
    ('<!DOCTYPE robot SYSTEM "file:///etc/passwd"><robot/>', 3, "has a document type or entities"),
    ("<robot>" + "<suite>" * 300, 3, "is nested too deeply"),
]


@pytest.mark.parametrize(("text", "code", "words"), HOSTILE, ids=range(len(HOSTILE)))
def test_exit_codes(tmp_path, send, text, code, words):
    (tmp_path / "output").write_text(text)
    done = send(tmp_path / "output", "--dry-run")
    assert done.returncode == code and words in done.stderr, done.stderr


def test_a_wrong_format_forced(tmp_path, send):
    (tmp_path / "a.xml").write_text("<testsuite/>")
    (tmp_path / "a.json").write_text('{"steps": []}')
    for name, words in (("a.xml", "its first element must be <robot>"), ("a.json", "it has no `suite`")):
        done = send(tmp_path / name, "--format", "robot", "--dry-run")
        assert done.returncode == 3 and words in done.stderr, done.stderr
    (tmp_path / "output.xml").write_text(WHOLE)
    done = send(tmp_path / "output.xml", "--format", "report-log", "--dry-run")
    assert done.returncode == 3 and "no report log of pytest" in done.stderr


def test_a_file_is_never_whole_in_memory(tmp_path, monkeypatch):
    """A test at a time, and of a very large one a part."""
    monkeypatch.setattr(robot_xml, "_MOST_NODES", 2_000)
    monkeypatch.setattr(robot_xml, "_MOST_TEXT", 1 << 20)
    small = case(inner=kw(inner=msg("text " * 100)) * 20)
    large = case("large", kw(inner=msg("x")) * 3_000 + kw(inner=msg("y" * (6 << 20))))
    head, tail = xml("|").split("|")
    (tmp_path / "output.xml").write_text(f"{head}{small * 200}{large}{tail}")
    source, notes = Source(tmp_path / "output.xml"), []
    source.note = notes.append
    tracemalloc.start()
    count = sum(1 for _ in robot.read(source))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 201 and peak < 16 << 20 and "keywords and messages of very large tests have no place" in notes[0]
