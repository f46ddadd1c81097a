"""The administration pages: who sees and changes what, the forms, and the audit entries of what they do."""

import re
from http.cookies import SimpleCookie

import pytest

from server.auth.tokens import is_token
from server.http.authenticate import COOKIE
from server.reports import usage
from server.services import SERVICES
from server.viewer import words
from tests.forms import post, single
from tests.makers import png
from tests.people import LOGIN, PASSWORD

RUNS = "/api/v1/reports/suite-runs"
CROSS_SITE = {"Sec-Fetch-Site": "cross-site"}


class Admin:
    """A person in a browser: visits pages, and sends their forms."""

    def __init__(self, client, name, cookie):
        self.client, self.name, self.headers = client, name, {"Cookie": f"{COOKIE}={cookie}"}

    async def see(self, path, status=200):
        reply = await self.client.get(path, headers=self.headers, allow_redirects=False)
        text = await reply.text()
        assert reply.status == status, text
        assert "csrf_token" not in text or "Content-Encoding" not in reply.headers
        return text

    async def send(self, path, status=303, csrf=None, headers=(), **fields):
        """The text of the reply, or the address to which it leads."""
        if csrf is None:
            csrf = csrf_in(await self.see("/sign-out"))
        reply = await self.client.post(
            path, data={"csrf_token": csrf, **fields}, headers={**self.headers, **dict(headers)}, allow_redirects=False
        )
        assert reply.status == status, await reply.text()
        return reply.headers["Location"] if status == 303 else await reply.text()


def csrf_in(text):
    return text.partition('name="csrf_token" value="')[2].partition('"')[0]


@pytest.fixture
def sign_in(nobody, make_user):
    """await sign_in(everywhere="admin", shop="viewer", …): a person with these roles, signed in."""

    async def make(**roles):
        name = make_user(**roles)
        reply = await nobody.post("/sign-in", data={"name": name, "password": PASSWORD}, allow_redirects=False)
        return Admin(nobody, name, SimpleCookie(reply.headers["Set-Cookie"])[COOKIE].value)

    return make


@pytest.fixture
async def admin(sign_in):
    """An admin of all projects."""
    return await sign_in(everywhere="admin")


@pytest.fixture
def entries(rows):
    """entries(): action, actor, subject and detail of the audit entries that pages wrote, oldest first."""
    query = (
        "SELECT action, actor_name, subject_name, detail FROM audit_entries"
        " WHERE action NOT LIKE 'login%%' AND actor_kind = 'person' ORDER BY id"
    )
    return lambda: [tuple(row.values()) for row in rows(query)]


def id_of(rows, table, name):
    return str(rows(f"SELECT id FROM {table} WHERE name = %s", name)[0]["id"])


def secret_in(text):
    return re.search(r'<output id="secret">([^<]+)</output>', text)[1]


async def refused(admin, path, forms, id_named):
    """Send wrong forms; an id that is a name stands for the id of what has it."""
    for fields, status, sentence in forms:
        if fields.get("id", "1")[0].isalpha():
            fields = {**fields, "id": id_named(fields["id"])}
        assert sentence in await admin.send(path, status, **fields), fields


async def may_read(client, token):
    return (await client.get(RUNS, headers={"Authorization": f"Bearer {token}"})).status == 200


# --- projects --------------------------------------------------------------------------------------------------


async def test_projects_are_created_renamed_and_get_a_main_branch(admin, rows, entries):
    path = "/admin/projects"
    assert await admin.send(path, action="create", name=" shop ", main_branch="trunk") == f"{path}?done=created"
    shop = id_of(rows, "projects", "shop")
    text = await admin.see(f"{path}?done=created")
    assert "The project is there." in text and text.index("shop") < text.index("default")  # newest first
    assert await admin.send(path, action="set-main-branch", id=shop, main_branch="release/2") == f"{path}?done=branch"
    assert await admin.send(path, action="rename", id=shop, name="web shop") == f"{path}?done=renamed"
    assert rows("SELECT name, main_branch FROM projects WHERE id = %s", shop) == [
        {"name": "web shop", "main_branch": "release/2"}
    ]
    assert entries() == [
        ("project.created", admin.name, "shop", {"main_branch": "trunk"}),
        ("project.changed", admin.name, "shop", {"main_branch": "release/2"}),
        ("project.changed", admin.name, "shop", {"name": "web shop"}),
    ]


