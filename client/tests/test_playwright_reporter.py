"""The Playwright reporter: its package, what it shares with the Python client, its settings, and its spool."""

import json
import shutil

import pytest
from reportd_client import ci, limits, secret_words
from reportd_client.mask import Masks, is_password_field
from reportd_client.sender.lock import Lock, Taken
from reportd_client.spool import Follower, Spool, spools_in
from reportd_client.version import VERSION

from tests.images import png
from tests.playwright import DRIVER, FAILED, SOURCE, attached, check_four, four_tests, run_id_of
from tests.server import CHECKOUT, Proxy, free_port, wait_until
from tests.test_ci import PULLS, TABLE
from tests.tools import program

# --- the package, and what it shares with the Python client ---


def evaluate(package, code):
    done = program(package, "node", "-e", code, required=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_package_is_whole_and_needs_nothing(package):
    about = json.loads((package / "package.json").read_text("utf-8"))
    assert (about["version"], about["license"], about["engines"]) == (VERSION, "Apache-2.0", {"node": ">=18"})
    assert not {"dependencies", "peerDependencies", "scripts", "bin"} & about.keys()
    files = {str(path.relative_to(package)) for path in package.rglob("*") if path.is_file()}
    modules = {f"lib/{path.name}" for path in (SOURCE / "lib").iterdir()}
    assert files == {"package.json", "README.md", "LICENSE", "index.js", "index.d.ts", *modules}
    assert (package / "LICENSE").read_bytes() == (CHECKOUT / "client/LICENSE").read_bytes()
    for path in (*package.rglob("*.js"), DRIVER):
        lines = path.read_text("utf-8").splitlines()
        assert len(lines) < 300 and max(map(len, lines)) <= 120, path


def test_words_and_limits_are_those_of_the_python_client(package):
    words, numbers = evaluate(
        package, 'console.log(JSON.stringify([require("./lib/secret-words"), require("./lib/limits")]))'
    )
    assert words == {name: list(getattr(secret_words, name)) for name in words} and len(words) == 5
    for name, value in numbers.items():
        ours = getattr(limits, name)
        assert value == (list(ours) if isinstance(ours, tuple) else ours), name


SECRETS = [
    "https://anna:hunter2@shop.example/cart",
    "https://shop.example/?access_token=abc&page=2",
    "https://shop.example/?user[password]=a;b&x=1",
    "https://shop.example/#id_token=abc",
    "https://shop.example/?sig=abc&monkey=1&key=2&x[key]=3",
    'GET "https://shop.example/?token=abc" failed: https://a:b@shop.example',
    "REPORTD_TOKEN=rpt_" + "aB3" * 16 + "x, not rpt_short, but card 1234-5678",
    "no secret at all",
]
STEPS = [
    {"element_selector": "#password", "input_value": "hunter2", "action": 'Fill "hunter2"', "error_message": "hunter2"},
    {"element_selector": "#userPin", "input_value": "12", "action": "Fill 12 of 123", "description": "12"},
    {"element_selector": "locator('#otp')", "action": "Fill \"4711\" into 'locator' `x`"},
    {"element_selector": "#spinner", "input_value": "hunter2", "action": 'Fill "hunter2"'},
    {"element_type": "password", "input_value": "äöü!", "stack_trace": "at äöü!äöü!"},
]
NAMES = ["#password", "input[name=userPin]", "OTP_CODE", "One-time code", "passwd", "#spinner", "opinion", "USERPIN"]


def test_the_same_is_hidden(package):
    """Also with expressions of the user."""
    given = {"texts": SECRETS, "steps": STEPS, "names": NAMES, "nested": {"a": [{"password": "x", "b": SECRETS[0]}]}}
    pattern = r"(?i)CARD \d{4}-\d{4}"
    masks = Masks(pattern)
    found = evaluate(
        package,
        f"""
        const {{ Masks, isPasswordField }} = require("./lib/mask");
        const [given, masks] = [{json.dumps(given)}, new Masks({json.dumps(pattern)})];
        console.log(JSON.stringify({{
          texts: given.texts.map((text) => [masks.text(text), masks.url(text)]),
          steps: given.steps.map((step) => masks.step(step)),
          names: given.names.map((name) => isPasswordField(name)),
          nested: masks.anything(given.nested),
        }}));""",
    )
    assert found == {
        "texts": [[masks.text(text), masks.url(text)] for text in SECRETS],
        "steps": [masks.step(step) for step in STEPS],
        "names": [is_password_field(name) for name in NAMES],
        "nested": masks.anything(given["nested"]),
    }
    assert "hunter2" not in str(found["texts"] + found["steps"][:2]) and "1234" not in str(found)


def environments(tmp_path):
    """Recorded environments of all systems: as they are, of pull requests, of reruns, and with empty variables."""
    event, properties = tmp_path / "event.json", tmp_path / "build.properties"
    event.write_text(json.dumps({"pull_request": {"number": 5, "head": {"sha": "b" * 40}}}))
    properties.write_text("teamcity.build.id = 42\nteamcity.serverUrl=https\\://tc.example\nteamcity.build.branch=x\n")
    github = TABLE["github"]["environment"]
    yield from (recorded["environment"] for recorded in TABLE.values())
    yield from ({**TABLE[name]["environment"], **more} for name, (more, *_) in PULLS.items())
    yield {**github, "GITHUB_EVENT_PATH": str(event), "GITHUB_RUN_ATTEMPT": "3"}
    yield {**dict.fromkeys(github, ""), "GITHUB_ACTIONS": "true"}
    teamcity = {"TEAMCITY_VERSION": "1", "BUILD_NUMBER": "7", "TEAMCITY_BUILDCONF_NAME": "e2e"}
    yield {**teamcity, "TEAMCITY_BUILD_PROPERTIES_FILE": str(properties)}
    yield teamcity
    yield {"CI": "true"}


def test_each_ci_system_says_the_same(package, tmp_path):
    given = list(environments(tmp_path))
    found = evaluate(
        package,
        f"""
        const {{ detect, runKey, metadataOf }} = require("./lib/ci");
        console.log(JSON.stringify({json.dumps(given)}.map((values) => {{
          const build = detect(values, {json.dumps(str(tmp_path))});
          if (!build) return null;
          const {{ branch, commit, buildUrl, name = null, shard = null }} = build;
          return [branch, commit, buildUrl ?? null, name, shard, runKey(build, "n"), metadataOf(build)];
        }})));""",
    )
    for environment, ours in zip(given, found):
        build = ci.detect(environment, tmp_path)
        if build is None:
            assert ours is None
            continue
        values = [build.branch, build.commit, build.build_url, build.name, build.shard]
        assert ours == [*values, build.run_key("n"), build.metadata()]


# --- a run ---


def test_a_run_is_sent_while_it_runs_and_its_spool_is_removed(drive, server):
    titles, branch = ["t0", "t1", "t2", "t3", "never"], {"REPORTD_BRANCH": "main"}
    driver = drive(titles=titles, name="four tests", tags=["smoke"], environment=branch)
    returned = driver("test", title="t0", stdout=["a ", "0\n"], attachments=[attached(png(0)), attached(png(99))])
    assert returned["awaited"] is False
    (run,) = wait_for_run(server, "four tests", tests=1)
    assert (run["status"], run["finished_at"], run["branch"], run["tags"]) == ("Running", None, "main", ["smoke"])
    assert not any(server.token.encode() in path.read_bytes() for path in driver.spool.rglob("*") if path.is_file())
    with pytest.raises(Taken, match=f"process {driver.process.pid} of Node.js"):
        Lock(driver.folder)
    for i in (1, 2, 3):
        driver("test", title=f"t{i}", stdout=[f"a {i}\n"], attachments=[attached(png(i)), attached(png(99))], **FAILED)
    driver("test", title="t1", retry=1)
    said, _ = driver.finish()
    assert said.startswith("reportd: 6 tests, 8 files (8 new) sent in ") and spools_in(driver.spool) == []
    run = server.run(run_id_of(said))
    assert sorted((t["name"], t["attempt"], t["status"], t["error_message"] or "") for t in run["tests"]) == [
        ("never", 1, "Pending", "Did not run"),
        ("t0", 1, "Passed", ""),
        ("t1", 1, "Failed", "boom"),
        ("t1", 2, "Passed", ""),
        ("t2", 1, "Failed", "boom"),
        ("t3", 1, "Failed", "boom"),
    ]
    assert run["status"] == "Failed" and run["metadata"]["expected_tests"] == 5
    assert server.get(f"/suite-runs/{run['id']}/completeness")["complete"] is True


def wait_for_run(server, name, tests):
    found = []

    def is_there():
        found[:] = [run for run in server.runs() if run["name"] == name and run["test_counts"]["total"] == tests]
        return found

    wait_until(is_there)
    return found[:1]


def test_without_an_address_nothing_is_written_or_said(drive):
    driver = drive(environment={"REPORTD_URL": None})
    driver("test", title="t")
    assert driver.finish()[0] == "" and not driver.spool.exists()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"REPORTD_URL": "ftp://x"}, "REPORTD_URL must be an address like"),
        ({"REPORTD_DRAIN": "soon"}, "REPORTD_DRAIN must be a number"),
        ({"REPORTD_SHARD": "6/5"}, "REPORTD_SHARD must be like 2/5"),
        ({"REPORTD_MASK": "("}, "is not a regular expression"),
        ({"REPORTD_TOKEN": "two words"}, "characters that no token has"),
        ({"REPORTD_TOKEN": "", "REPORTD_TOKEN_FILE": "/nothing"}, "Cannot read REPORTD_TOKEN_FILE"),
        ({"REPORTD_SPOOL": "/dev/null/x"}, "Cannot write to the spool"),
    ],
)
def test_wrong_settings_cost_only_the_report(drive, settings, words):
    driver = drive(environment=settings)
    driver("test", title="t")
    said, _ = driver.finish()
    assert words in said and "Nothing is recorded" in said and said.count("\n") == 1


