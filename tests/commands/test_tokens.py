"""Tokens: how their text is made, and the commands that make, list, rotate and end them."""

import asyncio
import re
import zlib
from datetime import UTC, datetime, timedelta
from http.cookies import SimpleCookie

import pytest

from server.auth.tokens import hash_of, is_token, new_token
from server.commands import up
from server.database.embedded import EmbeddedError
from server.http.authenticate import COOKIE
from server.services import SERVICES

RUNS = "/api/v1/reports/suite-runs"
SESSION = "/api/v1/auth/session"
OLD = "rpt_" + "aZ09-_" * 7 + "x"  # as they were made before there was a checksum


@pytest.fixture
def token(command):
    """token("create", "--name", …): the lines that it prints, those on standard error last; it must succeed."""

    def run(*arguments):
        code, output, errors = command("token", *arguments)
        assert code == 0, errors
        return (output + errors).splitlines()

    return run


@pytest.fixture
def status(nobody):
    """await status(token or cookie={…}): what a GET with it is answered, past the cache."""

    async def ask(secret="", **headers):
        nobody.app[SERVICES].callers.clear()
        headers = headers or {"Authorization": f"Bearer {secret}"}
        return (await nobody.get(RUNS, headers=headers)).status

    return ask


def base62(number):
    digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
    return "".join(digits[number // 62**place % 62] for place in range(5, -1, -1))


# --- the text --------------------------------------------------------------------------------------------------


def test_the_text_is_as_readme_says():
    made = {new_token() for _ in range(500)}
    assert len(made) == 500
    for text in made:
        assert re.fullmatch(r"rpt_[0-9A-Za-z]{49}", text)
        assert text[-6:] == base62(zlib.crc32(text[4:-6].encode())) and is_token(text)
    assert len({text[4:24] for text in made}) == 500
    assert base62(2**32 - 1) == "4gfFC3"  # fits with room


def test_every_typo_of_one_place_is_noticed():
    text = new_token()
    for place in range(len(text)):
        for other in "0aZ-_ é":
            if other != text[place]:
                assert not is_token(text[:place] + other + text[place + 1 :]), (text, place, other)
        assert not is_token(text[:place] + text[place + 1 :])
        assert not is_token(text[:place] + "0" + text[place:])
    swapped = [text[:i] + text[i + 1] + text[i] + text[i + 2 :] for i in range(52) if text[i] != text[i + 1]]
    assert not any(map(is_token, swapped))


def test_the_text_of_former_times_is_known_by_its_length():
    assert is_token(OLD) and len(OLD) == 47
    for text in (OLD[:-1], OLD + "x", OLD[:-1] + "é", OLD.replace("rpt_", "rpt-"), "x" + OLD, OLD + "\n", ""):
        assert not is_token(text)


async def test_a_token_of_former_times_works(status, rows, token):
    token("create", "--name", "old", "--role", "viewer")
    assert await status(OLD) == 401
    rows("UPDATE tokens SET token_hash = %s WHERE name = 'old'", hash_of(OLD))
    assert await status(OLD) == 200


# --- create and list -------------------------------------------------------------------------------------------


async def test_what_is_made_without_a_word_is_for_ci(nobody, token):
    for role in (None, "viewer", "uploader", "admin"):
        given = ["--role", role] if role else []
        (secret,) = token("create", "--name", f"{role}", *given)
        headers = {"Authorization": f"Bearer {secret}"}
        made = await nobody.post(RUNS, json={"name": "x", "run_key": "k"}, headers=headers)
        assert made.ok == (role != "viewer")
        run = (await (await nobody.get(RUNS, headers=headers)).json())["items"][0]["id"]
        gone = await nobody.delete(f"{RUNS}/{run}", headers=headers)
        assert gone.status == (204 if role == "admin" else 403)
        if not gone.ok:
            said = (await gone.json())["detail"]
            assert said == f"This needs the role admin; yours is {role or 'uploader'}."
    lines = {line.split()[1]: line.split()[3] for line in token("list")[1:]}
    assert {name: role for name, role in lines.items() if name in ("None", "viewer", "uploader", "admin")} == {
        "None": "uploader",
        "viewer": "viewer",
        "uploader": "uploader",
        "admin": "admin",
    }


def test_the_list_shows_role_and_end(token):
    token("create", "--name", "ci", "--project", "shop", "--expires", "90d")
    token("create", "--name", "mine", "--role", "admin")
    head, *lines = token("list")
    assert head.split() == ["ID", "NAME", "PROJECT", "ROLE", "CREATED", "LAST", "USED", "EXPIRES", "STATE"]
    end = (datetime.now(UTC) + timedelta(days=90)).strftime("%Y-%m-%d")
    (ci,), (mine,) = ([line for line in lines if f"  {name} " in line] for name in ("ci", "mine"))
    assert re.search(rf"  shop +uploader +\S+ \S+ +never +{end} \S+ +valid$", ci)
    assert re.search(r"  \(all\) +admin +\S+ \S+ +never +never +valid$", mine)
    for line in (head, ci, mine):
        assert line.index(line.split()[-1]) == head.index("STATE")


def test_wrong_words_are_refused(command):
    for arguments in (
        ["create", "--name", "x", "--role", "owner"],
        ["rotate", "x", "--overlap", "5"],
        ["rotate", "x", "--overlap", "-1h"],
        ["rotate", "x", "--expires", "0h"],
        ["rotate"],
    ):
        with pytest.raises(SystemExit) as ended:
            command("token", *arguments)
        assert ended.value.code == 2, arguments


# --- rotate ----------------------------------------------------------------------------------------------------


async def test_the_former_secret_works_on_for_the_overlap(nobody, status, token, rows):
    (former,) = token("create", "--name", "ci", "--project", "shop", "--shape", "array", "--role", "admin")
    before = rows("SELECT id, name, role, project_id, collection_shape, expires_at FROM tokens WHERE name = 'ci'")
    keyed = {"Authorization": f"Bearer {former}", "Idempotency-Key": "k"}
    first = await nobody.post(RUNS, json={"name": "x"}, headers=keyed)
    new, said = token("rotate", "ci", "--overlap", "2h")
    assert re.fullmatch(rf"rotated ci \({before[0]['id']}\); the former secret works until \S+ \S+ UTC", said)
    assert new != former and [await status(new), await status(former)] == [200, 200]
    after = rows("SELECT id, name, role, project_id, collection_shape, expires_at FROM tokens WHERE name = 'ci'")
    assert after == before
    # The same caller: what was done once is done.
    again = await nobody.post(RUNS, json={"name": "x"}, headers={**keyed, "Authorization": f"Bearer {new}"})
    assert (again.headers.get("Idempotent-Replayed"), await again.json()) == ("true", await first.json())
    (line,) = [line for line in token("list") if " ci " in line]
    assert re.search(r"valid, its former secret until \S+ \S+$", line)
    rows("UPDATE former_secrets SET expires_at = now() - interval '1 s'")
    assert [await status(new), await status(former)] == [200, 401]
    (line,) = [line for line in token("list") if " ci " in line]
    assert line.endswith("  valid")


async def test_without_an_overlap_a_leaked_secret_ends_with_its_sessions(nobody, status, token):
    (former,) = token("create", "--name", "ci")
    bearer = {"Authorization": f"Bearer {former}"}
    session = await nobody.post(SESSION, headers=bearer)
    cookie = f"{COOKIE}={SimpleCookie(session.headers['Set-Cookie'])[COOKIE].value}"
    assert [await status(former), await status(Cookie=cookie)] == [200, 200]
    assert await status(former) == 200  # cached: for 5 seconds at most
    new, said = token("rotate", "ci", "--overlap", "0h")
    assert said.endswith("; the former secret works for 5 seconds at most")
    # A session that it starts while it is still cached is over, too.
    late = await nobody.post(SESSION, headers=bearer)
    late = f"{COOKIE}={SimpleCookie(late.headers['Set-Cookie'])[COOKIE].value}"
    assert [await status(new), await status(former), await status(Cookie=cookie)] == [200, 401, 401]
    assert await status(Cookie=late) == 401


async def test_a_session_ends_with_the_secret_that_started_it(nobody, token, rows):
    (former,) = token("create", "--name", "ci", "--expires", "30d")
    new = token("rotate", "ci", "--overlap", "1h")[0]
    hours = []
    for secret in (former, new):
        reply = await nobody.post(SESSION, headers={"Authorization": f"Bearer {secret}"})
        ends = datetime.fromisoformat((await reply.json())["expires_at"])
        hours.append(round((ends - datetime.now(UTC)) / timedelta(hours=1)))
    assert hours == [1, 12]
    rows("UPDATE tokens SET expires_at = now() + interval '3 hours' WHERE name = 'ci'")
    reply = await nobody.post(SESSION, headers={"Authorization": f"Bearer {new}"})
    ends = datetime.fromisoformat((await reply.json())["expires_at"])
    assert round((ends - datetime.now(UTC)) / timedelta(hours=1)) == 3


async def test_rotating_again_shortens_an_overlap_and_never_lengthens_one(status, token):
    (first,) = token("create", "--name", "ci")
    second = token("rotate", "ci", "--overlap", "1h")[0]
    third = token("rotate", "ci")[0]
    assert [await status(each) for each in (first, second, third)] == [200, 200, 200]
    fourth = token("rotate", "ci", "--overlap", "0d")[0]
    assert [await status(each) for each in (first, second, third, fourth)] == [401, 401, 401, 200]


async def test_an_end_and_a_revocation_are_for_every_secret(status, token, rows):
    (former,) = token("create", "--name", "ci", "--expires", "1h")
    new = token("rotate", "ci", "--overlap", "90d", "--expires", "52w")[0]
    (row,) = rows("SELECT t.expires_at - now() > interval '51 weeks' AS long, f.expires_at - now() < interval '1 h' AS"
                  " short FROM tokens t JOIN former_secrets f ON f.token_id = t.id")  # fmt: skip
    assert row == {"long": True, "short": True}  # a rotation never lets an old secret live longer
    assert [await status(former), await status(new)] == [200, 200]
    token("revoke", "ci")
    assert [await status(former), await status(new)] == [401, 401]


def test_what_is_over_cannot_be_rotated(command, token, rows):
    token("create", "--name", "revoked")
    token("revoke", "revoked")
    token("create", "--name", "expired", "--expires", "1h")
    rows("UPDATE tokens SET expires_at = now() - interval '1 s' WHERE name = 'expired'")
    for name in ("revoked", "expired", "nobody"):
        said = f"reportd: There is no valid token with the id or name {name}.\n"
        assert command("token", "rotate", name) == (1, "", said)


async def test_an_id_is_meant_before_a_name(status, token, rows):
    (one,) = token("create", "--name", "one")
    (row,) = rows("SELECT id::text AS id FROM tokens WHERE name = 'one'")
    (two,) = token("create", "--name", row["id"])
    token("rotate", row["id"], "--overlap", "0h")
    assert [await status(one), await status(two)] == [401, 200]


def test_a_former_secret_in_the_file_of_up_is_not_made_a_token_again(tmp_path, dsn, token, rows):
    former, path = new_token(), tmp_path / "admin-token"
    path.write_text(former + "\n")
    asyncio.run(up._ensure_token(tmp_path, dsn))
    token("rotate", "admin", "--overlap", "0h")
    for revoked in (False, True):
        if revoked:
            token("revoke", "admin")
        asyncio.run(up._ensure_token(tmp_path, dsn))
        assert len(rows("SELECT FROM tokens")) == 1
    path.write_text("hunter2\n")
    with pytest.raises(EmbeddedError, match="holds no token"):
        asyncio.run(up._ensure_token(tmp_path, dsn))


@pytest.mark.parametrize("verb", ["revoke", "rotate"])
def test_an_id_is_no_name_of_another(token, rows, verb):
    """A token may be named like another's id: that one alone is meant, and the audit trail says so."""
    token("create", "--name", "first")
    first = rows("SELECT id FROM tokens")[0]["id"]
    token("create", "--name", str(first))
    token(verb, str(first))
    action = {"revoke": "token.revoked", "rotate": "token.rotated"}[verb]
    assert rows("SELECT subject_id, subject_name FROM audit_entries WHERE action = %s", action) == [
        {"subject_id": first, "subject_name": "first"}
    ]
    revoked = {row["name"]: row["revoked_at"] is not None for row in rows("SELECT name, revoked_at FROM tokens")}
    assert revoked == {"first": verb == "revoke", str(first): False}
    token("revoke", str(first))  # as a name, once no valid token has that id
    assert len(rows("SELECT FROM tokens WHERE revoked_at IS NOT NULL")) == (2 if verb == "revoke" else 1)
