"""Folders of Allure that allure-pytest and allure-playwright write here, compared field by field; and bad ones."""

import json
import subprocess
import sys
import tracemalloc

import pytest
from reportd_client.formats import allure
from reportd_client.formats.result import Source

from tests.images import png
from tests.server import CLEAN
from tests.test_junit import looked, rows
from tests.test_send import run_of
from tests.tools import node

SHOP = """
import allure, logging, pytest, sys
runs = []

@pytest.fixture(scope="module", autouse=True)
def shared():
    with allure.step("Start the shop"):
        allure.attach("a,b", name="stock", attachment_type=allure.attachment_type.CSV)
    yield

@pytest.fixture
def cart():
    with allure.step("Make a cart"): pass
    yield
    with allure.step("Remove it"): pass

@pytest.fixture
def broken(): raise RuntimeError("no database")

@pytest.fixture
def leaks():
    yield
    raise RuntimeError("cannot remove")

@allure.title("Pays {n}")
@allure.epic("Shop")
@allure.feature("Cart")
@allure.severity("critical")
@allure.label("owner", "anna")
@allure.label("layer", "ui")
@allure.label("team", "a")
@allure.label("team", "b")
@allure.issue("https://shop.example/SHOP-1", "SHOP-1")
@allure.description("What **it** does")
@allure.tag("smoke", "ui")
@pytest.mark.parametrize("n", [1, 2])
def test_pays(cart, n):
    allure.dynamic.parameter("token", "hunter2", mode=allure.parameter_mode.MASKED)
    allure.dynamic.parameter("build", 77, excluded=True)
    allure.dynamic.parameter("invisible", 1, mode=allure.parameter_mode.HIDDEN)
    with allure.step("Open the page"):
        with allure.step("Click pay"):
            allure.attach(open("shot.png", "rb").read(), name="shot", attachment_type=allure.attachment_type.PNG)
    print("hello hunter2")
    print("careful", file=sys.stderr)
    logging.getLogger("shop").warning("low stock")
    allure.attach("[]", name="answer", attachment_type=allure.attachment_type.JSON)

@allure.step("Login as {user}")
def login(user, password):
    allure.attach(open("shot.png", "rb").read(), name="page", attachment_type=allure.attachment_type.PNG)
    assert user == "root", "not root"

def test_fails(): login("anna", "s3cret!")
def test_setup_fails(broken): pass
def test_teardown_fails(leaks): pass
@pytest.mark.skip(reason="no browser")
def test_skipped(): pass
@pytest.mark.xfail(reason="known")
def test_xfail(): raise ValueError("old bug")
@pytest.mark.xfail(reason="known")
def test_xpass(): pass
@pytest.mark.flaky(reruns=2)
def test_flaky():
    runs.append(1)
    assert len(runs) > 2
"""


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """The folder that allure-pytest writes."""
    folder = tmp_path_factory.mktemp("allure")
    (folder / "shot.png").write_bytes(png(1))
    (folder / "test_shop.py").write_text(SHOP)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:reportd", "-p", "no:cacheprovider", "--alluredir=out"]
    done = subprocess.run(command, cwd=folder, env=CLEAN, capture_output=True, text=True, timeout=120)
    (folder / "out/environment.properties").write_text("# of the shop\nBrowser = Chromium\nDB_PASSWORD=hunter2\n\n")
    executor = {"name": "Jenkins", "buildUrl": "https://ci.example/7", "reportName": "nightly", "buildOrder": 7}
    (folder / "out/executor.json").write_text(json.dumps(executor))
    assert "1 failed, 4 passed, 1 skipped, 1 xfailed, 1 xpassed, 2 errors, 2 rerun" in done.stdout, done.stdout
    return folder / "out"


def facts(test):
    steps = [
        [step[name] for name in ("step_number", "parent_step_number", "action", "status")] for step in test["steps"]
    ]
    console = [(entry["level"], entry["message"]) for entry in test["console"]]
    return steps, console


