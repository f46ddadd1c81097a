"""Imports go down, never up or sideways (the shape of the code, section 1)."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# From the bottom up; a module may import what stands in a row above its own here, never its neighbours.
LEVELS = [
    [
        "auth.links",
        "auth.roles",
        "auth.tokens",
        "ids",
        "redact",
        "embedded",
        "systemd",
        "check.findings",
        "uploads.content",
        "uploads.paths",
        "uploads.refusal",
        "uploads.threads",
        "uploads.tree",
    ],
    ["errors"],
    ["auth.passwords", "mask"],
    ["config", "uploads.multipart", "uploads.plan", "uploads.disk", "uploads.memory", "http.cursor", "http.fields"],
    ["db", "log", "http.origin", "uploads.storage"],
    ["auth.keys", "auth.logins", "figures", "migrate", "space", "trail", "uploads.spool", "uploads.leftovers"],
    ["context"],
    [
        "audit",
        "auth.callers",
        "auth.opening",
        "removal",
        "folder",
        "load",
        "http.decode",
        "http.reply",
        "http.lock",
        "http.files",
        "http.pages",
    ],
    ["viewer.pages", "http.middleware", "http.idempotency", "http.patch", "check.means"],
    ["http.route", "http.protocol", "check.files", "check.rows"],
    ["http.openapi"],
    ["api"],
    ["routes"],
    ["app"],
    ["serve"],
    ["check.compare", "up", "verify", "workers"],
    ["console"],
    ["accounts"],
    ["cli"],
    ["__main__"],
]
# The nouns do not know each other, but for these: a report composes them, a link shows it and other things, an upload's
# reply is an artifact.
SIDEWAYS = {
    "api.reports": {"api.artifacts", "api.checkpoints", "api.steps", "api.test_cases"},
    "api.shared": {"api.downloads", "api.reports", "api.suite_runs", "api.test_cases"},
    "api.uploads": {"api.artifacts"},
}
LEVEL = {name: number for number, names in enumerate(LEVELS) for name in names}
MODULES = {
    ".".join(path.relative_to(ROOT / "server").with_suffix("").parts): path
    for path in (ROOT / "server").rglob("*.py")
    if path.name != "__init__.py"
}


def imported(path):
    """Every module that is imported anywhere in a file, also within functions, by its full name."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            inner = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (name for name in inner if name.removeprefix("server.") in MODULES)
            if not all(name.removeprefix("server.") in MODULES for name in inner):
                yield node.module


def ours(name):
    """The names of our own modules that a module imports; `server` itself holds the version alone."""
    return {found.removeprefix("server.") for found in imported(MODULES[name]) if found.startswith("server.")}


def level(name):
    return LEVEL["api" if name.startswith("api.") else name]


@pytest.mark.parametrize("name", sorted(MODULES))
def test_imports_go_down(name):
    below = ours(name) - SIDEWAYS.get(name, set())
    assert [other for other in sorted(below) if level(other) >= level(name)] == []


def test_every_module_has_its_level():
    named = {name for names in LEVELS for name in names} - {"api"}
    assert named == {name for name in MODULES if not name.startswith("api.")}
    assert all(others <= ours(name) for name, others in SIDEWAYS.items())


def test_uploads_could_be_lifted_out():
    """It knows neither the web server nor the database, and of the rest only the errors' names."""
    for name in MODULES:
        if name.startswith("uploads."):
            outside = {other for other in ours(name) if not other.startswith("uploads.")}
            assert outside <= {"errors"}, name
            others = {other.partition(".")[0] for other in imported(MODULES[name])}
            assert not others & {"aiohttp", "asyncpg", "psycopg", "msgspec"}, name
    assert list(ours("uploads.content")) == []


def test_only_handlers_and_what_serves_them_know_the_web_server():
    web = {name for name in MODULES if any(other.partition(".")[0] == "aiohttp" for other in imported(MODULES[name]))}
    allowed = {"app", "audit", "context", "load", "serve", "verify", "workers", "auth.callers", "auth.opening"}
    assert {name for name in web if not name.startswith(("api.", "http."))} <= allowed


def test_the_rules_can_be_broken(tmp_path):
    """The reader of imports sees each of the ways to write one."""
    path = tmp_path / "x.py"
    path.write_text(
        "import server.app\ndef f():\n    from server import up\n    from server.http import decode\n", "utf-8"
    )
    assert set(imported(path)) == {"server.app", "server.up", "server.http.decode"}
    path.write_text("from server.db import Pool, transaction\nfrom server import __version__\nimport os, re\n", "utf-8")
    assert set(imported(path)) == {"server.db", "server", "os", "re"}
