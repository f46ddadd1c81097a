"""JUnit files: those that pytest writes here, small ones in the dialects of other tools, and hostile ones."""

import json
import re
import subprocess
import sys
from collections import Counter

import pytest
from reportd_client.cli import main
from reportd_client.formats.junit_case import milliseconds, shortened
from reportd_client.formats.markup import first_tag
from reportd_client.formats.reports import FORMATS, Reports

from tests.images import png
from tests.server import CHECKOUT, CLEAN
from tests.test_send import run_of

SUITE = """
import sys
import pytest
runs = []
def test_flaky():
    runs.append(1)
    assert len(runs) > 2
def test_passes():
    print("hello")
    print("careful", file=sys.stderr)
@pytest.fixture
def leaks():
    yield
    raise RuntimeError("cannot remove")
def test_teardown_fails(leaks): pass
def test_both_fail(leaks): assert 0, "mine"
@pytest.fixture
def broken(): raise OSError("no database")
def test_setup_fails(broken): pass
@pytest.mark.xfail(reason="known")
def test_xfail(): assert 0
@pytest.mark.skip(reason="no browser")
def test_skipped(): pass
@pytest.mark.parametrize("n", ["a b", "\\x1b[31m"])
def test_parameters(n, record_property): record_property("ticket", "SHOP-1")
class TestCart:
    def test_total(self): raise ValueError("\\x1b[1mno\\x1b[0m \\0 total")
"""
COUNTED = {"Passed": 3, "Failed": 4, "Skipped": 2}  # and test_flaky


def looked(*paths, **options):
    """Reports of these paths, and all results."""
    reports = Reports(**options)
    reports.look([str(path) for path in paths])
    return reports, list(reports.results())


def dry_run(*arguments):
    """The exit code of `reportd-send --dry-run`, in this process."""
    with pytest.raises(SystemExit) as ended:
        main(["--dry-run", *map(str, arguments)])
    return ended.value.code


def read(tmp_path, *texts, **options):
    for i, text in enumerate(texts):
        data = text if isinstance(text, bytes) else text.encode()
        (tmp_path / f"TEST-{i}.xml").write_bytes(data)
    return looked(tmp_path, **options)


def rows(results, *names):
    return [tuple(result.test.get(name) for name in names) for result in results]


@pytest.fixture(scope="module")
def by_pytest(tmp_path_factory):
    """JUnit files of the same suite, as pytest writes them with these options."""
    folder = tmp_path_factory.mktemp("pytest")
    (folder / "test_suite.py").write_text(SUITE)
    (folder / "pytest.ini").write_text("[pytest]\njunit_logging = all\n")

    def make(name, *options):
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:reportd", "-p", "no:cacheprovider", *options]
        subprocess.run([*command, f"--junitxml={name}.xml"], cwd=folder, env=CLEAN, capture_output=True, timeout=120)
        return folder / f"{name}.xml"

    return make


# --- pytest ---


def test_a_file_of_pytest(by_pytest, send, server):
    path = by_pytest("plain")
    done = send(path, "--run-key", "junit of pytest")
    assert done.returncode == 0, done.stdout + done.stderr
    run = run_of(server, done)
    assert (run["name"], run["status"]) == ("pytest tests", "Failed") and run["metadata"]["hostname"]
    tests = {test["name"]: test for test in run["tests"]}
    counts = Counter(test["status"] for test in run["tests"])
    assert counts == {**COUNTED, "Failed": COUNTED["Failed"] + 1}
    assert {test["attempt"] for test in run["tests"]} == {1}
    passes = tests["test_passes"]
    assert passes["test_id"] == "test_suite::test_passes" and passes["duration_ms"] is not None
    console = {(entry["level"], entry["message"], entry["source_url"]) for entry in passes["console"]}
    assert {("info", "hello", "system-out"), ("warning", "careful", "system-err")} <= console
    total = tests["test_total"]
    assert total["test_id"] == "test_suite.TestCart::test_total" and total["error_type"] == "ValueError"
    assert total["error_message"].startswith("ValueError: no ") and "test_suite.py:" in total["stack_trace"]
    setup = tests["test_setup_fails"]
    assert (setup["error_type"], setup["error_message"]) == ("OSError", "OSError: no database")
    assert setup["metadata"]["phase"] == "setup"
    teardown = tests["test_teardown_fails"]
    assert (teardown["error_message"], teardown["metadata"]["phase"]) == ("RuntimeError: cannot remove", "teardown")
    both = tests["test_both_fail"]
    assert (
        both["error_message"].startswith("AssertionError: mine")
        and "RuntimeError: cannot remove" in both["stack_trace"]
    )
    assert tests["test_xfail"]["metadata"]["outcome"] == "xfailed" and tests["test_xfail"]["error_message"] == "known"
    assert tests["test_skipped"]["error_message"] == "no browser"
    assert tests["test_parameters[a b]"]["metadata"]["properties"] == {"ticket": "SHOP-1"}
    assert not any("\x1b" in name or "#x1B" in name for name in tests)
    again = send(path, "--run-key", "junit of pytest")
    assert re.search(r"10 tests \(0 new\), 0 files", again.stdout), again.stdout
    dry = json.loads(send(path, "--dry-run", "--json").stdout)
    assert dry["tests"] == dict(counts)


