"""The commands that add, list, change and disable people."""

import re
from io import StringIO

import pytest

from server.auth.passwords import LONGEST, SHORTEST, problem_of
from server.services import SERVICES
from tests.people import LOGIN, PASSWORD, logged_in

RUNS = "/api/v1/reports/suite-runs"


@pytest.fixture
def user(command):
    """user("add", "anna", …): the lines that it prints, those on standard error last; it must succeed."""

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


async def test_who_is_added_can_log_in(nobody, user, rows):
    (said,) = user("add", "anna", "--role", "viewer", "--role", "web=admin", "--role", "a=b=uploader")
    assert re.fullmatch(r"added anna \([0-9a-f-]{36}\)", said)
    assert listed(user) == {"anna": ("valid", "viewer, a=b=uploader, web=admin")}
    assert {row["name"] for row in rows("SELECT name FROM projects")} == {"default", "web", "a=b"}
    assert await may_log_in(nobody, "Anna") and not await may_log_in(nobody, "anna", "another password")
    assert rows("SELECT password_hash FROM users")[0]["password_hash"].startswith("$argon2id$v=19$m=65536,t=3,p=4$")


async def test_a_password_can_be_made(nobody, user):
    (made,) = user("add", "anna", "--role", "viewer", "--generate", given="")
    assert len(made) == 24 and await may_log_in(nobody, "anna", made)
    again, said = user("reset-password", "anna", "--generate", given="")
    assert again != made and said.startswith("changed the password of anna (")
    assert await may_log_in(nobody, "anna", again) and not await may_log_in(nobody, "anna", made)


async def test_a_password_is_asked_for_at_a_terminal(nobody, user, command, monkeypatch):
    answers = iter([PASSWORD, PASSWORD, PASSWORD, PASSWORD + "x"])
    monkeypatch.setattr("server.commands.users.getpass.getpass", lambda _: next(answers))

    class Terminal(StringIO):
        def isatty(self):
            return True

    monkeypatch.setattr("tests.conftest.io.StringIO", lambda text="": Terminal(text))
    user("add", "anna", "--role", "viewer")
    assert await may_log_in(nobody, "anna")
    assert command("user", "reset-password", "anna")[::2] == (1, "reportd: The two are not the same.\n")


async def test_another_password_ends_the_sessions(client, nobody, user):
    user("add", "anna", "--role", "viewer")
    user("add", "ben", "--role", "viewer")
    anna, ben = await logged_in(nobody, "anna"), await logged_in(nobody, "ben")
    user("reset-password", "anna", given="a new password 123\n")
    client.app[SERVICES].callers.clear()
    assert (await nobody.get(RUNS, headers=anna)).status == 401
    assert (await nobody.get(RUNS, headers=ben)).status == 200
    assert await may_log_in(nobody, "anna", "a new password 123") and not await may_log_in(nobody, "anna")


async def test_who_is_disabled_is_out_until_enabled(client, nobody, user):
    user("add", "anna", "--role", "viewer")
    headers = await logged_in(nobody, "anna")
    (said,) = user("disable", "anna")
    assert said.startswith("disabled anna (") and listed(user)["anna"][0] == "disabled"
    client.app[SERVICES].callers.clear()
    assert (await nobody.get(RUNS, headers=headers)).status == 401
    assert not await may_log_in(nobody, "anna")
    user("disable", "anna")
    user("enable", "anna")
    assert listed(user)["anna"][0] == "valid" and await may_log_in(nobody, "anna")
    assert (await nobody.get(RUNS, headers=headers)).status == 401  # what was ended stays so


async def test_other_roles_take_the_place_of_those_before(client, nobody, user, rows):
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
    ("arguments", "given", "said"),
    [
        (("add", "ANNA", "--role", "viewer"), PASSWORD, "There is a person named ANNA already."),
        (("add", "ben", "--role", "viewer"), "", "A password must have at least 12 characters."),
        (("add", "ben", "--role", "viewer"), "x" * 1001, "A password must have at most 1000 characters."),
        (("add", "benjamin", "--role", "viewer"), "Benjamin2026", "A password must not be made of the name."),
        (("reset-password", "anna"), "short", "A password must have at least 12 characters."),
        (("reset-password", "nobody"), PASSWORD, "There is no person with the id or name nobody."),
        (("disable", "nobody"), "", "There is no person with the id or name nobody."),
        (("enable", "nobody"), "", "There is no person with the id or name nobody."),
        (("set-roles", "nobody", "--role", "viewer"), "", "There is no person with the id or name nobody."),
    ],
)
def test_what_cannot_be_done_is_said_and_changes_nothing(command, user, rows, arguments, given, said):
    user("add", "anna", "--role", "viewer")
    look = "SELECT to_jsonb(u)::text, (SELECT count(*) FROM user_roles) FROM users u"
    before = rows(look)
    assert command("user", *arguments, given=given + "\n") == (1, "", f"reportd: {said}\n")
    assert rows(look) == before


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


def test_each_change_is_noted(command, user, rows):
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
    told = [(entry["action"], entry["detail"]) for entry in entries]
    assert told == [
        ("user.created", {"roles": ["viewer", "web=admin"]}),
        ("user.roles_changed", {"roles": ["uploader"]}),
        ("user.password_reset", {}),
        ("user.disabled", {}),
        ("user.enabled", {}),
    ]
    assert {
        (entry["actor_kind"], entry["subject_kind"], entry["subject_name"], entry["subject_id"]) for entry in entries
    } == {("command", "person", "anna", person["id"])}


def test_a_password_that_is_no_text_is_refused(command, rows):
    """Python reads bytes that are no UTF-8 as lone surrogates, which no password can have."""
    code, _, errors = command("user", "add", "anna", "--role", "viewer", given="\udcff is long enough\n")
    assert code == 1 and errors.startswith("reportd: A password must be text") and errors.count("\n") == 1
    assert rows("SELECT FROM users") == []


def test_length_is_what_counts():
    assert SHORTEST == 12 and LONGEST == 1000
    for fine in ("aaaaaaaaaaab", "1234 5678 9012", "ü" * 12, "x" * 1000, "annanother password"):
        assert problem_of(fine, "anna") is None
    for bad in ("", "x" * 11, "x" * 1001, "anna12345678", "12345ANNA678", "\0" * 12, "\udcff" * 12):
        assert problem_of(bad, "anna")
