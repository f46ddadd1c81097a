"""A file that is missing on a file system of several machines may only be missing here, and only for now."""

import os

import pytest

from server.storage import folder
from server.storage.shared_view import is_shared, type_of
from tests.api.test_artifacts import on_disk
from tests.forms import post, single
from tests.makers import png

MOUNTS = """\
22 28 0:21 / /proc rw,nosuid shared:12 - proc proc rw
29 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw
31 29 0:45 / /srv/a\\040b rw,relatime shared:1 master:2 - fuse.glusterfs alpha:/files rw
"""


@pytest.mark.parametrize(
    ("device", "kind"), [((8, 1), "ext4"), ((0, 45), "fuse.glusterfs"), ((0, 21), "proc"), ((9, 9), "")]
)
def test_the_type_of_a_mount(device, kind):
    assert type_of(os.makedev(*device), MOUNTS.splitlines(keepends=True)) == kind


def test_a_local_folder_is_not_shared(tmp_path):
    assert not is_shared(tmp_path)


@pytest.mark.parametrize(("shared", "seconds", "status"), [(True, 3600, 503), (True, 0, 410), (False, 3600, 410)])
async def test_a_new_file_that_is_missing(client, case_url, storage, monkeypatch, shared, seconds, status):
    sent, artifact = await post(client, f"{await case_url()}/artifacts", single(png(8, 8)))
    assert sent == 201
    on_disk(storage, artifact).unlink()
    monkeypatch.setattr(folder, "is_shared", lambda root: shared)
    monkeypatch.setattr(folder, "_LATELY_SECONDS", seconds)
    reply = await client.get(artifact["download_url"])
    assert reply.status == status and (status == 410 or reply.headers["Retry-After"])
