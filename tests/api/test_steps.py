"""Steps, in the object form and the array form, and the screenshot that each step shows."""

import asyncio
import uuid

import pytest
from aiohttp import FormData

from server.database.queries import SQL
from server.services import SERVICES
from tests.forms import post, single
from tests.makers import png


def a_step(number=1, **fields):
    return {"step_number": number, "step_type": "click", **fields}


async def send_png(client, case, seed=0, name="shot.png", **fields):
    form = FormData()
    form.add_field("file", png(8, 8, seed), filename=name, content_type="image/png")
    for key, value in {"artifact_type": "screenshot", **fields}.items():
        form.add_field(key, str(value))
    reply = await client.post(f"{case}/artifacts", data=form)
    assert reply.status == 201, await reply.text()
    return (await reply.json())["id"]


async def shown(client, case, **query):
    """The screenshot id of each step, by (iteration, step number)."""
    steps = (await (await client.get(f"{case}/steps", params=query)).json())["steps"]
    return {(s["iteration_number"], s["step_number"]): s["screenshot_artifact_id"] for s in steps}


async def test_the_reply_to_create_is_that_of_the_specification(client, case_url, rows):
    case = await case_url()
    reply = await client.post(f"{case}/steps", json={"steps": [a_step(2), a_step(1), a_step(3)]})
    body = await reply.json()
    assert reply.status == 201
    assert body["message"] == "Successfully created 3 step results"
    assert body["test_case_result_id"] in case
    saved = {str(row["id"]): row["step_number"] for row in rows("SELECT id, step_number FROM test_step_results")}
    assert [saved[step_id] for step_id in body["step_ids"]] == [2, 1, 3]
    assert body["step_ids"] == sorted(body["step_ids"])


async def test_every_field_is_stored_and_listed(client, case_url):
    case = await case_url()
    step = {
        "step_number": 7,
        "step_type": "type",
        "iteration_number": 2,
        "parent_step_number": 6,
        "action": "Enter name",
        "description": "Typing – “äöü” 🙂",
        "status": "Failed",
        "duration_ms": 2**31 - 1,
        "element_selector": "#a > b",
        "element_name": "Name",
        "element_type": "input",
        "input_value": "x",
        "expected_value": "y",
        "actual_value": "z",
        "error_message": "no",
        "error_type": "E",
        "stack_trace": "a\nb",
        "screenshot_path": "shots\\a.png",
        "started_at": "2026-01-24T14:00:00.1239+02:00",
        "completed_at": "2026-01-24T12:00:01",
    }
    ignored = {"id": "x", "created_at": 5, "screenshot_artifact_id": str(uuid.uuid4()), "unknown": {}}
    assert (await client.post(f"{case}/steps", json={"steps": [{**step, **ignored}]})).status == 201
    (got,) = (await (await client.get(f"{case}/steps")).json())["steps"]
    times = {"started_at": "2026-01-24T12:00:00.123Z", "completed_at": "2026-01-24T12:00:01.000Z"}
    assert {key: got[key] for key in step} == {**step, **times}
    assert got["screenshot"] is None and got["artifacts"] == [] and got["screenshot_artifact_id"] is None