def test_a_folder_of_pytest(shop, send, server):
    done = send(shop, "--run-key", "allure of pytest")
    assert done.returncode == 0, done.stdout + done.stderr
    run = run_of(server, done)
    assert (run["name"], run["status"], run["build_url"]) == ("nightly", "Failed", "https://ci.example/7")
    assert run["metadata"]["environment"] == {"Browser": "Chromium", "DB_PASSWORD": "[redacted]"}
    assert run["metadata"]["executor"]["name"] == "Jenkins"
    tests = {(test["test_id"], test["attempt"]): test for test in run["tests"]}
    verdict = ("status", "error_type", "error_message")
    expected = {
        ("test_shop#test_pays[n=1, token=[redacted]]", 1): ("Passed", None, None),
        ("test_shop#test_pays[n=2, token=[redacted]]", 1): ("Passed", None, None),
        ("test_shop#test_setup_fails", 1): ("Failed", "RuntimeError", "no database"),
        ("test_shop#test_teardown_fails", 1): ("Failed", "RuntimeError", "cannot remove"),
        ("test_shop#test_skipped", 1): ("Skipped", None, "no browser"),
        ("test_shop#test_xfail", 1): ("Skipped", None, "known"),
        ("test_shop#test_xpass", 1): ("Passed", None, None),
        ("test_shop#test_flaky", 1): ("Failed", "AssertionError", "assert 1 > 2\n +  where 1 = len([1])"),
        ("test_shop#test_flaky", 2): ("Failed", "AssertionError", "assert 2 > 2\n +  where 2 = len([1, 1])"),
        ("test_shop#test_flaky", 3): ("Passed", None, None),
    }
    fails = tests.pop(("test_shop#test_fails", 1))
    assert {key: tuple(test[name] for name in verdict) for key, test in tests.items()} == expected
    check_pays(tests["test_shop#test_pays[n=1, token=[redacted]]", 1], server)
    assert facts(tests["test_shop#test_pays[n=2, token=[redacted]]", 1])[0][0] == [1, None, "setup", "Passed"]
    assert (fails["status"], fails["error_type"]) == ("Failed", "AssertionError")
    lines = fails["error_message"].splitlines()
    assert (lines[0], lines[-1]) == ("not root", "  + anna") and "test_shop.py:" in fails["stack_trace"]
    check_error_of_step(fails, server)
    phases = {name: (test["metadata"] or {}).get("phase") for (name, _), test in tests.items()}
    assert {phase: name for name, phase in phases.items() if phase} == {
        "setup": "test_shop#test_setup_fails",
        "teardown": "test_shop#test_teardown_fails",
    }
    xfail = tests["test_shop#test_xfail", 1]["metadata"]
    assert (xfail["outcome"], xfail["expected_error"]) == ("xfailed", "ValueError: old bug")
    assert tests["test_shop#test_xpass", 1]["metadata"]["outcome"] == "xpassed"
    assert not any(word in json.dumps(run) for word in ("hunter2", "s3cret!"))
    again = send(shop, "--run-key", "allure of pytest")
    assert "11 tests (0 new)" in again.stdout and "(0 new)" in again.stdout.partition("files")[2], again.stdout


def check_pays(test, server):
    steps, console = facts(test)
    assert steps == [
        [1, None, "setup", "Passed"],
        [2, 1, "shared", "Passed"],
        [3, 2, "Start the shop", "Passed"],
        [4, 1, "cart", "Passed"],
        [5, 4, "Make a cart", "Passed"],
        [6, None, "Open the page", "Passed"],
        [7, 6, "Click pay", "Passed"],
        [8, None, "teardown", "Passed"],
        [9, 8, "cart::1", "Passed"],
        [10, 9, "Remove it", "Passed"],
    ]
    assert console == [("warning", "low stock"), ("info", "hello [redacted]"), ("warning", "careful")]
    files = {each["file_name"]: (each["artifact_type"], each["step_number"]) for each in test["artifacts"]}
    assert files == {"stock.csv": ("log", 3), "shot.png": ("screenshot", 7), "answer.json": ("other", None)}
    (shot,) = [each for each in test["artifacts"] if each["file_name"] == "shot.png"]
    assert server.bytes_of(shot) == png(1)
    assert (test["name"], test["tags"]) == ("Pays 1", ["smoke", "ui"]) or set(test["tags"]) == {"smoke", "ui"}
    metadata = test["metadata"]
    for name, value in {
        **{"severity": "critical", "owner": "anna", "epic": "Shop", "feature": "Cart", "layer": "ui"},
        **{"suite": "test_shop", "description": "What **it** does"},
        "parameters": {"n": "1", "token": "[redacted]", "build": "77"},
        "links": [{"type": "issue", "name": "SHOP-1", "url": "https://shop.example/SHOP-1"}],
    }.items():
        assert metadata[name] == value
    assert set(metadata["labels"]["team"]) == {"a", "b"} and metadata["history_id"]


