"""The events that webhooks are sent: when a run finishes, which tests newly fail, and when the disk is low."""

import asyncio
import math

import asyncpg
import msgspec
import pytest

from server.reports import webhooks
from server.services import SERVICES
from server.storage.free_space import FreeSpace, Measured
from tests.database.test_queries import QUERIES
from tests.webhooks.conftest import hook, make_target, quick, serve, target

__all__ = ["hook", "make_target", "quick", "serve", "target"]  # fixtures
BASE = "/api/v1/reports/suite-runs"
# Statements of the worker and the sweeper, at any time.
WORKERS = ("webhooks.lead", "webhooks.due", "webhooks.counts", "webhooks.attempted", "webhooks.sweep")
WORKERS += ("webhooks.give_up_unknown", "webhooks.forget")
FAR = "https://hooks.example/x"
EVIL = "<!channel> `@here` <https://evil.example|look> \u202e\x1b[31m&"


@pytest.fixture
def sent(rows):
    """sent(event): the bodies of all events of this type, the oldest first."""

    def bodies(event):
        found = rows("SELECT body FROM webhook_deliveries WHERE event = %s ORDER BY id", event)
        return [msgspec.json.decode(row["body"]) for row in found]

    return bodies


@pytest.fixture
async def client(serve, hook):
    """A client of a server with a webhook that cannot be reached."""
    return await serve(hook(FAR, allow=[]))


@pytest.fixture
def run_of(client):
    """await run_of({test: status or statuses of its attempts}, status=…, **fields): the id of a run that has ended."""

    async def make(tests, status="Failed", end=True, run=None, **fields):
        if run is None:
            fields = {"name": "nightly", "branch": "main", **fields}
            run = (await (await client.post(BASE, json=fields)).json())["id"]
        for name, words in tests.items():
            for attempt, word in enumerate([words] if isinstance(words, str) else words, 1):
                case = {"name": name, "status": word, "attempt": attempt, "error_message": f"{name} broke\nat x"}
                assert (await client.post(f"{BASE}/{run}/test-cases", json=case)).status == 201
        if end:
            assert (await client.patch(f"{BASE}/{run}", json={"status": status})).status == 200
        return run

    return make


def names(body):
    return [test["name"] for test in body["data"]["tests"]]


# --- a run finishes --------------------------------------------------------------------------------------------


async def test_a_finished_run_is_described_with_its_tests(run_of, sent):
    run = await run_of(
        {"a": ["Failed", "Passed"], "b": "Failed", "c": "Skipped"}, commit_sha="8f14e45", build_url="https://ci/1"
    )
    (event,) = sent("run.finished")
    assert event["type"] == "run.finished" and event["timestamp"].endswith("Z")
    assert event["data"]["project"] == "default"
    shown = event["data"]["run"]
    assert (shown["id"], shown["name"], shown["status"], shown["branch"]) == (run, "nightly", "Failed", "main")
    assert (shown["commit_sha"], shown["build_url"]) == ("8f14e45", "https://ci/1")
    assert shown["url"] == f"https://reports.example/r/runs/{run}"
    assert shown["tests"] == {"total": 3, "passed": 0, "failed": 1, "flaky": 1, "skipped": 1, "pending": 0}


@pytest.mark.parametrize(
    ("words", "events"),
    [
        (["Passed"], 1),
        (["Failed"], 1),
        (["Skipped"], 1),
        (["Pending"], 0),
        (["Running"], 0),
        (["Passed", "Passed"], 1),  # two shards
        (["Passed", "Failed"], 2),  # the second shard has failed
        (["Failed", "Passed"], 1),
        (["Failed", "Failed"], 1),
        (["Passed", "Running", "Passed"], 2),
    ],
)
async def test_a_run_finishes_once_unless_a_later_shard_fails(client, sent, words, events):
    run = (await (await client.post(BASE, json={"name": "x"})).json())["id"]
    for word in words:
        await client.patch(f"{BASE}/{run}", json={"status": word})
    await client.patch(f"{BASE}/{run}", json={"name": "y", "finished_at": "2026-01-24T12:00:00Z"})
    assert len(sent("run.finished")) == events


