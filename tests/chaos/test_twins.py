"""The same request sent several times at the same moment."""

from collections import Counter
from functools import partial

import pytest

from tests.chaos.clients import BASE, Batch, Ledger, call_at_once, files, make_cases, stored
from tests.up_server import serving, staged


@pytest.fixture
def server(tmp_path, dsn, make_token):
    with serving(tmp_path / "data", dsn, make_token(), "--workers", "2") as server:
        yield server


@pytest.mark.parametrize("keyed", [False, True], ids=["without_key", "with_key"])
def test_the_same_batch_sent_five_times_at_once_is_saved_once(server, dsn, effort, tally, keyed):
    storage, ledger = server.data / "artifacts", Ledger(tally)
    cases = make_cases(server)
    for number in range(effort.times(6, 200)):
        item = Batch(str(number), cases[number % len(cases)], files=5, key=f"key-{number}" if keyed else "")
        replies = call_at_once(*[partial(item.send, server)] * 5)
        tally.add("batches sent", 5)
        statuses = Counter(reply.status for reply in replies)
        # With a key, a request that waits too long for the first one gets 409 and Retry-After. Without a key, all wait
        # for the lock on the test case.
        assert set(statuses) <= ({201, 409} if keyed else {201}) and statuses[201], [reply.body for reply in replies]
        assert all(reply.headers["Retry-After"] for reply in replies if reply.status == 409)
        ids = {tuple(saved["id"] for saved in reply.json()["artifacts"]) for reply in replies if reply.status == 201}
        assert len(ids) == 1, ids
        fresh = [reply for reply in replies if reply.status == 201 and "Idempotent-Replayed" not in reply.headers]
        new = Counter(saved["duplicate"] for reply in fresh for saved in reply.json()["artifacts"])
        assert new[False] == 5 and (not keyed or len(fresh) == 1)
        tally.add("replayed", statuses[201] - len(fresh))
        tally.add("duplicates", new[True])
        tally.add("409", statuses[409])
        assert ledger.send(server, item)
    ledger.compare(storage, dsn)
    ledger.download(server)
    assert sorted(row[3] for row in stored(dsn)) == files(storage) and staged(storage) == []


def test_two_shards_create_the_same_run_and_the_same_steps(server, rows, effort, tally):
    step = b'{"step_number": %d, "step_type": "click", "action": "Click", "status": "Passed"}'
    for number in range(effort.times(40, 200)):
        create = partial(server.ask, "POST", f"{BASE}/suite-runs", b'{"name": "x", "run_key": "build-%d"}' % number)
        runs = call_at_once(create, create)
        assert sorted(reply.status for reply in runs) == [200, 201], [reply.body for reply in runs]
        assert runs[0].json()["id"] == runs[1].json()["id"]
        url = f"{BASE}/suite-runs/{runs[0].json()['id']}/test-cases"
        case = server.ask_json("POST", url, {"name": "login works"}, status=201)["id"]
        dialect = effort.random.choice(["steps", "steps/bulk"])
        body = b'{"steps": [%s]}' % b",".join(step % n for n in range(effort.random.randint(1, 50)))
        send = partial(server.ask, "POST", f"{BASE}/test-case-results/{case}/{dialect}", body)
        sent = call_at_once(send, send)
        assert sorted(reply.status for reply in sent) == [201, 409], [reply.body for reply in sent]
        (refused,) = (reply for reply in sent if reply.status == 409)
        assert refused.json()["code"] == "steps_exist"
        tally.add("pairs of runs")
        tally.add("pairs of step lists")
        tally.add("steps", body.count(b"step_number"))
    assert rows("SELECT count(*), count(DISTINCT run_key) AS keys FROM suite_runs") == [
        {"count": number + 1, "keys": number + 1}
    ]
    assert rows("SELECT count(*) FROM test_step_results") == [{"count": tally.values["steps"]}]
