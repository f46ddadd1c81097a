"""Access to the pages: every page replies to every kind of caller as the table in docs/access.md says."""

import uuid
from http.cookies import SimpleCookie
from pathlib import Path

import pytest

from server.http.authenticate import COOKIE
from server.routes import PAGES
from tests.people import PASSWORD
from tests.test_access import make_things

__all__ = ["make_things"]  # a fixture

TEXT = (Path(__file__).parent.parent.parent / "docs/access.md").read_text("utf-8")
COLUMNS = ["nobody", "viewer", "uploader", "admin", "other project's", "token's cookie", "person's cookie", "link"]
# What pages need beside their path, and the fields of forms.
QUERIES = {"/tests": "?project={project}&id=login+works", "/compare": "?head={suite_id}"}
NEW = {"action": "create", "name": "x", "role": "viewer"}
FORMS = {
    "POST /help": {"theme": "dark"},
    "POST /sign-in": {"name": "x", "password": "wrong"},
    "POST /sign-out": {},
    "POST /admin/projects": NEW,
    "POST /admin/people": NEW,
    "POST /admin/tokens": NEW,
    "POST /admin/links": {"action": "revoke", "id": str(uuid.uuid4())},
    "POST /admin/webhooks": {"action": "test", "name": "x"},
}


def table():
    """The rows of the table of pages, by page."""
    lines = TEXT.partition("| page | ")[2].partition("\n\n")[0].splitlines()
    assert [cell.strip() for cell in lines[0].strip("| ").split("|")] == COLUMNS
    rows = {}
    for line in lines[2:]:
        name, *cells = [cell.strip(" ‡") for cell in line.strip("| ").split("|")]
        rows[name.strip("`")] = dict(zip(COLUMNS, cells, strict=True))
    return rows


def test_every_page_is_in_the_table():
    assert sorted(table()) == sorted(f"{route.method} {route.path}" for route in PAGES)


async def cookie_of(client, **fields):
    reply = await client.post("/sign-in", data=fields, allow_redirects=False)
    return {"Cookie": f"{COOKIE}={SimpleCookie(reply.headers['Set-Cookie'])[COOKIE].value}"}


@pytest.fixture
async def callers(nobody, make_token, make_user, make_things):
    """Headers by column, and the ids that they ask for: those of the project `default`."""
    ids = await make_things()
    bearer = {role: make_token(project="default", role=role) for role in ("viewer", "uploader", "admin")}
    bearer["other project's"] = make_token(project="theirs", role="admin")
    found = {name: {"Authorization": f"Bearer {token}"} for name, token in bearer.items()}
    found["nobody"] = {}
    found["token's cookie"] = await cookie_of(nobody, token=make_token(project="default", role="viewer"))
    found["person's cookie"] = await cookie_of(nobody, name=make_user(default="viewer"), password=PASSWORD)
    found["link"] = {"Authorization": f"Bearer {ids['link']}"}
    return found, {**ids, "at": "1.1", "project": "default"}


async def test_every_page_replies_to_every_caller_as_the_table_says(nobody, callers):
    headers, ids = callers
    wrong = []
    for name, row in table().items():
        method, path = name.split(" ")
        address = (path + QUERIES.get(path, "")).format_map(ids)
        for column, expected in row.items():
            for word in ("GET", "HEAD") if method == "GET" else (method,):
                form = {"data": FORMS[name]} if word == "POST" else {}
                reply = await nobody.request(word, address, headers=headers[column], allow_redirects=False, **form)
                if str(reply.status) != expected:
                    wrong.append((word, address, column, expected, reply.status))
                if reply.status == 303 and expected == "303" and method == "GET":
                    assert reply.headers["Location"].startswith("/sign-in?next=%2F"), address
                wanted = "application/zip" if path.endswith(".zip") and reply.status == 200 else "text/html"
                assert reply.content_type == wanted or reply.status in (302, 303)
    assert wrong == []


async def test_a_page_of_another_project_is_that_of_a_missing_thing(nobody, callers):
    headers, ids = callers
    missing = {**dict.fromkeys(ids, str(uuid.uuid4())), "at": "1.1"}
    compared = 0
    for name, row in table().items():
        path = name.partition(" ")[2]
        if row["other project's"] != "404":
            continue
        texts = []
        for some in (ids, missing):
            address = (path + QUERIES.get(path, "")).format_map(some)
            reply = await nobody.get(address, headers=headers["other project's"])
            text = await reply.text()
            for value in some.values():
                text = text if value.isdigit() else text.replace(value, "ID")
            texts.append((reply.status, text))
        assert texts[0] == texts[1], path
        compared += 1
    assert compared >= 4