@pytest.mark.parametrize("workers", [[], ["-n", "2"]])
def test_reruns_of_pytest_are_attempts(by_pytest, workers):
    reports, results = looked(by_pytest(f"reruns{len(workers)}", "--reruns", "2", *workers))
    by_name = {}
    for result in results:
        by_name.setdefault(result.test["name"], []).append((result.test["attempt"], result.test["status"]))
    last = {"test_flaky": "Passed", "test_passes": "Passed", "test_total": "Failed", "test_setup_fails": "Failed"}
    last.update(test_teardown_fails="Failed", test_both_fail="Failed")
    for name, status in last.items():  # with pytest 8, some reruns have no entry
        before = len(by_name[name]) - 1
        assert before == 0 if name == "test_passes" else before in (0, 2)
        assert by_name[name] == [*((n, "Pending") for n in range(1, before + 1)), (before + 1, status)], name
    assert len(by_name["test_teardown_fails"]) == 3 and reports.notes == []
    (ended,) = {result.test["error_message"] for result in results if result.test["status"] == "Pending"}
    assert ended == "The report does not say how this attempt ended"


def test_the_same_tests_in_each_worker_are_no_attempts(by_pytest):
    reports, results = looked(by_pytest("each", "-n", "2", "--dist", "each"))
    assert {result.test["attempt"] for result in results} == {1} and len(results) == 20
    assert Counter(result.test["status"] for result in results) == {"Passed": 6, "Failed": 10, "Skipped": 4}
    identities = [result.test["test_id"] for result in results]
    assert len(set(identities)) == 20 and sum(name.endswith(" #2") for name in identities) == 10
    assert "10 tests of the same name" in reports.remarks[0]


def test_the_error_of_a_teardown_finds_its_test_among_those_of_other_workers(tmp_path):
    error = '<error message="failed on teardown with &quot;E: x&quot;">x</error>'
    text = suite(
        (case(inner=FAILED) * 2) + case(inner=error) * 2 + case("b", error) * 2, name="pytest", more='tests="4"'
    )
    _, results = read(tmp_path, text)
    assert rows(results, "name", "attempt") == [("a", 1), ("a #2", 1), ("b", 1), ("b #2", 1)]
    assert [result.test["stack_trace"] for result in results] == ["E: x\nx", "E: x\nx", "x", "x"]


# --- other tools ---

SUREFIRE = """<?xml version="1.0" encoding="UTF-8"?>
<testsuite xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" name="com.shop.CartTest" time="1,234.5" tests="3">
  <properties><property name="user.home" value="/home/anna"/><property name="env.SECRET" value="hunter2"/></properties>
  <testcase name="adds" classname="com.shop.CartTest" time="1,234.5"/>
  <testcase name="flaky" classname="com.shop.CartTest" time="0.2">
    <flakyFailure message="first" type="java.lang.AssertionError">
      <stackTrace><![CDATA[java.lang.AssertionError: first
\tat com.shop.CartTest.flaky(CartTest.java:9)]]></stackTrace>
      <system-out>of the first</system-out>
    </flakyFailure>
    <system-out>of the last</system-out>
  </testcase>
  <testcase name="broken" classname="com.shop.CartTest" time="0.1">
    <error type="java.io.IOException"><![CDATA[java.io.IOException: no database
\tat com.shop.CartTest.broken(CartTest.java:20)]]></error>
    <rerunFailure message="again" type="java.lang.AssertionError"><stackTrace>trace 2</stackTrace></rerunFailure>
    <rerunError message="and again" type="java.io.IOException"><stackTrace>trace 3</stackTrace></rerunError>
  </testcase>
</testsuite>"""


