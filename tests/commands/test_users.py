"""The commands that add, list, change and disable people."""

import re
from io import StringIO

import pytest

from server.auth.passwords import LONGEST, SHORTEST, problem_of
from server.services import SERVICES
from tests.people import LOGIN, PASSWORD, logged_in

RUNS = "/api/v1/reports/suite-runs"
UNKNOWN = "No person has the id or name nobody. See `reportd user list`."


@pytest.fixture
def user(command):
    """user("add", "anna", …): the printed lines, those of standard error last. The command must succeed."""

    def run(*arguments, given=PASSWORD + "\n"):
        code, output, errors = command("user", *arguments, given=given)
        assert code == 0, errors
        return (output + errors).splitlines()

    return run


def listed(user):
    """{name: (state, roles)} of `reportd user list`."""
    head, *lines = user("list")
    assert head.split() == ["ID", "NAME", "CREATED", "LAST", "SEEN", "STATE", "ROLES"]
    columns = [re.split(r"  +", line) for line in lines]
    return {name: (state, roles) for _, name, _, _, state, roles in columns}


async def may_log_in(nobody, name, password=PASSWORD):
    return (await nobody.post(LOGIN, json={"name": name, "password": password})).status == 201


async def test_an_added_person_can_log_in(nobody, user, rows):
    (line,) = user("add", "anna", "--role", "viewer", "--role", "web=admin", "--role", "a=b=uploader")
    assert re.fullmatch(r"added anna \([0-9a-f-]{36}\)", line)
    assert listed(user) == {"anna": ("valid", "viewer, a=b=uploader, web=admin")}
    assert {row["name"] for row in rows("SELECT name FROM projects")} == {"default", "web", "a=b"}
    assert await may_log_in(nobody, "Anna") and not await may_log_in(nobody, "anna", "another password")
    assert rows("SELECT password_hash FROM users")[0]["password_hash"].startswith("$argon2id$v=19$m=65536,t=3,p=4$")


async def test_a_password_can_be_generated(nobody, user):
    (made,) = user("add", "anna", "--role", "viewer", "--generate", given="")
    assert len(made) == 24 and await may_log_in(nobody, "anna", made)
    again, line = user("reset-password", "anna", "--generate", given="")
    assert again != made and line.startswith("changed the password of anna (")
    assert await may_log_in(nobody, "anna", again) and not await may_log_in(nobody, "anna", made)


async def test_a_terminal_is_prompted_for_the_password(nobody, user, command, monkeypatch):
    answers = iter([PASSWORD, PASSWORD, PASSWORD, PASSWORD + "x"])
    monkeypatch.setattr("server.commands.users.getpass.getpass", lambda _: next(answers))

    class Terminal(StringIO):
        def isatty(self):
            return True

    monkeypatch.setattr("tests.conftest.io.StringIO", lambda text="": Terminal(text))
    user("add", "anna", "--role", "viewer")
    assert await may_log_in(nobody, "anna")
    code, _, errors = command("user", "reset-password", "anna")
    assert (code, errors) == (1, "reportd: The two passwords differ. Run the command again.\n")


async def test_a_new_password_ends_the_sessions(client, nobody, user):
    user("add", "anna", "--role", "viewer")
    user("add", "ben", "--role", "viewer")
    anna, ben = await logged_in(nobody, "anna"), await logged_in(nobody, "ben")
    user("reset-password", "anna", given="a new password 123\n")
    client.app[SERVICES].callers.clear()
    assert (await nobody.get(RUNS, headers=anna)).status == 401
    assert (await nobody.get(RUNS, headers=ben)).status == 200
    assert await may_log_in(nobody, "anna", "a new password 123") and not await may_log_in(nobody, "anna")


async def test_a_disabled_person_cannot_log_in_until_enabled(client, nobody, user):
    user("add", "anna", "--role", "viewer")
    headers = await logged_in(nobody, "anna")
    (line,) = user("disable", "anna")
    assert line.startswith("disabled anna (") and listed(user)["anna"][0] == "disabled"
    client.app[SERVICES].callers.clear()
    assert (await nobody.get(RUNS, headers=headers)).status == 401
    assert not await may_log_in(nobody, "anna")
    user("disable", "anna")
    user("enable", "anna")
    assert listed(user)["anna"][0] == "valid" and await may_log_in(nobody, "anna")
    assert (await nobody.get(RUNS, headers=headers)).status == 401  # enabling does not restore old sessions


