"""JUnit files that test runners of other languages write here: what each says arrives, and nothing is invented."""

import shutil
from collections import Counter
from pathlib import Path

import pytest

from tests.test_junit import looked
from tests.tools import node, program

# The same five tests in each language: passes (and prints), fails, throws, is skipped; where a runner tries again, one
# passes the second time.
JEST = """
describe("cart", () => {
  it("passes, with a comma", () => { console.log("hello") })
  it("fails", () => { expect(4).toBe(3) })
  it("throws", () => { throw new TypeError("no \\u001b[31mcart\\u001b[0m <&>") })
  it.skip("is skipped", () => {})
  describe("nested", () => { it("is deep", () => {}) })
})
"""
MOCHA = JEST.replace("expect(4).toBe(3)", 'require("assert").strictEqual(4, 3)')
NODE = 'const { describe, it } = require("node:test")' + MOCHA
GO = """
package cart
import ("os"; "testing")
func TestPasses(t *testing.T) { t.Log("hello") }
func TestFails(t *testing.T) { t.Errorf("total: got %d, want %d", 4, 3) }
func TestThrows(t *testing.T) { t.Run("with a sub test", func(t *testing.T) { t.Fatal("no cart") }) }
func TestSkipped(t *testing.T) { t.Skip("later") }
func TestFlaky(t *testing.T) {
    if _, err := os.Stat("tried"); err != nil { os.WriteFile("tried", nil, 0o600); t.Fatal("not yet") }
}
"""
JAVA = """
import static org.junit.Assert.*;
import org.junit.*;
public class CartTest {
    static int tries = 0;
    @Test public void passes() { System.out.println("hello"); System.err.println("careful"); }
    @Test public void fails() { assertEquals("total", 3, 4); }
    @Test public void throwsOne() { throw new IllegalStateException("no cart"); }
    @Test public void flaky() { if (++tries < 3) fail("not yet " + tries); }
    @Test @Ignore("later") public void skipped() { }
}
"""
DEBIAN = Path("/usr/share/maven-repo")
POM = """<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>
<groupId>x</groupId><artifactId>x</artifactId><version>1</version>
<dependencies><dependency><groupId>junit</groupId><artifactId>junit</artifactId><version>4.x</version></dependency></dependencies>
<build><plugins><plugin><groupId>org.apache.maven.plugins</groupId><artifactId>maven-surefire-plugin</artifactId>
<configuration><rerunFailingTestsCount>2</rerunFailingTestsCount></configuration></plugin></plugins></build></project>"""
SETTINGS = """<settings><localRepository>{folder}/repository</localRepository><mirrors><mirror><id>debian</id>
<mirrorOf>*</mirrorOf><url>{debian}</url></mirror></mirrors></settings>"""


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """made(runner): the file that it wrote; each runs once."""
    files = {}

    def make(runner):
        if runner not in files:
            files[runner] = MAKERS[runner](tmp_path_factory.mktemp(runner.replace(" ", "-")))
        return files[runner]

    return make


def by_jest(folder):
    (folder / "cart.test.js").write_text(JEST)
    (folder / "package.json").write_text('{"jest": {"reporters": ["jest-junit"]}}')
    node(folder, "jest/bin/jest.js", JEST_JUNIT_OUTPUT_FILE=str(folder / "junit.xml"))
    return folder / "junit.xml"


def by_vitest(folder):
    (folder / "cart.test.js").write_text(JEST)
    node(folder, "vitest/vitest.mjs", "run", "--globals", "--reporter=junit", "--outputFile=junit.xml")
    return folder / "junit.xml"


def by_mocha(folder):
    (folder / "cart.js").write_text(MOCHA)
    node(
        folder,
        "mocha/bin/mocha.js",
        "--reporter",
        "mocha-junit-reporter",
        "cart.js",
        MOCHA_FILE=str(folder / "junit.xml"),
    )
    return folder / "junit.xml"


def by_mocha_xunit(folder):
    (folder / "cart.js").write_text(MOCHA)
    node(folder, "mocha/bin/mocha.js", "--reporter", "xunit", "--reporter-option", "output=junit.xml", "cart.js")
    return folder / "junit.xml"


def by_node(folder):
    (folder / "cart.test.js").write_text(NODE)
    done = node(folder, "", "--test", "--test-reporter=junit", "cart.test.js")
    (folder / "junit.xml").write_text(done.stdout)
    return folder / "junit.xml"


def by_gotestsum(folder):
    (folder / "go.mod").write_text("module example.com/cart\n")
    (folder / "cart_test.go").write_text(GO)
    if shutil.which("go") is None:
        pytest.skip("needs go")
    options = ("--junitfile", "junit.xml", "--rerun-fails=1", "--packages", "./...")
    program(folder, "gotestsum", *options, GOFLAGS="-count=1", GOTOOLCHAIN="local", GOPROXY="off")
    return folder / "junit.xml"


def by_surefire(folder):
    classes = folder / "target" / "test-classes"
    classes.mkdir(parents=True)
    jar = Path("/usr/share/java/junit4.jar")
    if not jar.exists() or not (DEBIAN / "org/apache/maven/plugins/maven-surefire-plugin").exists():
        pytest.skip("needs Debian's libsurefire-java and junit4")
    (folder / "CartTest.java").write_text(JAVA)
    (folder / "pom.xml").write_text(POM)
    (folder / "settings.xml").write_text(SETTINGS.format(folder=folder, debian=DEBIAN.as_uri()))
    program(folder, "javac", "-cp", str(jar), "-d", str(classes), "CartTest.java")
    program(folder, "mvn", "-B", "-q", "-s", "settings.xml", "surefire:test")
    return folder / "target" / "surefire-reports" / "TEST-CartTest.xml"


