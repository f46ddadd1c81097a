"""CI jobs exchange ID tokens for tokens: by which rules, how long they last, and everything that is refused."""

import asyncio
import base64
import json
import time

import pytest
from aiohttp import web
from joserfc.jwk import ECKey, OKPKey, RSAKey

from server.auth import exchange as exchanges
from server.auth import issuers, throttling
from server.auth.tokens import is_token
from server.database.queries import SQL
from server.http import fetch
from server.services import SERVICES
from server.trust import CiRule
from tests import provider as providers
from tests.people import logged_in

EXCHANGE = "/api/v1/auth/exchange"
RUNS = "/api/v1/reports/suite-runs"
DISCOVERY = "/.well-known/openid-configuration"


@pytest.fixture
async def issuer():
    async with providers.running() as provider:
        yield provider


@pytest.fixture
async def job(start, aiohttp_client, issuer):
    """A client that sends no token, of a server that trusts the issuer."""
    rules = [
        CiRule(issuer.issuer, "reportd", "web", {"repository": "acme/shop", "ref": ["refs/heads/*", "refs/tags/v?"]}),
        CiRule(issuer.issuer, "reportd", "api", {"repository": "acme/shop", "ref_protected": "true"}),
        CiRule(issuer.issuer, "other", "deploy", {"repository": "acme/*"}),
    ]
    return await aiohttp_client((await start(auth={"ci": rules})).server)


async def send(job, token, remote="127.0.0.1", **fields):
    reply = await job.post(EXCHANGE, json={"token": token, **fields}, headers={"X-Forwarded-For": remote})
    return reply.status, await reply.json()


def forget(job):
    """Make the server know nothing about issuers, as after its start."""
    services = job.app[SERVICES]
    services.issuers = issuers.Issuers({rule.issuer for rule in services.config.auth.ci}, services.issuers.fetch)


def audit(rows):
    return rows(
        "SELECT action, actor_kind, actor_name, subject_name, project_id, detail FROM audit_entries ORDER BY id"
    )


async def test_a_job_gets_a_token_that_uploads_to_its_project_for_15_minutes(job, issuer, rows):
    status, made = await send(job, issuer.sign(issuer.claims()))
    assert status == 201 and is_token(made["token"])
    assert (made["project"], made["role"]) == ("web", "uploader")
    bearer = {"Authorization": f"Bearer {made['token']}"}
    run = await job.post(RUNS, json={"name": "nightly"}, headers=bearer)
    assert (run.status, (await run.json())["project"]) == (201, "web")
    assert (await job.delete(f"{RUNS}/{(await run.json())['id']}", headers=bearer)).status == 403
    assert (await job.post(RUNS, json={"name": "x", "project": "api"}, headers=bearer)).status == 422
    assert 890 < rows("SELECT extract(epoch FROM expires_at - now()) AS s FROM former_secrets")[0]["s"] <= 900
    assert made["token"] not in str(rows("SELECT * FROM tokens, former_secrets"))
    entry = next(entry for entry in audit(rows) if entry["action"] == "token.exchanged")
    assert entry["subject_name"].startswith("repo:acme/shop:ref:refs/heads/main #") and entry["actor_kind"] == "token"
    assert entry["detail"]["claims"] == {"repository": "acme/shop", "ref": "refs/heads/main"}
    assert entry["detail"]["issuer"] == issuer.issuer and entry["project_id"] is not None
    rows("UPDATE former_secrets SET expires_at = now() - interval '1 second'")
    job.app[SERVICES].callers.clear()
    assert (await job.get(RUNS, headers=bearer)).status == 401
    rows(SQL.tokens.sweep)
    assert rows("SELECT 1 FROM former_secrets") == []


async def test_all_exchanges_of_a_subject_are_one_caller(job, issuer, rows, command):
    """Otherwise a job of more than 15 minutes could not repeat a request with its Idempotency-Key."""
    bearers = [{"Authorization": f"Bearer {(await send(job, issuer.sign(issuer.claims())))[1]['token']}"} for _ in "ab"]
    replies = [await job.post(RUNS, json={"name": "x"}, headers={**b, "Idempotency-Key": "k"}) for b in bearers]
    assert len({(await reply.json())["id"] for reply in replies}) == 1
    other = await send(job, issuer.sign(issuer.claims(sub="repo:acme/shop:ref:refs/heads/x")))
    third = {"Authorization": f"Bearer {other[1]['token']}", "Idempotency-Key": "k"}
    assert (await (await job.post(RUNS, json={"name": "x"}, headers=third)).json())["id"] != (await replies[0].json())[
        "id"
    ]
    assert len(rows("SELECT 1 FROM tokens WHERE subject_hash IS NOT NULL")) == 2
    code, listed, _ = command("token", "list")
    assert code == 0 and listed.count("of CI, last secret until") == 2
    name = rows("SELECT name FROM tokens WHERE name LIKE '%%main%%'")[0]["name"]
    code, _, errors = command("token", "rotate", name)  # its secret would not end after 15 minutes
    assert code != 0 and "No valid token" in errors
    assert command("token", "revoke", name)[0] == 0
    job.app[SERVICES].callers.clear()
    assert [(await job.get(RUNS, headers=bearer)).status for bearer in (*bearers, third)] == [401, 401, 200]
    assert (await send(job, issuer.sign(issuer.claims())))[0] == 201  # the rule is still there