def check_error_of_step(test, server):
    (step,) = test["steps"]
    assert step["description"] == "Login as 'anna'\nuser = 'anna'\npassword = [redacted]"
    assert step["status"] == "Failed" and step["error_message"].startswith("AssertionError: not root")
    assert step["stack_trace"].strip().startswith("File ")
    (page,) = test["artifacts"]
    assert (page["step_number"], page["artifact_category"]) == (1, "error") and server.bytes_of(page) == png(1)


SPEC = """
import { test, expect } from '@playwright/test';
import * as allure from 'allure-js-commons';
test.describe('Cart', () => {
  test('adds', async () => {
    await allure.severity('minor'); await allure.tag('smoke');
    await test.step('outer', async () => {
      await test.step('inner', async () => { await allure.attachment('note', 'text', 'text/plain'); });
    });
    console.log('hello');
  });
  test('flaky', async ({}, info) => { await test.step('compare', async () => { expect(info.retry).toBe(1); }); });
});
"""
CONFIG = """
const reporter = [['allure-playwright', {resultsDir: 'out', environmentInfo: {os: 'linux'}}]];
export default { reporter, retries: 1, testDir: '.', projects: [{name: 'p'}], workers: 1 };
"""


def test_a_folder_of_playwright(tmp_path):
    (tmp_path / "a.spec.ts").write_text(SPEC)
    (tmp_path / "playwright.config.ts").write_text(CONFIG)
    done = node(tmp_path, "@playwright/test/cli.js", "test")
    assert (tmp_path / "out").exists(), done.stdout + done.stderr
    reports, results = looked(tmp_path / "out")
    assert reports.suite["metadata"] == {"environment": {"os": "linux"}} and reports.notes == []
    found = {(result.test["test_id"], result.test["attempt"]): result for result in results}
    adds = found.pop(("a.spec.ts › Cart › adds[Project=p]", 1))
    flaky = {attempt: result for (_, attempt), result in found.items()}
    assert {name for name, _ in found} == {"a.spec.ts › Cart › flaky[Project=p]"}
    assert {attempt: result.test["status"] for attempt, result in flaky.items()} == {1: "Failed", 2: "Passed"}
    steps = {step["action"]: step for step in adds.steps}
    assert steps["inner"]["parent_step_number"] == steps["outer"]["step_number"] and "note" not in steps
    (note,) = adds.files
    assert note.fields["step_number"] == steps["inner"]["step_number"] and note.path.read_text() == "text"
    assert note.fields["file_name"] == "note.txt" and ("info", "hello") in [
        (entry["level"], entry["message"]) for entry in adds.console_logs
    ]
    assert (adds.test["tags"], adds.test["metadata"]["severity"]) == (["smoke"], "minor")
    message = flaky[1].test["error_message"].splitlines()
    assert (message[0], message[-1]) == (
        "Error: expect(received).toBe(expected) // Object.is equality",
        "Received: 0",
    )
    failed = [(step["action"], step["step_type"]) for step in flaky[1].steps if step["status"] == "Failed"]
    assert failed == [("compare", "group"), ('Expect "toBe"', "assert")]


# --- by hand ---


