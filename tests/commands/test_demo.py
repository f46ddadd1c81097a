"""`reportd demo`: the story and its pictures, and a short demo that is sent to a real server."""

import asyncio
import dataclasses
import hashlib
import io
import json
import os
import subprocess
import sys
from collections import Counter
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import aiohttp
import pytest
from PIL import Image

from server.commands import up
from server.commands.demo import draw, options, play, send, shop, story
from server.commands.demo.acts import World
from server.commands.demo.client import Client
from server.commands.demo.files import files
from server.commands.demo.scene import Scene
from server.commands.main import main
from tests.makers import png
from tests.up_server import CHECKOUT, PATIENCE, up_server

__all__ = ["up_server"]  # a fixture

BASE = "/api/v1/reports"
UNTIL = datetime(2026, 11, 30, 12, tzinfo=UTC)
DAYS = story.LAST_DAY
SCENES = [
    Scene("home", (2, 0), "cookies", "accept"),
    Scene("payment", (6, "Card", "waiting"), "", "pay"),
    Scene("article", (7,), "sheet:Send you news?|Only when something happens."),
]


@pytest.fixture(scope="module")
def told():
    """The whole story: {run: its results}."""
    return {run: play.results(run)[0] for run in story.runs(1, DAYS, UNTIL)}


@pytest.fixture(scope="module")
def newest(told):
    """The results of the newest run by name, the last attempt of each."""
    (run,) = [run for run in told if run.newest]
    return {result.test.name: result for result in told[run]}


def of_main(told, day):
    return [told[run] for run in told if run.project == "shop" and run.branch == "main" and run.day == day]


def failed(results):
    """The names of the tests whose last attempt failed."""
    last = {result.test.id: result for result in results}
    return {result.test.name for result in last.values() if result.failed}


def failed_step(result, iteration=1):
    return next(s for s in result.steps if s["status"] == "Failed" and s["iteration_number"] == iteration)


def test_the_same_seed_gives_the_same_story_and_another_one_another():
    def everything(seed, until=UNTIL):
        return [(run.fields(), play.results(run)[0]) for run in story.runs(seed, 1, until)]

    def statuses(told):
        return [result.fields["status"] for _, results in told for result in results]

    first = everything(1)
    assert first == everything(1) != everything(2)
    later = everything(1, UNTIL + timedelta(days=3))
    assert first != later
    assert [fields for fields, _ in first] == [fields for fields, _ in later]
    assert statuses(first) == statuses(later)


def test_the_same_scene_gives_the_same_bytes_in_every_process():
    code = (
        "import hashlib; from server.commands.demo.scene import Scene; from server.commands.demo.shop import picture\n"
        f"print([hashlib.sha256(picture(scene)).hexdigest() for scene in {SCENES[::-1]!r}][::-1])"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "7"}
    done = subprocess.run([sys.executable, "-c", code], cwd=CHECKOUT, env=environment, capture_output=True, text=True)
    assert done.stdout.strip() == str([hashlib.sha256(shop.picture(scene)).hexdigest() for scene in SCENES]), (
        done.stderr
    )


def test_pictures_have_the_size_of_their_device_and_many_colours():
    for scene in SCENES:
        with Image.open(io.BytesIO(shop.picture(scene))) as picture:
            assert picture.size == ((390, 844) if scene.page == "article" else (1280, 800))
            assert len(picture.getcolors(1 << 24)) > 2000
    assert shop.picture(SCENES[1]) != shop.picture(SCENES[1]._replace(mark=""))


def test_each_scene_of_the_story_can_be_drawn(told):
    """Each kind of page and of what lies over it is drawn once. A mark must name an area of its page."""
    scenes = {picture.scene for results in told.values() for result in results for picture in result.pictures}
    assert len(scenes) > 120
    kinds = {(scene.page, scene.over.partition(":")[0], scene.mark): scene for scene in scenes}
    for scene in kinds.values():
        drawn = shop.picture(scene)
        assert not scene.mark or drawn != shop.picture(scene._replace(mark="")), scene