async def test_the_last_shard_finishes_a_run(client, run_of, sent):
    run = await run_of({"a": "Failed"}, end=False)

    async def put(index, status):
        reply = await client.put(f"{BASE}/{run}/shards/{index}", json={"total": 3, "status": status})
        assert reply.status == 200

    await put(1, "Passed")
    await put(2, "Running")
    assert sent("run.finished") == sent("tests.newly_failing") == []
    await asyncio.gather(put(2, "Failed"), put(3, "Passed"))
    (event,) = sent("run.finished")
    assert (event["data"]["run"]["status"], event["data"]["run"]["tests"]["failed"]) == ("Failed", 1)
    assert len(sent("tests.newly_failing")) == 1
    await put(3, "Passed")
    await put(2, "Passed")
    assert len(sent("run.finished")) == 1  # only a failure is news
    assert (await client.patch(f"{BASE}/{run}", json={"status": "Running"})).status == 200
    assert (await client.patch(f"{BASE}/{run}", json={"status": "Skipped"})).status == 200
    await put(2, "Failed")
    assert [each["data"]["run"]["status"] for each in sent("run.finished")] == ["Failed", "Skipped"]


async def test_a_run_that_is_made_as_finished_sends_nothing(client, sent):
    """Its results come later, and most of such runs are imports of old ones."""
    await client.post(BASE, json={"name": "x", "status": "Passed"})
    assert sent("run.finished") == []


async def test_a_webhook_gets_the_events_of_its_project_alone(serve, hook, rows):
    hooks = [
        hook(FAR, name="shop", project="shop", allow=[]),
        hook(FAR, name="all", events=["run.finished"], allow=[]),
        hook(FAR, name="tests", events=["tests.newly_failing"], allow=[]),
        hook(FAR, name="disk", events=["disk.low"], allow=[]),
    ]
    client = await serve(*hooks)
    rows("INSERT INTO projects (name) VALUES ('shop')")
    for project in ("shop", "default"):
        run = (await (await client.post(BASE, json={"name": "x", "project": project})).json())["id"]
        await client.patch(f"{BASE}/{run}", json={"status": "Passed"})
    found = rows("SELECT webhook, body::json->'data'->>'project' AS project FROM webhook_deliveries ORDER BY id")
    assert [(row["webhook"], row["project"]) for row in found] == [
        ("shop", "shop"),
        ("all", "shop"),
        ("all", "default"),
    ]


async def test_a_patch_of_another_project_sends_nothing(client, make_token, sent, nobody):
    run = (await (await client.post(BASE, json={"name": "x"})).json())["id"]
    headers = {"Authorization": f"Bearer {make_token(project='theirs')}"}
    assert (await nobody.patch(f"{BASE}/{run}", json={"status": "Passed"}, headers=headers)).status == 404
    assert sent("run.finished") == []


# --- tests newly fail ------------------------------------------------------------------------------------------


async def test_tests_that_fail_and_did_not_before_are_sent_in_one_event(run_of, sent):
    await run_of({"a": "Passed", "b": "Failed", "c": "Skipped", "d": "Passed"})
    first = sent("tests.newly_failing")
    assert [names(event) for event in first] == [["b"]]  # it never passed
    run = await run_of({"a": "Failed", "b": "Failed", "c": "Failed", "d": ["Failed", "Passed"], "e": "Failed"})
    _, event = sent("tests.newly_failing")
    assert names(event) == ["a", "c", "e"] and event["data"]["newly_failing"] == 3
    one = event["data"]["tests"][0]
    assert (one["test_id"], one["browser"], one["error"]) == ("a", None, "a broke")
    assert one["url"] == f"https://reports.example/r/results/{one['test_case_result_id']}"
    assert event["data"]["run"]["id"] == run and event["data"]["run"]["tests"]["failed"] == 4
    await run_of({"a": "Failed", "b": "Failed"})
    assert len(sent("tests.newly_failing")) == 2


async def test_an_interrupted_run_makes_nothing_newly_failing(run_of, sent):
    await run_of({"a": "Failed", "b": "Passed"})
    await run_of({"b": "Passed"}, end=False)  # was killed
    await run_of({"a": "Pending", "b": "Skipped"})
    await run_of({"a": "Failed", "b": "Failed"})
    assert [names(event) for event in sent("tests.newly_failing")] == [["a"], ["b"]]


