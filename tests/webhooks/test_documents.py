"""docs/webhooks.md is true: its configuration loads, its events have the fields of real ones, its example verifies."""

import json
import re
import tomllib
from base64 import b64encode
from pathlib import Path

import pytest
from aiohttp import web

from server import config
from server.hooks import WebhookConfig
from server.webhooks.retries import DELAYS
from tests.webhooks.conftest import SECRET

TEXT = (Path(__file__).parent.parent.parent / "docs/webhooks.md").read_text("utf-8")
BASE = "/api/v1/reports/suite-runs"


def blocks(kind):
    return re.findall(rf"^```{kind}\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("block", blocks("toml"))
def test_the_examples_of_the_configuration_load(block, tmp_path):
    path = tmp_path / "config.toml"
    path.write_text(block)
    assert len(config.load(path, {}).webhooks) == len(tomllib.loads(block)["webhooks"])


def test_the_table_has_every_key_and_the_commented_example_too(tmp_path):
    table = TEXT[TEXT.index("| key | ") :].partition("\n\n")[0]
    keys = list(WebhookConfig.__struct_fields__)
    assert re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE) == keys
    whole = (Path(__file__).parent.parent.parent / "config.toml").read_text("utf-8")
    example = whole[whole.index("# [[webhooks]]") :].replace("# ", "", 1).replace("\n# ", "\n")
    assert list(tomllib.loads(example)["webhooks"][0]) == keys
    path = tmp_path / "config.toml"
    path.write_text(example.replace("whsec_…", SECRET))
    assert config.load(path, {}).webhooks[0].name == "ci.example"
    assert f"up to {len(DELAYS) + 1} attempts in a day" in TEXT.replace("\n  ", " ")


def shape(value):
    """The keys of JSON, at all depths, without those of `run` in the second example."""
    if isinstance(value, dict) and "…" in value:
        return "run"
    if isinstance(value, dict):
        return {key: shape(each) for key, each in value.items()}
    return [shape(each) for each in value] if isinstance(value, list) else None


async def test_the_events_are_those_that_are_sent_and_the_example_verifies_them(serve, hook, make_target):
    names = {}
    exec(blocks("python")[0], names)
    seen = []

    async def receive(request):
        try:
            seen.append(
                names["verify"](SECRET, {k.lower(): v for k, v in request.headers.items()}, await request.read())
            )
        except ValueError:
            return web.Response(status=401)
        return web.Response(status=204)

    target = await make_target(receive)
    client = await serve(hook(target))
    run = (await (await client.post(BASE, json={"name": "nightly"})).json())["id"]
    await client.post(f"{BASE}/{run}/test-cases", json={"name": "pays", "status": "Failed", "error_message": "no"})
    await client.patch(f"{BASE}/{run}", json={"status": "Failed"})
    await target.until(2)
    shown = {event["type"]: shape(event) for event in map(json.loads, blocks("json"))}
    assert set(shown) == {"run.finished", "tests.newly_failing", "disk.low"}
    shown["tests.newly_failing"]["data"]["run"] = shown["run.finished"]["data"]["run"]
    assert {body["type"]: shape(body) for body in target.bodies} == {
        name: each for name, each in shown.items() if name != "disk.low"
    }
    assert len(set(seen)) == 2


@pytest.mark.parametrize("change", ["body", "id", "time", "old", "secret"])
def test_the_example_refuses_what_reportd_did_not_sign(change):
    from server.webhooks import signature

    names = {}
    exec(blocks("python")[0], names)
    keys = WebhookConfig(secret=SECRET).keys()
    now = int(names["time"].time())
    headers = signature.headers("msg_1", now - 301 * (change == "old"), b"{}", [bytes(24), *keys])
    if change == "id":
        headers["webhook-id"] = "msg_2"
    if change == "time":
        headers["webhook-timestamp"] = str(now + 1)
    secret = "whsec_" + b64encode(b"x" * 24).decode() if change == "secret" else SECRET
    with pytest.raises(ValueError, match="too old" if change == "old" else "wrong signature"):
        names["verify"](secret, headers, b"{ }" if change == "body" else b"{}")
