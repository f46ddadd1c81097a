"""Text that is redacted before it is stored: input of password fields, and matches of the configured patterns."""

import asyncio
import random
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.redact.patterns import Patterns
from server.redact.rules import REDACTED, is_password_field
from tests.api.test_steps import a_step

PASSWORD_FIELDS = [
    "#password",
    "input[type=password]",
    "input[type='password']",
    '//input[@type="PASSWORD"]',
    "#newPassword",
    "#password2",
    "user_passwd",
    "Passwort",
    "passphrase",
    "passcode",
    'input[name="client_secret"]',
    "secretAnswer",
    '[autocomplete="one-time-code"]',
    '[autocomplete="current-password"]',
    "#pwd",
    "#user_pwd",
    "userPwd",
    "#user_pass",
    "#otp",
    "otp-0",
    "otpCode",
    "loginOtp",
    "OTP",
    "USER_PIN",
    "userPIN",
    "userPINCode",
    "#pin",
    "pin1",
    "Enter PIN",
    "Card pin:",
    "cvv",
    "//input[@id='card.cvc']",
    "type_password",
    "Type into the password field",
]
OTHER_FIELDS = [
    "",
    "#username",
    "spinner",
    "#spin",
    "opinion",
    "pinned",
    "PINNED",
    "Shopping",
    "mapPinned",
    "#compass",
    "#passenger",
    "Passed",
    "bypass",
    "#option",
    "laptop",
    "optOut",
    "#email",
    "passat",
    "cvcs",
    "hotpot",
]


@pytest.mark.parametrize("name", PASSWORD_FIELDS)
def test_password_fields_are_recognized(name):
    assert is_password_field(None, "", "#x", name)


@pytest.mark.parametrize("name", OTHER_FIELDS)
def test_other_fields_are_not_password_fields(name):
    assert not is_password_field(name) and not is_password_field(None)


@pytest.mark.parametrize("unit", ["pass", "one_time_", "Pi", "a", "-pin", "seCre", "passwor"])
def test_recognizing_password_fields_takes_linear_time(unit):
    def seconds(text):
        return min(_time(is_password_field, text) for _ in range(3))

    short, long = (unit * (size // len(unit)) + "x" for size in (20_000, 160_000))
    assert seconds(long) < 30 * max(seconds(short), 0.0005)


def _time(function, *arguments):
    started = time.process_time()
    function(*arguments)
    return time.process_time() - started


MIXED = "".join(random.Random(1).choices("ab", k=100_000))
STEP_FIELDS = ["element_selector", "element_name", "element_type", "action"]


@pytest.mark.parametrize(("method", "path"), [("POST", "steps"), ("POST", "steps/bulk"), ("PUT", "steps")])
async def test_input_of_a_password_field_is_not_stored(client, case_url, rows, method, path):
    case = await case_url()
    steps = [
        *(a_step(number, **{field: "the password"}, input_value="hunter2") for number, field in enumerate(STEP_FIELDS)),
        a_step(10, element_selector="#password", input_value=""),
        a_step(11, element_selector="#password", input_value=None),
        a_step(12, element_selector="#user", input_value="anna"),
        a_step(13, element_selector="#user", input_value="password"),
    ]
    reply = await client.request(method, f"{case}/{path}", json={"steps": steps})
    assert reply.status in (200, 201) and "hunter2" not in await reply.text()
    read = (await (await client.get(f"{case}/steps")).json())["steps"]
    assert [step["input_value"] for step in read] == [*[REDACTED] * 4, "", None, "anna", "password"]
    stored = rows("SELECT * FROM test_step_results ORDER BY step_number")
    assert len(stored) == 8 and "hunter2" not in str(stored)


async def test_a_replayed_reply_is_masked_too(client, case_url, rows):
    case = await case_url()
    body = {"steps": [a_step(1, element_selector="#pin", input_value="hunter2")]}
    for _ in range(2):
        reply = await client.post(f"{case}/steps/bulk", json=body, headers={"Idempotency-Key": "k"})
        assert reply.status == 201 and "hunter2" not in await reply.text()
    stored = rows("SELECT body FROM idempotency_replies UNION ALL SELECT body FROM idempotency_keys")
    assert len(stored) == 1 and "hunter2" not in str(stored)


async def test_masking_passwords_can_be_turned_off(start, case_url):
    case, plain = await case_url(), await start(api={"mask_passwords": False})
    body = {"steps": [a_step(1, element_selector="#password", input_value="hunter2")]}
    reply = await plain.post(f"{case}/steps/bulk", json=body)
    assert (await reply.json())["steps"][0]["input_value"] == "hunter2"


# --- patterns --------------------------------------------------------------------------------------------------


def hide(patterns, *texts):
    masks = Patterns(patterns)
    try:
        return asyncio.run(masks.hide(list(texts)))
    finally:
        masks.close()


@pytest.mark.parametrize(
    ("patterns", "text", "clean"),
    [
        (["hunter2"], "it is hunter2", "it is *"),
        (["hunter2"], "hunter2hunter2 hunter2", "** *"),
        (["hunter2"], "it is Hunter2", "it is Hunter2"),
        (["(?i)hunter2"], "it is Hunter2", "it is *"),
        (["AKIA[0-9A-Z]{16}"], "key=AKIAIOSFODNN7EXAMPLE.", "key=*."),
        ([r"\b\d{4}( \d{4}){3}\b"], "card 4111 1111 1111 1111!", "card *!"),
        (["ü+"], "grüüün, für", "gr*n, f*r"),
        (["a", "b"], "abc", "**c"),
        ([r"\b"], "a b", "a b"),
        (["x"], "", ""),
        (["x"], None, None),
        ([], "hunter2", "hunter2"),
        (["(?m)^secret.*$"], "a\nsecret: 1\nb", "a\n*\nb"),
    ],
)
def test_matches_of_patterns_are_hidden(patterns, text, clean):
    assert hide(patterns, text) == [clean and clean.replace("*", REDACTED)]


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]))))
def test_texts_without_a_match_are_unchanged(texts):
    assert hide([r"\x00\x00\x00never"], *texts) == texts