def test_attempts_within_an_element_of_surefire(tmp_path):
    reports, results = read(tmp_path, SUREFIRE)
    assert rows(results, "test_id", "attempt", "status", "error_type", "error_message") == [
        ("com.shop.CartTest::adds", 1, "Passed", None, None),
        ("com.shop.CartTest::flaky", 1, "Failed", "java.lang.AssertionError", "first"),
        ("com.shop.CartTest::flaky", 2, "Passed", None, None),
        ("com.shop.CartTest::broken", 1, "Failed", "java.io.IOException", "java.io.IOException: no database"),
        ("com.shop.CartTest::broken", 2, "Failed", "java.lang.AssertionError", "again"),
        ("com.shop.CartTest::broken", 3, "Failed", "java.io.IOException", "and again"),
    ]
    assert results[1].test["stack_trace"].splitlines()[1] == "\tat com.shop.CartTest.flaky(CartTest.java:9)"
    assert [result.test.get("stack_trace") for result in results[4:]] == ["trace 2", "trace 3"]
    output = [[entry["message"] for entry in result.console_logs] for result in results[1:3]]
    assert output == [["of the first"], ["of the last"]]
    assert results[0].test["duration_ms"] == 1_234_500
    assert "hunter2" not in str(results) + str(reports.suite)  # the properties of a suite are those of the machine


def suite(cases, name="s", more=""):
    return f'<testsuites><testsuite name="{name}" {more}>{cases}</testsuite></testsuites>'


def case(name="a", inner="", of="c", more=""):
    return f'<testcase classname="{of}" name="{name}" {more}>{inner}</testcase>'


FAILED = '<failure message="no"/>'


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        # a rerun in another file, whose name sorts before
        ([suite(case()), suite(case(inner=FAILED))], [("c::a", 2, "Passed"), ("c::a", 1, "Failed")]),
        # times say which was first
        (
            [
                suite(case(inner=FAILED), more='timestamp="2026-01-02T00:00:00"'),
                suite(case(), more='timestamp="2026-01-01T00:00:00Z"'),
            ],
            [("c::a #2", 1, "Failed"), ("c::a", 1, "Passed")],
        ),
        # gotestsum: repeated entries in one file
        (
            [suite(case(inner=FAILED) * 2 + case())],
            [("c::a", 1, "Failed"), ("c::a", 2, "Failed"), ("c::a", 3, "Passed")],
        ),
        # two tests of the same name that both passed
        ([suite(case() + case())], [("c::a", 1, "Passed"), ("c::a #2", 1, "Passed")]),
        ([suite(case() + case("b"))], [("c::a", 1, "Passed"), ("c::b", 1, "Passed")]),
    ],
)
def test_the_same_test_again(tmp_path, files, expected):
    _, results = read(tmp_path, *files)
    assert rows(results, "test_id", "attempt", "status") == expected


@pytest.mark.parametrize(
    ("of", "name", "identity"),
    [
        ("", "sum", "sum"),
        ("sum", "sum", "sum"),
        ("Cart", "Cart adds an item", "Cart adds an item"),  # Jest
        ("com.shop.Cart", "adds", "com.shop.Cart::adds"),
        ("cart.spec.ts", "Cart › adds", "cart.spec.ts::Cart › adds"),  # Playwright
        ("Cart", "", "Cart"),
        ("", "", "(without a name)"),
    ],
)
def test_identities(tmp_path, of, name, identity):
    _, (result,) = read(tmp_path, suite(case(name, of=of)))
    assert result.test["test_id"] == identity


