"""The reporter in Playwright's own runner, with a real Chromium."""

import json
import re
import subprocess

import pytest
from reportd_client.spool import spools_in

from tests.playwright import run_id_of
from tests.server import PATIENCE, free_port, wait_until
from tests.test_browser import real_browser
from tests.tools import CHROMIUM, MODULES, QUIET, node

pytestmark = real_browser
PLAYWRIGHT = "@playwright/test/cli.js"
CONFIG = """
const launchOptions = { executablePath: %s, args: ["--no-sandbox"] };
const use = { screenshot: "only-on-failure", browserName: "chromium", launchOptions };
module.exports = {
  testDir: "specs", outputDir: "out", workers: 2, timeout: 60_000, expect: { timeout: 30_000 },
  reportSlowTests: null,
  metadata: { team: "shop", actualWorkers: 9 },
  reporter: [["list"], ["blob", { outputDir: "blob" }], [%s, { name: "live", drain: 60 }]],
  projects: [
    { name: "chromium shop", use, testMatch: "all.spec.js" },
    { name: "", testMatch: "few.spec.js", repeatEach: 2 },
  ],
};
"""
ALL = r"""
const fs = require("fs");
const { test, expect } = require("@playwright/test");

const form = `<label>Password <input type=password id=password></label><input id=name><h1>Hi</h1>
  <button>Go</button><select><option>a<option>b</select>`;

test.describe("with a page", () => {
  test.beforeEach(async ({ page }) => { await page.setContent(form); });

  const annotation = [{ type: "issue", description: "https://tracker/1" }, { type: "owner" }];
  test("passes @smoke", { tag: "@fast", annotation }, async ({ page }) => {
    console.log("a \u001b[31mred\u001b[0m line"); process.stdout.write("no end"); console.error("oops\n\nthird");
    console.log("… hunter2secret");
    await test.step("Log in  with\n two lines", async () => {
      await page.fill("#password", "hunter2secret");
      await test.step("x".repeat(150), async () => {
        await page.getByRole("button", { name: "Go" }).click();
        await page.selectOption("select", "b");
      });
      await page.press("#name", "Enter");
    });
    await expect(page.locator("#password")).toHaveValue("hunter2secret");
    await expect(page.locator("h1")).toHaveText(/^Hi/);
    await expect(page.locator("h1")).toHaveText(["Hi"]);
    await test.step.skip("later", async () => {});
    await test.step("shot", async () => {
      await test.info().attach("at step", { body: await page.screenshot(), contentType: "image/png" });
    });
    await page.goto("data:text/html,<h1>x</h1>");
  });

  test("fails", async ({ page }) => {
    await test.step("outer", async () => {
      await page.fill("#password", "hunter2secret");
      await expect(page.locator("#password")).toHaveValue("hunter2other", { timeout: 100 });
    });
  });
});

test.describe(() => {
  test.describe.configure({ retries: 1 });
  test("flaky", async ({}, info) => { if (!info.retry) throw new TypeError("first"); });
});
test("soft", async () => {
  expect.soft(1).toBe(2);
  throw new Error("third", { cause: new RangeError("why") });
});
test("throws a text", async () => { throw "a text"; });
test("throws nothing", async () => { throw new Error(""); });
test.fixme("fixme", async () => {});
test("skips", async () => { test.skip(true, "not today"); });
test("expected", async () => { test.fail(); expect(1).toBe(2); });
test("unexpected", async () => { test.fail(); });
test("slow", async () => { test.setTimeout(300); await test.step("waits", () => new Promise(() => {})); });
test("attaches", async ({}, info) => {
  await info.attach("note.txt", { body: "x", contentType: "text/plain" });
  await info.attach("odd/na:me", { body: Buffer.from([1, 2, 3]), contentType: "application/x-odd" });
  await info.attach("_own", { body: "x", contentType: "text/plain" });
  fs.writeFileSync(info.outputPath("large.json"), JSON.stringify("x".repeat(1_500_000)));
  await info.attach("large", { path: info.outputPath("large.json"), contentType: "application/json" });
});
test("prints", async () => { for (let i = 0; i < 1_200; i++) console.log(`line ${i}`); });
test.describe(() => {
  test.beforeAll(async () => { throw new Error("no setup"); });
  test("hook", async () => {});
  test("after the hook", async () => {});
});
const thing = async ({}, use) => { await use(1); throw new Error("no teardown"); };
test.extend({ thing })("fixture", ({ thing }) => {});
test.describe("serial", () => {
  test.describe.configure({ mode: "serial" });
  test("one", async () => { expect(0).toBe(1); });
  test("two", async () => {});
});
"""
FEW = """
const { test } = require("@playwright/test");
test("passes", async () => { console.log("hello"); });
test("fails", async () => { throw new Error("boom"); });
"""