RULES = {
    "the branch": ({"ref": "refs/heads/a/b"}, None, "web"),
    "an alternative": ({"ref": "refs/tags/v?"}, None, "web"),
    "the second rule": ({"ref": "x", "ref_protected": True}, None, "api"),
    "the project that is asked for": ({"ref_protected": "true"}, "api", "api"),
    "another audience": ({"aud": ["x", "other"], "ref": "x"}, None, "deploy"),
    "a list": ({"repository": ["a", "acme/shop"]}, None, "web"),
}


async def test_the_first_rule_that_matches_decides(job, issuer):
    for case, (claims, project, expected) in RULES.items():
        status, made = await send(job, issuer.sign(issuer.claims(**claims)), project=project)
        assert (status, made.get("project")) == (201, expected), (case, made)


REFUSED = {
    "another repository": ({"repository": "acme/shop2"}, None, "repository"),
    "no such claim": ({"repository": None}, None, "repository"),
    "an object": ({"repository": {"acme/shop": 1}}, None, "repository"),
    "lists in lists": ({"repository": [["acme/shop"]]}, None, "repository"),
    "a pull request": ({"ref": "refs/pull/7/merge"}, None, "ref"),
    "a question mark is no pattern": ({"ref": "refs/tags/v1"}, None, "ref"),
    "a project without a rule": ({}, "secret", "for this project"),
    "a rule of another audience": ({}, "deploy", "for this project"),
    "the rule of the project does not match": ({}, "api", "ref_protected"),
}


async def test_a_genuine_token_without_a_rule_is_forbidden(job, issuer, rows):
    for case, (claims, project, words) in REFUSED.items():
        status, body = await send(job, issuer.sign(issuer.claims(**claims)), project=project)
        assert (status, body["code"]) == (403, "claims_refused") and words in body["detail"], case
        assert "refs/heads" not in body["detail"]  # the rules are nobody's business
    assert [entry["action"] for entry in audit(rows)] == ["exchange.failed"] * len(REFUSED)
    assert rows("SELECT 1 FROM former_secrets") == []


def forged(issuer, **changed):
    """The header and the signature of a genuine token around other claims."""
    header, _, signature = issuer.sign(issuer.claims()).split(".")
    other = json.dumps(issuer.claims(**changed)).encode()
    return ".".join([header, base64.urlsafe_b64encode(other).rstrip(b"=").decode(), signature])