@pytest.mark.parametrize(
    ("inner", "status", "kind", "message"),
    [
        ("", "Passed", None, None),
        ("<skipped/>", "Skipped", None, None),
        ('<skipped message="later"/><failure message="x"/>', "Skipped", None, "later"),
        ("<skipped>because</skipped>", "Skipped", None, "because"),
        (
            '<failure message="Failed" type="">    cart_test.go:7: want 3\n</failure>',
            "Failed",
            None,
            "cart_test.go:7: want 3",
        ),
        (
            "<failure>TypeError: no cart\n    at add (cart.js:3:1)</failure>",
            "Failed",
            "TypeError",
            "TypeError: no cart",
        ),
        (
            '<failure message="two\nlines" type="AssertionError"><![CDATA[x]]></failure>',
            "Failed",
            "AssertionError",
            "two lines",
        ),
        ('<error type="E"/>', "Failed", "E", "E"),
        ("<failure/>", "Failed", None, "Failed"),
        ('<failure message="one"/><error message="two">trace</error>', "Failed", None, "one"),
        ("<unknown><failure/></unknown>", "Failed", None, "Failed"),
    ],
)
def test_verdicts(tmp_path, inner, status, kind, message):
    _, (result,) = read(tmp_path, suite(case(inner=inner)))
    test = result.test
    assert (test["status"], test.get("error_type"), test.get("error_message")) == (status, kind, message)


def test_nested_suites_and_what_a_test_has(tmp_path):
    """PHPUnit."""
    inner = '<properties><property name="a" value="1"/><property name="b">text</property></properties>'
    text = '<testsuite name="all"><testsuite name="unit"><testsuite name="CartTest" file="/x/CartTest.php">' + case(
        inner=inner, more='file="/x/CartTest.php" line="12" assertions="2" time="0.000012"'
    )
    reports, (result,) = read(tmp_path, f"{text}</testsuite></testsuite></testsuite>")
    assert result.test["metadata"] == {
        "suite": "all / unit / CartTest",
        "location": "/x/CartTest.php:12",
        "properties": {"a": "1", "b": "text"},
    }
    assert result.test["duration_ms"] == 0 and reports.suite["name"] == "all"


def test_a_run_of_many_suites_has_the_name_of_none(tmp_path):
    reports, _ = read(tmp_path, *(f'<testsuite name="{name}">{case()}</testsuite>' for name in ("One", "Two")))
    assert "name" not in reports.suite


def test_attachments(tmp_path, send, server):
    folder = tmp_path / "moved"
    (folder / "test-results/cart").mkdir(parents=True)
    (folder / "test-results/cart/test-failed-1.png").write_bytes(png(1))
    (folder / "shot.png").write_bytes(png(2))
    (folder / "link.png").symlink_to("/etc/passwd")
    (tmp_path / "secret.txt").write_text("secret")
    (tmp_path / "elsewhere/deep").mkdir(parents=True)
    (tmp_path / "elsewhere/deep/trace.zip").write_bytes(b"PK\5\6" + bytes(18))
    names = ["test-results/cart/test-failed-1.png", "/builds/shop/test-results/cart/test-failed-1.png", "gone.png"]
    names += ["../secret.txt", "/etc/passwd", "link.png", "C:\\builds\\shop.png", "/ci/deep/trace.zip"]
    lines = "\n".join(f"[[ATTACHMENT|{name}]]" for name in names)
    inner = f"<system-out>{lines}\nlast line</system-out><properties><property name='screenshot' value='shot.png'/>"
    inner += "<property name='text' value='ends like a.png'/></properties>"
    (folder / "junit.xml").write_text(suite(case(inner=inner)))
    done = send(folder, "--files", tmp_path / "elsewhere")
    assert done.returncode == 4
    for name in ("gone.png: No such file", "secret.txt: ../secret.txt is outside", "passwd: /etc/passwd is outside"):
        assert name in done.stdout
    (test,) = run_of(server, done)["tests"]
    assert [entry["message"] for entry in test["console"]] == ["last line"]
    files = {artifact["file_name"]: server.bytes_of(artifact) for artifact in test["artifacts"]}
    assert files["test-failed-1.png"] == png(1) and files["shot.png"] == png(2)
    assert not any(b"secret" in data or b"root:" in data for data in files.values())


