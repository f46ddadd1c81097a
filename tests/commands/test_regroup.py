"""`reportd regroup`: the errors of stored failures by the rules of this version."""

import pytest

from server.compare import failures
from server.reports import grouping


@pytest.fixture
async def results(client, make_run):
    """The ids of 12 results in two runs, every third of which failed; there are two errors."""
    ids = []
    for _ in range(2):
        run = await make_run()
        new = [
            {"name": "pays", "status": "Passed" if i % 3 else "Failed", "error_message": ["no", "yes"][i % 2]}
            for i in range(6)
        ]
        reply = await client.post(f"/api/v1/reports/suite-runs/{run}/test-cases/bulk", json={"test_cases": new})
        ids += [case["id"] for case in (await reply.json())["test_cases"]]
    return ids


@pytest.fixture
def fingerprints(rows):
    return lambda: [row["error_fingerprint"] for row in rows("SELECT * FROM test_case_results ORDER BY id")]


async def test_rows_of_older_servers_get_their_error(results, rows, fingerprints, command, monkeypatch):
    right = fingerprints()
    assert len(set(right)) == 3 and [bool(each) for each in right] == [True, False, False] * 4
    rows("UPDATE test_case_results SET error_fingerprint = NULL")
    rows("DELETE FROM errors")
    monkeypatch.setattr(grouping, "_SWEPT", 5)
    code, output, progress = command("regroup")
    assert (code, output) == (0, "4 failed results, 4 of them changed\n")
    assert progress.splitlines() == [f"reportd: done up to {results[i]}" for i in (4, 9, 11)]
    assert fingerprints() == right and len(rows("SELECT FROM errors")) == 2
    assert command("regroup")[1] == "4 failed results, 0 of them changed\n"


async def test_it_goes_on_where_it_was_interrupted(results, rows, fingerprints, command):
    right = fingerprints()
    rows("UPDATE test_case_results SET error_fingerprint = NULL")
    assert command("regroup", "--after", results[5])[:2] == (0, "2 failed results, 2 of them changed\n")
    assert fingerprints() == [None] * 6 + right[6:]
    with pytest.raises(SystemExit):
        command("regroup", "--after", "the last")


async def test_new_rules_give_other_errors_and_the_former_ones_can_be_read(results, rows, command, monkeypatch):
    before = {row["fingerprint"] for row in rows("SELECT fingerprint FROM errors")}
    monkeypatch.setattr(failures, "RULES", failures.RULES + 1)
    failures._group.cache_clear()
    assert command("regroup")[1] == "4 failed results, 4 of them changed\n"
    failures._group.cache_clear()
    after = {row["fingerprint"] for row in rows("SELECT fingerprint FROM errors")}
    assert before < after and len(after) == 4
