"""Nothing that looks like a credential is written."""

import pytest
from reportd_client.mask import REDACTED, Masks, is_password_field

MASKS = Masks()


@pytest.mark.parametrize(
    ("url", "hidden"),
    [
        ("https://anna:hunter2@shop.example/cart", f"https://anna:{REDACTED}@shop.example/cart"),
        ("https://shop.example/?access_token=abc&page=2", f"https://shop.example/?access_token={REDACTED}&page=2"),
        ("https://shop.example/?user[password]=a;b&x=1", f"https://shop.example/?user[password]={REDACTED}&x=1"),
        ("https://shop.example/#id_token=abc", f"https://shop.example/#id_token={REDACTED}"),
        ("https://shop.example/?sig=abc&monkey=1", f"https://shop.example/?sig={REDACTED}&monkey=1"),
        ("https://shop.example/?page=2", "https://shop.example/?page=2"),
    ],
)
def test_urls(url, hidden):
    assert MASKS.url(url) == hidden


def test_urls_in_texts():
    text = 'GET "https://shop.example/?token=abc" failed: https://a:b@shop.example'
    assert MASKS.text(text) == f'GET "https://shop.example/?token={REDACTED}" failed: https://a:{REDACTED}@shop.example'


def test_tokens_of_reportd():
    token = "rpt_" + "aB3" * 16 + "x"
    assert MASKS.text(f"REPORTD_TOKEN={token}, not rpt_short") == f"REPORTD_TOKEN={REDACTED}, not rpt_short"
    assert MASKS.url(f"https://x/{token}/{token[:47]}") == f"https://x/{REDACTED}/{REDACTED}"
    assert token not in str(MASKS.headers({"X-Sent": f"Bearer {token}"}))
    assert token not in str(MASKS.anything({"environment": [{"A": f"Bearer {token}"}]}))
    assert token not in str(MASKS.step({"action": f"Fill {token}", "input_value": token, "error_message": token}))


def test_headers():
    headers = {
        "Authorization": "Bearer abc",
        "Set-Cookie": ["a=1", "b=2"],
        "Referer": "https://x/?token=abc",
        "Age": "1",
    }
    assert MASKS.headers(headers) == {
        "Authorization": REDACTED,
        "Set-Cookie": [REDACTED, REDACTED],
        "Referer": f"https://x/?token={REDACTED}",
        "Age": "1",
    }


@pytest.mark.parametrize("name", ["#password", "input[name=userPin]", "OTP_CODE", "One-time code", "passwd"])
def test_names_of_password_fields(name):
    assert is_password_field(None, name)


@pytest.mark.parametrize("name", ["#spinner", "opinion", "compass", "", None])
def test_names_of_other_fields(name):
    assert not is_password_field(name)


def test_what_was_typed_into_a_password_field_is_hidden_in_the_whole_step():
    step = MASKS.step(
        {
            "action": 'Fill "hunter2"',
            "description": "fill #password with hunter2",
            "element_selector": "#password",
            "input_value": "hunter2",
            "error_message": "timeout while filling hunter2",
        }
    )
    assert "hunter2" not in str(step)
    assert step["element_selector"] == "#password" and step["action"] == f'Fill "{REDACTED}"'


def test_a_title_that_quotes_the_value_is_hidden_when_the_value_is_not_given():
    step = MASKS.step({"action": 'Fill "hunter2" into "#password"', "element_selector": "#password"})
    assert step["action"] == f'Fill "{REDACTED}" into "#password"'


def test_a_short_value_hides_only_whole_words():
    step = MASKS.step({"action": "Type 1 into field 12", "element_name": "PIN", "input_value": "1"})
    assert step["action"] == f"Type {REDACTED} into field 12"


def test_other_fields_stay():
    step = {"action": 'Fill "anna"', "element_selector": "#user", "input_value": "anna"}
    assert MASKS.step(step) == step


def test_own_patterns_hide_in_every_text():
    masks = Masks("cust-\\d+\n\nIBAN \\w+")
    assert masks.text("cust-4711 has IBAN DE12") == f"{REDACTED} has {REDACTED}"
    assert masks.anything({"a": ["cust-1"], "password": "x", "n": 1}) == {"a": [REDACTED], "password": REDACTED, "n": 1}


def test_a_wrong_pattern_is_named():
    with pytest.raises(ValueError, match=r"REPORTD_MASK: 'a\(' is not a regular expression"):
        Masks("a(")


@pytest.mark.parametrize(
    "text", ["//" * 200_000, "//a:" * 100_000, "?a=" * 100_000, ";" * 300_000, "?" + "x" * 500_000]
)
def test_hostile_texts_take_linear_time(text):
    MASKS.url(text)
    MASKS.text(text)