def test_wrong_options_cost_only_the_report(drive):
    driver = drive(screenshots="none")
    driver("test", title="t")
    assert "screenshots must be one of all, failed" in driver.finish()[0] and not driver.spool.exists()


def test_what_is_only_written_down_is_sent_later(drive, server, send):
    driver = drive(environment={"REPORTD_SENDER": "none"})
    four_tests(driver)
    driver("error", message="Error: the web server did not start")
    assert driver.finish(status="interrupted")[0] == ""
    records = [found.record for found in Follower(driver.folder).poll()]
    assert {record["kind"] for record in records} == {"begin", "add", "test", "run", "end"}
    assert Spool.open(driver.folder).about["format"] == 1
    done = send("resume", driver.folder)
    assert done.returncode == 0, done.stderr
    run = check_four(server, run_id_of(done.stdout))
    assert (
        run["status"] == "Failed"
        and run["metadata"]["outcome"] == "interrupted"
        and "web server" in run["metadata"]["errors"][0]
    )


@pytest.mark.parametrize("status", ["interrupted", "timedout"])
def test_a_run_that_ended_before_its_time_has_failed(drive, server, status):
    driver = drive()
    driver("test", title="t")
    run = server.run(run_id_of(driver.finish(status=status)[0]))
    assert (run["status"], run["metadata"]["outcome"], len(run["tests"])) == ("Failed", status, 1)