MAKERS = {
    "jest": by_jest,
    "vitest": by_vitest,
    "mocha": by_mocha,
    "mocha xunit": by_mocha_xunit,
    "node": by_node,
    "gotestsum": by_gotestsum,
    "surefire": by_surefire,
}


FAILED, SKIPPED = "Failed", "Skipped"
# Of each test that did not pass, in order: the end of its id, attempt, status, type, and the first line of its message.
EXPECTED = {
    "jest": [
        ("cart fails", 1, FAILED, "Error", "Error: expect(received).toBe(expected) // Object.is equality"),
        ("cart throws", 1, FAILED, "TypeError", "TypeError: no cart <&>"),
        ("cart is skipped", 1, SKIPPED, None, None),
    ],
    "vitest": [
        ("cart.test.js::cart > fails", 1, FAILED, "AssertionError", "expected 4 to be 3 // Object.is equality"),
        ("cart.test.js::cart > throws", 1, FAILED, "TypeError", "no [31mcart[0m <&>"),  # it takes the escape away
        ("cart.test.js::cart > is skipped", 1, SKIPPED, None, None),
    ],
    "mocha": [  # which does not write tests that are skipped
        ("cart fails", 1, FAILED, "AssertionError", "Expected values to be strictly equal:  4 !== 3"),
        ("cart throws", 1, FAILED, "TypeError", "no [31mcart[0m <&>"),
    ],
    "mocha xunit": [
        ("cart::fails", 1, FAILED, None, "Expected values to be strictly equal:"),
        ("cart::throws", 1, FAILED, None, "no cart <&>"),
        ("cart::is skipped", 1, SKIPPED, None, None),
    ],
    "node": [
        ("cart::fails", 1, FAILED, "AssertionError", "Expected values to be strictly equal:"),
        ("cart::throws", 1, FAILED, "TypeError", "no "),
        ("cart::is skipped", 1, SKIPPED, None, None),
    ],
    "gotestsum": [
        *(
            each
            for attempt in (1, 2)
            for each in (
                ("cart::TestFails", attempt, FAILED, None, "cart_test.go:5: total: got 4, want 3"),
                ("cart::TestThrows/with_a_sub_test", attempt, FAILED, None, "cart_test.go:6: no cart"),
                ("cart::TestThrows", attempt, FAILED, None, "Failed"),
                *([("cart::TestFlaky", 1, FAILED, None, "cart_test.go:9: not yet")] if attempt == 1 else []),
            )
        ),
        ("cart::TestSkipped", 1, SKIPPED, None, "cart_test.go:7: later"),
    ],
    "surefire": [
        *[
            ("CartTest::fails", n, FAILED, "java.lang.AssertionError", "total expected:<3> but was:<4>")
            for n in (1, 2, 3)
        ],
        *[("CartTest::flaky", n, FAILED, "java.lang.AssertionError", f"not yet {n}") for n in (1, 2)],
        ("CartTest::skipped", 1, SKIPPED, None, "later"),
        *[("CartTest::throwsOne", n, FAILED, "java.lang.IllegalStateException", "no cart") for n in (1, 2, 3)],
    ],
}
PASSED = {
    "jest": ["cart passes, with a comma", "cart nested is deep"],
    "vitest": ["cart.test.js::cart > passes, with a comma", "cart.test.js::cart > nested > is deep"],
    "mocha": ["cart passes, with a comma", "cart nested is deep"],
    "mocha xunit": ["cart::passes, with a comma", "cart nested::is deep"],
    "node": ["cart::passes, with a comma", "cart / nested::is deep"],
    "gotestsum": ["example.com/cart::TestPasses", "example.com/cart::TestFlaky"],
    "surefire": ["CartTest::passes", "CartTest::flaky"],
}


@pytest.mark.parametrize("runner", list(MAKERS))
def test_what_a_runner_wrote_is_read(made, runner):
    reports, results = looked(made(runner))
    assert not reports.notes and not reports.unreadable and not reports.empty
    tests = [result.test for result in results]
    others = [test for test in tests if test["status"] != "Passed"]
    if runner == "surefire":  # its order is that of the JVM's methods
        others.sort(key=lambda test: (test["test_id"], test["attempt"]))
    assert len(others) == len(EXPECTED[runner])
    for test, (identity, attempt, status, kind, message) in zip(others, EXPECTED[runner]):
        assert test["test_id"].endswith(identity)
        assert (test["attempt"], test["status"], test.get("error_type")) == (attempt, status, kind)
        lines = (test.get("error_message") or "").splitlines()
        assert lines[:1] == ([message] if message else []) or lines[0].startswith(message), test
        trace = test.get("stack_trace", "")
        assert trace == trace.rstrip() and bool(trace) == (status == FAILED), "the trace is whole, without white space"
    assert Counter(test["test_id"] for test in tests if test["status"] == "Passed") == Counter(PASSED[runner])
    assert all(test["metadata"]["suite"] for test in tests) and reports.suite["name"]
    assert "started_at" in reports.suite or runner in ("node", "surefire"), "these two write no time"


def test_what_a_test_prints_is_its_console(made):
    results = looked(made("vitest"))[1]
    printed = [entry for result in results for entry in result.console_logs if "passes" in result.test["name"]]
    assert [(entry["level"], entry["message"]) for entry in printed] == [("info", "hello")]