def test_the_story_has_the_promised_size(told):
    assert 100 <= len(told) <= 110
    results = [result for of_run in told.values() for result in of_run]
    assert 4400 <= len(results) <= 5000
    assert 54_000 <= sum(len(result.steps) for result in results) <= 62_000
    assert [run.started_at for run in told] == sorted(run.started_at for run in told)
    assert {run.key for run in told} == {f"demo-1-{n}" for n in range(1, len(told) + 1)}
    tests = {(run.project, result.test.id) for run, of_run in told.items() for result in of_run}
    assert Counter(project for project, _ in tests) == {"shop": 60, "shop-app": 25, "back-office": 40}
    assert [run for run in told if run.running] == [list(told)[-1]]


def test_the_newest_run_is_as_told(told, newest):
    statuses = Counter(result.fields["status"] for result in newest.values())
    assert statuses == {"Failed": 9, "Passed": 44, "Pending": 7}
    (run,) = [run for run in told if run.newest]
    retried = [result for result in told[run] if result is not newest[result.test.name]]
    assert {result.fields["status"] for result in retried} == {"Failed"} and len(retried) == 4
    assert {newest[result.test.name].fields["status"] for result in retried} == {"Passed"}
    assert [shard["state"] for shard in run.fields()["metadata"]["shards"]] == ["finished", "finished", "quiet"]
    assert len(newest["imports the catalogue"].steps) == 2000
    assert len(newest["imports the catalogue"].pictures) > 5
    assert all(step["status"] == "Passed" for step in newest["fills the wish list"].steps)
    assert [step["step_number"] for step in newest["searches “lamp”"].steps][:4] == [1, 2, 5, 6]
    assert sum(step["status"] == "Failed" for step in newest["searches “mug”"].steps) == 3
    backwards = newest["pays by invoice"].steps[play.BACKWARDS - 1]
    assert backwards["completed_at"] < backwards["started_at"]
    assert [picture.category for picture in newest["returns an order"].pictures if picture.lost] == ["before"]
    assert 503 in [entry["status_code"] for entry in newest["returns an order"].network]


def test_the_featured_failure_has_everything(newest):
    result = newest[story.FEATURED]
    slow, broken = result.steps[10], failed_step(result)
    assert slow["duration_ms"] > 3000 and slow["status"] == "Passed"
    assert (broken["step_number"], broken["action"]) == (16, "Click “Pay now”")  # five steps later
    assert [step["status"] for step in result.steps[16:]] == ["Pending", "Pending"]
    named = {step["screenshot_path"] for step in result.steps} - {None}
    sent = {picture.file_name for picture in result.pictures if picture.sent}
    assert named - sent == {"step_006.png", "step_008.png"}
    assert {picture.category for picture in result.pictures} == {"before", "after", "error", "checkpoint"}
    made = {file.name: file for file in files(result)}
    assert {file.artifact_type for file in made.values()} == {"har", "log", "other"}
    assert json.loads(made["network.har"].content)["log"]["entries"]
    assert "\x1b[31m" in made["worker.log"].content.decode()
    assert made["offer.pdf"].content.startswith(b"%PDF-1.4") and made["offer.pdf"].content.endswith(b"%%EOF\n")


