"""Removing files without a row, on file systems that do not behave like a local disk."""

import errno
import os
from pathlib import Path

import pytest

from server.storage import orphans
from server.storage.orphans import Orphans


@pytest.mark.parametrize("number", [errno.ENOENT, errno.ESTALE])
def test_a_file_system_that_no_longer_knows_an_unlinked_file(tmp_path, monkeypatch, number):
    """As FUSE ones that know files by names: the file is removed, and a check must not report that it failed."""
    for name in ("one", "other"):
        (tmp_path / name).write_bytes(b"x")
    both, found = Orphans(str(tmp_path), False), os.lstat(tmp_path / "one")

    def forgotten(descriptor: int) -> os.stat_result:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(orphans.os, "fstat", forgotten)
        assert both.remove("one", found) is True
        assert not (tmp_path / "one").exists()
    assert both.remove("other", os.lstat(tmp_path / "other")) is True


def test_another_error_after_the_removal_is_raised(tmp_path, monkeypatch):
    (tmp_path / "one").write_bytes(b"x")
    found, before = os.lstat(tmp_path / "one"), len(list(Path("/proc/self/fd").iterdir()))

    def broken(descriptor: int) -> os.stat_result:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="Input/output error"):
        patch.setattr(orphans.os, "fstat", broken)
        Orphans(str(tmp_path), False).remove("one", found)
    assert len(list(Path("/proc/self/fd").iterdir())) == before
