"""Without a database, every page is the layout with a sentence, and its address keeps the filters."""

import re
import uuid
from html import unescape

import pytest

from tests.site import page_paths

WITHOUT_DATABASE = {"/sign-in", "/help"}
FILTERS = "?project=shop&id=pay&branch=a%26b&q=x&base=previous&name=n"


@pytest.mark.parametrize("path", page_paths())
async def test_a_page_says_that_the_database_is_away(client, make_run, database_away, path):
    known = {"at": "1.17", "project": "shop", "fingerprint": uuid.uuid4().hex}
    if "{link}" in path:  # one that nobody made is refused without the database
        made = await client.post("/api/v1/reports/links", json={"suite_run_id": await make_run(project="default")})
        known["link"] = (await made.json())["url"].rpartition("/")[2]
    address = re.sub(r"{(\w+)}", lambda name: known.get(name[1], str(uuid.uuid4())), path) + FILTERS
    if path == "/compare":
        address += f"&head={uuid.uuid4()}"
    database_away()
    reply = await client.get(address, headers={"Accept": "text/html"}, allow_redirects=False)
    text = await reply.text()
    if path in WITHOUT_DATABASE and reply.status == 200:
        return
    assert reply.status == 503 and int(reply.headers["Retry-After"]) > 0, text
    assert '<header class="top">' in text and "Nothing is lost" in text
    assert f'href="{address}">Try again' in unescape(text)