def test_each_day_of_the_story_fails_as_told(told):
    pays = {test.name for test in story.tests(World()) if test.tags == ("pay",)}
    for results in of_main(told, story.RENAMED):
        assert failed(results) == pays and len(pays) == 6
        assert len({result.fields["error_message"] for result in results if result.test.name in pays}) == 1
    usual = [failed(results) for results in of_main(told, 5)]
    assert usual == [set(), set()]

    def load(day):
        steps = [s for results in of_main(told, day) for r in results if r.test.name == story.FEATURED for s in r.steps]
        return max(step["duration_ms"] for step in steps if step["action"].startswith("Wait for the basket"))

    assert load(14) < 400 < load(15) < load(16) < load(17) and load(17) > 3500 > 400 > load(19)
    assert all(story.FEATURED in failed(results) for results in of_main(told, story.TIMED_OUT))
    for day in range(story.ROUNDED, DAYS + 1):
        assert all(story.AMOUNTS in failed(results) for results in of_main(told, day))
    amounts = next(r for r in of_main(told, story.ROUNDED)[0] if r.test.name == story.AMOUNTS)
    broken = failed_step(amounts, 3)
    assert (broken["expected_value"], broken["actual_value"]) == ("19.99", "20.00")
    assert {s["status"] for s in amounts.steps if s["iteration_number"] in (1, 2, 4, 5)} == {"Passed"}
    before = next(
        results for run, results in told.items() if run.project == "shop" and run.branch == "main" and run.back == 1
    )
    assert failed(before) == {story.AMOUNTS, "opens a category", "shows reviews"}  # two of them fixed in the newest
    cookies = {
        day: {s["element_name"] for rs in of_main(told, day) for r in rs for s in r.steps if s.get("element_name")}
        for day in (22, 24, 25)
    }
    assert ["Accept all" in cookies[day] for day in (22, 24, 25)] == [False, True, False]
    steps = {day: [s for rs in of_main(told, day) for r in rs for s in r.steps] for day in (9, 10)}
    selectors = {
        day: {step["element_selector"] for step in steps[day] if step.get("element_name") == "Pay now"} for day in steps
    }
    assert selectors == {9: {"#pay"}, 10: {"[data-testid=place-order]"}}


def test_every_failure_but_one_has_a_failed_step(told):
    """Otherwise a fault names an act that its test does not have."""
    bare = {
        (run.day, result.test.name)
        for run, results in told.items()
        for result in results
        if result.failed and all(step["status"] != "Failed" for step in result.steps)
    }
    assert bare == {(DAYS, "fills the wish list")}


def test_the_flaky_test_fails_once_in_eight_runs(told):
    runs = [run for run in told if run.project == "shop" and run.branch == "main"]
    flaky = [run for run in runs if any(r.test.name == story.FLAKY and r.failed for r in told[run])]
    assert len(flaky) == 8 and all(story.FLAKY not in failed(told[run]) for run in flaky)
    on_branches = [run.commit for run in told if run.branch != "main"]
    assert len(set(on_branches)) == len(on_branches)  # no test passes and fails on one commit, which would be flaky


@asynccontextmanager
async def plain_pictures():
    async def plain(scene):
        return png(8, 8, seed=hashlib.sha256(repr(scene).encode()).digest()[0])

    yield plain


@pytest.fixture
def quick(monkeypatch):
    """Send small pictures, and without `only` the last day of the story."""
    monkeypatch.setattr(draw, "drawing", plain_pictures)
    monkeypatch.setenv("REPORTD_TOKEN", "")

    def only(**changes):
        """Tell only the last run, changed like this."""
        runs = story.runs
        monkeypatch.setattr(story, "runs", lambda *given: [dataclasses.replace(runs(*given)[-1], **changes)])

    return only


def sent_runs(server, seed):
    return server.ask_json("GET", f"{BASE}/suite-runs?tag=demo-{seed}&limit=500")["items"]


def test_a_demo_is_sent_once_and_removed(up_server, quick, capsys):
    common = ["demo", "--data", str(up_server.data), "--days", "1"]
    assert main(common) == 0, capsys.readouterr()
    output = capsys.readouterr().out
    assert output.startswith("The demo is here: 5 runs, ")
    assert f"  {up_server.url}/" in output
    runs = sent_runs(up_server, 1)
    assert Counter(run["project"] for run in runs) == {"shop": 3, "shop-app": 1, "back-office": 1}
    assert Counter(run["status"] for run in runs) == {"Running": 1, "Failed": 4}
    _check_newest(up_server, next(run for run in runs if run["branch"] == "main" and run["name"] == "checkout"))

    assert main(common) == 0
    assert capsys.readouterr().out.startswith("The demo is here already; nothing is added.")
    assert sent_runs(up_server, 1) == runs
    assert main([*common, "--remove"]) == 0
    assert capsys.readouterr().out == "5 runs of the demo are deleted.\n"
    assert sent_runs(up_server, 1) == []
    assert main([*common, "--remove"]) == 0
    assert capsys.readouterr().out == "There is no run of this demo.\n"