PROJECTS = [
    ({"action": "create", "name": "default"}, 409, "A project named default exists already."),
    ({"action": "rename", "id": "other", "name": "default"}, 409, "A project named default exists already."),
    ({"action": "create"}, 422, "name: is required"),
    ({"action": "create", "name": " \t"}, 422, "must be 1 to 100 printable characters"),
    ({"action": "create", "name": "a\nb"}, 422, "must be 1 to 100 printable characters"),
    ({"action": "create", "name": "x" * 101}, 422, "must be 1 to 100 printable characters"),
    ({"action": "create", "name": "x", "main_branch": "b" * 501}, 422, "must be 1 to 500 printable characters"),
    ({"action": "set-main-branch", "id": "default"}, 422, "main_branch: is required"),
    ({"action": "rename", "name": "x"}, 422, "id: is required"),
    ({"action": "delete", "id": "default"}, 422, "action: "),
    ({"action": "rename", "id": "00000000-0000-7000-8000-000000000000", "name": "x"}, 404, "no such entry"),
    ({"action": "rename", "id": "1", "name": "x"}, 422, "id: "),
]


async def test_wrong_forms_of_projects_say_why_and_change_nothing(admin, rows, entries):
    rows("INSERT INTO projects (name) VALUES ('other')")
    before = rows("SELECT * FROM projects ORDER BY id")
    await refused(admin, "/admin/projects", PROJECTS, lambda name: id_of(rows, "projects", name))
    assert rows("SELECT * FROM projects ORDER BY id") == before and entries() == []


# --- people ----------------------------------------------------------------------------------------------------


async def test_a_person_is_added_gets_roles_and_a_password_and_is_disabled(admin, nobody, rows, entries):
    path = "/admin/people"
    rows("INSERT INTO projects (name) VALUES ('shop')")
    text = await admin.send(path, 200, action="create", name="anna", project="shop", role="viewer")
    password, anna = secret_in(text), id_of(rows, "users", "anna")
    assert len(password) == 24 and "shown this once" in text and password not in await admin.see(path)

    async def may_log_in(password):
        return (await nobody.post(LOGIN, json={"name": "anna", "password": password})).status == 201

    assert await may_log_in(password)
    assert await admin.send(path, action="give-role", id=anna, role="admin") == f"{path}?done=roles"
    await admin.send(path, action="give-role", id=anna, project="shop", role="none")
    again = secret_in(await admin.send(path, 200, action="reset-password", id=anna))
    assert await may_log_in(again) and not await may_log_in(password)
    await admin.send(path, action="disable", id=anna)
    assert not await may_log_in(again) and "disabled" in await admin.see(f"{path}?change={anna}")
    await admin.send(path, action="enable", id=anna)
    assert await may_log_in(again)
    assert entries() == [
        ("user.created", admin.name, "anna", {"roles": ["shop=viewer"]}),
        ("user.roles_changed", admin.name, "anna", {"roles": ["shop=viewer", "admin"]}),
        ("user.roles_changed", admin.name, "anna", {"roles": ["admin"]}),
        ("user.password_reset", admin.name, "anna", {}),
        ("user.disabled", admin.name, "anna", {}),
        ("user.enabled", admin.name, "anna", {}),
    ]
    assert again not in str(rows("SELECT * FROM users")) + str(rows("SELECT * FROM audit_entries"))


async def test_nobody_locks_themselves_out(admin, rows, entries):
    own = id_of(rows, "users", admin.name)
    for fields in ({"action": "disable"}, {"action": "give-role", "role": "viewer"}):
        assert "your own account" in await admin.send("/admin/people", 409, id=own, **fields)
    assert entries() == []
    text = await admin.see(f"/admin/people?change={own}")
    assert "Disable</button>" not in text and "Generate a new password" in text