async def test_a_new_branch_is_compared_with_the_main_branch(run_of, sent):
    await run_of({"a": "Failed", "b": "Passed"})
    await run_of({"a": "Failed", "b": "Failed", "c": "Failed"}, branch="fix")
    await run_of({"a": "Passed", "b": "Failed", "c": "Failed"}, branch="fix")
    await run_of({"a": "Failed"}, branch="other")  # not compared with `fix`
    await run_of({"a": "Failed"}, branch="fix")
    assert [names(event) for event in sent("tests.newly_failing")] == [["a"], ["b", "c"], ["a"]]


async def test_runs_of_another_name_or_browser_do_not_count(run_of, sent):
    await run_of({"a": "Failed"})
    await run_of({"a": "Failed"}, name="weekly")
    assert len(sent("tests.newly_failing")) == 2


async def test_a_later_shard_adds_only_its_own_tests(run_of, sent):
    run = await run_of({"a": "Failed"})
    await run_of({"b": "Failed", "c": "Passed"}, run=run)
    await run_of({}, run=run)
    assert [names(event) for event in sent("tests.newly_failing")] == [["a"], ["b"]]


async def test_a_result_that_was_pending_when_the_first_shard_ended_is_sent_with_the_next(client, run_of, sent, rows):
    """Its id is older than what the first event looked at."""
    run = await run_of({"later": "Pending", "never": "Pending", "a": "Failed"})
    ids = {row["name"]: row["id"] for row in rows("SELECT id, name FROM test_case_results")}
    patch = {"status": "Failed", "error_message": "broke"}
    assert (await client.patch(f"/api/v1/reports/test-case-results/{ids['later']}", json=patch)).status == 200
    await run_of({"b": "Failed"}, run=run)
    await run_of({}, run=run)
    assert [names(event) for event in sent("tests.newly_failing")] == [["a"], ["later", "b"]]


async def test_a_broken_build_is_one_event_of_bounded_size(client, run_of, sent, rows):
    run = await run_of({}, end=False)
    long = [{"name": f"{n} " + "ä" * 480, "status": "Failed", "error_message": "ö" * 5000} for n in range(300)]
    await client.post(f"{BASE}/{run}/test-cases/bulk", json={"test_cases": long})
    await client.patch(f"{BASE}/{run}", json={"status": "Failed"})
    (event,) = sent("tests.newly_failing")
    assert (len(event["data"]["tests"]), event["data"]["newly_failing"]) == (20, 100)
    assert event["data"]["run"]["tests"]["failed"] == 300
    assert max(row["size"] for row in rows("SELECT length(body) AS size FROM webhook_deliveries")) < 30_000


# --- chats -----------------------------------------------------------------------------------------------------


async def test_a_chat_gets_one_readable_text(serve, hook, sent):
    client = await serve(hook(FAR, format="chat", secret="", allow=[]))
    run = (await (await client.post(BASE, json={"name": "nightly", "branch": "main", "commit_sha": "8f14e45"})).json())[
        "id"
    ]
    for n in range(22):
        case = {"name": f"test {n}", "status": "Failed", "error_message": "no button\nat x"}
        await client.post(f"{BASE}/{run}/test-cases", json=case)
    await client.patch(f"{BASE}/{run}", json={"status": "Failed"})
    title, link = "`default`, `nightly` on `main` (`8f14e45`)", f"https://reports.example/r/runs/{run}"
    assert sent("run.finished") == [{"text": f"✕ Failed: {title}\n22 tests, 22 failed\n{link}"}]
    (event,) = sent("tests.newly_failing")
    first, *tests, more, last = event["text"].split("\n")
    assert (first, more, last) == (f"✕ 22 tests newly failing: {title}", "… and 2 more", link)
    assert tests[0] == "• `test 0`: `no button`" and len(tests) == 20


async def test_an_error_mentions_nobody_in_a_chat(serve, hook, sent):
    """Mattermost and Rocket.Chat read `@all` in plain text, and make links of `[text](address)`."""
    client = await serve(hook(FAR, format="chat", secret="", allow=[]))
    run = (await (await client.post(BASE, json={"name": "x"})).json())["id"]
    case = {"name": "t", "status": "Failed", "error_message": "@all [look](https://evil.example)"}
    await client.post(f"{BASE}/{run}/test-cases", json=case)
    await client.patch(f"{BASE}/{run}", json={"status": "Failed"})
    (event,) = sent("tests.newly_failing")
    assert "• `t`: `@all [look](https://evil.example)`" in event["text"].split("\n")