async def test_a_second_post_of_an_iteration_is_refused_with_the_text_of_the_specification(client, case_url, rows):
    case = await case_url()
    await client.post(f"{case}/steps", json={"steps": [a_step(1)]})
    reply = await client.post(f"{case}/steps", json={"steps": [a_step(5)]})
    assert reply.status == 409
    assert (await reply.json())["detail"] == "Steps already exist for this test case. Use PUT to update."
    other = await client.post(f"{case}/steps", json={"steps": [a_step(5, iteration_number=2)]})
    assert other.status == 201
    assert len(rows("SELECT FROM test_step_results")) == 2


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("übersicht.png", "u\u0308bersicht.png"),  # macOS sends form D
        ("shots/u\u0308bersicht.png", "übersicht.png"),
        ("shots/login%20failed.png", "login failed.png"),
        ("shots\\login failed.png", "login%20failed.png"),
        ("100%25.png", "100%25.png"),
        ("100%.png", "100%.png"),
    ],
)
@pytest.mark.parametrize("call", ["post steps", "post steps/bulk", "put steps"])
async def test_a_step_finds_its_screenshot_under_a_name_that_is_written_in_another_way(
    client, case_url, call, path, name
):
    method, _, url = call.partition(" ")
    for file_first in (True, False):
        case, shot = await case_url(), None
        body = single(png(8, 8), name, artifact_type="screenshot")
        if file_first:
            _, shot = await post(client, f"{case}/artifacts", body, **{"User-Agent": "curl/8.5.0"})
        steps = [a_step(7, screenshot_path="other.png"), a_step(8, screenshot_path=path)]
        assert (await client.request(method, f"{case}/{url}", json={"steps": steps})).ok
        if not file_first:
            _, shot = await post(client, f"{case}/artifacts", body, **{"User-Agent": "curl/8.5.0"})
        assert shot["file_name"] == name
        assert await shown(client, case) == {(1, 7): None, (1, 8): shot["id"]}
        (_, step) = (await (await client.get(f"{case}/steps")).json())["steps"]
        assert step["screenshot_path"] == path and "link_name" not in step


async def test_bulk_adds_steps_to_an_iteration_and_returns_them(client, case_url):
    case = await case_url()
    steps = [
        {"step_number": 1, "action": "navigate", "screenshot_path": "step_001.png"},
        {"step_number": 2, "action": "fill", "status": "Passed"},
    ]
    reply = await client.post(f"{case}/steps/bulk", json={"steps": steps})
    body = await reply.json()
    assert (reply.status, body["created"]) == (201, 2)
    assert [step["step_type"] for step in body["steps"]] == ["navigate", "other"]
    assert body["steps"][0]["screenshot_path"] == "step_001.png" and body["steps"][0]["status"] == "Pending"
    assert "screenshot" not in body["steps"][0]
    assert (await client.post(f"{case}/steps/bulk", json={"steps": [{"step_number": 3}]})).status == 201
    again = await client.post(f"{case}/steps/bulk", json={"steps": [{"step_number": 4}, {"step_number": 3}]})
    assert again.status == 409
    assert (await (await client.get(f"{case}/steps")).json())["total_steps"] == 3


async def test_an_empty_list_of_steps_is_accepted(client, case_url):
    case = await case_url()
    reply = await client.post(f"{case}/steps", json={"steps": []})
    assert reply.status == 201 and (await reply.json())["step_ids"] == []
    reply = await client.post(f"{case}/steps/bulk", json={"steps": []})
    assert (await reply.json()) == {"created": 0, "steps": []}


async def test_put_replaces_by_number_and_keeps_ids(client, case_url):
    case = await case_url()
    first = await client.post(f"{case}/steps", json={"steps": [a_step(1, action="old"), a_step(2), a_step(9)]})
    old_ids = (await first.json())["step_ids"]
    reply = await client.put(f"{case}/steps", json={"steps": [a_step(3), a_step(1, status="Passed")]})
    body = await reply.json()
    assert (body["created"], body["updated"], body["removed"]) == (1, 1, 0)
    assert body["step_ids"][1] == old_ids[0]
    steps = {s["step_number"]: s for s in (await (await client.get(f"{case}/steps")).json())["steps"]}
    assert steps[1]["action"] is None and steps[1]["status"] == "Passed"
    assert sorted(steps) == [1, 2, 3, 9]
    pruned = await client.put(f"{case}/steps", params={"prune": "TRUE"}, json={"steps": [a_step(3)]})
    assert (await pruned.json())["removed"] == 3
    assert sorted(await shown(client, case)) == [(1, 3)]


