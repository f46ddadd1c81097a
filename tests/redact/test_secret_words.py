"""The server and the client hide the same credentials."""

import importlib
import sys
from pathlib import Path

import pytest

from server.redact import rules

ROOT = Path(__file__).parent.parent.parent
CLIENT = ROOT / "client/reportd_client"


def test_the_word_lists_of_server_and_client_are_the_same_file():
    assert (ROOT / "server/redact/secret_words.py").read_bytes() == (CLIENT / "secret_words.py").read_bytes()


@pytest.fixture
def masks(monkeypatch):
    """The client's module `mask`, which is not installed here."""
    monkeypatch.syspath_prepend(str(ROOT / "client"))
    yield importlib.import_module("reportd_client.mask")
    for name in [name for name in sys.modules if name.partition(".")[0] == "reportd_client"]:
        del sys.modules[name]


@pytest.mark.parametrize(
    "text",
    [
        "https://anna:hunter2@shop.example/?access_token=a&b=2#id_token=x;y=1",
        "see https://shop.example/?user%5Bpassword%5D=1&tokens=2 'https://x/?sig=1'",
        "?monkey=1&key=2&api-key[0]=3;pwd=4 secret=5",
        "?token=a;b&c;otp=1;x",
        "no credentials here: 1 = 2",
    ],
)
def test_urls_and_texts_are_redacted_in_the_same_way(masks, text):
    assert masks.Masks().url(text) == rules.redact_url(text)
    assert masks.Masks().text(text) == rules.redact_text(text)


@pytest.mark.parametrize(
    "name", ["#password", "userPin", "spinner", "OTP_CODE", "passport", "cvc", "PINCode", "one time code"]
)
def test_password_fields_are_recognised_in_the_same_way(masks, name):
    assert masks.is_password_field(name) == rules.is_password_field(name)