PEOPLE = [
    ({"action": "create", "name": "ANNA", "role": "viewer"}, 409, "A person named ANNA exists already."),
    ({"action": "create", "name": "ben"}, 422, "role: is required"),
    ({"action": "create", "name": "ben", "role": "none"}, 422, "role: is required"),
    ({"action": "create", "name": "ben", "role": "owner"}, 422, "role: "),
    ({"action": "create", "name": "ben", "role": "viewer", "project": "x"}, 422, "no project named x"),
    ({"action": "create", "role": "viewer"}, 422, "name: is required"),
    ({"action": "give-role", "id": "anna", "role": "viewer", "project": "x"}, 422, "no project named x"),
    ({"action": "disable", "id": "00000000-0000-7000-8000-000000000000"}, 404, "no such entry"),
    ({"action": "enable"}, 422, "id: is required"),
]


async def test_wrong_forms_of_people_say_why_and_change_nothing(admin, rows, entries):
    rows("INSERT INTO users (name, password_hash) VALUES ('anna', 'x')")
    query = "SELECT to_jsonb(u) - 'last_seen_at' AS u, (SELECT count(*) FROM user_roles) FROM users u ORDER BY id"
    before = rows(query)
    await refused(admin, "/admin/people", PEOPLE, lambda name: id_of(rows, "users", name))
    assert rows(query) == before and entries() == []


# --- tokens ----------------------------------------------------------------------------------------------------


async def test_a_token_is_created_rotated_and_revoked(admin, nobody, rows, entries):
    path = "/admin/tokens"
    text = await admin.send(path, 200, action="create", name="ci", project="default", role="uploader", days="30")
    first, token_id = secret_in(text), id_of(rows, "tokens", "ci")
    assert is_token(first) and await may_read(nobody, first)
    assert first not in await admin.see(path) + await admin.see(f"{path}?change={token_id}")
    second = secret_in(await admin.send(path, 200, action="rotate", id=token_id, overlap="24"))
    assert await may_read(nobody, first) and await may_read(nobody, second)
    assert "former secret until" in await admin.see(path)
    assert "the name that was typed" in await admin.send(path, 422, action="revoke", id=token_id, typed="cj")
    assert await may_read(nobody, second)
    assert await admin.send(path, action="revoke", id=token_id, typed="ci") == f"{path}?done=revoked"
    text = await admin.see(f"{path}?done=revoked")
    assert "revoked" in text and f"change={token_id}" not in text
    assert "no such entry" in await admin.send(path, 404, action="rotate", id=token_id)
    found = rows(
        "SELECT role, revoked_at IS NOT NULL AS revoked, expires_at - created_at AS lives FROM tokens WHERE id = %s",
        token_id,
    )
    assert found[0]["role"] == "uploader" and found[0]["revoked"] and 29 <= found[0]["lives"].days <= 30
    assert [(action, name) for action, _, name, _ in entries()] == [
        ("token.created", "ci"),
        ("token.rotated", "ci"),
        ("token.revoked", "ci"),
    ]
    assert entries()[0][3]["role"] == "uploader"


TOKENS = [
    ({"action": "create", "name": "ci"}, 409, "A token named ci exists already."),
    ({"action": "create"}, 422, "name: is required"),
    ({"action": "create", "name": "x", "project": "nope"}, 422, "no project named nope"),
    ({"action": "create", "name": "x", "role": "none"}, 422, "role: "),
    ({"action": "create", "name": "x", "days": "9999"}, 422, "days: "),
    ({"action": "rotate", "id": "ci", "overlap": "9"}, 422, "overlap: "),
    ({"action": "revoke", "id": "ci"}, 422, "the name that was typed"),
    ({"action": "revoke", "id": "ci", "typed": "CI"}, 422, "the name that was typed"),
]


