"""The built wheel is whole: it runs where there is no checkout."""

import importlib.metadata
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import urllib.request
import zipfile
from pathlib import Path

import pytest

from server import __version__
from server.database import migrate
from server.database.queries import data_folder
from server.viewer import assets

ROOT = Path(__file__).parent.parent
# As `python -m server` in an environment that holds the unpacked wheel and what it needs: -S leaves out the
# .pth file by which an editable install would point back at the checkout.
PATH = "import runpy, sys; sys.path[1:1] = sys.argv[1:3]; del sys.argv[1:3]; "
RUN = PATH + "runpy.run_module('server', run_name='__main__')"
WHERE = PATH + "import server; print(server.__file__)"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The built wheel. Built from a copy: a build leaves its own files beside the sources."""
    source = tmp_path_factory.mktemp("source")
    for name in ("server", "sql", "migrations"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    wheels = tmp_path_factory.mktemp("wheels")
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--quiet", "--wheel-dir", str(wheels), str(source)]
    # Without isolation no network is needed; that takes a setuptools that can make wheels by itself.
    if _setuptools() >= (70, 1):
        command.insert(4, "--no-build-isolation")
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = wheels.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def unpacked(wheel, tmp_path_factory):
    """The folder of the unpacked wheel."""
    target = tmp_path_factory.mktemp("unpacked")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(target)
    return target


def _setuptools():
    try:
        return tuple(int(part) for part in importlib.metadata.version("setuptools").split(".")[:2])
    except importlib.metadata.PackageNotFoundError:
        return (0, 0)


@pytest.fixture
def python(unpacked, tmp_path):
    """python(code, *arguments, **environ): a command line, and what it runs with."""

    def command(code, *arguments, **environ):
        paths = [str(unpacked), sysconfig.get_paths()["purelib"]]
        clean = {
            name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "REPORTD", "ARTIFACT"))
        }
        return {
            "args": [sys.executable, "-I", "-S", "-c", code, *paths, *arguments],
            "env": {**clean, **environ},
            "cwd": tmp_path,
            "text": True,
        }

    return command


def said(command):
    done = subprocess.run(**command, capture_output=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_wheel_holds_what_the_checkout_holds(unpacked):
    def below(folder, suffixes):
        found = {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()}
        return {str(path) for path in found if path.suffix in suffixes or "static" in path.parts}

    sources = below(ROOT / "server", {".py", ".html"})
    assert "viewer/templates/docs.html" in sources and "viewer/static/vendor/swagger-ui/LICENSE" in sources
    sql = {f"sql/{path.name}" for path in (ROOT / "sql").glob("*.sql")}
    migrations = {f"migrations/{path.name}" for path in (ROOT / "migrations").glob("*.sql")}
    assert len(sql) > 5 and len(migrations) > 10
    assert below(unpacked / "server", {".py", ".html", ".sql"}) == sources | sql | migrations
    for path in sources:
        assert (unpacked / "server" / path).read_bytes() == (ROOT / "server" / path).read_bytes()


def test_the_wheel_says_what_it_is(unpacked):
    (info,) = unpacked.glob("*.dist-info")
    metadata = (info / "METADATA").read_text("utf-8")
    assert f"\nVersion: {__version__}\n" in metadata and "\nRequires-Python: >=3.11\n" in metadata
    assert "reportd = server.commands.main:main" in (info / "entry_points.txt").read_text("utf-8")
    assert "\nLicense: Apache-2.0\n" in metadata
    (licence,) = info.rglob("LICENSE")
    assert licence.read_bytes() == (ROOT / "LICENSE").read_bytes()
    # Whatever is imported is asked for.
    wanted = set(re.findall(r"^Requires-Dist: ([\w-]+)", metadata.replace("_", "-"), re.MULTILINE))
    assert wanted >= {
        "aiohttp",
        "aiofiles",
        "asyncpg",
        "gunicorn",
        "jinja2",
        "msgspec",
        "orjson",
        "prometheus-client",
        "psycopg",
    }


def test_it_is_the_wheel_that_runs(python, unpacked):
    assert said(python(WHERE)).strip() == str(unpacked / "server" / "__init__.py")


def test_the_command_runs_without_a_checkout(python, dsn):
    assert f"reportd {__version__}" in said(python(RUN, "--version"))
    shown = said(python(RUN, "config", REPORTD_SERVER_PORT="1234"))
    assert "port = 1234" in shown and 'storage_path = "/var/data/test-artifacts"' in shown
    assert len(json.loads(said(python(RUN, "openapi")))["paths"]) > 10
    status = said(python(RUN, "migrate", "--status", REPORTD_DATABASE_DSN=dsn)).splitlines()
    assert status == [f"applied  {name}" for name in sorted(migrate.versions())]


def test_the_command_migrates_and_serves_without_a_checkout(python, dsn, tmp_path):
    versions, newest = sorted(migrate.versions()), max(migrate.needed_versions())
    migrate.rollback(dsn, len(versions) - versions.index(newest))  # those after it wait for --finish
    environ = {"REPORTD_DATABASE_DSN": dsn, "REPORTD_ARTIFACTS_STORAGE_PATH": str(tmp_path / "files")}
    applied = said(python(RUN, "migrate", **environ))
    assert applied.split()[:2] == ["applied", newest]
    with subprocess.Popen(**python(RUN, "serve", "--port", "0", **environ), stdout=subprocess.PIPE) as server:
        try:
            url = re.search(r"http://\S+", server.stdout.readline())[0]
            for path, expected in [("/readyz", b'{"status":"ready"}'), ("/docs", b"<title>reportd API</title>")]:
                with urllib.request.urlopen(url + path, timeout=30) as reply:
                    assert expected in reply.read()
            for name, asset in assets.by_file().items():
                with urllib.request.urlopen(f"{url}/static/{name}", timeout=30) as reply:
                    assert reply.read() == asset.content, name
        finally:
            server.send_signal(signal.SIGTERM)
        assert server.wait(30) == 0


def test_a_checkout_finds_its_own_data():
    assert data_folder("sql") == ROOT / "sql" and data_folder("migrations") == ROOT / "migrations"


@pytest.mark.skipif(not os.environ.get("REQUIRE_REGISTRY"), reason="needs the package registry; .ci/run does it")
def test_the_wheel_installs_into_an_empty_environment(wheel, tmp_path):
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "env")], check=True, timeout=120)
    install = [str(tmp_path / "env/bin/pip"), "install", "--quiet", "--disable-pip-version-check", str(wheel)]
    done = subprocess.run(install, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    shown = subprocess.run(
        [str(tmp_path / "env/bin/reportd"), "--version"], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert shown.stdout.strip() == f"reportd {__version__}"
    (licence,) = (tmp_path / "env").glob("lib/python3*/site-packages/reportd-*.dist-info/**/LICENSE")
    assert licence.read_bytes() == (ROOT / "LICENSE").read_bytes()
