"""Which database a command uses, and what it prints when none answers."""

import subprocess

import pytest

from tests.up_server import CHECKOUT, ENVIRONMENT, REPORTD, up_server

__all__ = ["up_server"]  # a fixture

NOWHERE = "postgresql://reportd:secret@127.0.0.1:1/reportd"


@pytest.fixture
def reportd(tmp_path):
    """reportd(*arguments, **environ): the command, run in a directory of its own."""

    def run(*arguments, **environ):
        return subprocess.run(
            [*REPORTD, *arguments],
            cwd=tmp_path,
            env={**ENVIRONMENT, "PYTHONPATH": str(CHECKOUT), **environ},
            capture_output=True,
            text=True,
            timeout=120,
        )

    return run


@pytest.fixture
def running_here(tmp_path, up_server):
    """The directory has the `.reportd` of a server that runs."""
    (tmp_path / ".reportd").symlink_to(up_server.data)
    return up_server


def test_a_command_uses_the_server_that_runs_in_this_directory(reportd, running_here):
    done = reportd("token", "create", "--name", "found")
    assert done.returncode == 0 and done.stdout.startswith("rpt_"), done.stderr
    assert ".reportd" in done.stderr and "--data" in done.stderr
    assert running_here.rows("SELECT role FROM tokens WHERE name = 'found'") == [("uploader",)]
    assert "found" in reportd("audit", "--action", "token.created").stdout
    assert reportd("migrate", "--status").returncode == 0
    assert reportd("user", "list").returncode == 0
    assert reportd("check").returncode == 0


@pytest.mark.parametrize("named", ["data", "config", "environment"])
def test_a_database_that_is_named_is_used_instead(reportd, running_here, tmp_path, named):
    (tmp_path / "config.toml").write_text(f'[database]\ndsn = "{NOWHERE}"\n')
    arguments, environ = {
        "data": (("--data", "elsewhere"), {}),
        "config": (("--config", "config.toml"), {}),
        "environment": ((), {"REPORTD_DATABASE_DSN": NOWHERE}),
    }[named]
    done = reportd("token", "list", *arguments, **environ)
    assert done.returncode == 1 and "using the running server" not in done.stderr
    assert ("elsewhere holds no database" if named == "data" else "127.0.0.1:1/") in done.stderr


@pytest.mark.parametrize(("command", "code"), [("audit", 1), ("check", 2)])
def test_without_a_database_the_message_says_how_to_name_one(reportd, tmp_path, command, code):
    done = reportd(command, REPORTD_DATABASE_DSN=NOWHERE, REPORTD_ARTIFACTS_STORAGE_PATH=str(tmp_path))
    assert (done.returncode, done.stdout) == (code, "")
    assert done.stderr.count("\n") == 1 and "Traceback" not in done.stderr
    assert "reportd up" in done.stderr and "REPORTD_DATABASE_DSN" in done.stderr
    assert "secret" not in done.stderr


def test_without_a_primary_the_message_says_so(command, dsn, monkeypatch):
    """As during a failover, when all hosts of the DSN are standbys."""
    monkeypatch.setenv("REPORTD_DATABASE_DSN", f"{dsn}&target_session_attrs=standby")
    code, output, errors = command("token", "list")
    assert code != 0 and output == "" and "Traceback" not in errors and "is there a primary?" in errors


def test_verify_finds_the_server_and_its_token(reportd, running_here):
    done = reportd("verify")
    assert done.returncode == 0, done.stdout + done.stderr


def test_verify_sends_the_token_of_this_server_to_no_other(reportd, running_here):
    done = reportd("verify", "--url", "http://127.0.0.1:1")
    assert done.returncode == 1 and "--token" in done.stderr


def test_verify_without_the_token_file_says_what_it_needs(reportd, tmp_path, up_server):
    (tmp_path / ".reportd").mkdir()
    (tmp_path / ".reportd/postgres").symlink_to(up_server.data / "postgres")
    starting = reportd("verify")
    assert starting.returncode == 1 and "No `reportd up` serves" in starting.stderr
    (tmp_path / ".reportd/server.json").symlink_to(up_server.data / "server.json")
    done = reportd("verify")
    assert done.returncode == 1 and "reportd: Name a token of the server with --token: " in done.stderr
    assert reportd("verify", "--token", up_server.token).returncode == 0


def test_verify_without_a_server_says_what_it_needs(reportd):
    done = reportd("verify")
    assert done.returncode == 1 and "--url" in done.stderr and "--token" in done.stderr