WRONG = {
    "another audience": (lambda i: i.sign(i.claims(aud="elsewhere")), "another audience (aud)"),
    "no audience": (lambda i: i.sign(i.claims(aud=[])), "another audience (aud)"),
    "an audience that is no text": (lambda i: i.sign(i.claims(aud=[7])), "another audience (aud)"),
    "expired": (lambda i: i.sign(i.claims(exp=int(time.time()) - 61)), "has expired"),
    "no end": (lambda i: i.sign({k: v for k, v in i.claims().items() if k != "exp"}), "exp"),
    "an end that is a text": (lambda i: i.sign(i.claims(exp="2099")), "exp"),
    "an end that is no number": (lambda i: i.sign(i.claims(exp=float("nan"))), "exp"),
    "not yet valid": (lambda i: i.sign(i.claims(nbf=int(time.time()) + 120)), "not yet valid"),
    "issued later": (lambda i: i.sign(i.claims(iat=int(time.time()) + 120)), "issued in the future"),
    "unsigned": (lambda i: providers.unsigned(i.claims()), "signed with 'none'"),
    "HS256 with the public key": (
        lambda i: providers.hmac_signed(i.claims(), i.keys[0]),
        "signed with 'HS256'",
    ),
    "another key with the same id": (
        lambda i: i.sign(i.claims(), providers.rsa_key("evil"), kid="first"),
        "signature of the ID token is wrong",
    ),
    "an own key in the header": (
        lambda i: i.sign(
            i.claims(), providers.rsa_key("evil"), jwk=providers.rsa_key("evil").as_dict(private=False), kid="first"
        ),
        "signature of the ID token is wrong",
    ),
    "another algorithm than the key's": (lambda i: i.sign(i.claims(), alg="PS256"), "key that"),
    "ES256 for an RSA key": (
        lambda i: i.sign(i.claims(), ECKey.generate_key("P-256", {"kid": "first"}), "ES256"),
        "key that",
    ),
    "other claims": (lambda i: forged(i, ref="refs/heads/x"), "signature of the ID token is wrong"),
    "an unknown key": (lambda i: i.sign(i.claims(), providers.rsa_key("unknown")), "a key that"),
    "no key id, of two keys": (
        lambda i: i.keys.append(providers.rsa_key("second")) or i.sign(i.claims(), kid=None),
        "key that",
    ),
    "a must-understand header": (
        lambda i: i.sign(i.claims(), crit=["exp"], exp=1),
        "signature of the ID token is wrong",
    ),
    "a must-understand header that is no text": (
        lambda i: i.sign(i.claims(), crit=[7]),
        "signature of the ID token is wrong",
    ),
    "another issuer": (lambda i: i.sign(i.claims(iss="https://evil.example")), "accepts no ID tokens of 'https://evil"),
    "an issuer with a slash": (lambda i: i.sign(i.claims(iss=i.issuer + "/")), "accepts no ID tokens of"),
    "an issuer that is no text": (lambda i: i.sign(i.claims(iss=[i.issuer])), "does not name its issuer"),
    "a hostile issuer": (lambda i: i.sign(i.claims(iss="\u202e\ud800<b>\0" + "x" * 3000)), "accepts no ID tokens of"),
    "no subject": (lambda i: i.sign(i.claims(sub="")), "sub"),
    "a subject that is no text": (lambda i: i.sign(i.claims(sub=7)), "sub"),
    "a subject with NUL": (lambda i: i.sign(i.claims(sub="a\0b")), "printable"),
    "a long subject": (lambda i: i.sign(i.claims(sub="a" * 1001)), "printable"),
    "no JWT": (lambda i: "rpt_" + "x" * 49, "This is no ID token"),
    "two parts": (lambda i: "a.b", "This is no ID token"),
    "no JSON": (lambda i: "a.b.c", "This is no ID token"),
    "a deep payload": (
        lambda i: (
            i.sign(i.claims()).split(".")[0] + "." + base64.urlsafe_b64encode(b"[" * 9000).decode().rstrip("=") + ".c"
        ),
        "This is no ID token",
    ),
    "no ASCII": (lambda i: "\u20ac.\u20ac.\u20ac", "This is no ID token"),
}


async def test_a_token_that_is_not_valid_is_refused(job, issuer, rows):
    for number, (case, (make, words)) in enumerate(WRONG.items()):
        status, body = await send(job, make(issuer), f"192.0.2.{number}")
        assert (status, body["code"]) == (401, "wrong_id_token") and words in body["detail"], (case, body)
        entry = audit(rows)[-1]
        assert (entry["action"], entry["actor_kind"]) == ("exchange.failed", "anyone")
        assert entry["detail"] == {"reason": body["detail"]}
        forget(job)
    assert rows("SELECT 1 FROM former_secrets") == []


async def test_every_kind_of_key_pair_is_accepted_and_weak_keys_are_not(job, issuer):
    for alg, key, expected in [
        ("RS512", RSAKey.generate_key(2048, {"kid": "k"}), 201),
        ("PS256", RSAKey.generate_key(2048, {"kid": "k"}), 201),
        ("ES256", ECKey.generate_key("P-256", {"kid": "k"}), 201),
        ("EdDSA", OKPKey.generate_key("Ed25519", {"kid": "k"}), 201),
        ("RS256", RSAKey.generate_key(1024, {"kid": "k"}), 401),
        ("RS256", RSAKey.generate_key(2048, {"kid": "k", "use": "enc"}), 401),
    ]:
        issuer.keys = [key]
        forget(job)
        assert (await send(job, issuer.sign(issuer.claims(), alg=alg)))[0] == expected, alg
    issuer.keys = [providers.rsa_key("only")]
    forget(job)
    assert (await send(job, issuer.sign(issuer.claims(), kid=None)))[0] == 201  # there is only one