def result(name="a", **more):
    return {
        "uuid": name,
        "name": name,
        "fullName": f"t#{name}",
        "status": "passed",
        "start": 1_000,
        "stop": 2_000,
        **more,
    }


def folder_of(tmp_path, *values, containers=()):
    out = tmp_path / "out"
    out.mkdir(exist_ok=True)
    for kind, given in (("result", values), ("container", containers)):
        for i, value in enumerate(given):
            data = value if isinstance(value, (str, bytes)) else json.dumps(value)
            data = data if isinstance(data, bytes) else data.encode()
            (out / f"00000000-0000-4000-8000-{i:012}-{kind}.json").write_bytes(data)
    return out


def read(tmp_path, *values, containers=()):
    return looked(folder_of(tmp_path, *values, containers=containers))


@pytest.mark.parametrize(
    ("word", "details", "expected"),
    [
        ("passed", {}, ("Passed", None, None, None)),
        ("failed", {"message": "a.BError: no", "trace": "at x"}, ("Failed", "a.BError", "a.BError: no", None)),
        (
            "broken",
            {"trace": "java.io.IOException: disk\nat x"},
            ("Failed", "java.io.IOException", "java.io.IOException: disk", "broken"),
        ),
        ("failed", {}, ("Failed", None, "Failed", None)),
        ("skipped", {"message": "why"}, ("Skipped", None, "why", None)),
        ("unknown", {"message": "?"}, ("Pending", None, "?", "unknown")),
        (None, None, ("Pending", None, None, "none")),
        (3, [], ("Pending", None, None, "3")),
    ],
)
def test_verdicts(tmp_path, word, details, expected):
    _, (found,) = read(tmp_path, result(status=word, statusDetails=details))
    test = found.test
    fields = (test["status"], test.get("error_type"), test.get("error_message"))
    assert (*fields, test["metadata"].get("outcome") if "metadata" in test else None) == expected


def test_attempts_are_by_start_of_the_same_history(tmp_path):
    same = {"historyId": "h"}
    values = [result(start=3_000, **same), result(start=1_000, **same), result(start=2_000, status="failed", **same)]
    _, results = read(
        tmp_path, *values, result("b", historyId="x"), result("b", historyId="y"), result("c"), result("c")
    )
    assert sorted(rows(results, "test_id", "attempt", "status")) == [
        *(("t#a", 1, "Passed"), ("t#a", 2, "Failed"), ("t#a", 3, "Passed")),
        *(("t#b", 1, "Passed"), ("t#b #2", 1, "Passed")),
        *(("t#c", 1, "Passed"), ("t#c #2", 1, "Passed")),
    ]


def test_fixtures_of_several_tests(tmp_path):
    step = {"name": "s", "status": "passed"}
    passed = {"children": ["a", "b"], "befores": [{"name": "up", "status": "passed", "steps": [step]}]}
    passed["afters"] = [{"name": "down", "status": "passed", "steps": [step]}, {"name": "short", "status": "passed"}]
    failed = {
        "children": ["c", "d"],
        "befores": [{"name": "up", "status": "broken", "statusDetails": {"message": "no"}}],
    }
    long = {"children": ["e"], "befores": [{"name": "long", "status": "passed", "start": 1_000, "stop": 1_150}]}
    broken = {"status": "broken", "statusDetails": {"message": "no"}}
    values = [
        result("a"),
        result("b"),
        result("c", **broken),
        result("d", **broken),
        result("e"),
        result("e", stop=9_000),
    ]
    _, results = read(
        tmp_path, *values, containers=[passed, failed, long, {"children": 3}, {"uuid": "x", "befores": 1}]
    )
    steps = [[step["action"] for step in each.steps] for each in results]
    assert steps[:4] == [["setup", "up", "s"], ["teardown", "down", "s"], ["setup", "up"], ["setup", "up"]]
    assert steps[4:] == [["setup", "long"], []], "a short part of a long test"
    assert [each.test.get("metadata", {}).get("phase") for each in results[:4]] == [None, None, "setup", "setup"]