async def test_prune_removes_steps_only_from_the_iterations_sent(client, case_url):
    case = await case_url()
    steps = [a_step(1), a_step(1, iteration_number=2), a_step(2, iteration_number=2)]
    await client.post(f"{case}/steps", json={"steps": steps})
    await client.put(f"{case}/steps?prune=1", json={"steps": [a_step(2, iteration_number=2)]})
    assert sorted(await shown(client, case)) == [(1, 1), (2, 2)]
    assert (await (await client.put(f"{case}/steps?prune=1", json={"steps": []})).json())["removed"] == 0


async def test_counts_depend_on_the_iteration_filter_but_not_on_the_status_filter(client, case_url):
    case = await case_url()
    words = ["Passed", "Passed", "Failed", "Skipped", "Pending"]
    steps = [a_step(i, status=word) for i, word in enumerate(words)] + [a_step(0, iteration_number=2)]
    await client.post(f"{case}/steps", json={"steps": steps})
    body = await (await client.get(f"{case}/steps", params={"status": "Failed", "iteration_number": 1})).json()
    counts = [body[f"{word}_steps"] for word in ("total", "passed", "failed", "skipped", "pending")]
    assert counts == [5, 2, 1, 1, 1]
    assert [step["step_number"] for step in body["steps"]] == [2]
    assert (await (await client.get(f"{case}/steps")).json())["total_steps"] == 6


async def test_lists_can_have_the_array_form(client, case_url, start, make_token):
    case = await case_url()
    steps = [a_step(i, status="Passed" if i % 2 else "Failed") for i in range(7)]
    await client.post(f"{case}/steps", json={"steps": steps})
    reply = await client.get(f"{case}/steps?shape=array&status=Failed&include_artifacts=false")
    assert reply.headers["X-Total-Count"] == "4"
    items = await reply.json()
    assert [item["step_number"] for item in items] == [0, 2, 4, 6] and "artifacts" not in items[0]
    page = await (await client.get(f"{case}/steps?shape=array&per_page=3&page=2")).json()
    assert [item["step_number"] for item in page] == [3, 4, 5]
    by_token = await start(token=make_token(shape="array"))
    assert isinstance(await (await by_token.get(f"{case}/steps")).json(), list)
    assert isinstance(await (await by_token.get(f"{case}/steps?shape=object")).json(), dict)
    by_config = await start(api={"collection_shape": "array"})
    assert isinstance(await (await by_config.get(f"{case}/steps")).json(), list)


async def test_a_screenshot_is_linked_to_its_step_in_either_order_of_upload(client, case_url):
    before, after = await case_url(), await case_url()
    step = a_step(3, screenshot_path="x/step_003.png")
    await client.post(f"{before}/steps/bulk", json={"steps": [step]})
    first = await send_png(client, before, name="step_003.png")
    second = await send_png(client, after, name="step_003.png")
    await client.post(f"{after}/steps/bulk", json={"steps": [step]})
    assert await shown(client, before) == {(1, 3): first}
    assert await shown(client, after) == {(1, 3): second}
    (linked,) = (await (await client.get(f"{after}/steps")).json())["steps"]
    assert linked["screenshot"]["url"] == linked["screenshot"]["download_url"]
    assert [item["id"] for item in linked["artifacts"]] == [second]
    artifact = await (await client.get(f"/api/v1/reports/artifacts/{second}")).json()
    assert artifact["step_result_id"] == linked["id"]


async def test_a_step_shows_its_screenshot_of_the_highest_rank(client, case_url):
    case = await case_url()
    await client.post(f"{case}/steps/bulk", json={"steps": [{"step_number": 1, "screenshot_path": "named.png"}]})
    ranks = ["checkpoint", "before", None, "after", "error"]
    best = []
    for seed, category in enumerate(ranks):
        fields = {"artifact_category": category} if category else {}
        best.append(await send_png(client, case, seed, f"{seed}.png", step_number=1, **fields))
    # checkpoint and before have the same rank: the one uploaded first stays.
    expected = [best[0], best[0], *best[2:]]
    by_name = await send_png(client, case, 9, "named.png", step_number=5, artifact_category="before")
    assert await shown(client, case) == {(1, 1): by_name}
    for gone, left in [(by_name, best[4]), (best[4], expected[3]), (best[3], expected[2]), (best[2], expected[1])]:
        assert (await client.delete(f"/api/v1/reports/artifacts/{gone}")).status == 204
        assert await shown(client, case) == {(1, 1): left}


