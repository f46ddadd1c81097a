"""What the first `reportd up` makes: an admin token, and the person `admin`."""

import pytest

from server.auth.passwords import Passwords
from server.commands import first_access

PEOPLE = "SELECT u.name, u.password_hash, r.role::text, r.project_id FROM users u JOIN user_roles r ON r.user_id = u.id"


@pytest.fixture
def passwords():
    found = Passwords()
    yield found
    found.close()


async def test_each_is_made_once(tmp_path, dsn, rows, passwords):
    password = await first_access.ensure(tmp_path, dsn)
    (person,) = rows(PEOPLE)
    assert (person["name"], person["role"], person["project_id"]) == ("admin", "admin", None)
    assert await passwords.match(person["password_hash"], password)
    files = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert files.keys() == {"admin-token", "admin-password"} and files["admin-password"] == password + "\n"
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}
    assert await first_access.ensure(tmp_path, dsn) is None
    assert rows(PEOPLE) == [person] and len(rows("SELECT FROM tokens")) == 1
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == files


async def test_a_crash_before_the_row_is_made_good_by_the_next_start(tmp_path, dsn, rows, passwords):
    first_access.write(tmp_path / "admin-password", "written before the crash\n")
    assert await first_access.ensure(tmp_path, dsn) == "written before the crash"
    assert await passwords.match(rows(PEOPLE)[0]["password_hash"], "written before the crash")


async def test_nobody_is_made_where_people_are_already(tmp_path, dsn, rows, make_user):
    make_user(default="viewer")
    rows("UPDATE users SET disabled_at = now()")
    assert await first_access.ensure(tmp_path, dsn) is None
    assert len(rows(PEOPLE)) == 1 and not (tmp_path / "admin-password").exists()


async def test_a_removed_file_stays_removed(tmp_path, dsn, rows):
    await first_access.ensure(tmp_path, dsn)
    for name in ("admin-token", "admin-password"):
        (tmp_path / name).unlink()
    assert await first_access.ensure(tmp_path, dsn) is None
    assert list(tmp_path.iterdir()) == []


async def test_a_restored_database_with_another_password_removes_the_file(tmp_path, dsn, rows):
    assert await first_access.forget_another_password(tmp_path, dsn) is False
    await first_access.ensure(tmp_path, dsn)
    assert await first_access.forget_another_password(tmp_path, dsn) is False
    assert (tmp_path / "admin-password").exists()
    rows("UPDATE users SET name = 'another'")  # the backup has no admin, or one with another password
    assert await first_access.forget_another_password(tmp_path, dsn) is True
    assert not (tmp_path / "admin-password").exists()


@pytest.mark.parametrize(("name", "left"), [("admin", False), ("anna", True)])
def test_a_new_password_of_admin_removes_the_file_of_the_former_one(tmp_path, name, left):
    first_access.write(tmp_path / "admin-password", "former\n")
    first_access.forget_password(tmp_path, name)
    assert (tmp_path / "admin-password").exists() is left
    first_access.forget_password(tmp_path / "no folder", name)