async def test_hostile_names_mention_nobody_in_a_chat(serve, hook, sent):
    client = await serve(hook(FAR, format="chat", secret="", allow=[]))
    run = (await (await client.post(BASE, json={"name": EVIL, "branch": EVIL})).json())["id"]
    case = {"name": EVIL, "status": "Failed", "error_message": EVIL}
    await client.post(f"{BASE}/{run}/test-cases", json=case)
    await client.patch(f"{BASE}/{run}", json={"status": "Failed"})
    for event in ("run.finished", "tests.newly_failing"):
        (body,) = sent(event)
        text = body["text"]
        assert not set("<>\u202e\x1b") & set(text) and text.count("`") % 2 == 0
        shown = "&lt;!channel&gt; '@here' &lt;https://evil.example|look&gt; [31m&amp;"
        assert f"`{shown}`" in text


# --- the disk --------------------------------------------------------------------------------------------------


async def test_a_disk_that_gets_low_is_sent_once_until_it_has_recovered(client, sent, rows, monkeypatch):
    services = client.app[SERVICES]

    async def check(days, times=1):
        async def measure(_):
            if days in (None, "?", math.inf):
                return None if days is None else Measured(5 << 30, 100 << 30, None if days == "?" else 0.0)
            return Measured(int(days * (1 << 30)), 100 << 30, float(1 << 30))

        monkeypatch.setattr(FreeSpace, "measure", measure)
        for _ in range(times):
            await webhooks.check_disk(services.pool, services.config, services.free_space)
        return len(sent("disk.low"))

    assert [await check(days) for days in (20, 14, None, "?", math.inf)] == [0] * 5
    assert await check(13.9, 3) == 1
    assert [await check(15), await check(13), await check("?"), await check(None), await check(13)] == [1] * 5
    assert [await check(17.5), await check(0.0)] == [1, 2]
    first, second = sent("disk.low")
    values = {"days": 13.9, "low_days": 14.0, "free_bytes": int(13.9 * (1 << 30)), "size_bytes": 100 << 30}
    assert first["data"] == values and second["data"]["days"] == 0.0
    assert rows("SELECT DISTINCT webhook, project_id FROM webhook_deliveries") == [
        {"webhook": "hooks.example", "project_id": None}
    ]


# --- costs -----------------------------------------------------------------------------------------------------


async def test_without_webhooks_nothing_costs_a_statement_more(serve, hook, monkeypatch):
    names, asked = {text: name for name, text in QUERIES.items()}, []
    for name in ("fetch", "fetchrow", "fetchval", "execute"):
        whole = getattr(asyncpg.Connection, name)

        async def counted(self, query, *args, whole=whole, **options):
            asked.append(names.get(query, ""))
            return await whole(self, query, *args, **options)

        monkeypatch.setattr(asyncpg.Connection, name, counted)

    async def statements(*hooks):
        """Of an upload of a failed result, of a PATCH that finishes a run, and of one that changes its name."""
        client, found = await serve(*hooks), []
        run = (await (await client.post(BASE, json={"name": "x"})).json())["id"]
        for method, path, body in [
            ("POST", f"{BASE}/{run}/test-cases", {"name": "a", "status": "Failed"}),
            ("PATCH", f"{BASE}/{run}", {"status": "Failed"}),
            ("PATCH", f"{BASE}/{run}", {"name": "y"}),
        ]:
            asked.clear()
            assert (await client.request(method, path, json=body)).status < 300
            found.append([each for each in asked if each.startswith(("suite_runs", "test_cases", "webhooks"))])
        return [[each for each in some if each not in WORKERS] for some in found]

    upload = ["suite_runs.project_of", "test_cases.insert_many"]
    patch = ["suite_runs.update", "suite_runs.by_id", "suite_runs.counts"]
    assert await statements() == [upload, patch, patch]
    assert await statements(hook(FAR, events=["disk.low"], allow=[])) == [upload, patch, patch]
    more = ["test_cases.test_counts", "suite_runs.project_of", "webhooks.add", "webhooks.looked_at"]
    more += ["webhooks.newly_failing", "webhooks.add"]
    assert await statements(hook(FAR, allow=[])) == [upload, ["webhooks.status_before", *patch, *more], patch]
