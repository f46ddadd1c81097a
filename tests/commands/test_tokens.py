"""Tokens: their format, and the commands that create, list, rotate and revoke them."""

import asyncio
import re
import zlib
from datetime import UTC, datetime, timedelta
from http.cookies import SimpleCookie

import pytest

from server.auth.tokens import hash_of, is_token, new_token
from server.commands import first_access
from server.database.embedded import EmbeddedError
from server.http.authenticate import COOKIE
from server.services import SERVICES

RUNS = "/api/v1/reports/suite-runs"
SESSION = "/api/v1/auth/session"
OLD = "rpt_" + "aZ09-_" * 7 + "x"  # the format before the checksum was introduced


@pytest.fixture
def token(command):
    """token("create", "--name", …): the printed lines, those of standard error last. The command must succeed."""

    def run(*arguments):
        code, output, errors = command("token", *arguments)
        assert code == 0, errors
        return (output + errors).splitlines()

    return run


@pytest.fixture
def status(nobody):
    """await status(token, or Cookie=…): the status of a GET with it; the caller cache is cleared first."""

    async def ask(secret="", **headers):
        nobody.app[SERVICES].callers.clear()
        headers = headers or {"Authorization": f"Bearer {secret}"}
        return (await nobody.get(RUNS, headers=headers)).status

    return ask


