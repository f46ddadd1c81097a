"""Fixtures: SeaweedFS and two hosts that have it mounted, once for all tests in this folder."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.chaos.conftest import effort, tally  # noqa: F401
from tests.cluster.engines import Host, SeaweedFS, host, seaweedfs
from tests.cluster.programs import required
from tests.cluster.test_readme import cluster  # noqa: F401


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """With `--dist loadgroup` one process starts the engines for all."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.xdist_group("engines"))


@pytest.fixture(scope="package")
def weed(tmp_path_factory) -> Iterator[SeaweedFS]:
    for program in ("weed", "fusermount3"):
        required(program)
    if not Path("/dev/fuse").exists():
        pytest.skip("no /dev/fuse on this machine")
    with seaweedfs(tmp_path_factory.mktemp("weed")) as weed:
        yield weed


@pytest.fixture(scope="package")
def hosts(weed, tmp_path_factory) -> Iterator[tuple[Host, Host]]:
    """Two hosts with one folder, each with a mount of its own."""
    folder = tmp_path_factory.mktemp("hosts")
    with ExitStack() as stack:
        alpha, beta = (stack.enter_context(host(folder / name, weed, name)) for name in ("alpha", "beta"))
        yield alpha, beta