def test_files_have_the_bytes_that_they_had_when_they_were_attached(drive, server, tmp_path):
    large, small, gone = tmp_path / "large.txt", tmp_path / "small.txt", tmp_path / "gone.txt"
    large.write_bytes(b"x" * (2 << 20))
    small.write_bytes(b"small")
    driver = drive(environment={"REPORTD_SENDER": "none"})
    files = [{"name": path.name, "contentType": "text/plain", "path": str(path)} for path in (large, small, gone)]
    driver("test", title="t", attachments=[*files, {"name": "_internal", "contentType": "text/plain", "path": "/x"}])
    large.unlink()
    small.write_bytes(b"other")
    driver.finish()
    (folder,) = spools_in(driver.spool)
    entries = [found.record["entry"] for found in Follower(folder).poll() if found.record.get("to") == "artifacts"]
    assert [entry["file_name"] for entry in entries] == ["large.txt", "small.txt", "gone.txt"]
    assert (folder / "files" / entries[0]["file"]).stat().st_mtime_ns == entries[0]["mtime_ns"]
    assert (folder / "files" / entries[1]["file"]).read_bytes() == b"small" and entries[2]["refused"] == "No such file"


def test_screenshots_of_passed_tests_can_be_left_out(drive, server):
    driver = drive(screenshots="failed")
    files = [attached(png(1)), attached(b"x", "note", "text/plain")]
    driver("test", title="passes", attachments=files)
    driver("test", title="fails", attachments=files, **FAILED)
    tests = server.run(run_id_of(driver.finish()[0]))["tests"]
    found = {test["name"]: sorted(file["file_name"] for file in test["artifacts"]) for test in tests}
    assert found == {"passes": ["note.txt"], "fails": ["note.txt", "shot.png"]}


def test_a_spool_that_somebody_removes_costs_only_the_report(drive):
    driver = drive()
    driver("test", title="t0")
    shutil.rmtree(driver.spool)
    driver("test", title="t1", attachments=[attached(png(1))], **FAILED)
    assert "ENOENT" in driver.finish()[0]


def test_a_linked_file_that_has_changed_is_named(drive, server, tmp_path):
    large = tmp_path / "large.txt"
    large.write_bytes(b"x" * (2 << 20))
    port = free_port()
    driver = drive(f"http://127.0.0.1:{port}")
    driver("test", title="t", attachments=[{"name": "large.txt", "contentType": "text/plain", "path": str(large)}])
    with large.open("ab") as stream:
        stream.write(b"more")
    proxy = Proxy(server.url, port)  # the server is there from now on
    wait_until(lambda: proxy.seen)
    said, _ = driver.finish()
    proxy.close()
    assert "refused: fake › fake.spec.js › t: large.txt: Its bytes have changed since it was attached" in said
    missing = server.get(f"/suite-runs/{run_id_of(said)}/completeness")["artifacts_missing"]
    assert [(file["file_name"], file["reason"][:8]) for file in missing] == [("large.txt", "refused:")]