async def test_a_body_without_a_token_is_refused(job):
    for body in ({}, {"token": 5}, {"token": ""}, {"token": "x" * 20_000}, {"token": "a", "project": ""}):
        assert (await job.post(EXCHANGE, json=body)).status == 422
    assert (await job.post(EXCHANGE, data=b"x" * 40_000)).status == 413


async def test_a_server_without_rules_accepts_nothing(nobody, issuer):
    status, body = await send(nobody, issuer.sign(issuer.claims()))
    assert (status, body["code"]) == (401, "wrong_id_token") and issuer.asked == []


# --- keys ------------------------------------------------------------------------------------------------------


async def test_keys_are_fetched_once_and_again_after_they_were_rotated(job, issuer, monkeypatch):
    old = issuer.sign(issuer.claims())
    for _ in range(3):
        assert (await send(job, old))[0] == 201
    assert issuer.asked == [DISCOVERY, "/keys"]
    issuer.rotate("second")
    new = issuer.sign(issuer.claims())
    assert (await send(job, new))[0] == 401 and len(issuer.asked) == 2  # asked a moment ago
    monkeypatch.setattr(issuers, "_ASK_AGAIN_SECONDS", 0.0)
    assert [(await send(job, token))[0] for token in (new, old)] == [201, 401]
    monkeypatch.setattr(issuers, "_ASK_AGAIN_SECONDS", 1000.0)
    asked = len(issuer.asked)
    for number in range(5):
        assert (await send(job, issuer.sign(issuer.claims(), providers.rsa_key("evil"), kid=f"x{number}")))[0] == 401
    assert len(issuer.asked) == asked
    monkeypatch.setattr(issuers, "_FRESH_SECONDS", 0.0)
    assert (await send(job, new))[0] == 201 and len(issuer.asked) == asked + 2


async def test_jobs_that_come_together_share_one_look_up(job, issuer):
    token = issuer.sign(issuer.claims())
    assert {status for status, _ in await asyncio.gather(*(send(job, token) for _ in range(8)))} == {201}
    assert issuer.asked == [DISCOVERY, "/keys"]


def slow(seconds):
    async def reply():
        await asyncio.sleep(seconds)
        return web.json_response({})

    return reply


def discovery(**changed):
    return lambda issuer: lambda: web.json_response({**issuer.discovery(), **changed})


HUGE = b'{"keys": "' + b"x" * (2 << 20) + b'"}'
AWAY = {
    "replies 500": (DISCOVERY, lambda i: lambda: web.Response(status=500), "replied 500"),
    "redirects": (
        DISCOVERY,
        lambda i: lambda: web.Response(status=302, headers={"Location": f"{i.issuer}/keys"}),
        "replied 302",
    ),
    "is slow": (DISCOVERY, lambda i: slow(30), "has not replied within"),
    "has slow keys": ("/keys", lambda i: slow(30), "has not replied within"),
    "sends too much": ("/keys", lambda i: lambda: web.Response(body=HUGE), "larger than"),
    "sends HTML": (DISCOVERY, lambda i: lambda: web.Response(text="<html>"), "not as OpenID Connect asks for"),
    "sends deep JSON": ("/keys", lambda i: lambda: web.Response(text="[" * 100_000), "not as OpenID Connect asks for"),
    "sends other JSON": ("/keys", lambda i: lambda: web.json_response({"keys": "x"}), "not as OpenID Connect asks for"),
    "has no keys' address": (DISCOVERY, lambda i: lambda: web.json_response({"issuer": i.issuer}), "jwks_uri"),
    "is another one": (DISCOVERY, discovery(issuer="https://evil.example"), "document is that of"),
    "has keys elsewhere": (DISCOVERY, discovery(jwks_uri="http://192.0.2.1/keys"), "not https"),
    "has keys in a file": (DISCOVERY, discovery(jwks_uri="file:///etc/passwd"), "not https"),
}


async def test_an_issuer_that_does_not_answer_is_503(job, issuer, monkeypatch):
    monkeypatch.setattr(fetch, "_SECONDS", 0.5)
    token = issuer.sign(issuer.claims())
    for case, (path, make, words) in AWAY.items():
        forget(job)
        issuer.replies[path] = make(issuer)
        async with asyncio.timeout(20):
            results = await asyncio.gather(*(send(job, token) for _ in range(3)))
        for status, body in results:
            assert (status, body["code"]) == (503, "issuer_unavailable") and words in body["detail"], (case, body)
        asked = len(issuer.asked)
        status, body = await send(job, token)
        assert status == 503 and words in body["detail"]
        assert len(issuer.asked) == asked, "nobody waits for it again so soon"
        issuer.replies.clear()
    monkeypatch.setattr(issuers, "_PAUSE_SECONDS", 0.0)
    assert (await send(job, token))[0] == 201


