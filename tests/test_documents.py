"""README, docs/ and CONTRIBUTING are true: commands run, tables are complete, links lead somewhere."""

import logging
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from prometheus_client import REGISTRY
from prometheus_client.metrics import MetricWrapperBase

from server import config
from server.commands.main import _parser
from server.observe.log import JsonLines, TextLines
from server.reports import usage
from server.services import SERVICES
from tests.up_server import ENVIRONMENT, end, wait_for

ROOT = Path(__file__).parent.parent
DOCS = sorted((ROOT / "docs").glob("*.md"))
README = ROOT / "README.md"
GUIDES = [README, *DOCS]
PROSE = [*GUIDES, *(ROOT / name for name in ("CONTRIBUTING.md", "SECURITY.md", "deploy/README.md", "bench/README.md"))]
# `.ci/run` sets it: `make up` then installs from the package registry, as for a user. Without it the copy runs with the
# packages that are installed here.
FRESH = bool(os.environ.get("REQUIRE_REGISTRY"))
# Every setting, as its path: ("auth", "oidc", "issuer").
KEYS = [path for path, _ in config._keys(config.Config) if len(path) > 1]  # without [[webhooks]]
# What the example of CONTRIBUTING adds to.
TRIED = ["tests/api/test_suite_runs.py", "tests/test_access.py", "tests/database/test_queries.py"]


def page(name):
    return (ROOT / "docs" / name).read_text("utf-8")


def blocks(text, kind):
    """The code blocks of one kind, without their indentation."""
    found = re.findall(rf"^( *)```{kind}\n(.*?)^ *```$", text, re.MULTILINE | re.DOTALL)
    return [re.sub(rf"^{indent}", "", block, flags=re.MULTILINE) for indent, block in found]


# --- the pages -------------------------------------------------------------------------------------------------


def test_the_readme_is_short_and_names_every_page():
    text = README.read_text("utf-8")
    assert text.count("\n") <= 150
    assert [path.name for path in DOCS if f"(docs/{path.name}" not in text] == []