def test_much_output_is_a_file(tmp_path):
    _, (result,) = read(tmp_path, suite(case(inner="<system-out>first\n" + "more\n" * 3000 + "</system-out>")))
    (file,) = result.files
    assert file.fields["file_name"] == "system-out.log" and file.data.count(b"\n") == 3001
    assert len(result.console_logs) == 1000


def test_output_of_a_suite_is_counted(tmp_path):
    reports, _ = read(tmp_path, suite(case() + "<system-out>12345</system-out>"))
    assert reports.notes == [f"{tmp_path / 'TEST-0.xml'}: output of suites has no place, 5 characters"]


# --- odd, cut and hostile files ---


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        *(("1,234.5", 1_234_500), ("0,5", 500), ("1.5", 1_500), ("1,234,567.0", 1_234_567_000), ("0", 0)),
        *((text, None) for text in ("", None, "-1", "nan", "1e400", "soon", "9" * 400)),
    ],
)
def test_times(text, expected):
    assert milliseconds(text) == expected


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "latin-1", "cp1252"])
def test_encodings(tmp_path, encoding):
    declared = f'<?xml version="1.0" encoding="{encoding.removesuffix("-sig")}"?>'
    _, (result,) = read(tmp_path, (declared + suite(case("Prüfung"))).encode(encoding))
    assert result.test["name"] == "Prüfung"


def test_bytes_of_another_encoding_cost_no_test(tmp_path):
    _, results = read(tmp_path, suite(case("Prüfung") + case("b")).encode("latin-1"))
    assert rows(results, "name") == [("Pr\ufffdfung",), ("b",)]


def test_odd_characters(tmp_path):
    text = "a\0b\x0b &#0; &#x1F; &#27;[31mred&#x1b;[0m \x1b[1mbold\x1b[0m \ufffe &#65; &#55296; x"
    text = text.replace("&#55296;", "")
    _, results = read(
        tmp_path, suite(case(inner=f"<failure>{text}</failure>") + case("b" * 200_000) + case("b" * 199_999))
    )
    assert results[0].test["error_message"] == "a\ufffdb\ufffd \ufffd \ufffd red bold \ufffd A  x"
    identities = [result.test["test_id"] for result in results]
    assert [len(identity) for identity in identities] == [4, 500, 500] and len(set(identities)) == 3
    assert len(results[1].test["name"]) == 500 and shortened("x" * 500) == "x" * 500


def test_characters_at_the_edge_of_a_piece(tmp_path):
    """The file is read in pieces of 256 KiB: nothing may be torn, wherever a piece ends."""
    for before in range(30):
        fill = "<!--" + "x" * ((256 << 10) - 150 + before) + "-->"
        name = "ü&#27;[1mé&#27;[0m&amp;&#x20AC;&#128512;&#0;"
        _, (result,) = read(tmp_path, f"<testsuites>{fill}<testsuite>{case(name, of='')}</testsuite></testsuites>")
        assert result.test["name"] == "üé&€😀\ufffd"


BOMB = '<!DOCTYPE a [<!ENTITY a "aaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;">]><testsuites><testsuite name="&b;"/>'
HOSTILE = [
    (BOMB, "has a document type or entities"),
    ('<!DOCTYPE a SYSTEM "file:///etc/passwd"><testsuite/>', "has a document type or entities"),
    (
        '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><testsuite>&x;</testsuite>',
        "has a document type or entities",
    ),
    ("<testsuite>" * 300, "is nested too deeply"),
    (f'<testsuite name="{"x" * (20 << 20)}', "has a tag of more than 16 MiB"),
    (f"<testsuite><!-- {'x' * (20 << 20)}", "has a tag of more than 16 MiB"),
    ('<?xml version="1.0" encoding="rot13"?><testsuite/>', "is of no format that is known"),
    ('<?xml version="1.0" encoding="klingon"?><testsuite/>', "is of no format that is known"),
    ("<testsuite><testcase name='a'", "is cut or damaged before the end of its first test"),
    ("<testsuite></testsuites>", "is cut or damaged"),
    ("<html><body>", f"is of no format that is known: {', '.join(FORMATS)}"),
]


