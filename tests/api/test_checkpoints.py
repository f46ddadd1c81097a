"""Checkpoints: appended in bulk, read back in the order sent."""

import asyncio
import uuid

from tests.api.test_steps import send_png

SENT = {
    "checkpoint_number": 7,
    "name": "the title is right – äöü 🙂",
    "checkpoint_type": "text",
    "status": "Failed",
    "expected_value": "a",
    "actual_value": "b",
    "message": "they differ",
    "step_number": 0,
    "iteration_number": 2,
    "captured_at": "2026-01-24T12:00:00.123Z",
}


def a_checkpoint(number=1, **fields):
    return {"checkpoint_number": number, "name": "c", **fields}


async def append(client, case, *checkpoints):
    return await client.post(f"{case}/checkpoints", json={"checkpoints": list(checkpoints)})


async def get(client, case, **query):
    reply = await client.get(f"{case}/checkpoints", params=query)
    assert reply.status == 200, await reply.text()
    return await reply.json()


async def listed(client, case, **query):
    """(iteration, number) of each checkpoint in the list."""
    items = (await get(client, case, **query))["items"]
    return [(item["iteration_number"], item["checkpoint_number"]) for item in items]


async def test_every_field_is_stored_and_listed(client, case_url):
    case = await case_url()
    screenshot = await send_png(client, case)
    sent = {**SENT, "screenshot_artifact_id": screenshot}
    reply = await append(client, case, {**sent, "captured_at": "2026-01-24T13:00:00.1239+01:00", "id": "x", "seq": 9})
    assert (reply.status, await reply.json()) == (201, {"created": 1})
    (item,) = (await get(client, case))["items"]
    assert {key: item[key] for key in sent} == sent
    assert item["test_case_result_id"] in case and uuid.UUID(item["id"]).version == 7


async def test_only_number_and_name_are_required(client, case_url):
    case = await case_url()
    nothing = dict.fromkeys(SENT.keys() - {"checkpoint_number", "name"})
    await append(client, case, a_checkpoint(1), a_checkpoint(2, **nothing, screenshot_artifact_id=None))
    for item in (await get(client, case))["items"]:
        assert (item["status"], item["iteration_number"]) == ("Pending", 1)
        assert {item[key] for key in nothing if key not in ("status", "iteration_number")} == {None}
        assert item["screenshot_artifact_id"] is None


async def test_checkpoints_are_listed_in_the_order_sent(client, case_url):
    case, other = await case_url(), await case_url()
    await append(client, case, a_checkpoint(3), a_checkpoint(1), a_checkpoint(2, iteration_number=5))
    await append(client, other, a_checkpoint(1000))
    await append(client, case, a_checkpoint(0))
    assert await listed(client, case) == [(1, 3), (1, 1), (5, 2), (1, 0)]
    many = [a_checkpoint(number) for number in range(500, 0, -1)]
    await append(client, other, *many)
    assert await listed(client, other, per_page=500) == [(1, 1000)] + [(1, number) for number in range(500, 1, -1)]