def test_matches_in_long_texts_are_hidden():
    filler = "ü" * 100_000
    assert hide(["hunter2"], f"{filler}hunter2{filler}", filler, None) == [f"{filler}{REDACTED}{filler}", filler, None]


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        ("(a+)+$", "a" * 100_000 + "!"),
        ("(a|aa)+$", "a" * 100_000 + "!"),
        ("(?:a?){30}a{30}x", "a" * 100_000),
        (r"(\w+\s?)+:$", "word " * 20_000 + "!"),
        (".*.*=.*", "x" * 100_000),
        ("[ab]*a[ab]{30}x", MIXED),  # more states than RE2 caches: it falls back to its slow NFA
        ("x[^y]*y|x", "x" * 100_000),  # each search after a match scans to the end of the text
        ("x", "xy" * 50_000),
    ],
)
def test_no_pattern_takes_quadratic_time(pattern, text):
    """Four times the text takes less than 12 times as long. Quadratic time would be 16 times, exponential time endless.

    A text that would need too many searches is hidden completely.
    """
    short, long = (min(_time(hide, [pattern], text[: len(text) // part]) for _ in range(3)) for part in (4, 1))
    assert long < 12 * max(short, 0.002)
    assert len(hide([pattern], text)[0]) <= 6 * len(text)


def test_too_many_matches_hide_all_further_texts_that_match():
    many = "xy" * 500_000
    assert hide(["x"], "before x", many, "y", "after x") == [f"before {REDACTED}", REDACTED, "y", REDACTED]


async def test_a_slow_search_does_not_block_the_event_loop():
    masks = Patterns(["[ab]*a[ab]{200}x"])
    ticks = 0

    async def count():
        nonlocal ticks
        while True:
            await asyncio.sleep(0.001)
            ticks += 1

    counting = asyncio.create_task(count())
    try:
        await masks.hide([MIXED])
    finally:
        counting.cancel()
        masks.close()
    assert ticks > 3


async def test_patterns_are_applied_to_console_and_network_logs(start, case_url, rows):
    case, client = await case_url(), await start(api={"mask_patterns": ["hunter[0-9]", "sk_live_[a-z]+"]})
    console = {"level": "info", "message": "is hunter2 sk_live_abc", "source_url": "https://h/hunter2.js"}
    network = {
        "method": "GET",
        "url": "https://h/hunter2?q=sk_live_abc",
        "error_text": "hunter3 failed",
        "request_headers": {"X-Key": "hunter2", "X-List": ["a", "hunter3"], "Empty": "", "None": []},
        "response_headers": {"X": 'a "hunter2"'},
    }
    plain = {"method": "GET", "url": "https://h/"}
    for noun, entries in (("console-logs", [console, {**console, "message": "x"}]), ("network-logs", [network, plain])):
        reply = await client.post(f"{case}/{noun}", json={"entries": entries})
        assert reply.status == 201, await reply.text()
    stored = str([rows(f"SELECT * FROM test_{noun}_logs") for noun in ("console", "network")])
    assert "hunter" not in stored and "sk_live" not in stored
    first, second = (await (await client.get(f"{case}/console-logs")).json())["items"]
    assert first["message"] == f"is {REDACTED} {REDACTED}" and second["message"] == "x"
    assert first["source_url"] == f"https://h/{REDACTED}.js"
    first, second = (await (await client.get(f"{case}/network-logs")).json())["items"]
    assert first["url"] == f"https://h/{REDACTED}?q={REDACTED}" and first["error_text"] == f"{REDACTED} failed"
    assert first["request_headers"] == {"X-Key": REDACTED, "X-List": ["a", REDACTED], "Empty": "", "None": []}
    assert first["response_headers"] == {"X": f'a "{REDACTED}"'} and second["request_headers"] == {}