async def test_only_screenshots_of_the_same_iteration_are_shown(client, case_url):
    case = await case_url()
    await client.post(f"{case}/steps", json={"steps": [a_step(1), a_step(1, iteration_number=2)]})
    await send_png(client, case, 1, "log.png", step_number=1, artifact_type="other")
    second = await send_png(client, case, 2, step_number=1, iteration_number=2)
    assert await shown(client, case) == {(1, 1): None, (2, 1): second}
    first, _ = (await (await client.get(f"{case}/steps")).json())["steps"]
    assert [item["artifact_type"] for item in first["artifacts"]] == ["other"]


async def test_a_pinned_screenshot_stays_until_its_artifact_is_deleted(client, case_url):
    case = await case_url()
    created = await client.post(f"{case}/steps", json={"steps": [a_step(1)]})
    (step,) = (await created.json())["step_ids"]
    plain = await send_png(client, case, 1, "a.png", step_number=1)
    chosen = await send_png(client, case, 2, "b.png", step_number=8)
    reply = await client.patch(f"/api/v1/reports/steps/{step}", json={"screenshot_artifact_id": chosen})
    assert await reply.json() == {
        "id": step,
        "step_number": 1,
        "screenshot_artifact_id": chosen,
        "message": "Step updated successfully",
    }
    await send_png(client, case, 3, "c.png", step_number=1, artifact_category="error")
    await client.put(f"{case}/steps", json={"steps": [a_step(1, action="again")]})
    assert await shown(client, case) == {(1, 1): chosen}
    (linked,) = (await (await client.get(f"{case}/steps")).json())["steps"]
    assert linked["screenshot"]["id"] == chosen
    await client.delete(f"/api/v1/reports/artifacts/{chosen}")
    assert (await shown(client, case))[(1, 1)] not in (None, chosen, plain)


async def test_a_step_pinned_to_null_shows_no_screenshot(client, case_url):
    case = await case_url()
    created = await client.post(f"{case}/steps", json={"steps": [a_step(1)]})
    (step,) = (await created.json())["step_ids"]
    await client.patch(f"/api/v1/reports/steps/{step}", json={"screenshot_artifact_id": None})
    await send_png(client, case, 1, step_number=1)
    assert await shown(client, case) == {(1, 1): None}


async def test_pinning_refuses_an_artifact_that_is_missing_or_of_another_test_case(client, case_url, start, make_token):
    case, other = await case_url(), await case_url()
    created = await client.post(f"{case}/steps", json={"steps": [a_step(1)]})
    (step,) = (await created.json())["step_ids"]
    url = f"/api/v1/reports/steps/{step}"
    foreign = await send_png(client, other)

    async def refusal(client, artifact, url=url):
        reply = await client.patch(url, json={"screenshot_artifact_id": artifact})
        return reply.status, (await reply.json())["detail"]

    elsewhere = "The artifact belongs to another test case. Use an artifact of the step's test case."
    assert await refusal(client, foreign) == (409, elsewhere)
    assert await refusal(client, str(uuid.uuid4())) == (404, "Artifact not found")
    assert await refusal(client, "no-uuid") == (422, "screenshot_artifact_id: must be a UUID")
    unknown = f"/api/v1/reports/steps/{uuid.uuid4()}"
    assert await refusal(client, foreign, unknown) == (404, "Step not found")
    assert await refusal(client, foreign, "/api/v1/reports/steps/nonsense") == (404, "Step not found")
    theirs = await start(token=make_token(project="theirs"))
    assert await refusal(theirs, foreign) == (404, "Step not found")