async def test_checkpoints_are_paged_and_filtered(client, case_url):
    case = await case_url()
    await append(client, case, *[a_checkpoint(n, iteration_number=1 + n % 2, step_number=n // 2) for n in range(6)])
    whole = await get(client, case)
    assert (whole["total"], whole["page"], whole["per_page"], len(whole["items"])) == (6, 1, 100, 6)
    page = await get(client, case, page=2, per_page=4)
    assert (page["total"], page["page"], page["per_page"]) == (6, 2, 4)
    assert [item["checkpoint_number"] for item in page["items"]] == [4, 5]
    assert (await get(client, case, per_page=501))["per_page"] == 500
    assert (await get(client, case, page=3, per_page=4))["items"] == []
    for query, expected in [
        ({"step_number": 0}, [(1, 0), (2, 1)]),
        ({"iteration_number": 2}, [(2, 1), (2, 3), (2, 5)]),
        ({"iteration_number": 2, "step_number": 1}, [(2, 3)]),
        ({"step_number": 9}, []),
    ]:
        assert await listed(client, case, **query) == expected, query
        assert (await get(client, case, **query))["total"] == len(expected)


async def test_a_number_that_is_taken_is_a_409_and_nothing_is_written(client, case_url):
    case, other = await case_url(), await case_url()
    await append(client, case, a_checkpoint(1))
    reply = await append(client, case, a_checkpoint(2), a_checkpoint(1), a_checkpoint(3))
    assert (reply.status, (await reply.json())["code"]) == (409, "checkpoints_exist")
    assert await listed(client, case) == [(1, 1)]
    assert (await append(client, case, a_checkpoint(1, iteration_number=2))).status == 201
    assert (await append(client, other, a_checkpoint(1))).status == 201


async def test_concurrent_requests_with_the_same_number_write_it_once(client, case_url):
    case = await case_url()
    replies = await asyncio.gather(*(append(client, case, a_checkpoint(1), a_checkpoint(2)) for _ in range(8)))
    assert sorted(reply.status for reply in replies) == [201] + [409] * 7
    assert await listed(client, case) == [(1, 1), (1, 2)]


async def test_a_screenshot_must_be_of_the_same_test_case(client, case_url):
    case, other = await case_url(), await case_url()
    own, foreign = await send_png(client, case), await send_png(client, other)
    for wrong in (foreign, str(uuid.uuid4())):
        first, second = a_checkpoint(1, screenshot_artifact_id=own), a_checkpoint(2, screenshot_artifact_id=wrong)
        reply = await append(client, case, first, second)
        problem = (await reply.json())["errors"][0]
        assert (reply.status, problem["path"]) == (422, "checkpoints[1].screenshot_artifact_id")
    assert await listed(client, case) == []


async def test_deleting_a_screenshot_clears_the_reference(client, case_url):
    case = await case_url()
    screenshot = await send_png(client, case)
    await append(client, case, a_checkpoint(1, screenshot_artifact_id=screenshot))
    assert (await client.delete(f"/api/v1/reports/artifacts/{screenshot}")).status == 204
    (item,) = (await get(client, case))["items"]
    assert item["screenshot_artifact_id"] is None


async def test_an_empty_list_of_checkpoints_is_accepted(client, case_url):
    reply = await append(client, await case_url())
    assert (reply.status, await reply.json()) == (201, {"created": 0})


BAD_CHECKPOINTS = [
    ({"checkpoint_number": None}, "checkpoint_number", "must be an integer, not null"),
    ({"checkpoint_number": -1}, "checkpoint_number", "must be at least 0"),
    ({"checkpoint_number": 2**31}, "checkpoint_number", "must be at most 2147483647"),
    ({"checkpoint_number": "1"}, "checkpoint_number", "must be an integer, not a string"),
    ({"name": None}, "name", "must be a string, not null"),
    ({"name": ""}, "name", "must not be empty"),
    ({"checkpoint_type": "\0"}, "checkpoint_type", "must not contain NUL characters or lone surrogates"),
    ({"checkpoint_type": "x" * 51}, "checkpoint_type", "must be at most 50 characters long"),
    ({"status": "Running"}, "status", "must be one of: Passed, Failed, Skipped, Pending"),
    ({"expected_value": [5]}, "expected_value", "must be a string or null, not an array"),
    ({"step_number": -1}, "step_number", "must be at least 0"),
    ({"iteration_number": 0}, "iteration_number", "must be at least 1"),
    ({"screenshot_artifact_id": "nonsense"}, "screenshot_artifact_id", "must be a UUID"),
    ({"captured_at": "soon"}, "captured_at", "must be an ISO 8601 time"),
]


async def test_errors_name_the_wrong_values(client, case_url, rows):
    case = await case_url()
    for wrong, path, message in BAD_CHECKPOINTS:
        reply = await append(client, case, a_checkpoint(1), a_checkpoint(2, **wrong))
        problem = (await reply.json())["errors"][0]
        assert (reply.status, problem["path"]) == (422, f"checkpoints[1].{path}"), wrong
        assert problem["message"].startswith(message), problem
    for body, path in [
        ({}, "checkpoints"),
        ([], ""),
        ({"checkpoints": {}}, "checkpoints"),
        ({"checkpoints": [{"name": "x"}]}, "checkpoints[0].checkpoint_number"),
        ({"checkpoints": [{"checkpoint_number": 1}]}, "checkpoints[0].name"),
        ({"checkpoints": [a_checkpoint(1), a_checkpoint(1)]}, "checkpoints[1].checkpoint_number"),
        ({"checkpoints": [a_checkpoint(1), a_checkpoint(1, iteration_number=1)]}, "checkpoints[1].checkpoint_number"),
        ({"checkpoints": [a_checkpoint(number) for number in range(10_001)]}, "checkpoints"),
    ]:
        reply = await client.post(f"{case}/checkpoints", json=body)
        assert (reply.status, (await reply.json())["errors"][0]["path"]) == (422, path), str(body)[:80]
    assert (await client.post(f"{case}/checkpoints", data=b"{")).status == 400
    assert rows("SELECT FROM test_checkpoints") == []


async def test_errors_name_the_wrong_filters(client, case_url):
    case = await case_url()
    for query, path in [
        ({"page": "0"}, "page"),
        ({"per_page": "x"}, "per_page"),
        ({"step_number": "-1"}, "step_number"),
        ({"iteration_number": "0"}, "iteration_number"),
        ({"iteration_number": str(2**31)}, "iteration_number"),
    ]:
        reply = await client.get(f"{case}/checkpoints", params=query)
        assert (reply.status, (await reply.json())["errors"][0]["path"]) == (422, path), query


async def test_an_unknown_test_case_is_a_404_before_the_body_is_checked(client, case_url, start, make_token):
    case = await case_url()
    theirs = await start(token=make_token(project="theirs"))
    base = "/api/v1/reports/test-case-results"
    for caller, url in [
        (client, f"{base}/{uuid.uuid4()}"),
        (client, f"{base}/nonsense"),
        (client, f"{base}/%00"),
        (theirs, case),
    ]:
        for method, data in [("GET", None), ("POST", b"{"), ("POST", b'{"checkpoints": []}')]:
            reply = await caller.request(method, f"{url}/checkpoints", data=data)
            assert (reply.status, (await reply.json())["detail"]) == (404, "Test case result not found")
