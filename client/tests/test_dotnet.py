"""TRX, NUnit 3 and xUnit 2, by hand: there is no .NET where these tests run."""

import base64

import pytest
from reportd_client.formats.trx import _milliseconds

from tests.images import png
from tests.test_junit import dry_run, looked, rows
from tests.test_send import run_of

TRX = r"""<?xml version="1.0" encoding="utf-8"?>
<TestRun id="r" name="anna@build 2026-01-02" xmlns="http://microsoft.com/schemas/VisualStudio/TeamTest/2010">
  <Times creation="2026-01-02T03:04:05.1234567+01:00" start="2026-01-02T03:04:06.1234567+01:00" />
  <TestSettings name="default" id="s"><Deployment runDeploymentRoot="anna_build_1" /></TestSettings>
  <Results>
    <UnitTestResult executionId="e1" testId="t1" testName="Shop.CartTests.Adds(1, 2)" computerName="build"
      duration="00:00:01.5004567" startTime="2026-01-02T03:04:06.5+01:00" endTime="2026-01-02T03:04:08+01:00"
      outcome="Passed" relativeResultsDirectory="e1">
      <Output><StdOut>one
two</StdOut><StdErr>careful</StdErr><TextMessages><Message>a message</Message></TextMessages></Output>
    </UnitTestResult>
    <UnitTestResult executionId="e2" testId="t2" testName="Pays" outcome="Failed" relativeResultsDirectory="e2">
      <Output><ErrorInfo><Message>System.InvalidOperationException : &#x1b;[31mno money&#x1b;[0m</Message>
        <StackTrace>   at Shop.CartTests.Pays() in C:\shop\CartTests.cs:line 12</StackTrace></ErrorInfo></Output>
      <ResultFiles><ResultFile path="build\shot.png" /><ResultFile path="..\..\..\..\etc\passwd" /></ResultFiles>
    </UnitTestResult>
    <UnitTestResult testId="t3" testName="a name of its own(a: 1)" outcome="Passed" />
    <UnitTestResult testId="t3" testName="a name of its own(a: 2)" outcome="NotExecuted">
      <Output><ErrorInfo><Message>later</Message></ErrorInfo></Output>
    </UnitTestResult>
    <UnitTestResult testId="t4" testName="Rows" outcome="Failed" resultType="DataDrivenTest">
      <InnerResults>
        <UnitTestResult testId="t4" testName="Rows (Data Row 0)" outcome="Passed" />
        <UnitTestResult testId="t4" testName="Rows (Data Row 1)" outcome="Timeout" />
      </InnerResults>
    </UnitTestResult>
    <UnitTestResult testId="t5" testName="Unclear" outcome="Inconclusive" />
    <UnitTestResult testId="t5" testName="Warns" outcome="PassedButRunAborted" />
  </Results>
  <TestDefinitions>
    <UnitTest name="Adds" id="t1"><TestMethod className="Shop.CartTests" name="Adds" />
      <Description>adds two</Description><Owners><Owner name="anna" /></Owners>
      <TestCategory><TestCategoryItem TestCategory="fast" /><TestCategoryItem TestCategory="cart" /></TestCategory>
    </UnitTest>
    <UnitTest name="Pays" id="t2"><TestMethod className="Shop.CartTests, Shop.Tests" name="Pays" /></UnitTest>
    <UnitTest name="x" id="t3"><TestMethod className="Shop.CartTests" name="Shop.CartTests.Named" /></UnitTest>
    <UnitTest name="Rows" id="t4"><TestMethod className="Shop.CartTests" name="Rows" /></UnitTest>
    <UnitTest name="Unclear" id="t5"><TestMethod className="Shop.CartTests" name="Unclear" /></UnitTest>
  </TestDefinitions>
  <ResultSummary outcome="Failed"><RunInfos>
    <RunInfo outcome="Warning"><Text>slow</Text></RunInfo>
    <RunInfo outcome="Error"><Text>The host process crashed</Text></RunInfo>
  </RunInfos></ResultSummary>
</TestRun>"""


