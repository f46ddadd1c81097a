"""Imports go down, never up or sideways. The house is described in CONTRIBUTING.md."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# From the bottom up: a module imports what stands in a row below its own, and its neighbours within the same folder. A
# name is a folder of server/ or a module at its top.
LEVELS = [
    ["config", "errors", "ids", "background"],
    ["limits", "redact", "database"],
    ["observe", "storage"],
    ["auth", "uploads"],
    ["reports"],
    ["services"],
    ["http", "viewer"],
    ["api", "pages"],
    ["routes"],
    ["app"],
    ["commands"],
    ["__main__"],
]
LEVEL = {name: number for number, names in enumerate(LEVELS) for name in names}
MODULES = {
    ".".join(path.relative_to(ROOT / "server").with_suffix("").parts): path
    for path in (ROOT / "server").rglob("*.py")
    if path.name != "__init__.py"
}


def room(name):
    return name.partition(".")[0]


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


@pytest.mark.parametrize("name", sorted(MODULES))
def test_imports_go_down(name):
    for other in ours(name):
        if room(other) == room(name):
            assert room(name) not in ("api", "pages"), f"{name} imports its sibling {other}"
        else:
            assert LEVEL[room(other)] < LEVEL[room(name)], f"{name} imports {other}"


def test_every_room_has_its_level():
    assert {room(name) for name in MODULES} == LEVEL.keys()


def test_no_module_is_imported_by_what_it_imports():
    """Within a folder, too, there is a below and an above."""
    open_modules, done = [], set()

    def visit(name):
        assert name not in open_modules, " -> ".join([*open_modules, name])
        if name not in done:
            open_modules.append(name)
            for other in ours(name):
                visit(other)
            done.add(open_modules.pop())

    for name in MODULES:
        visit(name)
    assert done == MODULES.keys()


def others(name):
    return {other.partition(".")[0] for other in imported(MODULES[name])}


def test_only_handlers_and_what_serves_them_know_the_web_server():
    web = {room(name) for name in MODULES if "aiohttp" in others(name)}
    assert web == {"api", "pages", "http", "routes", "services", "app", "commands"} - {"routes"}


def test_the_pipeline_knows_neither_the_web_server_nor_the_database():
    for name in MODULES:
        if room(name) in ("uploads", "viewer"):
            assert not others(name) & {"aiohttp", "asyncpg", "psycopg", "msgspec"}, name
            assert not any(room(other) == "database" for other in ours(name)), name
    assert ours("uploads.content") == set()


def test_a_noun_has_one_name_everywhere():
    """sql/steps.sql, reports/steps.py, api/steps.py, tests/api/test_steps.py."""
    nouns = {"suite_runs", "test_cases", "steps", "artifacts", "checkpoints", "logs", "links", "audit"}
    for noun in nouns:
        assert (ROOT / "sql" / f"{noun}.sql").exists(), noun
        assert {f"reports.{noun}", f"api.{noun}"} <= MODULES.keys(), noun
        assert (ROOT / "tests" / "api" / f"test_{noun}.py").exists(), noun


def test_only_what_is_about_all_of_it_stands_at_the_top():
    top = {name for name in MODULES if "." not in name}
    named = {"app", "services", "routes", "config", "errors", "ids", "limits", "background", "__main__"}
    assert top == named


def test_functions_are_short():
    """A function of more than 60 lines holds two."""
    long = []
    for name, path in MODULES.items():
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno - node.lineno >= 60:
                long.append(f"{name}.{node.name}")
    assert long == []


def test_the_rules_can_be_broken(tmp_path):
    """The reader of imports sees each of the ways to write one."""
    path = tmp_path / "x.py"
    path.write_text(
        "import server.app\ndef f():\n    from server.commands import up\n    from server.http import decode\n", "utf-8"
    )
    assert set(imported(path)) == {"server.app", "server.commands.up", "server.http.decode"}
    path.write_text("from server.database.pool import Pool\nfrom server import __version__\nimport os, re\n", "utf-8")
    assert set(imported(path)) == {"server.database.pool", "server", "os", "re"}