@pytest.mark.parametrize("path", PROSE, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path):
    text = path.read_text("utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith(("http://", "https://")):
            continue
        file, _, heading = target.partition("#")
        to = (path.parent / file).resolve() if file else path
        assert to.exists(), target
        if heading:
            assert heading in {anchor(line) for line in headings(to)}, target


def headings(path):
    return re.findall(r"^#+ (.+)$", path.read_text("utf-8"), re.MULTILINE)


def anchor(heading):
    """A heading's fragment on the usual hosts of repositories."""
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


@pytest.mark.parametrize("path", PROSE, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_and_tests_that_are_named_exist(path):
    text = path.read_text("utf-8")
    for name in re.findall(r"`((?:server|sql|tests|bench|migrations|deploy|docs)/[\w/.]*)`", text):
        assert (ROOT / name).exists() or name == "bench/.data", name  # made by a run
    for name in re.findall(r"\btests/\w[\w/]*\.py", text):
        assert (ROOT / name).exists(), name


@pytest.mark.parametrize("name", ["README.md", "config.toml", *(f"docs/{path.name}" for path in DOCS)])
def test_no_page_uses_the_names_that_only_developers_know(name):
    assert re.findall(r"\bS[01]\b", (ROOT / name).read_text("utf-8")) == []


def test_nothing_that_a_user_sees_uses_the_names_that_only_developers_know():
    from server.http.openapi import document
    from server.routes import ROUTES

    shown = str(document(ROUTES, "x"))
    for path in (ROOT / "server/commands").glob("*.py"):
        shown += "".join(re.findall(r'"[^"\n]*"', path.read_text("utf-8")))
    assert re.findall(r".{0,30}\bS[01]\b(?!\w).{0,30}", shown) == []


# --- the commands ----------------------------------------------------------------------------------------------


@pytest.fixture
def clone(tmp_path):
    """A copy of every file that git has or would add, as a clone has it after the next commit."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    folder = tmp_path / "reportd"
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    return folder


@pytest.mark.skipif(not shutil.which("curl"), reason="the commands use curl")
def test_the_commands_of_readme_and_docs_run_as_written(clone, tmp_path):
    """After `make up` in a fresh clone, all `bash` blocks one after the other in one shell."""
    start = ["make", "up", "UP=--port 0"] if FRESH else [sys.executable, "-m", "server", "up", "--port", "0"]
    environ = dict(ENVIRONMENT)
    if not FRESH:
        environ["PATH"] = f"{Path(sys.executable).parent}:{environ['PATH']}"
        environ["PYTHONPATH"] = str(clone)
    log = tmp_path / "up.log"
    with log.open("wb") as out:
        server = subprocess.Popen(start, cwd=clone, env=environ, stdout=out, stderr=out, start_new_session=True)
    try:
        url = wait_for(lambda: re.search(r"ready at (http://\S+)", log.read_text()), log.read_text)[1]
        script = "set -euo pipefail\n"
        for path in GUIDES:
            script += f"echo '# {path.name}'\n" + "\n".join(blocks(path.read_text("utf-8"), "bash"))
        script = script.replace("http://127.0.0.1:8000", url)
        done = subprocess.run(
            ["bash", "-c", script], cwd=clone, env=environ, capture_output=True, text=True, timeout=300
        )
    finally:
        end(server)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert '"code":' not in done.stdout, re.findall(r".*\"code\":.*", done.stdout)
    for shown in (
        "Successfully created 2 step results",
        "Successfully uploaded 2 artifacts",
        "the same bytes",
        "Step updated successfully",
        "the link has ended",
        "reportd_storage_up 1.0",
    ):
        assert shown in done.stdout, shown


def test_the_example_of_contributing_works_when_pasted(clone):
    """Each block goes where CONTRIBUTING says; the new test and the access table's test then pass."""
    text = (clone / "CONTRIBUTING.md").read_text("utf-8")
    (query,), (route,), (row,) = blocks(text, "sql"), blocks(text, "text"), blocks(text, "markdown")
    shape, handler, test = blocks(text, "python")
    paste(clone / "sql/suite_runs.sql", query)
    paste(clone / "server/reports/suite_runs.py", shape)
    paste(clone / "server/api/suite_runs.py", handler)
    paste(clone / "tests/api/test_suite_runs.py", test)
    routes = clone / "server/routes.py"
    before = '    Route("GET", _RUN, suite_runs.show, SuiteRun),\n'
    insert(routes, before, f"    {route}")
    routes.write_text(
        re.sub(r"^(from server.reports.suite_runs import )", r"\1Branches, ", routes.read_text(), flags=re.M)
    )
    insert(clone / "docs/access.md", first_line(clone / "docs/access.md", "| `GET /suite-runs/{suite_id}` "), row)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "branches", *TRIED],
        cwd=clone,
        env={**ENVIRONMENT, "PYTHONPATH": str(clone)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout[-4000:]
    lint = [sys.executable, "-m", "ruff", "check", "server", "tests/api/test_suite_runs.py"]
    lint = subprocess.run(lint, cwd=clone, capture_output=True, text=True)
    assert lint.returncode == 0, lint.stdout


def paste(path, block):
    """Adds a block at the end of a file; its imports go before the first import of the file's own."""
    imports = "".join(re.findall(r"^from .*\n", block, re.MULTILINE))
    text = path.read_text("utf-8")
    if imports:
        place = text.index("from server.http.reply import")
        text = text[:place] + text[place:].replace("\n", "\n" + imports, 1)
    path.write_text(
        text.rstrip("\n") + "\n\n\n" + re.sub(r"^from .*\n", "", block, flags=re.MULTILINE).strip("\n") + "\n"
    )


def insert(path, line, new):
    text = path.read_text("utf-8")
    assert text.count(line) == 1
    path.write_text(text.replace(line, line + new.rstrip("\n") + "\n"))


def first_line(path, start):
    return next(line for line in path.read_text("utf-8").splitlines(keepends=True) if line.startswith(start))


def test_every_command_and_every_make_target_is_documented():
    (commands,) = [action for action in _parser()._actions if action.metavar == "COMMAND"]
    operating = page("operating.md")
    assert [name for name in commands.choices if not re.search(rf"`reportd {name}\b", operating)] == []
    targets = re.search(r"^.PHONY: (.*) clean$", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    assert [target for target in targets[1].split() if f"make {target}" not in README.read_text("utf-8")] == []


# --- settings, metrics, log ------------------------------------------------------------------------------------


def test_the_table_of_keys_is_complete_and_right():
    text = page("configuration.md")
    rows = re.findall(r"^\| `(\w+\.[\w.]+)` \| (.+?) \| (.+?) \|$", text, re.MULTILINE)
    assert [key for key, *_ in rows] == [".".join(path) for path in KEYS]
    for key, shown, _ in rows:
        if shown.startswith("`"):
            loaded = config.load(environ={f"REPORTD_{key}".replace(".", "_").upper(): shown.strip("`")})
            assert loaded == config.Config(), key
    assert [name for name in config.SPEC_NAMES if f"`{name}`" not in text] == []


def test_config_toml_is_the_defaults():
    assert config.load(ROOT / "config.toml", environ={}) == config.Config()
    listed = re.findall(r"^(\w+) = ", (ROOT / "config.toml").read_text("utf-8"), re.MULTILINE)
    assert listed == [path[-1] for path in KEYS]


async def test_every_metric_is_documented_with_its_labels(client):
    app = client.app
    await usage.count(app[SERVICES].pool)
    await app[SERVICES].free_space.measure_growth(app[SERVICES].pool)
    reply = await client.get("/metrics")
    kinds = dict(re.findall(r"^# TYPE (reportd_\w+) (\w+)$", await reply.text(), re.MULTILINE))
    known = [metric for metric in REGISTRY._names_to_collectors.values() if isinstance(metric, MetricWrapperBase)]
    labels = {metric._name: metric._labelnames for metric in known}
    printed = {
        name: "{" + ",".join(names) + "}" if (names := labels.get(name.removesuffix("_total"), ())) else ""
        for name in kinds
    }
    text = page("metrics.md")
    table = text[text.index("| metric | ") :].partition("\n\n")[0]
    assert dict(re.findall(r"`(reportd_\w+?)(\{[\w,]+\})?`", table)) == printed


@pytest.mark.parametrize(("kind", "formatter"), [("", TextLines()), ("json", JsonLines())], ids=["text", "json"])
async def test_the_lines_of_the_log_are_those_that_the_server_writes(start, make_token, caplog, kind, formatter):
    (shown,) = re.findall(rf"^```{kind}\n(.*reportd\.requests.*)\n```$", page("operating.md"), re.MULTILINE)
    caplog.set_level(logging.INFO)
    client = await start(token=make_token(name="ci"))
    run = await (await client.post("/api/v1/reports/suite-runs", json={"name": "x"})).json()
    case = await (await client.post(f"/api/v1/reports/suite-runs/{run['id']}/test-cases", json={"name": "x"})).json()
    url = f"/api/v1/reports/test-case-results/{case['id']}/steps"
    body = b'{"steps": [{"step_number": 1, "step_type": "click"}]}'
    await client.post(url, data=body, headers={"X-Request-Id": "build-4711"})
    (record,) = [item for item in caplog.records if getattr(item, "fields", {}).get("request_id") == "build-4711"]
    changing = r"[\d-]{10}T[\d:.]{12}Z|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|(?<=milliseconds[=\"]):?[\d.]+"
    assert re.sub(changing, "…", shown) == re.sub(changing, "…", formatter.format(record))