CHANGED = {
    "step_number": 4,
    "iteration_number": 2,
    "parent_step_number": 3,
    "step_type": "type",
    "action": "b",
    "description": "c",
    "status": "Failed",
    "duration_ms": 7,
    "element_selector": "d",
    "element_name": "e",
    "element_type": "f",
    "input_value": "g",
    "expected_value": "h",
    "actual_value": "i",
    "error_message": "j",
    "error_type": "k",
    "stack_trace": "l",
    "screenshot_path": "m.png",
    "started_at": "2026-01-24T12:00:00.000Z",
    "completed_at": "2026-01-24T12:00:01.000Z",
}


@pytest.fixture
async def one_step(client, case_url):
    """The URL of a test case with one step, and the URL of the step."""
    case = await case_url()
    created = await client.post(f"{case}/steps", json={"steps": [a_step(1)]})
    return case, f"/api/v1/reports/steps/{(await created.json())['step_ids'][0]}"


async def only_step(client, case):
    (step,) = (await (await client.get(f"{case}/steps")).json())["steps"]
    return step


async def test_a_patch_changes_the_sent_fields_and_no_others(client, one_step):
    case, url = one_step
    for name, value in CHANGED.items():
        before = await only_step(client, case)
        reply = await client.patch(url, json={name: value, "unknown": 1, "id": "x"})
        assert (reply.status, (await reply.json())["message"]) == (200, "Step updated successfully")
        after = await only_step(client, case)
        assert after["updated_at"] > before["updated_at"]
        assert after == {**before, name: value, "updated_at": after["updated_at"]}
    required = {"step_number", "iteration_number", "step_type", "status"}
    cleared = dict.fromkeys(CHANGED.keys() - required)
    assert (await client.patch(url, json=cleared)).status == 200
    assert {name: (await only_step(client, case))[name] for name in cleared} == cleared
    assert {name: (await only_step(client, case))[name] for name in required} == {n: CHANGED[n] for n in required}
    for name in required:
        reply = await client.patch(url, json={name: None})
        assert (reply.status, (await reply.json())["errors"][0]["path"]) == (422, name)


# --- steps inside steps ---


async def test_the_parent_of_a_step_comes_back_in_every_form(client, case_url):
    case = await case_url()
    sent = {3: 2, 2: 1, 1: None, 7: 5}  # inner steps first, and a parent that never comes
    steps = [a_step(number, parent_step_number=parent) for number, parent in sent.items()]
    assert (await client.post(f"{case}/steps", json={"steps": steps})).status == 201
    for query in ("?shape=object", "?shape=array", "?include_artifacts=false"):
        body = await (await client.get(f"{case}/steps{query}")).json()
        listed = body if isinstance(body, list) else body["steps"]
        assert {each["step_number"]: each["parent_step_number"] for each in listed} == sent, query
    report = await (await client.get(f"{case}/report")).json()
    assert [each["parent_step_number"] for each in report["steps"]] == [None, 1, 2, 5]
    made = await client.post(f"{case}/steps/bulk", json={"steps": [a_step(9, parent_step_number=0)]})
    assert (await made.json())["steps"][0]["parent_step_number"] == 0


async def test_a_put_without_a_parent_removes_it(client, case_url):
    case = await case_url()
    for parent in ({"parent_step_number": 1}, {}, {"parent_step_number": 0}, {"parent_step_number": None}):
        assert (await client.put(f"{case}/steps", json={"steps": [a_step(2, **parent)]})).status == 200
        assert (await only_step(client, case))["parent_step_number"] == parent.get("parent_step_number")


@pytest.mark.parametrize("parent", [2, 3, 2**31 - 1])
async def test_a_parent_must_come_before_its_step(client, case_url, rows, parent):
    case = await case_url()
    body = {"steps": [a_step(1), a_step(2, parent_step_number=parent)]}
    error = {"path": "steps[1].parent_step_number", "message": "must be smaller than step_number"}
    for method, path in [("POST", "steps"), ("POST", "steps/bulk"), ("PUT", "steps")]:
        reply = await client.request(method, f"{case}/{path}", json=body)
        assert (reply.status, (await reply.json())["errors"]) == (422, [error])
    assert rows("SELECT id FROM test_step_results") == []