def _check_newest(server, run):
    assert run["finished_at"] > run["started_at"]
    assert abs(datetime.now(UTC) - datetime.fromisoformat(run["started_at"])) < timedelta(hours=1)
    listed = server.ask_json("GET", f"{BASE}/suite-runs/{run['id']}/test-cases?per_page=500")["items"]
    ids = {case["name"]: case["id"] for case in listed if case["status"] == "Failed"}
    report = server.ask_json("GET", f"{BASE}/test-case-results/{ids[story.FEATURED]}/report")
    steps, artifacts = {step["step_number"]: step for step in report["steps"]}, report["artifacts"]
    assert {number for number, step in steps.items() if step["screenshot_path"] and not step["screenshot"]} == {6, 8}
    assert steps[16]["screenshot"]["file_name"] == "step_016_error.png"
    assert {artifact["mime_type"] for artifact in artifacts} == {
        *("image/png", "application/json", "text/html", "text/plain", "application/pdf")
    }
    assert report["checkpoints"][0]["screenshot_artifact_id"] in {artifact["id"] for artifact in artifacts}
    assert report["console_log_count"] and report["network_log_count"]
    returns = server.ask_json("GET", f"{BASE}/test-case-results/{ids['returns an order']}/artifacts")["items"]
    statuses = [server.ask("GET", artifact["download_url"]).status for artifact in returns]
    assert Counter(statuses) == {410: 1, 200: len(returns) - 1}


def test_live_adds_results_to_the_running_run(up_server, quick, capsys):
    quick()
    common = ["demo", "--data", str(up_server.data), "--seed", "3"]
    assert main(common) == 0, capsys.readouterr()
    (run,) = sent_runs(up_server, 3)
    assert (run["status"], run["test_counts"]["total"]) == ("Running", 12)

    async def feed():
        async with Client(up_server.url, up_server.token) as client, plain_pictures() as pictures:
            sender = send.Sender(client, pictures)
            task = asyncio.create_task(send.feed(sender, client, run["id"], 3, lambda: datetime.now(UTC)))
            async with asyncio.timeout(PATIENCE):
                while sender.sent.results < 2:
                    await asyncio.sleep(0.05)
            task.cancel()

    asyncio.run(feed())
    (after,) = sent_runs(up_server, 3)
    assert after["status"] == "Running" and after["test_counts"]["total"] >= 14
    assert main([*common, "--remove"]) == 0


def test_an_interrupted_demo_is_sent_again_on_request(up_server, quick, capsys):
    quick()
    half = {"name": "checkout", "run_key": "demo-4-1", "tags": ["demo", "demo-4"]}
    up_server.ask_json("POST", f"{BASE}/suite-runs", half, status=201)
    common = ["demo", "--data", str(up_server.data), "--seed", "4"]
    assert main(common) == 1
    assert "An unfinished demo is here (1 runs): " in capsys.readouterr().err
    assert main([*common, "--restart"]) == 0
    (run,) = sent_runs(up_server, 4)
    assert run["metadata"]["demo_complete"] is True
    assert main([*common, "--remove"]) == 0


def token(server, *more):
    assert main(["token", "create", "--data", str(server.data), "--name", f"demo-{os.urandom(4).hex()}", *more]) == 0


def test_a_token_of_one_project_gets_the_whole_demo(up_server, quick, capsys, tmp_path):
    quick()
    token(up_server, "--project", "elsewhere")
    file = tmp_path / "token"
    file.write_text(capsys.readouterr().out, "ascii")
    assert main(["demo", "--url", up_server.url, "--token-file", str(file), "--seed", "5"]) == 0
    assert "No stored file was removed" in capsys.readouterr().out
    assert [run["project"] for run in sent_runs(up_server, 5)] == ["elsewhere"]
    assert main(["demo", "--url", up_server.url, "--token-file", str(file), "--seed", "5", "--remove"]) == 1
    assert "only an admin's token may" in capsys.readouterr().err
    assert main(["demo", "--data", str(up_server.data), "--seed", "5", "--remove"]) == 0


