"""Modules import only from lower layers. CONTRIBUTING.md describes the layers."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# The layers, from the lowest to the highest. A module may import from lower layers and from its own folder. Each name
# is a folder in server/ or a top-level module.
LEVELS = [
    ["errors", "ids", "background", "wrong_values", "trust", "hooks", "compare"],
    ["config"],
    ["limits", "redact", "database"],
    ["observe", "storage"],
    ["auth", "uploads", "thumbs", "webhooks"],
    ["reports"],
    ["services"],
    ["http", "viewer"],
    ["bodies"],
    ["archive"],
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


def package(name):
    return name.partition(".")[0]


def imported(path):
    """The full name of every module that a file imports, also inside functions."""
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
    """The modules of this project that a module imports. `server` itself is left out: it holds only the version."""
    return {found.removeprefix("server.") for found in imported(MODULES[name]) if found.startswith("server.")}


@pytest.mark.parametrize("name", sorted(MODULES))
def test_a_module_imports_only_from_lower_layers(name):
    for other in ours(name):
        if package(other) == package(name):
            assert package(name) not in ("api", "pages"), f"{name} imports its sibling {other}"
        else:
            assert LEVEL[package(other)] < LEVEL[package(name)], f"{name} imports {other}"


def test_every_folder_and_top_level_module_is_in_a_layer():
    assert {package(name) for name in MODULES} == LEVEL.keys()


def test_there_are_no_circular_imports():
    """Also not within a folder."""
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


def test_only_the_upper_layers_import_aiohttp():
    """And one module that sends requests instead of serving them."""
    assert [name for name in MODULES if package(name) == "webhooks" and "aiohttp" in others(name)] == ["webhooks.send"]
    web = {package(name) for name in MODULES if "aiohttp" in others(name)}
    assert web == {"api", "pages", "http", "routes", "services", "app", "commands", "webhooks"} - {"routes"}


def test_uploads_viewer_and_compare_import_neither_aiohttp_nor_the_database():
    for name in MODULES:
        if package(name) in ("uploads", "viewer", "compare"):
            assert not others(name) & {"aiohttp", "asyncpg", "psycopg", "msgspec"}, name
            assert not any(package(other) == "database" for other in ours(name)), name
    assert all(package(other) == "uploads" for other in ours("uploads.content"))


def test_a_noun_has_the_same_file_name_in_every_layer():
    """For example sql/steps.sql, reports/steps.py, api/steps.py, tests/api/test_steps.py."""
    nouns = {
        "suite_runs",
        "test_cases",
        "steps",
        "artifacts",
        "checkpoints",
        "logs",
        "links",
        "audit",
        "errors",
        "tests",
    }
    for noun in nouns:
        assert (ROOT / "sql" / f"{noun}.sql").exists(), noun
        assert {f"reports.{noun}", f"api.{noun}"} <= MODULES.keys(), noun
        assert (ROOT / "tests" / "api" / f"test_{noun}.py").exists(), noun


def test_the_top_level_modules_are_these():
    top = {name for name in MODULES if "." not in name}
    named = {
        "app",
        "services",
        "routes",
        "config",
        "errors",
        "ids",
        "limits",
        "background",
        "wrong_values",
        "hooks",
        "trust",
        "__main__",
    }
    assert top == named


def test_functions_are_at_most_60_lines_long():
    long = []
    for name, path in MODULES.items():
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno - node.lineno >= 60:
                long.append(f"{name}.{node.name}")
    assert long == []


def test_imported_finds_every_form_of_import(tmp_path):
    """Otherwise the tests above would pass although a rule is broken."""
    path = tmp_path / "x.py"
    path.write_text(
        "import server.app\ndef f():\n    from server.commands import up\n    from server.http import decode\n", "utf-8"
    )
    assert set(imported(path)) == {"server.app", "server.commands.up", "server.http.decode"}
    path.write_text("from server.database.pool import Pool\nfrom server import __version__\nimport os, re\n", "utf-8")
    assert set(imported(path)) == {"server.database.pool", "server", "os", "re"}