async def test_set_roles_replaces_all_roles(client, nobody, user, rows):
    user("add", "anna", "--role", "admin")
    headers = await logged_in(nobody, "anna")
    assert (await nobody.get("/metrics", headers=headers)).status == 200
    user_id = str(rows("SELECT id FROM users")[0]["id"])
    user("set-roles", user_id, "--role", "default=viewer")
    assert listed(user)["anna"][1] == "default=viewer"
    client.app[SERVICES].callers.clear()
    assert (await nobody.get("/metrics", headers=headers)).status == 403
    assert (await nobody.post(RUNS, json={"name": "x"}, headers=headers)).status == 403
    assert (await nobody.get(RUNS, headers=headers)).status == 200


@pytest.mark.parametrize(
    ("arguments", "given", "message"),
    [
        (("add", "ANNA", "--role", "viewer"), PASSWORD, "A person named ANNA exists already. Choose another name."),
        (("add", "ben", "--role", "viewer"), "", "A password must have at least 12 characters."),
        (("add", "ben", "--role", "viewer"), "x" * 1001, "A password must have at most 1000 characters."),
        (
            ("add", "benjamin", "--role", "viewer"),
            "Benjamin2026",
            "A password that contains the name must have at least 12 more characters.",
        ),
        (("reset-password", "anna"), "short", "A password must have at least 12 characters."),
        (("reset-password", "nobody"), PASSWORD, UNKNOWN),
        (("disable", "nobody"), "", UNKNOWN),
        (("enable", "nobody"), "", UNKNOWN),
        (("set-roles", "nobody", "--role", "viewer"), "", UNKNOWN),
    ],
)
def test_a_refused_command_prints_the_reason_and_changes_nothing(command, user, rows, arguments, given, message):
    user("add", "anna", "--role", "viewer")
    query = "SELECT to_jsonb(u)::text, (SELECT count(*) FROM user_roles) FROM users u"
    before = rows(query)
    assert command("user", *arguments, given=given + "\n") == (1, "", f"reportd: {message}\n")
    assert rows(query) == before


@pytest.mark.parametrize(
    "arguments",
    [
        ("add", "anna"),
        ("add", "--role", "viewer"),
        ("add", "", "--role", "viewer"),
        ("add", "x" * 101, "--role", "viewer"),
        ("add", "an\nna", "--role", "viewer"),
        ("add", "anna", "--role", "owner"),
        ("add", "anna", "--role", "web="),
        ("add", "anna", "--role", "=viewer"),
        ("add", "anna", "--role", "web=viewer", "--role", "web=admin"),
        ("add", "anna", "--role", "viewer", "--role", "admin"),
        ("set-roles", "anna"),
        ("forget", "anna"),
        (),
    ],
)
def test_wrong_usage(command, rows, arguments):
    with pytest.raises(SystemExit) as ended:
        command("user", *arguments)
    assert ended.value.code == 2
    assert rows("SELECT FROM users") == []


def test_each_change_has_an_audit_entry(command, user, rows):
    user("add", "anna", "--role", "viewer", "--role", "web=admin")
    user("set-roles", "anna", "--role", "uploader")
    user("reset-password", "anna")
    user("disable", "anna")
    user("enable", "anna")
    command("user", "add", "anna", "--role", "viewer", given=PASSWORD)
    command("user", "disable", "nobody")
    user("list")
    (person,) = rows("SELECT id FROM users")
    entries = rows("SELECT * FROM audit_entries ORDER BY id")
    assert [(entry["action"], entry["detail"]) for entry in entries] == [
        ("user.created", {"roles": ["viewer", "web=admin"]}),
        ("user.roles_changed", {"roles": ["uploader"]}),
        ("user.password_reset", {}),
        ("user.disabled", {}),
        ("user.enabled", {}),
    ]
    assert {
        (entry["actor_kind"], entry["subject_kind"], entry["subject_name"], entry["subject_id"]) for entry in entries
    } == {("command", "person", "anna", person["id"])}


def test_a_password_that_is_not_utf8_is_refused(command, rows):
    """Python decodes invalid UTF-8 to lone surrogates, which a password must not contain."""
    code, _, errors = command("user", "add", "anna", "--role", "viewer", given="\udcff is long enough\n")
    assert code == 1 and errors.startswith("reportd: A password must be text") and errors.count("\n") == 1
    assert rows("SELECT FROM users") == []


def test_passwords_are_judged_by_length():
    assert SHORTEST == 12 and LONGEST == 1000
    for fine in ("aaaaaaaaaaab", "1234 5678 9012", "ü" * 12, "x" * 1000, "annanother password"):
        assert problem_of(fine, "anna") is None
    for bad in ("", "x" * 11, "x" * 1001, "anna12345678", "12345ANNA678", "\0" * 12, "\udcff" * 12):
        assert problem_of(bad, "anna")