async def test_an_issuer_that_is_gone_is_503_and_known_keys_go_on_working(start, aiohttp_client, monkeypatch, rows):
    async with providers.running() as gone:
        token = gone.sign(gone.claims())
        auth = {"ci": [CiRule(gone.issuer, "reportd", "web", {"repository": "*"})]}
        knows, new = [await aiohttp_client((await start(auth=auth)).server) for _ in "ab"]
        assert (await send(knows, token))[0] == 201
    assert (await send(knows, token))[0] == 201
    reply = await new.post(EXCHANGE, json={"token": token})
    assert reply.status == 503 and "cannot be reached" in await reply.text() and int(reply.headers["Retry-After"]) > 0
    for _ in range(70):  # more than an address may send wrong ones
        assert (await send(new, token))[0] == 503


# --- limits ----------------------------------------------------------------------------------------------------


async def test_wrong_tokens_are_throttled_by_address_and_right_ones_do_not_count(job, issuer, monkeypatch, rows):
    monkeypatch.setattr(throttling, "_OF_AN_ADDRESS", 3)
    right = issuer.sign(issuer.claims())
    for _ in range(5):
        assert (await send(job, right))[0] == 201
    assert [(await send(job, "a.b.c"))[0] for _ in range(4)] == [401, 401, 401, 429]
    reply = await job.post(EXCHANGE, json={"token": right})
    assert (reply.status, (await reply.json())["code"]) == (429, "too_many_logins")
    assert int(reply.headers["Retry-After"]) > 0
    assert len([entry for entry in audit(rows) if entry["action"] == "exchange.failed"]) == 3
    elsewhere = await job.post(EXCHANGE, json={"token": right}, headers={"X-Forwarded-For": "192.0.2.7"})
    assert elsewhere.status == 201


async def test_the_exchanges_of_a_subject_are_limited(job, issuer, monkeypatch, rows):
    monkeypatch.setattr(throttling, "_EXCHANGES_OF_A_SUBJECT", 2)
    token, other = issuer.sign(issuer.claims()), issuer.sign(issuer.claims(sub="another"))
    assert [(await send(job, each))[0] for each in (token, token, token, other)] == [201, 201, 429, 201]
    assert len(rows("SELECT 1 FROM former_secrets")) == 3


async def test_the_limit_of_a_subject_does_not_use_up_that_of_its_address(job, issuer, monkeypatch):
    """The runners of a site often share one address."""
    monkeypatch.setattr(throttling, "_EXCHANGES_OF_A_SUBJECT", 1)
    monkeypatch.setattr(throttling, "_OF_AN_ADDRESS", 2)
    token, other = issuer.sign(issuer.claims()), issuer.sign(issuer.claims(sub="another"))
    assert [(await send(job, each))[0] for each in (token, token, token, token, other)] == [201, 429, 429, 429, 201]


async def test_admins_see_tokens_of_ci_and_revoke_but_do_not_rotate_them(job, issuer, make_user, rows):
    _, made = await send(job, issuer.sign(issuer.claims(sub="<b>\u00e9")))
    headers = await logged_in(job, make_user(everywhere="admin"))
    csrf = headers.pop("X-CSRF-Token")
    text = await (await job.get("/admin/tokens", headers=headers)).text()
    assert "of CI jobs" in text and "&lt;b&gt;\u00e9 #" in text and "former secret" not in text
    (token,) = rows("SELECT id, name FROM tokens WHERE subject_hash IS NOT NULL")
    page = await (await job.get(f"/admin/tokens?change={token['id']}", headers=headers)).text()
    assert "Jobs get new secrets" in page and "Rotate the token" not in page
    fields = {"id": str(token["id"]), "csrf_token": csrf}
    rotated = await job.post("/admin/tokens", data={**fields, "action": "rotate", "overlap": "24"}, headers=headers)
    assert rotated.status == 404
    ended = {**fields, "action": "revoke", "typed": token["name"]}
    assert (await job.post("/admin/tokens", data=ended, headers=headers, allow_redirects=False)).status == 303
    job.app[SERVICES].callers.clear()
    assert (await job.get(RUNS, headers={"Authorization": f"Bearer {made['token']}"})).status == 401


def test_the_lifetime_is_that_of_the_docs():
    assert exchanges.LIFETIME.total_seconds() == 900