def test_refusals_are_one_sentence(up_server, quick, capsys, monkeypatch, tmp_path):
    token(up_server, "--role", "viewer")
    viewer = capsys.readouterr().out.strip()
    quick(project="nowhere")
    missing, empty = tmp_path / "missing", tmp_path / "empty"
    empty.write_text("\n")
    here, away = ["--url", up_server.url], ["--url", "http://127.0.0.1:1"]
    for given, secret, sentence in (
        (away, "x", "http://127.0.0.1:1 does not answer: "),
        (here, "rd_wrong", f"{up_server.url} rejects this token: "),
        (here, viewer, "This token has the role viewer and may only read. The demo needs an uploader's or admin's."),
        (here, up_server.token, f"{up_server.url} has no project for the demo. Create its three projects with "),
        (here, "", "Name a file with a token of the server with --token-file, or set REPORTD_TOKEN."),
        ([*here, "--token-file", str(missing)], "", f"Cannot read the token in {missing}: No such file"),
        ([*here, "--token-file", str(empty)], "", f"{empty} holds no token."),
        (["--url", "ftp://x"], "x", "--url must be like http://127.0.0.1:8000, not 'ftp://x'."),
        (["--data", str(tmp_path)], "", f"No `reportd up` serves in {tmp_path}. Start it, or name the server with "),
    ):
        monkeypatch.setenv("REPORTD_TOKEN", secret)
        assert main(["demo", *given, "--seed", "6"]) == 1, given
        output = capsys.readouterr()
        last = output.err.splitlines()[-1]
        assert last.startswith(f"reportd: {sentence}"), output
        assert "Traceback" not in output.err and output.out == ""
    assert sent_runs(up_server, 6) == []


@pytest.mark.parametrize(
    "wrong", ["--days=0", "--days=91", "--seed=-1", "--seed=x", "--seed=³", "--until=soon", "--until=0001-01-01"]
)
def test_wrong_options_are_refused(wrong, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["demo", wrong])
    assert ended.value.code == 2
    assert "must be" in capsys.readouterr().err


@pytest.mark.parametrize("answer", [b"<html>", b"[]", b'{"roles": 1}'])
async def test_another_server_is_recognized(answer, monkeypatch, capsys):
    monkeypatch.setenv("REPORTD_TOKEN", "x")

    async def other(request):
        return aiohttp.web.Response(body=answer, content_type="text/html")

    app = aiohttp.web.Application()
    app.router.add_route("*", "/{path:.*}", other)
    runner = aiohttp.web.AppRunner(app)
    await runner.setup()
    try:
        await aiohttp.web.TCPSite(runner, "127.0.0.1", 0).start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        assert await asyncio.to_thread(main, ["demo", "--url", url]) == 1
        assert capsys.readouterr().err == f"reportd: {url} is not a reportd server.\n"
    finally:
        await runner.cleanup()


async def test_up_runs_the_demo_when_the_server_is_ready_and_ends_it_with_itself(tmp_path):
    ready, marker = asyncio.Event(), tmp_path / "cores"
    code = f"import os, pathlib, time; pathlib.Path({str(marker)!r}).write_text(str(os.getpid())); time.sleep(600)"
    task = asyncio.create_task(up._fill(ready, [sys.executable, "-c", code], os.sched_getaffinity(0)))
    await asyncio.sleep(0.1)
    assert not marker.exists()
    ready.set()
    async with asyncio.timeout(PATIENCE):
        while not marker.exists() or not marker.read_text():
            await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    with pytest.raises(ProcessLookupError):
        os.kill(int(marker.read_text()), 0)


def test_up_sends_the_demo_to_its_own_folder(tmp_path):
    command = options.command_line(tmp_path, None)
    assert command[1:] == ["-m", "server", "demo", "--restart", "--data", str(tmp_path)]
    assert options.command_line(tmp_path, tmp_path / "c.toml")[-2:] == ["--config", str(tmp_path / "c.toml")]
