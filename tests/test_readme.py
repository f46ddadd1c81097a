"""README says what is so: its curl walk runs, its table and config.toml hold the real defaults."""

import logging
import re
import shutil
import subprocess
from pathlib import Path

import msgspec
import pytest
from prometheus_client import REGISTRY
from prometheus_client.metrics import MetricWrapperBase

from server import config
from server.commands.main import _parser
from server.observe.log import JsonLines, TextLines
from server.services import SERVICES
from tests.up_server import up_server

__all__ = ["up_server"]  # a fixture

HERE = Path(__file__).parent.parent
README = (HERE / "README.md").read_text("utf-8")


@pytest.mark.skipif(not shutil.which("curl"), reason="the walk is made of curl lines")
def test_the_walk_with_curl(up_server, tmp_path):
    lines = "\n".join(re.findall(r"```bash\n(.*?)```", README, re.DOTALL))
    (tmp_path / ".reportd").mkdir()
    (tmp_path / ".reportd/admin-token").write_text(up_server.token)
    script = "set -euo pipefail\n" + lines.replace("http://127.0.0.1:8000", up_server.url)
    done = subprocess.run(["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "Successfully created 2 step results" in done.stdout
    assert "Successfully uploaded 2 artifacts" in done.stdout
    assert "Step updated successfully" in done.stdout
    assert "the same bytes" in done.stdout
    assert done.stdout.strip().endswith("the link has ended")


def test_the_table_of_keys_is_complete_and_right():
    plain = msgspec.to_builtins(config.Config(), enc_hook=int)
    rows = re.findall(r"^\| `(\w+)\.(\w+)` \| (.+?) \| (.*?) ?\|$", README, re.MULTILINE)
    assert [(section, key) for section, key, *_ in rows] == [(s, k) for s, keys in plain.items() for k in keys]
    for section, key, shown, environment in rows:
        names = [name for name, place in config.S1_NAMES.items() if place == (section, key)]
        assert environment.strip("`") == "".join(names)
        if shown.startswith("`"):
            loaded = config.load(environ={f"REPORTD_{section}_{key}".upper(): shown.strip("`")})
            assert loaded == config.Config(), key


def test_config_toml_is_the_defaults():
    assert config.load(HERE / "config.toml", environ={}) == config.Config()
    listed = re.findall(r"^(\w+) = ", (HERE / "config.toml").read_text("utf-8"), re.MULTILINE)
    plain = msgspec.to_builtins(config.Config(), enc_hook=int)
    assert listed == [key for keys in plain.values() for key in keys]


def test_every_command_is_in_the_readme():
    (commands,) = [action for action in _parser()._actions if action.metavar == "COMMAND"]
    assert [name for name in commands.choices if not re.search(rf"(`|reportd ){name}\b", README)] == []
    targets = re.search(r"^.PHONY: (.*) clean$", (HERE / "Makefile").read_text("utf-8"), re.MULTILINE)
    assert [target for target in targets[1].split() if f"make {target}" not in README] == []


async def test_every_figure_is_in_the_readme_with_its_labels(client):
    app = client.app
    await app[SERVICES].free_space.measure_last_day(app[SERVICES].pool)
    reply = await client.get("/metrics")
    kinds = dict(re.findall(r"^# TYPE (reportd_\w+) (\w+)$", await reply.text(), re.MULTILINE))
    known = [metric for metric in REGISTRY._names_to_collectors.values() if isinstance(metric, MetricWrapperBase)]
    labels = {metric._name: metric._labelnames for metric in known}
    printed = {
        name: "{" + ",".join(names) + "}" if (names := labels.get(name.removesuffix("_total"), ())) else ""
        for name in kinds
    }
    table = README[README.index("| figure | is |") : README.index("The last one is measured")]
    named = dict(re.findall(r"`(reportd_\w+?)(\{[\w,]+\})?`", table))
    assert named == printed


@pytest.mark.parametrize(("kind", "formatter"), [("", TextLines()), ("json", JsonLines())], ids=["text", "json"])
async def test_the_lines_of_the_log_are_those_that_the_server_writes(start, make_token, caplog, kind, formatter):
    (shown,) = re.findall(rf"^```{kind}\n(.*reportd\.requests.*)\n```$", README, re.MULTILINE)
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


def test_documents_do_not_name_what_is_not_there():
    for text in (README, (HERE / "CONTRIBUTING.md").read_text("utf-8")):
        for path in re.findall(r"`((?:server|sql|tests|bench|migrations)/[\w/.]+\.\w+)`", text):
            assert (HERE / path).exists(), path
