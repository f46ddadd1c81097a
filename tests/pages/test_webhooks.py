"""The page of webhooks: who sees it, what it shows, and its two buttons."""

import re

import pytest

from tests.pages.conftest import EVIL
from tests.pages.test_admin import CROSS_SITE, Admin, admin, csrf_in, sign_in
from tests.webhooks.conftest import SECRET, hook, make_target, quick, serve, target

__all__ = ["admin", "hook", "make_target", "quick", "serve", "sign_in", "target"]  # fixtures
PAGE = "/admin/webhooks"
ADD = (
    "INSERT INTO webhook_deliveries (id, webhook, event, body, attempts, attempted_at, status, answer, due_at,"
    " delivered_at) VALUES (gen_random_uuid(), %s, 'run.finished', '', 3, now(), %s, %s, %s, %s) RETURNING id"
)


@pytest.fixture
async def client(serve, hook, target):
    """A server with a webhook that works, and one whose host is not there."""
    return await serve(
        hook(target, name=EVIL[:20], project="<b>shop</b>"), hook("https://127.0.0.1:1/secret", name="away")
    )


@pytest.fixture
def row_of(rows):
    def made(webhook="away", status=500, answer="no", due=None, delivered=None):
        return str(rows(ADD, webhook, status, answer, due, delivered)[0]["id"])

    return made


async def test_the_page_shows_webhooks_and_answers_as_text_and_no_secret(admin, row_of):
    row_of(answer=EVIL)
    row_of(status=None, answer="The name of the host cannot be resolved.", due="2099-11-30 12:34Z")
    row_of(status=204, answer="", delivered="2026-11-30 12:00Z")
    text = await admin.see(PAGE)
    assert "<script>alert" not in text and "&lt;script&gt;alert(1)" in text and "&lt;b&gt;shop&lt;/b&gt;" in text
    assert "There is no project of this name" in text and "https://127.0.0.1:1</bdi>, standard" in text
    assert "/secret" not in text and SECRET not in text
    for words in ("given up", "next attempt", "delivered", "cannot be resolved", "1 event", "0 events"):
        assert words in text, words
    assert text.count("<button aria-label") == 2  # not of the delivered one


async def test_without_webhooks_the_page_says_how_to_have_some(serve, aiohttp_client, make_user):
    client = await serve()
    reply = await client.get(PAGE)
    assert reply.status == 200 and "[[webhooks]]" in await reply.text()


async def test_a_test_event_is_sent_and_its_answer_shown(admin, target):
    assert await admin.send(PAGE, action="test", name=EVIL[:20]) == f"{PAGE}?done=test"
    await target.until(1)
    assert target.bodies[0]["type"] == "webhook.test" and target.bodies[0]["data"]["webhook"] == EVIL[:20]
    text = await admin.see(f"{PAGE}?done=test")
    assert "on its way" in text and "webhook.test" in text


async def test_what_waits_and_what_was_given_up_is_tried_again(admin, row_of, rows, target):
    name, later = EVIL[:20], "2099-01-24 12:00Z"
    waits, given_up, other = row_of(name, due=later), row_of(name), row_of("away", due=later)
    row_of(name, 204, "", delivered="2026-11-30 12:00Z")
    assert await admin.send(PAGE, action="retry", name=name) == f"{PAGE}?done=retry"
    await target.until(1)
    await admin.send(PAGE, action="retry", name=name, id=given_up)
    await target.until(2)
    assert {each.removeprefix("msg_") for each in target.ids} == {each.replace("-", "") for each in (waits, given_up)}
    await admin.send(PAGE, action="retry", name=name, id=other)  # of another webhook
    assert rows("SELECT attempts, due_at > now() AS waits FROM webhook_deliveries WHERE id = %s", other) == [
        {"attempts": 3, "waits": True}
    ]


async def test_only_admins_of_all_projects_see_and_use_it(sign_in, admin, rows):
    for roles in ({"shop": "admin"}, {"everywhere": "uploader", "shop": "admin"}):
        person = await sign_in(**roles)
        await person.see(PAGE, 403)
        await person.send(PAGE, 403, action="test", name="away")
        assert f'href="{PAGE}"' not in await person.see("/admin/projects")
    assert f'href="{PAGE}"' in await admin.see("/admin/projects")
    await admin.send(PAGE, 403, csrf="wrong", action="test", name="away")
    await admin.send(PAGE, 403, headers=CROSS_SITE, action="test", name="away")
    assert rows("SELECT FROM webhook_deliveries") == []


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"action": "test", "name": "unknown"}, 404),
        ({"action": "drop", "name": "away"}, 422),
        ({"action": "test"}, 422),
        ({"action": "test", "name": "x" * 301}, 422),
        ({"action": "retry", "name": "away", "id": "x"}, 422),
    ],
)
async def test_wrong_forms_are_refused(admin, rows, fields, status):
    text = await admin.send(PAGE, status, **fields)
    assert re.search(r"<h1>", text) and csrf_in(await admin.see(PAGE))
    assert rows("SELECT FROM webhook_deliveries") == [] and isinstance(admin, Admin)