async def test_wrong_forms_of_tokens_say_why_and_change_nothing(admin, rows, entries, make_token):
    make_token("ci", role="viewer")
    before = rows("SELECT * FROM tokens ORDER BY id")
    await refused(admin, "/admin/tokens", TOKENS, lambda name: id_of(rows, "tokens", name))
    assert rows("SELECT * FROM tokens ORDER BY id") == before and entries() == []


# --- who -------------------------------------------------------------------------------------------------------

PATHS = ["/admin/projects", "/admin/people", "/admin/tokens"]
READ = [*PATHS, "/admin/links", "/admin/audit", "/admin/storage"]


async def test_an_admin_of_a_project_sees_and_changes_only_what_is_of_it(sign_in, make_user, make_token, rows):
    admin = await sign_in(shop="admin", default="viewer")
    ours, both = make_user(shop="viewer"), make_user(shop="viewer", theirs="uploader")
    theirs, everywhere = make_user(theirs="viewer"), make_user(everywhere="admin")
    for name, project in (("our-ci", "shop"), ("their-ci", "theirs"), ("default-ci", "default"), ("all-ci", None)):
        make_token(name, project=project)
    projects, people, tokens = [await admin.see(path) for path in PATHS]
    assert "shop" in projects and "theirs" not in projects and ">default<" not in projects
    assert ours in people and both in people and "and elsewhere" in people
    assert theirs not in people and everywhere not in people and "theirs" not in people
    assert "our-ci" in tokens and not {"their-ci", "default-ci", "all-ci"} & set(re.findall(r"[\w-]+", tokens))

    # What is not theirs is not there; what also concerns others is refused.
    for path, table, names in (
        ("/admin/projects", "projects", ["theirs", "default"]),
        ("/admin/people", "users", [theirs, everywhere]),
        ("/admin/tokens", "tokens", ["their-ci", "default-ci", "all-ci"]),
    ):
        for name in names:
            await admin.see(f"{path}?change={id_of(rows, table, name)}", 404)
    for name in (theirs, everywhere):
        for action in ("disable", "enable", "reset-password", "give-role"):
            fields = {"id": id_of(rows, "users", name), "project": "shop", "role": "viewer"}
            await admin.send("/admin/people", 404, action=action, **fields)
    for action in ("disable", "reset-password"):  # a new password would open the other project, too
        text = await admin.send("/admin/people", 403, action=action, id=id_of(rows, "users", both))
        assert "projects in which you are not admin" in text
    for name in ("their-ci", "all-ci"):
        for action in ("rotate", "revoke"):
            fields = {"id": id_of(rows, "tokens", name), "typed": name}
            await admin.send("/admin/tokens", 404, action=action, **fields)
    await admin.send("/admin/projects", 403, action="create", name="mine")
    await admin.send("/admin/projects", 403, action="rename", id=id_of(rows, "projects", "shop"), name="mine")
    for project in ("theirs", "default"):
        await admin.send("/admin/tokens", 422, action="create", name="x", project=project)
        await admin.send("/admin/people", 422, action="create", name="x", project=project, role="viewer")
    await admin.send("/admin/tokens", 403, action="create", name="x")
    await admin.send("/admin/people", 403, action="create", name="x", role="admin")
    await admin.send("/admin/people", 403, action="give-role", id=id_of(rows, "users", ours), role="admin")
    assert rows("SELECT FROM audit_entries WHERE action NOT LIKE 'login%%'") == []

    # What is theirs, they do.
    await admin.send("/admin/projects", action="set-main-branch", id=id_of(rows, "projects", "shop"), main_branch="x")
    await admin.send("/admin/tokens", 200, action="create", name="x", project="shop", role="admin")
    await admin.send("/admin/people", 200, action="create", name="zoe", project="shop", role="uploader")
    await admin.send("/admin/people", action="give-role", id=id_of(rows, "users", ours), project="shop", role="admin")
    await admin.send("/admin/people", action="disable", id=id_of(rows, "users", ours))
    assert len(rows("SELECT FROM audit_entries WHERE action NOT LIKE 'login%%'")) == 5