@pytest.mark.parametrize("parent", [-1, 2**31, 0.5, "0", True, []])
async def test_a_parent_is_a_number_of_a_step(client, case_url, parent):
    reply = await client.post(f"{await case_url()}/steps", json={"steps": [a_step(9, parent_step_number=parent)]})
    assert (reply.status, (await reply.json())["errors"][0]["path"]) == (422, "steps[0].parent_step_number")


async def test_a_patch_cannot_move_a_step_before_its_parent(client, case_url):
    case = await case_url()
    made = await client.post(f"{case}/steps", json={"steps": [a_step(5, parent_step_number=3)]})
    url = f"/api/v1/reports/steps/{(await made.json())['step_ids'][0]}"
    for body in ({"parent_step_number": 5}, {"step_number": 3}, {"step_number": 9, "parent_step_number": 9}):
        reply = await client.patch(url, json=body)
        assert (reply.status, (await reply.json())["errors"][0]["path"]) == (422, "parent_step_number"), body
    for body in ({"step_number": 4}, {"step_number": 2, "parent_step_number": 1}, {"parent_step_number": None}):
        assert (await client.patch(url, json=body)).status == 200, body


# --- which fields a patch has ---


async def test_the_fields_of_a_patch_are_those_of_a_step(client, one_step):
    case, _ = one_step
    made = {"id", "test_case_result_id", "created_at", "updated_at", "screenshot", "artifacts"}
    assert {*CHANGED, "screenshot_artifact_id"} == (await only_step(client, case)).keys() - made


async def test_a_patch_without_a_field_of_a_step_changes_nothing_and_says_so(client, one_step):
    case, url = one_step
    before = await only_step(client, case)
    for body in ({}, {"other": 1}, {"id": "x", "created_at": "2026-01-24T12:00:00Z"}, {"Status": "Passed"}):
        reply = await client.patch(url, json=body)
        assert (reply.status, (await reply.json())["code"]) == (422, "nothing_to_update"), body
    assert await only_step(client, case) == before
    missing = await client.patch(f"/api/v1/reports/steps/{uuid.uuid4()}", json={})
    assert missing.status == 404


async def test_a_patch_repairs_and_refuses_like_a_post(client, one_step):
    case, url = one_step
    reply = await client.patch(url, json={"status": "passed", "duration_ms": 1.5, "error_message": "\0"})
    assert [each["path"] for each in (await reply.json())["warnings"]] == ["duration_ms", "error_message"]
    step = await only_step(client, case)
    assert (step["status"], step["duration_ms"], step["error_message"]) == ("Passed", 2, "\ufffd")
    for body in ({"status": "x"}, {"step_number": 1.5}, {"step_type": "\0"}, {"duration_ms": "1"}, {"started_at": ""}):
        reply = await client.patch(url, json=body)
        assert (reply.status, (await reply.json())["errors"][0]["path"]) == (422, next(iter(body))), body
    assert (await only_step(client, case)) == step


async def test_a_patch_to_a_number_that_another_step_has_is_refused(client, one_step):
    case, url = one_step
    await client.post(f"{case}/steps/bulk", json={"steps": [a_step(2), a_step(1, iteration_number=2)]})
    for body in ({"step_number": 2}, {"iteration_number": 2}, {"step_number": 2, "status": "Passed"}):
        reply = await client.patch(url, json=body)
        assert (reply.status, (await reply.json())["code"]) == (409, "steps_exist"), body
    assert (await client.patch(url, json={"step_number": 2, "iteration_number": 2})).status == 200


