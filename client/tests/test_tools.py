"""Reports that test runners of other languages write here."""

from tests.tools import node


def test_node_runs_the_modules(tmp_path):
    done = node(tmp_path, "jest/bin/jest.js", "--version")
    assert done.returncode == 0 and done.stdout[:2].isdigit(), done.stderr
