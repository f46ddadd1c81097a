"""Rows about access: CPU time of authentication and of a login."""

import json
import time
import urllib.request
from contextlib import ExitStack
from functools import partial

from argon2 import PasswordHasher

from bench import servers
from bench.load import Load, Result
from bench.measure import Measured, in_turn, make_cases, measure, values_of
from bench.processes import BenchError, Server
from bench.results import Row
from bench.run import Run


def callers(run: Run) -> list[Row]:
    """GET of a test case result by token and by session, compared with a server without authentication."""
    rows = {
        "token": Row("callers", "GET a test case result, by token", "CPU ms", "no authentication"),
        "person": Row("callers", "GET a test case result, by a person's session", "CPU ms", "no authentication"),
        "several": Row("callers", "the same, roles in two projects", "CPU ms", "no authentication"),
    }
    with ExitStack() as stack:
        ours, folder = run.ours(stack)
        database, opened = run.database, {"required": False}
        without_auth = stack.enter_context(servers.reportd(database, folder / "open", auth=opened))
        paths = make_cases(ours, 20)
        person = log_in(ours, "person", database.person("person", "default=viewer"))
        several = log_in(ours, "several", database.person("several", "default=viewer", "other=admin"))

        def get(server: Server, token: str, cookie: str, count: int) -> Measured:
            return measure(server, Load(server.port, "get", paths, count, token, sample=0, cookie=cookie))

        contenders = {
            "token": partial(get, ours, ours.token, ""),
            "person": partial(get, ours, "", person),
            "several": partial(get, ours, "", several),
            "open": partial(get, without_auth, "", ""),
        }
        found = in_turn(run.rounds, run.count(3000), contenders)
    each = values_of(found, Measured.per_request)
    return [row.fill(each[name], each["open"]) for name, row in rows.items()]


def login(run: Run) -> list[Row]:
    """A login, compared with argon2id alone."""
    row = Row("login", "a login", "CPU ms", "argon2id alone")
    with ExitStack() as stack:
        ours, _ = run.ours(stack)
        password = run.database.person("login", "default=viewer")
        hasher = PasswordHasher()
        stored = hasher.hash(password)

        def log_in(count: int) -> Measured:
            path = ["/api/v1/auth/login"]
            return measure(ours, Load(ours.port, "login", path, count, sample=0, name="login", password=password))

        def verify(count: int) -> Measured:
            started = time.process_time()
            for _ in range(count):
                hasher.verify(stored, password)
            return Measured(time.process_time() - started, 0.0, Result(requests=count))

        found = in_turn(run.rounds, run.count(20), {"ours": log_in, "argon2": verify})
    each = values_of(found, Measured.per_request)
    return [row.fill(each["ours"], each["argon2"])]


def log_in(server: Server, name: str, password: str) -> str:
    """Logs in; the Cookie header of the new session."""
    body = json.dumps({"name": name, "password": password}).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{server.port}/api/v1/auth/login", body)
    try:
        with urllib.request.urlopen(request) as reply:
            return str(reply.headers["Set-Cookie"]).partition(";")[0]
    except OSError as error:
        raise BenchError(f"{server.name}: login: {error}") from None