@pytest.mark.parametrize(("text", "words"), HOSTILE)
def test_what_is_not_read(tmp_path, text, words):
    (tmp_path / "a.xml").write_text(text)
    reports, results = looked(tmp_path / "a.xml")
    assert results == [] and len(reports.unreadable) == 1 and words in reports.unreadable[0]


def test_a_file_that_is_too_large(tmp_path):
    (tmp_path / "a.xml").write_text("<testsuites>")
    with (tmp_path / "a.xml").open("r+b") as file:
        file.truncate(257 << 20)
    reports, _ = looked(tmp_path)
    assert "is larger than 256 MiB" in reports.unreadable[0]


@pytest.mark.parametrize(
    ("text", "code", "words"),
    [
        ("", 2, "is empty"),
        ("  \n", 2, "is empty"),
        ("<testsuites/>", 2, "is empty: it has no test"),
        ('<testsuite name="x" tests="0"></testsuite>', 2, "is empty: it has no test"),
        (suite(case() + case("b"))[:-40], 4, "is cut or damaged: 1 whole results were read"),
        (suite(case() + "<testcase name='b'/>&nothing;" + case("c")), 4, "2 whole results were read"),
    ],
)
def test_exit_codes(tmp_path, send, text, code, words):
    (tmp_path / "a.xml").write_text(text)
    for options in ([], ["--dry-run"]):
        done = send(tmp_path / "a.xml", *options)
        assert done.returncode == code and words in done.stderr, done.stderr


def test_a_wrong_format_forced(tmp_path, send):
    (tmp_path / "a.json").write_text('{"steps": []}')
    (tmp_path / "a.xml").write_text(suite(case()))
    done = send(tmp_path / "a.json", "--format", "junit", "--dry-run")
    assert done.returncode == 3 and "is cut or damaged" in done.stderr
    done = send(tmp_path / "a.xml", "--format", "result", "--dry-run")
    assert done.returncode == 3 and "is no JSON" in done.stderr


def test_standard_input(tmp_path):
    code = "from reportd_client.cli import main; main()"
    command = [sys.executable, "-c", code, "-", "--dry-run"]
    for options, status, words in ((["--format", "junit"], 0, "1 Passed"), ([], 1, "Standard input needs --format")):
        done = subprocess.run(
            [*command, *options], input=suite(case()), capture_output=True, text=True, env=CLEAN, timeout=60
        )
        assert done.returncode == status and words in done.stdout + done.stderr


def test_detection_is_by_content(tmp_path):
    (tmp_path / "a.json").write_text(f"<?xml version='1.0'?><!-- <html> --><?x ?>{suite(case())}")
    (tmp_path / "b.xml").write_text('[{"steps": [], "test": {"name": "json"}}]')
    (tmp_path / "pom.xml").write_text("<project/>")
    _, results = looked(tmp_path)
    assert rows(results, "name") == [("a",), ("json",)]
    assert first_tag(b"<?" * 30_000) is None and first_tag(b"<!--" * 15_000) is None


def test_a_large_file_needs_little_memory(tmp_path):
    """100,000 tests, whose results would need 300 MiB: 100 MiB are enough for Python, what is read and the attempts."""
    code = f"""
import re, sys
sys.path.insert(0, {str(CHECKOUT / "client")!r})
from reportd_client.formats.reports import FORMATS, Reports
with open("large.xml", "w") as file:
    file.write("<testsuites><testsuite name='s' timestamp='2026-01-01T00:00:00Z'>")
    for i in range(100_000):
        inner = "<failure>" + "a line of a stack trace\\n" * 20 + "</failure>" if i % 10 == 0 else ""
        names = f"classname='com.shop.Test{{i % 700}}' name='test number {{i}}'"
        file.write(f"<testcase {{names}} time='0.1'>{{inner}}</testcase>")
    file.write("</testsuite></testsuites>")
reports = Reports()
reports.look(["large.xml"])
assert sum(1 for _ in reports.results()) == reports.count == 100_000
print(int(re.search("VmHWM:(.*)kB", open("/proc/self/status").read())[1]) // 1024)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert int(done.stdout) < 100, done.stderr