def base62(number):
    digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
    return "".join(digits[number // 62**place % 62] for place in range(5, -1, -1))


# --- the format ------------------------------------------------------------------------------------------------


def test_the_format_is_the_documented_one():
    made = {new_token() for _ in range(500)}
    assert len(made) == 500
    for text in made:
        assert re.fullmatch(r"rpt_[0-9A-Za-z]{49}", text)
        assert text[-6:] == base62(zlib.crc32(text[4:-6].encode())) and is_token(text)
    assert len({text[4:24] for text in made}) == 500
    assert base62(2**32 - 1) == "4gfFC3"  # the largest CRC-32 fits into 6 digits


def test_every_typo_of_one_character_is_detected():
    text = new_token()
    for place in range(len(text)):
        for other in "0aZ-_ é":
            if other != text[place]:
                assert not is_token(text[:place] + other + text[place + 1 :]), (text, place, other)
        assert not is_token(text[:place] + text[place + 1 :])
        assert not is_token(text[:place] + "0" + text[place:])
    swapped = [text[:i] + text[i + 1] + text[i] + text[i + 2 :] for i in range(52) if text[i] != text[i + 1]]
    assert not any(map(is_token, swapped))


def test_a_token_of_the_old_format_is_recognised_by_its_length():
    assert is_token(OLD) and len(OLD) == 47
    for text in (OLD[:-1], OLD + "x", OLD[:-1] + "é", OLD.replace("rpt_", "rpt-"), "x" + OLD, OLD + "\n", ""):
        assert not is_token(text)


async def test_a_token_of_the_old_format_works(status, rows, token):
    token("create", "--name", "old", "--role", "viewer")
    assert await status(OLD) == 401
    rows("UPDATE tokens SET token_hash = %s WHERE name = 'old'", hash_of(OLD))
    assert await status(OLD) == 200


# --- create and list -------------------------------------------------------------------------------------------


async def test_the_default_role_is_uploader_and_cannot_delete(nobody, token):
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
            detail = (await gone.json())["detail"]
            assert detail == f"This needs the role admin; yours is {role or 'uploader'}."
    lines = {line.split()[1]: line.split()[3] for line in token("list")[1:]}
    assert {name: role for name, role in lines.items() if name in ("None", "viewer", "uploader", "admin")} == {
        "None": "uploader",
        "viewer": "viewer",
        "uploader": "uploader",
        "admin": "admin",
    }


def test_the_list_shows_role_and_expiry(token):
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


def test_wrong_options_are_refused(command):
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


async def test_the_former_secret_works_during_the_overlap(nobody, status, token, rows):
    (former,) = token("create", "--name", "ci", "--project", "shop", "--shape", "array", "--role", "admin")
    before = rows("SELECT id, name, role, project_id, collection_shape, expires_at FROM tokens WHERE name = 'ci'")
    keyed = {"Authorization": f"Bearer {former}", "Idempotency-Key": "k"}
    first = await nobody.post(RUNS, json={"name": "x"}, headers=keyed)
    new, line = token("rotate", "ci", "--overlap", "2h")
    assert re.fullmatch(rf"rotated ci \({before[0]['id']}\); the former secret works until \S+ \S+ UTC", line)
    assert new != former and [await status(new), await status(former)] == [200, 200]
    after = rows("SELECT id, name, role, project_id, collection_shape, expires_at FROM tokens WHERE name = 'ci'")
    assert after == before
    # The new secret is the same caller: its Idempotency-Key still replays the reply.
    again = await nobody.post(RUNS, json={"name": "x"}, headers={**keyed, "Authorization": f"Bearer {new}"})
    assert (again.headers.get("Idempotent-Replayed"), await again.json()) == ("true", await first.json())
    (line,) = [line for line in token("list") if " ci " in line]
    assert re.search(r"valid, former secret until \S+ \S+$", line)
    rows("UPDATE former_secrets SET expires_at = now() - interval '1 s'")
    assert [await status(new), await status(former)] == [200, 401]
    (line,) = [line for line in token("list") if " ci " in line]
    assert line.endswith("  valid")


async def test_without_an_overlap_a_leaked_secret_and_its_sessions_end(nobody, status, token):
    (former,) = token("create", "--name", "ci")
    bearer = {"Authorization": f"Bearer {former}"}
    session = await nobody.post(SESSION, headers=bearer)
    cookie = f"{COOKIE}={SimpleCookie(session.headers['Set-Cookie'])[COOKIE].value}"
    assert [await status(former), await status(Cookie=cookie)] == [200, 200]
    assert await status(former) == 200  # now cached, for 5 seconds at most
    new, line = token("rotate", "ci", "--overlap", "0h")
    assert line.endswith("; the former secret works for 5 seconds at most")
    # A session started with the cached secret is invalid, too.
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


async def test_expiry_and_revocation_apply_to_every_secret(status, token, rows):
    (former,) = token("create", "--name", "ci", "--expires", "1h")
    new = token("rotate", "ci", "--overlap", "90d", "--expires", "52w")[0]
    (row,) = rows("SELECT t.expires_at - now() > interval '51 weeks' AS long, f.expires_at - now() < interval '1 h' AS"
                  " short FROM tokens t JOIN former_secrets f ON f.token_id = t.id")  # fmt: skip
    assert row == {"long": True, "short": True}  # a rotation never extends an old secret
    assert [await status(former), await status(new)] == [200, 200]
    token("revoke", "ci")
    assert [await status(former), await status(new)] == [401, 401]


def test_a_revoked_or_expired_token_cannot_be_rotated(command, token, rows):
    token("create", "--name", "revoked")
    token("revoke", "revoked")
    token("create", "--name", "expired", "--expires", "1h")
    rows("UPDATE tokens SET expires_at = now() - interval '1 s' WHERE name = 'expired'")
    for name in ("revoked", "expired", "nobody"):
        message = f"reportd: No valid token has the id or name {name}. See `reportd token list`.\n"
        assert command("token", "rotate", name) == (1, "", message)


async def test_an_id_wins_over_an_equal_name(status, token, rows):
    (one,) = token("create", "--name", "one")
    (row,) = rows("SELECT id::text AS id FROM tokens WHERE name = 'one'")
    (two,) = token("create", "--name", row["id"])
    token("rotate", row["id"], "--overlap", "0h")
    assert [await status(one), await status(two)] == [401, 200]


def test_up_does_not_recreate_a_token_from_a_former_secret_in_its_file(tmp_path, dsn, token, rows):
    former, path = new_token(), tmp_path / "admin-token"
    path.write_text(former + "\n")
    asyncio.run(first_access.ensure(tmp_path, dsn))
    token("rotate", "admin", "--overlap", "0h")
    for revoked in (False, True):
        if revoked:
            token("revoke", "admin")
        asyncio.run(first_access.ensure(tmp_path, dsn))
        assert len(rows("SELECT FROM tokens")) == 1
    path.write_text("hunter2\n")
    with pytest.raises(EmbeddedError, match="holds no token"):
        asyncio.run(first_access.ensure(tmp_path, dsn))


@pytest.mark.parametrize("verb", ["revoke", "rotate"])
def test_a_token_named_like_an_id_is_not_touched(token, rows, verb):
    """A token may be named like the id of another. The id wins, and the audit entry names the token changed."""
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
    token("revoke", str(first))  # matches by name once no valid token has that id
    assert len(rows("SELECT FROM tokens WHERE revoked_at IS NOT NULL")) == (2 if verb == "revoke" else 1)