def test_fixtures_of_one_millisecond_are_nested(tmp_path):
    """The order of the files, whose names are random, says nothing."""
    containers = []
    for name, children in (("inner", ["a"]), ("outer", ["a", "b", "c"]), ("middle", ["a", "b"])):
        fixture = {"name": name, "status": "broken", "start": 1_000, "stop": 1_000}
        containers.append({"children": children, "befores": [fixture]})
        containers.append({"children": children[::-1], "afters": [fixture]})
    _, (found,) = read(tmp_path, result("a"), containers=containers)
    steps = [step["action"] for step in found.steps]
    assert steps == ["setup", "outer", "middle", "inner", "teardown", "inner", "middle", "outer"]


def test_attachments_are_of_the_folder(tmp_path, send, server):
    (tmp_path / "secret.txt").write_text("secret")
    (tmp_path / "secret.png").write_bytes(png(3))
    out = folder_of(tmp_path)
    (out / "ok.png").write_bytes(png(1))
    (out / "link.png").symlink_to("/etc/passwd")
    (out / "sub").mkdir()
    (out / "sub/deep.png").write_bytes(png(2))
    names = [
        "ok.png",
        "../secret.txt",
        "/etc/passwd",
        str(tmp_path / "secret.png"),
        "link.png",
        "gone.png",
        "sub/deep.png",
    ]
    names += [f"file://{tmp_path}/secret.png", "..\\secret.txt", "C:\\secret.txt", "\\\\host\\x", "", "a\0b", None, 3]
    attachments = [{"name": f"n{i}", "source": name, "type": "image/png"} for i, name in enumerate(names)]
    folder_of(
        tmp_path, result(attachments=[*attachments, 1, None], steps=[{"name": "s", "attachments": attachments[1:3]}])
    )
    done = send(out)
    assert done.returncode == 4 and "is outside of the folder" in done.stdout, done.stdout
    (test,) = run_of(server, done)["tests"]
    assert sorted(each["file_name"] for each in test["artifacts"]) == ["n0.png", "n6.png"]
    files = [server.bytes_of(each) for each in test["artifacts"]]
    assert sorted(files) == sorted([png(1), png(2)])


def test_an_attachment_that_is_a_report_is_no_report(tmp_path):
    out = folder_of(tmp_path, result())
    name = "10000000-0000-4000-8000-000000000000-attachment"
    (out / f"{name}.json").write_text(json.dumps(result("b")))
    (out / f"{name}.xml").write_text('<testsuite><testcase name="c"/></testsuite>')
    reports, results = looked(out)
    assert rows(results, "name") == [("a",)] and reports.unreadable == []


def test_output_that_is_too_much_is_a_file(tmp_path):
    out = folder_of(tmp_path, result(attachments=[{"name": "stdout", "source": "o.txt", "type": "text/plain"}]))
    (out / "o.txt").write_text("line\n" * 3_000)
    _, (found,) = looked(out)
    assert len(found.console_logs) == 1_000 and found.files[0].data.count(b"line") == 3_000
    (out / "o.txt").write_bytes(b"x" * (5 << 20))
    _, (found,) = looked(out)
    assert found.console_logs == [] and found.files[0].path == out / "o.txt"


@pytest.mark.parametrize("odd", [None, 3, "x", [], {}, [[]], [{}], {"a": {"b": []}}, True, -1, 1e300, [None, 1, "x"]])
def test_odd_values(tmp_path, odd):
    names = (
        "name",
        "fullName",
        "status",
        "statusDetails",
        "start",
        "stop",
        "historyId",
        "testCaseId",
        "labels",
        "links",
    )
    names += ("parameters", "steps", "attachments", "description", "titlePath", "uuid")
    values = [{**result(f"t{i}"), name: odd} for i, name in enumerate(names)]
    values += [
        result("s", steps=[dict.fromkeys(names, odd), odd]),
        result("p", parameters=[{"name": odd, "value": odd}]),
    ]
    containers = [
        {"children": ["s", odd], "befores": [odd, {"name": odd, "status": "failed", "steps": odd}], "afters": odd}
    ]
    _, results = read(tmp_path, *values, containers=containers)
    assert len(results) == len(values) and all(each.test["name"] and each.test["status"] for each in results)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le"])
