"""The distribution is whole, and brings two packages."""

import re
from importlib import metadata

import pytest
import reportd_client

from tests.server import CHECKOUT

PROJECT = (CHECKOUT / "client/pyproject.toml").read_text("utf-8")


def test_it_needs_two_packages():
    needed = [name for name in metadata.requires("reportd-client") if "extra ==" not in name]
    assert sorted(re.match(r"[\w-]+", name)[0] for name in needed) == ["defusedxml", "urllib3"]


def test_every_package_is_in_the_distribution():
    listed = re.findall(r'"([\w.]+)"', re.search(r"^packages = \[(.*?)\]", PROJECT, re.MULTILINE | re.DOTALL)[1])
    root = CHECKOUT / "client"
    found = {".".join(path.parent.relative_to(root).parts) for path in (root / "reportd_client").rglob("*.py")}
    assert sorted(listed) == sorted(found)


def test_the_version_is_that_of_the_server():
    (version,) = re.findall(r'__version__ = "(.+)"', (CHECKOUT / "server/__init__.py").read_text("utf-8"))
    assert reportd_client.__version__ == metadata.version("reportd-client") == version


def test_every_name_of_the_package_is_there():
    for name in reportd_client.__all__:
        assert getattr(reportd_client, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        reportd_client.nothing  # noqa: B018