def test_trx(tmp_path, send, server):
    (tmp_path / "a.trx").write_text(TRX)
    shot = tmp_path / "anna_build_1/In/e2/build/shot.png"
    shot.parent.mkdir(parents=True)
    shot.write_bytes(png(1))
    reports, results = looked(tmp_path)
    of = "Shop.CartTests::"
    assert rows(results, "name", "test_id", "status", "error_message") == [
        ("Adds(1, 2)", of + "Adds(1, 2)", "Passed", None),
        ("Pays", of + "Pays", "Failed", "System.InvalidOperationException : no money"),
        ("a name of its own(a: 1)", of + "Named(a: 1)", "Passed", None),
        ("a name of its own(a: 2)", of + "Named(a: 2)", "Skipped", "later"),
        ("Rows (Data Row 0)", of + "Rows (Data Row 0)", "Passed", None),
        ("Rows (Data Row 1)", of + "Rows (Data Row 1)", "Failed", "Failed"),
        ("Unclear", of + "Unclear", "Pending", None),
        ("Warns #2", of + "Unclear #2", "Passed", None),
    ]
    adds, pays = results[:2]
    assert (adds.test["started_at"], adds.test["duration_ms"]) == ("2026-01-02T02:04:06.500+00:00", 1500)
    assert adds.test["tags"] == ["fast", "cart"] and adds.test["metadata"] == {
        "description": "adds two",
        "owner": "anna",
        "suite": "Shop.CartTests",
        "hostname": "build",
    }
    assert [(entry["level"], entry["message"], entry["source_url"]) for entry in adds.console_logs] == [
        ("info", "one", "stdout"),
        ("info", "two", "stdout"),
        ("warning", "careful", "stderr"),
        ("info", "a message", "message"),
    ]
    assert pays.test["error_type"] == "System.InvalidOperationException" and "line 12" in pays.test["stack_trace"]
    assert [(file.path or file.refused, file.fields.get("artifact_category")) for file in pays.files] == [
        (shot, "error"),
        ("anna_build_1/In/e2/../../../../etc/passwd is outside of the folder of a.trx", None),
    ]
    assert [result.test["metadata"].get("outcome") for result in results[5:8]] == [
        "Timeout",
        "Inconclusive",
        "PassedButRunAborted",
    ]
    assert reports.suite["started_at"] == "2026-01-02T02:04:06.123+00:00" and reports.notes == []
    done = send(tmp_path / "a.trx", "--run-key", "trx")
    run = run_of(server, done)
    assert (run["status"], run["metadata"]["errors"], len(run["tests"])) == ("Failed", ["The host process crashed"], 8)
    assert done.returncode == 4 and "passwd is outside" in done.stdout
    assert "8 tests (0 new)" in send(tmp_path / "a.trx", "--run-key", "trx").stdout


def test_a_cut_trx_does_not_know_the_classes(tmp_path):
    (tmp_path / "a.trx").write_text(TRX[: TRX.index("<InnerResults>")])
    reports, results = looked(tmp_path)
    assert rows(results, "test_id")[:2] == [("Shop.CartTests.Adds(1, 2)",), ("Pays",)] and len(results) == 4
    assert [note.partition("a.trx ")[2] for note in reports.notes] == [
        "is cut or damaged: 4 whole results were read",
        "does not say the classes of 4 tests",
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [("00:00:00.0004", 0), ("1.02:03:04.5", 93_784_500), ("00:01:00", 60_000), ("", None), ("soon", None), ("1", None)],
)
def test_spans_of_time(text, expected):
    assert _milliseconds(text) == expected


