"""The same templates with other addresses: what has no address is text, and the page needs no file beside it."""

import inspect
import re

import pytest

from server.viewer import addresses, render
from server.viewer.addresses import PAGES, Addresses
from server.viewer.filters import FilteredAddress

NAMES = [
    name
    for name, member in inspect.getmembers(Addresses, inspect.isfunction)
    if not name.startswith("_") and inspect.signature(member).return_annotation is str
]


class Frame:
    who, kind, theme, address, section = "me", "person", "auto", "/somewhere", "somewhere"
    until, admin = None, False


def arguments(name):
    given = {"width": 320, "number": 1, "log": "console", "name": "core.js" if name == "asset" else "n"}
    parameters = inspect.signature(getattr(Addresses, name)).parameters.values()
    return [
        given.get(each.name, "x") if each.name != "file" else type("File", (), {"id": "x"})
        for each in parameters
        if each.name != "self" and each.kind is each.POSITIONAL_OR_KEYWORD and each.default is each.empty
    ]


@pytest.mark.parametrize("name", NAMES)
def test_an_address_leads_nowhere_until_somebody_decides(name):
    assert getattr(Addresses(), name)(*arguments(name)) == ""
    assert getattr(PAGES, name)(*arguments(name)).startswith("/")


def test_a_page_without_addresses_has_no_link_no_script_and_its_style_sheets_inside():
    drawn = render.page("sign_out.html", frame=Frame, csrf_token="x", to=Addresses())
    head, _, body = drawn.partition("<body")
    assert "<link" not in head and "<script" not in drawn and ":root" in head
    assert re.findall(r'href="([^"]*)"', body.partition("<main")[0]) == ["#main"]
    assert 'role="search"' not in drawn
    usual = render.page("sign_out.html", frame=Frame, csrf_token="x")
    assert '<a class="home" href="/">' in usual and "core." in usual and "keys." in usual and 'role="search"' in usual


def test_style_sheets_can_stand_inside_of_a_page():
    for name, asset in addresses.assets.by_name().items():
        if name.endswith(".css") and name != "swagger-ui.css":
            assert b"</" not in asset.content and b"url(" not in asset.content, name


def test_a_page_without_an_address_has_no_filtered_ones():
    nowhere, here = FilteredAddress("", {}), FilteredAddress("/runs/x", {"status": "Failed", "cursor": "1"})
    assert (nowhere(), nowhere(status="Failed"), nowhere.alone(status="Failed")) == ("", "", "")
    assert here.alone(error="a b") == "/runs/x?error=a+b" and here(q="é") == "/runs/x?status=Failed&q=%C3%A9"