async def test_a_token_whose_name_is_the_id_of_another_is_not_taken_for_it(sign_in, make_token, rows):
    admin = await sign_in(shop="admin", default="viewer")
    make_token("mine", project="shop")
    mine = id_of(rows, "tokens", "mine")
    make_token(mine, project=None)  # of all projects
    rows("UPDATE tokens SET expires_at = now() - interval '1 minute' WHERE name = 'mine'")
    before = rows("SELECT id, token_hash, revoked_at FROM tokens ORDER BY id")
    await admin.send("/admin/tokens", 404, action="rotate", id=mine, overlap="0")
    assert rows("SELECT id, token_hash, revoked_at FROM tokens ORDER BY id") == before
    assert await admin.send("/admin/tokens", action="revoke", id=mine, typed="mine") == "/admin/tokens?done=revoked"
    assert rows("SELECT name FROM tokens WHERE revoked_at IS NOT NULL") == [{"name": "mine"}]


async def test_a_session_of_a_token_only_reads_and_says_so(nobody, make_token):
    reply = await nobody.post("/sign-in", data={"token": make_token("root")}, allow_redirects=False)
    token = Admin(nobody, "root", SimpleCookie(reply.headers["Set-Cookie"])[COOKIE].value)
    csrf = csrf_in(await token.see("/sign-out"))
    for path in PATHS:
        text = await token.see(path)
        assert "a session of a token only reads" in text and "<form method" not in text and "csrf" not in text
        where = await token.send(path, csrf=csrf, action="create", name="x", role="viewer")
        assert where == f"/sign-in?next={path.replace('/', '%2F')}"
        bearer = {"Authorization": f"Bearer {make_token()}"}
        sent = await nobody.post(path, data={"action": "create"}, headers=bearer, allow_redirects=False)
        assert sent.status == 303


async def test_without_sign_in_pages_only_read_until_somebody_signs_in(start, make_user, aiohttp_client):
    client = await start(auth={"required": False})
    for path in PATHS:
        reply = await client.get(path, headers={"Authorization": ""})
        assert reply.status == 200 and "nobody has signed in" in await reply.text()
        sent = await client.post(path, data={"action": "create", "name": "x"}, headers={"Authorization": ""})
        assert "<h1>Sign in" in await sent.text()


async def test_only_admins_have_the_pages_and_the_link_to_them(sign_in, make_run):
    person = await sign_in(default="viewer", shop="uploader")
    assert 'href="/admin' not in await person.see("/runs")
    for path in READ:
        await person.see(path, 403)
    for path in PATHS:
        await person.send(path, 403, action="create", name="x", role="viewer")
    person, run = await sign_in(shop="admin", default="viewer"), await make_run()  # a run of another project
    for path in ("/runs", f"/runs/{run}", "/help"):
        assert 'href="/admin/projects"' in await person.see(path)


async def test_a_form_needs_the_csrf_token_of_the_session(admin, rows):
    right = csrf_in(await admin.see("/sign-out"))
    for path in PATHS:
        for csrf, headers in (("", {}), (right[:-1] + "x", {}), (right, CROSS_SITE)):
            await admin.send(path, 403, csrf=csrf, headers=headers, action="create", name="x", role="viewer")
    assert rows("SELECT FROM audit_entries WHERE action NOT LIKE 'login%%'") == []


async def test_somebody_who_lost_the_role_a_moment_ago_changes_nothing(admin, rows, make_token):
    """The cache of callers still knows the role."""
    csrf = csrf_in(await admin.see("/sign-out"))
    rows("UPDATE user_roles SET role = 'uploader'")
    await admin.send("/admin/tokens", 403, csrf=csrf, action="create", name="x")
    rows("UPDATE user_roles SET role = 'admin'")
    admin.client.app[SERVICES].callers.clear()
    await admin.send("/admin/projects", csrf=csrf, action="create", name="x")
    rows("UPDATE users SET disabled_at = now()")
    assert "sign-in" in await admin.send("/admin/tokens", csrf=csrf, action="create", name="x")
    assert rows("SELECT FROM tokens WHERE name = 'x'") == []