NUNIT = """<?xml version="1.0" encoding="utf-8" standalone="no"?>
<test-run id="2" name="Shop.Tests.dll" testcasecount="5" result="Failed" start-time="2026-01-02 03:04:05Z">
  <command-line><![CDATA[nunit3-console Shop.Tests.dll]]></command-line>
  <test-suite type="Assembly" name="Shop.Tests.dll" fullname="/build/Shop.Tests.dll" result="Failed" site="Child">
    <environment framework-version="3.14" os-version="Linux" machine-name="build" user="anna" />
    <failure><message><![CDATA[One or more child tests had errors]]></message></failure>
    <test-suite type="TestFixture" name="CartTests" fullname="Shop.CartTests" result="Failed" site="TearDown">
      <properties><property name="Category" value="cart" /><property name="ParallelScope" value="Self" /></properties>
      <failure><message><![CDATA[TearDown : no database]]></message><stack-trace>at x</stack-trace></failure>
      <test-case name="Adds(1,2)" fullname="Shop.CartTests.Adds(1,2)" classname="Shop.CartTests" result="Passed"
        start-time="2026-01-02 03:04:05.5Z" end-time="2026-01-02 03:04:06Z" duration="0.512345">
        <properties><property name="Category" value="fast" /><property name="Author" value="anna" />
          <property name="Description" value="adds two" /></properties>
        <output><![CDATA[one
two]]></output>
      </test-case>
      <test-case name="Pays" fullname="Shop.CartTests.Pays" result="Failed" label="Error" site="SetUp">
        <failure><message><![CDATA[System.IO.IOException : no network]]></message>
          <stack-trace><![CDATA[   at Shop.CartTests.Connect() in CartTests.cs:line 9]]></stack-trace></failure>
        <assertions>
          <assertion result="Failed"><message>first</message><stack-trace>at one</stack-trace></assertion>
          <assertion result="Failed"><message>second</message><stack-trace>at two</stack-trace></assertion>
        </assertions>
        <attachments><attachment><filePath>shot.png</filePath><description>the cart</description></attachment>
          <attachment><filePath>/etc/passwd</filePath></attachment></attachments>
      </test-case>
      <test-case name="Later" fullname="Shop.CartTests.Later" result="Skipped" label="Ignored">
        <properties><property name="_SKIPREASON" value="no browser" /></properties>
        <reason><message><![CDATA[no browser]]></message></reason>
      </test-case>
      <test-case name="Warns" fullname="Shop.CartTests.Warns" result="Warning">
        <reason><message>slow</message></reason></test-case>
      <test-case name="Unclear" fullname="Shop.CartTests.Unclear" result="Inconclusive" />
    </test-suite>
  </test-suite>
</test-run>"""


def test_nunit(tmp_path):
    (tmp_path / "TestResult.xml").write_text(NUNIT)
    (tmp_path / "shot.png").write_bytes(png(1))
    reports, results = looked(tmp_path)
    of = "Shop.CartTests."
    assert rows(results, "name", "test_id", "status", "error_message") == [
        ("Adds(1,2)", of + "Adds(1,2)", "Passed", None),
        ("Pays", of + "Pays", "Failed", "System.IO.IOException : no network"),
        ("Later", of + "Later", "Skipped", "no browser"),
        ("Warns", of + "Warns", "Passed", None),
        ("Unclear", of + "Unclear", "Pending", None),
    ]
    adds, pays, later, warns, unclear = results
    assert (adds.test["started_at"], adds.test["duration_ms"]) == ("2026-01-02T03:04:05.500+00:00", 512)
    assert adds.test["tags"] == ["cart", "fast"] and adds.test["metadata"] == {
        "suite": "Shop.CartTests",
        "description": "adds two",
        "properties": {"Author": "anna"},
    }
    assert [entry["message"] for entry in adds.console_logs] == ["one", "two"]
    assert pays.test["metadata"] == {"outcome": "Error", "phase": "setup"}
    assert pays.test["error_type"] == "System.IO.IOException"
    assert [text in pays.test["stack_trace"] for text in ("line 9", "first\nat one", "second\nat two")] == [True] * 3
    assert [file.path or file.refused for file in pays.files] == [
        tmp_path / "shot.png",
        "/etc/passwd is outside of the folder of TestResult.xml",
    ]
    assert pays.files[0].fields["description"] == "the cart"
    assert later.test["metadata"] == {"outcome": "Ignored"}
    assert warns.test["metadata"] == {"outcome": "Warning", "warning": "slow"}
    assert unclear.test["metadata"] == {"outcome": "Inconclusive"}
    assert reports.suite == {
        "name": "Shop.Tests.dll",
        "started_at": "2026-01-02T03:04:05.000+00:00",
        "status": "Failed",
        "metadata": {
            "hostname": "build",
            "os": "Linux",
            "framework": "3.14",
            "errors": ["TearDown of Shop.CartTests: TearDown : no database"],
        },
    }