class Project:
    """A folder with tests, and runs of them."""

    def __init__(self, folder, package, server):
        self.folder, self.server = folder, server
        node(folder, "", "--version")  # skips where there is no Node.js, and links its modules
        (folder / "specs").mkdir()
        (folder / "specs/all.spec.js").write_text(ALL)
        (folder / "specs/few.spec.js").write_text(FEW)
        (folder / "playwright.config.js").write_text(CONFIG % (json.dumps(CHROMIUM), json.dumps(str(package))))

    def start(self, *arguments, **environment):
        settings = {"REPORTD_URL": self.server.url, "REPORTD_TOKEN": self.server.token}
        return subprocess.Popen(
            ["node", str(MODULES / PLAYWRIGHT), *arguments],
            cwd=self.folder,
            env={**QUIET, "NODE_NO_WARNINGS": "1", "HOME": str(self.folder), **settings, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments, **environment):
        """Exit code, standard output, and the lines of standard error that are the reporter's."""
        process = self.start(*arguments, **environment)
        output, errors = process.communicate(timeout=5 * PATIENCE)
        return process.returncode, output, "\n".join(re.findall("^reportd: .*", errors, re.MULTILINE))


@pytest.fixture(scope="module")
def project(tmp_path_factory, package, server):
    return Project(tmp_path_factory.mktemp("playwright"), package, server)


@pytest.fixture(scope="module")
def live(project, server):
    """A run with all outcomes: its id, and what the server said of it while it was under way."""
    others = {run["id"] for run in server.runs()}
    process = project.start("test")
    seen = []

    def is_visible():
        new = [run for run in server.runs() if run["name"] == "live" and run["id"] not in others]
        seen[:] = [run for run in new if run["test_counts"]["total"]]
        return seen or process.poll() is not None

    wait_until(is_visible)
    output, errors = process.communicate(timeout=5 * PATIENCE)
    assert process.returncode == 1, output + errors
    return run_id_of(errors), seen


def test_results_are_visible_while_the_run_goes_on(live, server, project):
    run_id, seen = live
    assert [(run["id"], run["status"], run["finished_at"]) for run in seen] == [(run_id, "Running", None)]
    run = server.get(f"/suite-runs/{run_id}")
    assert run["status"] == "Failed" and run["metadata"]["projects"] == ["chromium shop"]
    assert run["metadata"]["config"] == {"team": "shop"} and run["metadata"]["expected_tests"] == 22
    assert server.get(f"/suite-runs/{run_id}/completeness")["tests_received"] == 22
    assert spools_in(project.folder / ".reportd-spool") == []


OUTCOMES = {  # status, outcome, and the first line of the error, of each attempt
    "with a page › passes @smoke": [("Passed", None, None)],
    "with a page › fails": [("Failed", None, "expect(locator).toHaveValue(expected) failed")],
    "flaky": [("Failed", None, "first"), ("Passed", None, None)],
    "soft": [("Failed", None, "expect(received).toBe(expected) // Object.is equality")],
    "throws a text": [("Failed", None, "'a text'")],
    "throws nothing": [("Failed", None, "Error:")],
    "fixme": [("Skipped", "fixme", None)],
    "skips": [("Skipped", None, "not today")],
    "expected": [("Passed", "expected failure", None)],
    "unexpected": [("Failed", "unexpected pass", "Expected to fail, but passed")],
    "slow": [("Failed", "timedOut", "Test timeout of 300ms exceeded.")],
    "attaches": [("Passed", None, None)],
    "prints": [("Passed", None, None)],
    "hook": [("Failed", None, "no setup")],
    "after the hook": [("Pending", "did not run", "Did not run")],
    "fixture": [("Failed", None, "no teardown")],
    "serial › one": [("Failed", None, "expect(received).toBe(expected) // Object.is equality")],
    "serial › two": [("Pending", "did not run", "Did not run")],
    "passes": [("Passed", None, None)],
    "passes #2": [("Passed", None, None)],
    "fails": [("Failed", None, "boom")],
    "fails #2": [("Failed", None, "boom")],
}


def test_each_outcome_has_its_status_and_error(live, server):
    found = {}
    for case in sorted(server.cases(live[0]), key=lambda case: case["attempt"]):
        line = (case["error_message"] or "").split("\n")[0] or None
        found.setdefault(case["name"], []).append((case["status"], case["metadata"].get("outcome"), line))
    assert found == OUTCOMES


def named(server, run_id, name, attempt=1):
    (case,) = [case for case in server.cases(run_id) if (case["name"], case["attempt"]) == (name, attempt)]
    return server.test(case["id"])


def test_steps_files_and_output(live, server):
    test = named(server, live[0], "with a page › passes @smoke")
    fields = ("parent_step_number", "step_type", "action", "status")
    assert [tuple(step[name] for name in fields) for step in test["steps"]] == [
        (None, "other", "Set content", "Passed"),
        (None, "group", "Log in with two lines", "Passed"),
        (2, "type", 'Fill "[redacted]"', "Passed"),
        (2, "group", "x" * 99 + "…", "Passed"),
        (4, "click", "Click", "Passed"),
        (4, "select", "Select option", "Passed"),
        (2, "click", 'Press "Enter"', "Passed"),
        (None, "assert", 'Expect "[redacted]"', "Passed"),  # nobody knows which part is the password
        (None, "assert", 'Expect "toHaveText"', "Passed"),
        (None, "assert", 'Expect "toHaveText"', "Passed"),
        (None, "other", "later", "Skipped"),
        (None, "group", "shot", "Passed"),
        (12, "screenshot", "Screenshot", "Passed"),
        (None, "navigate", "Navigate data:", "Passed"),
    ]
    assert test["steps"][3]["description"] == "x" * 150 and test["steps"][9]["expected_value"] == '["Hi"]'
    assert test["steps"][4]["element_selector"] == "getByRole('button', { name: 'Go' })"
    assert sorted(test["tags"]) == ["fast", "smoke"] and test["metadata"]["issues"] == ["https://tracker/1"]
    assert [(entry["level"], entry["message"]) for entry in test["console"]] == [
        ("info", "a red line"),
        ("info", "no end… [redacted]"),
        ("warning", "oops"),
        ("warning", "third"),
    ]
    assert all(entry["logged_at"] for entry in test["console"])
    (shot,) = test["artifacts"]
    assert (shot["file_name"], shot["artifact_category"], shot["step_number"]) == ("at step.png", "after", 12)


def test_what_was_typed_into_a_password_field_is_nowhere(live, server):
    test = named(server, live[0], "with a page › fails")
    assert "hunter2" not in json.dumps(test)
    files = {file["file_name"]: server.bytes_of(file) for file in test["artifacts"]}
    assert set(files) == {"screenshot.png", "error-context.md"} and b"hunter2" not in files["error-context.md"]
    (shot,) = [file for file in test["artifacts"] if file["artifact_type"] == "screenshot"]
    failed = [step["step_number"] for step in test["steps"] if step["status"] == "Failed"]
    assert (shot["artifact_category"], shot["step_number"]) == ("error", failed[-1]) and len(failed) == 2


def test_files_of_a_test_that_passed(live, server):
    test = named(server, live[0], "attaches")
    names = {file["file_name"]: (file["artifact_type"], file["file_size"]) for file in test["artifacts"]}
    assert names == {"note.txt": ("log", 1), "large.json": ("other", 1_500_002), "odd-na:me": ("other", 3)}
    test = named(server, live[0], "prints")
    assert len(test["console"]) == 500 and [file["file_name"] for file in test["artifacts"]] == ["stdout.log"]
    assert server.bytes_of(test["artifacts"][0]).count(b"\n") == 1_200


# Of the moment in which something was sent. Blob reports do not say when something was printed.
OWN = {"id", "step_result_id", "test_case_result_id", "run_key", "suite_run_id", "created_at", "updated_at"}
OWN |= {"uploaded_at", "storage_path", "screenshot_artifact_id", "screenshot_path", "sequence", "logged_at"}


def rows(server, run_id):
    """What the server has of a run: its fields, and its tests by name and attempt."""

    def clean(value):
        if isinstance(value, dict):
            names = [name for name in value if name not in OWN and not name.endswith("url")]
            return {name: clean(value[name]) for name in names}
        return [clean(item) for item in value] if isinstance(value, list) else value

    found = server.run(run_id)
    tests = {f"{test['test_id']} {test['attempt']}": clean(test) for test in found.pop("tests")}
    for test in tests.values():
        test["artifacts"].sort(key=lambda file: (file["file_name"], file["step_number"] or 0))
    for name in ("started_at", "finished_at"):  # a reporter exists before Playwright's clock starts
        del found[name]
    return {"run": clean(found), "tests": tests}


def differences(ours, theirs, place=""):
    """Where two JSON values differ, and how."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        names = [*ours, *(name for name in theirs if name not in ours)]
        return [each for name in names for each in differences(ours.get(name), theirs.get(name), f"{place}.{name}")]
    if isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        pairs = enumerate(zip(ours, theirs))
        return [each for i, (one, other) in pairs for each in differences(one, other, f"{place}[{i}]")]
    return [] if ours == theirs else [(place, ours, theirs)]


def test_merged_reports_give_the_same(live, server, project):
    reporter = re.search(r'"(/[^"]+/reportd-playwright)"', (project.folder / "playwright.config.js").read_text())[1]
    config = project.folder / "merge.config.js"
    config.write_text(f"module.exports = {{ testDir: 'specs', reporter: [[{reporter!r}, {{ name: 'live' }}]] }};")
    code, output, said = project.run("merge-reports", "--config", "merge.config.js", "blob")
    assert code == 0, output
    assert differences(rows(server, run_id_of(said)), rows(server, live[0])) == []


def test_the_blob_report_of_the_same_run_gives_the_same(live, server, project, send):
    (blob,) = (project.folder / "blob").glob("*.zip")
    done = send("--format", "playwright-blob", "--name", "live", blob, GIT_DIR="/nothing")
    assert differences(rows(server, run_id_of(done.stdout)), rows(server, live[0])) == []


# --- shards, and a server that is not there ---


def test_a_shard_whose_server_was_away_and_one_whose_server_is_there(project, server, send):
    spool = project.folder / "away"
    away = {"REPORTD_URL": f"http://127.0.0.1:{free_port()}", "REPORTD_SPOOL": str(spool)}
    off, without, with_it = ({"REPORTD_URL": ""}, away, {})
    ends = []
    for shard, settings in (("1/2", off), ("1/2", without), ("2/2", with_it)):
        arguments = ("few.spec.js", "--workers=1", f"--shard={shard}")
        code, output, said = project.run("test", *arguments, REPORTD_RUN_KEY="real shards", **settings)
        ends.append((code, re.sub(r"\(?\b\d+(\.\d+)?(ms|s|m)\b\)?", "", output)))
        if settings is without:
            (folder,) = spools_in(spool)
            assert said.endswith(f"Send it with: reportd-send resume {folder}") and "\n" not in said
            resumed = send("resume", folder)
            assert resumed.returncode == 0 and not folder.exists(), resumed.stderr
            assert server.get(f"/suite-runs/{run_id_of(resumed.stdout)}")["status"] == "Running"
        elif settings is off:
            assert said == ""
    assert ends[0] == ends[1] and ends[0][0] == ends[2][0] == 1  # exit code and output are as without a server
    assert run_id_of(said) == run_id_of(resumed.stdout)
    found = server.get(f"/suite-runs/{run_id_of(said)}/completeness")
    assert (found["complete"], found["tests_expected"], found["shards"]["finished"]) == (True, 4, 2)
    assert server.get(f"/suite-runs/{run_id_of(said)}")["status"] == "Failed"