# --- links and audit -------------------------------------------------------------------------------------------


@pytest.fixture
def share(client, make_run, make_case):
    """await share(project="default"): the id of a new link to a run of this project, and its address."""

    async def make(project="default", **fields):
        run = await make_run(project=project)
        made = await client.post("/api/v1/reports/links", json={"suite_run_id": run, **fields})
        assert made.status == 201
        return (found := await made.json())["id"], found["url"]

    return make


async def test_links_are_listed_and_revoked(admin, nobody, share, rows, entries):
    first, _ = await share(note="for Anna")
    second, url = await share()
    text = await admin.see("/admin/links")
    assert text.index(f"change={second}") < text.index(f"change={first}") and "for Anna" in text and "nightly" in text
    assert (await nobody.get(url)).status == 200
    assert "1, with 0 downloads" in await admin.see(f"/admin/links?change={second}")
    assert await admin.send("/admin/links", action="revoke", id=second) == "/admin/links?done=revoked"
    assert (await nobody.get(url)).status == 404
    text = await admin.see("/admin/links")
    assert f"change={second}" not in text and "revoked" in text
    assert second not in (still := await admin.see("/admin/links?active=true")) and f"change={first}" in still
    assert "<button>Revoke" not in await admin.see(f"/admin/links?change={second}")
    await admin.send("/admin/links", action="revoke", id=second)  # a second time: no second entry
    assert entries() == [("link.revoked", admin.name, None, {})]
    for some_id, status in (("00000000-0000-7000-8000-000000000000", 404), ("x", 422), ("", 422)):
        await admin.send("/admin/links", status, action="revoke", id=some_id)
    rows("UPDATE tokens SET revoked_at = now()")
    assert "ended with the right of its maker" in await admin.see("/admin/links")
    rows("UPDATE evidence_links SET expires_at = now()")
    assert "expired" in await admin.see("/admin/links")


async def test_an_admin_of_a_project_sees_its_links_and_entries_alone(sign_in, share, rows):
    rows("INSERT INTO projects (name) VALUES ('shop')")
    admin = await sign_in(shop="admin", default="uploader")
    (ours, _), (theirs, _) = await share("shop"), await share("default")
    text = await admin.see("/admin/links")
    assert ours in text and theirs not in text
    await admin.see(f"/admin/links?change={theirs}", 404)
    await admin.send("/admin/links", 403, action="revoke", id=theirs)  # an uploader there, so no 404
    text = await admin.see("/admin/audit")
    assert text.count('<th scope="row"') == 2 and "login" not in text.partition("<tbody>")[2]
    assert await admin.send("/admin/links", action="revoke", id=ours) == "/admin/links?done=revoked"
    assert "nothing" in await admin.see("/admin/audit?project=default")
    assert rows("SELECT id::text FROM evidence_links WHERE revoked_at IS NULL") == [{"id": theirs}]


async def test_the_audit_trail_is_filtered_and_read_page_by_page(admin, make_run, share):
    for _ in range(101):
        await make_run()
    await share(note="for Anna")

    async def actions(query):
        return re.findall(r'<th scope="row" class="word">([^<]+)<', await admin.see(f"/admin/audit{query}"))

    text = await admin.see("/admin/audit")
    assert (
        len(first := re.findall(r'<th scope="row" class="word">([^<]+)<', text)) == 100 and first[0] == "link.created"
    )
    older = re.search(r'href="([^"]+)" rel="next"', text)[1].replace("&amp;", "&")
    assert older.startswith("/admin/audit?cursor=")
    assert re.findall(r'<th scope="row" class="word">([^<]+)<', await admin.see(older))[-1] == "login.succeeded"
    assert await actions("?action=link.created") == ["link.created"]
    assert await actions(f"?actor={admin.name}") == ["login.succeeded"]
    assert await actions("?project=default&action=link.created") == ["link.created"]
    assert await actions("?project=nope") == [] and await actions("?until=2020-01-01") == []
    assert len(await actions("?since=2020-01-01&until=2100-01-01")) == 100
    assert await admin.send("/admin/audit", 405) and await admin.see("/admin/audit?action=&actor=x", 303) == ""
    for wrong in ("action=x", "since=yesterday", "cursor=x", f"actor={'x' * 501}"):
        await admin.see(f"/admin/audit?{wrong}", 422)