XUNIT = f"""<assemblies timestamp="01/02/2026 03:04:05">
  <assembly name="C:\\build\\Shop.Tests.dll" run-date="2026-01-02" run-time="03:04:05" total="6" errors="1"
    start-rtf="2026-01-02T03:04:05.5+02:00">
    <errors><error type="assembly-cleanup" name="Shop">
      <failure exception-type="E"><message>busy</message></failure></error></errors>
    <collection name="Test collection for Shop.CartTests" total="6">
      <test name="Shop.CartTests.Adds(a: 1)" type="Shop.CartTests" method="Adds" time="0.0125" result="Pass"
        source-file="/build/CartTests.cs" source-line="7">
        <traits><trait name="Category" value="fast" /><trait name="Ticket" value="SHOP-1" /></traits>
        <output><![CDATA[one&#x1b;two]]></output>
      </test>
      <test name="pays by card" type="Shop.CartTests" method="Pays" time="0,25" result="Fail">
        <failure exception-type="Xunit.Sdk.EqualException"><message><![CDATA[Assert.Equal() Failure]]></message>
          <stack-trace><![CDATA[   at Shop.CartTests.Pays() in CartTests.cs:line 12]]></stack-trace></failure>
        <attachments>
          <attachment name="shot" media-type="image/png">{base64.b64encode(png(2)).decode()}</attachment>
          <attachment name="note">text</attachment>
          <attachment name="../odd.bin" media-type="application/octet-stream">?</attachment>
        </attachments>
        <warnings><warning>slow</warning></warnings>
      </test>
      <test name="Shop.CartTests.Later" type="Shop.CartTests" method="Later" result="Skip">
        <reason>no browser</reason></test>
      <test name="Shop.CartTests.Explicit" type="Shop.CartTests" method="Explicit" result="NotRun" />
      <test name="Shop.CartTests.Odd" type="Shop.CartTests" method="Odd" result="Fail" />
    </collection>
  </assembly>
</assemblies>"""


def test_xunit(tmp_path):
    (tmp_path / "xunit.xml").write_text(XUNIT)
    reports, results = looked(tmp_path)
    assert rows(results, "name", "test_id", "status", "error_type", "error_message") == [
        ("Adds(a: 1)", "Shop.CartTests.Adds(a: 1)", "Passed", None, None),
        ("pays by card", "pays by card", "Failed", "Xunit.Sdk.EqualException", "Assert.Equal() Failure"),
        ("Later", "Shop.CartTests.Later", "Skipped", None, "no browser"),
        ("Explicit", "Shop.CartTests.Explicit", "Skipped", None, None),
        ("Odd", "Shop.CartTests.Odd", "Failed", None, "Failed"),
    ]
    adds, pays = results[:2]
    assert adds.test["duration_ms"] == 12 and adds.test["tags"] == ["fast"]
    assert adds.test["metadata"] == {
        "suite": "Shop.CartTests",
        "assembly": "Shop.Tests.dll",
        "location": "/build/CartTests.cs:7",
        "properties": {"Ticket": "SHOP-1"},
    }
    assert pays.test["duration_ms"] == 250 and "line 12" in pays.test["stack_trace"]
    assert pays.test["metadata"]["warnings"] == ["slow"]
    assert [(file.fields["file_name"], file.data or file.refused) for file in pays.files] == [
        ("shot.png", png(2)),
        ("note.txt", b"text"),
        ("odd.bin", "Its content is no base64"),
    ]
    assert results[3].test["metadata"]["outcome"] == "NotRun"
    assert reports.suite["started_at"] == "2026-01-02T01:04:05.500+00:00"
    assert reports.suite["metadata"]["errors"] == ["assembly-cleanup: Shop: busy"]


@pytest.mark.parametrize("text", [TRX, NUNIT, XUNIT], ids=["trx", "nunit", "xunit"])
def test_a_test_that_failed_and_passed_in_another_file(tmp_path, text):
    (tmp_path / "a.xml").write_text(text)
    (tmp_path / "b.xml").write_text(text)
    _, results = looked(tmp_path)
    failed = [result.test["test_id"] for result in results if result.test["status"] == "Failed"]
    again = [result for result in results if result.test["attempt"] == 2]
    assert {result.test["test_id"] for result in again} == set(failed)


# --- cut, odd and hostile files ---

FORMATS = {"trx": TRX, "nunit": NUNIT, "xunit": XUNIT}
BEFORE = {"trx": "<Results>", "nunit": "<test-suite", "xunit": "<assembly "}
FIRST = {"trx": "<UnitTestResult executionId", "nunit": "<test-case", "xunit": "<test "}
BOMB = '<!DOCTYPE a [<!ENTITY a "aa"><!ENTITY b "&a;&a;">]>'
OUTSIDE = '<!DOCTYPE a SYSTEM "file:///etc/passwd">'


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        (lambda text, first: text[: text.rindex(first)], 4, "is cut or damaged: "),
        (
            lambda text, first: text.replace("?>", "?>" + BOMB) if "?>" in text else BOMB + text,
            3,
            "has a document type",
        ),
        (
            lambda text, first: text.replace("?>", "?>" + OUTSIDE) if "?>" in text else OUTSIDE + text,
            3,
            "has a document",
        ),
        (lambda text, first: text.replace(first, "<x>" * 300 + first, 1), 3, "is nested too deeply"),
    ],
)
def test_exit_codes(tmp_path, capsys, name, change, code, words):
    (tmp_path / "a.xml").write_text(change(FORMATS[name], FIRST[name]))
    assert dry_run(tmp_path / "a.xml") == code
    assert words in capsys.readouterr().err