async def test_a_patch_of_number_or_path_shows_another_screenshot(client, one_step):
    case, url = one_step
    first, second = [await send_png(client, case, n, f"{n}.png", step_number=n) for n in (1, 2)]
    reply = await client.patch(url, json={"step_number": 2})
    assert (await reply.json())["screenshot_artifact_id"] == second
    reply = await client.patch(url, json={"screenshot_path": "x/1.png"})
    assert (await reply.json())["screenshot_artifact_id"] == first
    reply = await client.patch(url, json={"screenshot_artifact_id": second, "screenshot_path": None})
    assert (await reply.json())["screenshot_artifact_id"] == second
    reply = await client.patch(url, json={"step_number": 1, "status": "Passed"})  # pinned
    assert (await reply.json())["screenshot_artifact_id"] == second


async def test_a_patch_decides_links_only_when_it_may_change_one(client, one_step, rows):
    """A client may link screenshots by itself: each PATCH then has the one that the step shows already."""
    case, url = one_step
    first, second = [await send_png(client, case, n, f"{n}.png", step_number=n) for n in (1, 2)]
    assert (await shown(client, case))[1, 1] == first

    async def linking(**fields):
        """Which of the statements that decide links the server has prepared after this PATCH."""
        assert (await client.patch(url, json=fields)).status == 200
        async with client.app[SERVICES].pool.acquire() as connection:
            known = {row[0] for row in await connection.fetch("SELECT statement FROM pg_prepared_statements")}
        return [name for name in ("link", "own_artifacts") if getattr(SQL.steps, name) in known]

    assert await linking(status="Failed", duration_ms=5) == []
    assert await linking(screenshot_artifact_id=first) == []
    assert await linking(screenshot_artifact_id=second) == ["own_artifacts"]
    assert await linking(screenshot_artifact_id=first, step_number=2) == ["own_artifacts"]
    owners = rows("SELECT id::text, step_result_id::text AS step FROM test_artifacts")
    assert {each["id"]: each["step"] for each in owners} == dict.fromkeys((first, second), url.rpartition("/")[2])
    assert await linking(screenshot_path="1.png") == ["link", "own_artifacts"]


async def test_a_patch_does_not_store_a_password(client, one_step, start, rows):
    case, url = one_step
    for body in (
        {"element_name": "password", "input_value": "hunter2"},
        {"input_value": "hunter2"},
        {"element_name": "x", "input_value": "hunter3"},
        {"element_selector": "#passwd"},
    ):
        assert (await client.patch(url, json=body)).status == 200
        assert "hunter2" not in str(rows("SELECT * FROM test_step_results"))
    assert (await only_step(client, case))["input_value"] == "[redacted]"
    plain = await start(api={"mask_passwords": False})
    await plain.patch(url, json={"input_value": "hunter2"})
    assert (await only_step(client, case))["input_value"] == "hunter2"


async def test_patches_of_different_fields_at_the_same_time_are_all_kept(client, one_step):
    case, url = one_step
    bodies = [{name: value} for name, value in CHANGED.items() if not name.endswith("number")]
    replies = await asyncio.gather(*(client.patch(url, json=body) for body in bodies))
    assert {reply.status for reply in replies} == {200}
    step = await only_step(client, case)
    assert all(step[name] == value for body in bodies for name, value in body.items())


