"""The commands that list projects and set their main branch."""

import pytest


def listed(command):
    """{name: main branch} of `reportd project list`."""
    code, output, errors = command("project", "list")
    assert (code, errors) == (0, "")
    head, *lines = output.splitlines()
    assert head.split() == ["ID", "NAME", "CREATED", "MAIN", "BRANCH"]
    return {line[38:58].rstrip(): line[78:] for line in lines}


def test_the_main_branch_of_a_project_is_main_until_it_is_set(command, rows):
    rows("INSERT INTO projects (name) VALUES ('web shop')")
    assert listed(command) == {"default": "main", "web shop": "main"}
    code, output, _ = command("project", "set-main-branch", "web shop", "release/2.x")
    assert (code, output) == (0, "the main branch of web shop is release/2.x\n")
    assert listed(command) == {"default": "main", "web shop": "release/2.x"}
    (entry,) = rows("SELECT * FROM audit_entries")
    assert (entry["action"], entry["actor_kind"], entry["subject_name"]) == ("project.changed", "command", "web shop")
    assert entry["detail"] == {"main_branch": "release/2.x"}
    assert entry["project_id"] == rows("SELECT id FROM projects WHERE name = 'web shop'")[0]["id"]


def test_an_unknown_project_is_refused(command, rows):
    code, _, errors = command("project", "set-main-branch", "shop", "main")
    assert (code, errors) == (1, "reportd: No project has the name shop. See `reportd project list`.\n")
    assert rows("SELECT FROM audit_entries") == []


@pytest.mark.parametrize("branch", ["", "x" * 501, "a\nb", "\x1b[31m"])
def test_a_wrong_branch_is_refused(command, rows, branch):
    with pytest.raises(SystemExit) as ended:
        command("project", "set-main-branch", "default", branch)
    assert ended.value.code == 2
    assert rows("SELECT main_branch FROM projects") == [{"main_branch": "main"}]


def test_hostile_names_cannot_control_the_terminal(command, rows):
    rows("INSERT INTO projects (name, main_branch) VALUES (%s, %s)", "a\x1b[2J", "b\x07")
    assert "\x1b" not in command("project", "list")[1] and "\x07" not in command("project", "list")[1]