# --- storage ---------------------------------------------------------------------------------------------------


async def test_the_storage_page_shows_what_is_stored_and_the_last_check(
    admin, sign_in, client, case_url, command, rows, config, monkeypatch
):
    monkeypatch.setenv("REPORTD_ARTIFACTS_STORAGE_PATH", config.artifacts.storage_path)
    services = client.app[SERVICES]
    text = await admin.see("/admin/storage")
    assert "Nobody has run <code>reportd check</code> yet" in text and "<b>not known</b> saved by sharing" in text
    case = await case_url()
    for number in (1, 2):  # the same bytes twice: they are stored once
        assert (await post(client, f"{case}/artifacts", single(png(64, 64), step_number=number)))[0] == 201
    await usage.count(services.pool)
    await services.free_space.measure_growth(services.pool)
    assert command("check", "--grace", "0s")[0] == 0
    text, sent = await admin.see("/admin/storage"), words.size(2 * len(png(64, 64)))
    days = words.count(int((await services.free_space.measure()).days), "day")
    assert f"<b>{sent}</b> in 2 files" in text and f"<b>{words.size(len(png(64, 64)))}</b> saved by sharing" in text
    assert "Rows and files agree" in text and "at the pace of the last 30 days" in text
    assert days in text or "more than 10 years" in text
    assert "2</td>" in (projects := await admin.see("/admin/projects")) or "1</td>" in projects
    assert f">{sent}<" in projects
    rows("UPDATE storage_checks SET exit_code = 1, summary = jsonb_set(summary, '{findings,missing_file}', '3')")
    assert "<b>3</b> missing file" in await admin.see("/admin/storage")

    other = await sign_in(shop="admin")
    text = await other.see("/admin/storage")
    assert "<b>0 bytes</b> in 0 files" in text and ">default<" not in text
    assert "free" not in text.partition("<main")[2] and "check" not in text.partition("<main")[2]


# --- lists -----------------------------------------------------------------------------------------------------


INSERTS = {
    "/admin/projects": "projects (id, name) SELECT ID, 'entry ' || n",
    "/admin/people": "users (id, name, password_hash) SELECT ID, 'entry ' || n, 'x'",
    "/admin/tokens": "tokens (id, name, token_hash, role) SELECT ID, 'entry ' || n, n::text::bytea, 'viewer'",
}


async def test_lists_are_newest_first_100_a_page_and_keep_their_addresses(admin, rows):
    for path, insert in INSERTS.items():
        # UUIDv7 of the far future: newer than those of the fixtures.
        some_id = "('7fffffff-ffff-7000-8000-' || lpad(n::text, 12, '0'))::uuid"
        rows(f"INSERT INTO {insert.replace('ID', some_id)} FROM generate_series(1, 205) AS n")
        seen, address = [], path
        while address:
            found = re.findall(r"entry (\d+)</bdi>", text := await admin.see(address))
            assert len(found) <= 100
            seen += map(int, found)
            older = re.search(r'href="([^"]+)" rel="next"', text)
            address = older and older[1]
        assert seen == list(range(205, 0, -1))
        for wrong in ("cursor=x", "cursor=%00", f"cursor={'a' * 101}", "change=1"):
            await admin.see(f"{path}?{wrong}", 422)
        await admin.see(f"{path}?change=00000000-0000-7000-8000-000000000000", 404)