BAD_STEPS = [
    ({"steps": [{"step_type": "x"}]}, "steps[0].step_number", "is required"),
    ({"steps": [{"step_number": 1}]}, "steps[0].step_type", "is required"),
    ({"steps": [a_step(-1)]}, "steps[0].step_number", "must be at least 0"),
    ({"steps": [a_step(2**31)]}, "steps[0].step_number", "must be at most 2147483647"),
    ({"steps": [a_step(1, duration_ms=3 * 10**9)]}, "steps[0].duration_ms", "must be at most 2147483647"),
    ({"steps": [a_step(1.5)]}, "steps[0].step_number", "must be an integer, not a number"),
    ({"steps": [a_step(1, duration_ms="1")]}, "steps[0].duration_ms", "must be an integer or null, not a string"),
    ({"steps": [a_step(1, iteration_number=0)]}, "steps[0].iteration_number", "must be at least 1"),
    ({"steps": [a_step(1), a_step(2, status="ok")]}, "steps[1].status", "must be one of: Passed, Failed, Skipped"),
    ({"steps": [a_step(1, step_type="x" * 51)]}, "steps[0].step_type", "must be at most 50 characters long"),
    ({"steps": [a_step(1, step_type="a\0b")]}, "steps[0].step_type", "must not contain NUL"),
    ({"steps": [a_step(1, started_at="yesterday")]}, "steps[0].started_at", "must be an ISO 8601 time"),
    ({"steps": [a_step(1, started_at=True)]}, "steps[0].started_at", "must be an ISO 8601 time"),
    ({"steps": [a_step(1, started_at="1969-12-31T23:59:59Z")]}, "steps[0].started_at", "must lie in the years"),
    ({"steps": [a_step(1, started_at="0001-01-01T00:00:00+14:00")]}, "steps[0].started_at", "must be an ISO 8601"),
    ({"steps": [a_step(1), a_step(1)]}, "steps[1].step_number", "is sent twice for the same iteration"),
    ({"steps": [a_step(i) for i in range(10_001)]}, "steps", "must have at most 10000 entries"),
    ({"steps": {}}, "steps", "must be an array, not an object"),
    ({}, "steps", "is required"),
    ([], "", "must be an object, not an array"),
]


@pytest.mark.parametrize(("body", "path", "message"), BAD_STEPS, ids=lambda value: str(value)[:40])
async def test_errors_name_the_wrong_values(client, case_url, rows, body, path, message):
    case = await case_url()
    reply = await client.post(f"{case}/steps", json=body)
    problem = (await reply.json())["errors"][0]
    assert (reply.status, problem["path"]) == (422, path)
    assert problem["message"].startswith(message)
    assert not rows("SELECT FROM test_step_results")


@pytest.mark.parametrize("body", [b"", b"{", b"NaN", b"\xff", b'{"steps": [}', b'{"steps":[]} x', b"{'a': 1}"])
async def test_a_body_that_is_not_json_is_malformed(client, case_url, body):
    case = await case_url()
    for method, path in [("POST", "/steps"), ("POST", "/steps/bulk"), ("PUT", "/steps")]:
        reply = await client.request(method, f"{case}{path}", data=body)
        assert (reply.status, (await reply.json())["code"]) == (400, "malformed_body")


async def test_an_unknown_test_case_is_a_404_before_the_body_is_checked(client):
    for unknown in (uuid.uuid4(), "nonsense", "%00"):
        for method, path in [("POST", "steps"), ("POST", "steps/bulk"), ("PUT", "steps"), ("GET", "steps?status=x")]:
            reply = await client.request(method, f"/api/v1/reports/test-case-results/{unknown}/{path}", data=b"{")
            assert (reply.status, (await reply.json())["detail"]) == (404, "Test case result not found")


async def test_a_body_above_the_maximum_size_is_refused(client, case_url):
    case = await case_url()
    reply = await client.post(f"{case}/steps", data=b" " * (16 * 2**20 + 1))
    assert (reply.status, (await reply.json())["code"]) == (413, "too_large")


async def test_concurrent_requests_with_the_same_steps_store_them_once(client, case_url, rows):
    case = await case_url()
    body = {"steps": [a_step(i) for i in range(20)]}
    replies = await asyncio.gather(*(client.post(f"{case}/steps", json=body) for _ in range(8)))
    assert sorted(reply.status for reply in replies) == [201] + [409] * 7
    assert len(rows("SELECT FROM test_step_results")) == 20
    bulk = {"steps": [a_step(i, iteration_number=3) for i in range(20)]}
    replies = await asyncio.gather(*(client.post(f"{case}/steps/bulk", json=bulk) for _ in range(8)))
    assert sorted(reply.status for reply in replies) == [201] + [409] * 7