def test_encodings(tmp_path, encoding):
    text = json.dumps(result("Prüfung\0\ud800 \x1b[31mred"), ensure_ascii=False)
    _, (found,) = read(tmp_path, text.encode(encoding, "surrogatepass"))
    assert found.test["name"].startswith("Prüfung\ufffd") and found.test["name"].endswith(" red")


def test_long_names_stay_apart(tmp_path):
    _, results = read(tmp_path, *(result("x" * length) for length in (200_000, 199_999)))
    identities = {each.test["test_id"] for each in results}
    assert len(identities) == 2 and {len(each.test["name"]) for each in results} == {500}


def test_metadata_is_bounded(tmp_path):
    links = [{"url": "https://x.example/" + "u" * 1_900, "name": "n", "type": "issue"}] * 60
    _, (found,) = read(tmp_path, result(links=links, description="d" * 100_000))
    assert "links" not in found.test["metadata"] and len(found.test["metadata"]["description"]) == 10_000


def test_a_large_result_is_known_by_its_name(tmp_path):
    value = {"name": "a", "status": "passed", "steps": [{"name": "s" * 100_000}], "uuid": "u", "historyId": "h"}
    _, (found,) = read(tmp_path, value)
    assert found.test["name"] == "a"


CUT = json.dumps(result("b"))[:40]
HOSTILE = [
    ([], 2, "no report was found"),
    ([""], 2, "is empty"),
    (["", result()], 4, "1 files are cut or damaged: 1 whole results were read"),
    ([result(), CUT], 4, "1 files are cut or damaged: 1 whole results were read"),
    ([CUT], 3, "has no whole result of Allure"),
    (["{" * 100_000], 3, "has no whole result of Allure"),
    ([result(), '{"a":' * 300], 4, "1 files are cut or damaged"),
]


@pytest.mark.parametrize(("values", "code", "words"), HOSTILE, ids=range(len(HOSTILE)))
def test_exit_codes(tmp_path, send, values, code, words):
    done = send(folder_of(tmp_path, *values), "--dry-run")
    assert done.returncode == code and words in done.stderr, done.stderr


def test_fixtures_without_tests_are_empty(tmp_path, send):
    done = send(folder_of(tmp_path, containers=[{"uuid": "x", "children": ["a"]}]), "--dry-run")
    assert done.returncode == 2 and "is empty: it has no test" in done.stderr, done.stderr


def test_a_wrong_format_forced(tmp_path, send):
    (tmp_path / "a.xml").write_text("<testsuite/>")
    done = send(tmp_path / "a.xml", "--format", "allure", "--dry-run")
    assert done.returncode == 3 and "has no results of Allure" in done.stderr
    done = send(folder_of(tmp_path, result()), "--format", "report-log", "--dry-run")
    assert done.returncode == 3 and "no report log of pytest" in done.stderr


def test_a_fixture_of_many_tests_is_kept_once(tmp_path):
    names = [f"t{i}" for i in range(300)]
    steps = [{"name": "s" * 1_000, "status": "passed"}] * 100
    shared = {"children": names, "befores": [{"name": "f", "status": "broken", "steps": steps}]}
    out = folder_of(tmp_path, *(result(name, status="broken") for name in names), containers=[shared])
    tracemalloc.start()
    assert sum(len(each.steps) for each in allure.read(Source(out))) == 300 * 102
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 10 << 20, "the texts of all steps are 30 MB"


def test_fixtures_that_are_too_large_are_left_out(tmp_path, monkeypatch):
    monkeypatch.setattr(allure, "_MOST_FIXTURES", 100)
    fixture = {"children": ["a"], "befores": [{"name": "f" * 100, "status": "broken"}]}
    reports, (found,) = read(tmp_path, result("a"), containers=[fixture])
    assert found.steps == [] and "1 files of fixtures are too large" in reports.notes[0]
