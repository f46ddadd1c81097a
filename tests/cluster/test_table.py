"""The table of README.md names tests and files that exist."""

import re
from pathlib import Path

TESTS = Path(__file__).parent.parent
TABLE = (Path(__file__).parent / "README.md").read_text("utf-8")


def test_every_test_of_the_table_exists():
    named = re.findall(r"`([\w/]+\.py)::(\w+)`", TABLE)
    assert len(named) > 35
    missing = [f"{file}::{name}" for file, name in named if f"def {name}(" not in (TESTS / file).read_text("utf-8")]
    assert missing == []


def test_every_file_of_the_table_exists():
    first = re.findall(r"^\| (.+?) \|", TABLE, re.MULTILINE)[2:]
    named = [name for cell in first for name in re.findall(r"`([\w./]+)`", cell)]
    missing = [
        name for name in named if not (TESTS.parent / "server" / name).exists() and not (TESTS.parent / name).exists()
    ]
    assert len(named) > 25 and missing == []