@pytest.mark.parametrize("name", FORMATS)
def test_a_file_that_is_cut_before_its_first_test(tmp_path, capsys, name):
    text = FORMATS[name]
    (tmp_path / "a.xml").write_text(text[: text.index(BEFORE[name])])
    assert dry_run(tmp_path / "a.xml") == 3
    assert "is cut or damaged before the end of its first test" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("trx", "<TestRun><Results/></TestRun>"),
        ("nunit", "<test-run/>"),
        ("xunit", "<assemblies/>"),
        ("xunit", "<assembly/>"),
        *((name, "") for name in FORMATS),
    ],
)
def test_empty_reports(tmp_path, capsys, name, text):
    (tmp_path / "a.xml").write_text(text)
    for options in ([], ["--format", name]) if text else (["--format", name],):
        assert dry_run(tmp_path / "a.xml", *options) == 2
        assert "is empty" in capsys.readouterr().err


@pytest.mark.parametrize("forced", [*FORMATS, "junit"])
def test_a_wrong_format_forced(tmp_path, capsys, forced):
    for name, text in FORMATS.items():
        if name != forced:
            (tmp_path / "a.xml").write_text(text)
            assert dry_run(tmp_path / "a.xml", "--format", forced) == 3
            assert ("JUnit" if forced == "junit" else forced) in capsys.readouterr().err.replace("TRX", "trx").replace(
                "NUnit", "nunit"
            ).replace("xUnit", "xunit")


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("encoding", ["utf-16", "latin-1"])
def test_encodings_and_odd_characters(tmp_path, name, encoding):
    text = FORMATS[name].replace("Adds", "Prüfung\0&#1;" + "x" * 200_000).replace('"utf-8"', f'"{encoding}"')
    text = text if "<?xml" in text else f'<?xml version="1.0" encoding="{encoding}"?>{text}'
    (tmp_path / "a.xml").write_bytes(text.encode(encoding))
    _, results = looked(tmp_path)
    assert results[0].test["name"].startswith("Prüfung\ufffd\ufffdx") and len(results[0].test["test_id"]) == 500


def test_a_test_with_too_many_elements(tmp_path, monkeypatch):
    monkeypatch.setattr("reportd_client.formats.xml_trees.MAX_ELEMENTS", 10)
    more = "<traits>" + '<trait name="Category" value="x"/>' * 20 + "</traits><failure><message>m</message></failure>"
    (tmp_path / "a.xml").write_text(
        f'<assembly><test name="a" result="Fail">{more}</test><test name="b" result="Pass"/></assembly>'
    )
    _, results = looked(tmp_path)
    assert rows(results, "name", "status", "error_message") == [("a", "Failed", "Failed"), ("b", "Passed", None)]
    assert len(results[0].test["tags"]) == 8


def test_output_that_is_too_long(tmp_path, monkeypatch):
    monkeypatch.setattr("reportd_client.formats.xml_trees.KEPT_OUTPUT", 1 << 20)
    output = "<output>" + "line\n" * 300_000 + "</output>"
    (tmp_path / "a.xml").write_text(f'<assembly><test name="a" result="Pass">{output}</test></assembly>')
    reports, (result,) = looked(tmp_path)
    assert reports.notes == [f"{tmp_path / 'a.xml'}: more than 1 MiB of output of a test are cut"]
    assert len(result.console_logs) == 1000 and result.files[0].fields["file_name"] == "output.log"


@pytest.mark.parametrize(
    ("limit", "words"),
    [
        ("xml_trees._FAR", "has too many elements in one test"),
        ("trx.MAX_TESTS", "has more than 0 tests"),
        ("xml_trees.MAX_SIZE", ""),
    ],
)
def test_what_would_need_too_much_memory(tmp_path, monkeypatch, limit, words):
    monkeypatch.setattr(f"reportd_client.formats.{limit}", 0)
    (tmp_path / "a.trx").write_text(TRX)
    reports, results = looked(tmp_path)
    assert bool(results) != bool(words) and words in " ".join(reports.unreadable)
    assert all("error_type" not in result.test for result in results)
