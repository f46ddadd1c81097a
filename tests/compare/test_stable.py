"""stable(): which texts are the same, and that hostile texts take linear time."""

import time

import pytest

from server.compare.stable import stable

UUID_A, UUID_B = "3f2b1c9a-1111-4222-8333-444455556666", "00000000-aaaa-4bbb-8ccc-ddddeeeeffff"

# Pairs from Playwright, Cypress, Selenium, pytest, JUnit and Jest that are the same error.
SAME = {
    "playwright time-out": (
        "TimeoutError: locator.click: Timeout 30000ms exceeded.",
        "TimeoutError: locator.click: Timeout 5000ms exceeded.",
    ),
    "playwright call log": (
        "Timeout 30000ms exceeded.\nCall log:\n  - waiting for locator('#pay')\n  - 14 × waiting for element\n",
        "Timeout 30000ms exceeded.\nCall log:\n  - waiting for locator('#pay')\n",
    ),
    "playwright colours": (
        "\x1b[2mexpect(\x1b[22m\x1b[31mlocator\x1b[39m\x1b[2m)\x1b[22m.toBeVisible()",
        "expect(locator).toBeVisible()",
    ),
    "playwright port": ("net::ERR_REFUSED at http://localhost:41234/", "net::ERR_REFUSED at http://localhost:9/"),
    "playwright stack": (
        "at /home/ci/build-17/tests/pay.spec.ts:12:33",
        "at /Users/me/shop/e2e/tests/pay.spec.ts:14:1",
    ),
    "playwright windows": ("at C:\\agent\\_work\\7\\s\\pay.spec.ts:12", "at D:\\a\\shop\\pay.spec.ts:9"),
    "playwright counts": ("Expected: 3\nReceived: 4", "Expected: 3\r\n  Received:   5"),
    "playwright target": (
        "page.goto: Target closed, id 8F14E45FCEEA167A",
        "page.goto: Target closed, id 3F2C9AA0BB11CC22",
    ),
    "cypress time-out": (
        "Timed out retrying after 4000ms: Expected to find element: `#pay`, but never found it.",
        "Timed out retrying after 10050ms: Expected to find element: `#pay`, but never found it.",
    ),
    "cypress uid": (f"no row for order {UUID_A}", f"no row for order {UUID_B}"),
    "cypress generated id": (f"never found `[data-row='{UUID_A}']`", f"never found `[data-row='{UUID_B}']`"),
    "cypress url": (
        "cy.visit() failed trying to load: http://localhost:3000/order/17",
        "cy.visit() failed trying to load: http://localhost:3001/order/9",
    ),
    "cypress webpack": ("at webpack://shop/./src/a1/pay.js:3:1", "at webpack://shop/./src/a2/pay.js:4:9"),
    "selenium session": (
        "stale element reference (Session info: chrome=119.0.6045.105)",
        "stale element reference (Session info: chrome=121.0.6167.85)",
    ),
    "selenium build": (
        "Build info: version: '4.15.0', revision: '1d14b5521b'",
        "Build info: version: '4.16.1', revision: '9b4c83354e'",
    ),
    "selenium addresses": ("#0 0x55d4a1 <unknown>", "#0 0x5636bb28 <unknown>"),
    "selenium date": ("System info: time 2026-11-30T00:09:17.123Z", "System info: time 2026-12-01 10:00:00,5 +01:00"),
    "selenium point": (
        "element click intercepted: not clickable at point (512, 384)",
        "element click intercepted: not clickable at point (77, 1024)",
    ),
    "pytest address": ("<shop.Basket object at 0x7f3b2c1d4e50> is empty", "<shop.Basket object at 0x7fa0> is empty"),
    "pytest path": (
        "tests/test_pay.py:12: AssertionError",
        "/builds/shop/backend/tests/test_pay.py:31: AssertionError",
    ),
    "pytest temporary": (
        "No such file: '/tmp/pytest-of-ci/pytest-12/report.csv'",
        "No such file: '/tmp/pytest-of-me/pytest-3/report.csv'",
    ),
    "pytest amount": ("assert 19.99 == 20.00", "assert 5 == 1,234.50"),
    "pytest sign": ("assert -5 > 0", "assert 12 > 0"),
    "pytest float": ("assert 1e-05 < 0", "assert 0.25 < 0"),
    "pytest clock": ("still open at 14:05:12.345", "still open at 09:00:00"),
    "junit identity": ("Basket@1b28cdfa not equal", "Basket@6d06d69 not equal"),
    "junit thread": ("deadlock in pool-3-thread-12", "deadlock in pool-1-thread-2"),
    "junit line": ("at shop.PayTest.pays(PayTest.java:42)", "at shop.PayTest.pays(PayTest.java:57)"),
    "junit port": ("Connection refused: /127.0.0.1:5432", "Connection refused: /10.0.0.7:6432"),
    "jest chunk": ("at /app/dist/chunk-3f2c9aab.js:1:99", "at /app/dist/chunk-00ab12cd.js:1:7"),
    "jest digits of other scripts": ("waited ٣٠ s", "waited 12 s"),
    "jest commit": ("built from 8f14e45fceea167a5a36dedd4bea2543", "built from 3f2c9aab0123456789abcdef01234567"),
    "api order": ("PUT /api/orders/17 failed", "PUT /api/orders/41 failed"),
}

# Pairs that are different errors.
DIFFERENT = {
    "playwright selector": ("waiting for locator('#pay')", "waiting for locator('#login')"),
    "playwright numbered selector": ("waiting for locator('#row-1')", "waiting for locator('#row-2')"),
    "playwright selector in a call log": (
        "Timeout 30000ms exceeded.\nCall log:\n  - waiting for locator('#pay')\n",
        "Timeout 30000ms exceeded.\nCall log:\n  - waiting for locator('#login')\n",
    ),
    "playwright role": ("getByRole('button', { name: 'Pay' })", "getByRole('button', { name: 'Cancel' })"),
    "playwright page": (
        "net::ERR_REFUSED at http://localhost:1/basket",
        "net::ERR_REFUSED at http://localhost:1/login",
    ),
    "playwright engine": ('waiting for "text=Row 1"', 'waiting for "text=Row 2"'),
    "cypress selector": ("never found `.total`", "never found `.tax`"),
    "cypress attribute": ("never found `[data-n='1']`", "never found `[data-n='2']`"),
    "cypress status": ("Received: Status Code: 404", "Received: Status Code: 500"),
    "cypress condition": ("expected '#pay' to be visible", "expected '#pay' to be enabled"),
    "selenium xpath": ("locator: '//div[2]/button'", "locator: '//div[3]/button'"),
    "selenium xpath with a name": ("locator: \"//*[@id='x1']\"", "locator: \"//*[@id='x2']\""),
    "selenium json": (
        'no such element: {"method":"css selector","selector":"[data-id=\\"7\\"]"}',
        'no such element: {"method":"css selector","selector":"[data-id=\\"8\\"]"}',
    ),
    "selenium reason": ("element not interactable", "element click intercepted"),
    "selenium robot": ("Element with locator 'id:pay1' not found", "Element with locator 'id:pay2' not found"),
    "pytest errno": ("OSError: [Errno 2] x", "OSError: [Errno 13] x"),
    "pytest exit": ("exit code 1", "exit code 137"),
    "pytest exit by signal": ("exited with status -9", "exited with status -15"),
    "pytest file": ("tests/test_pay.py:12: AssertionError", "tests/test_login.py:12: AssertionError"),
    "pytest text": ("assert 'Alice' == 'Bob'", "assert 'Alice' == 'Carol'"),
    "junit http": ("HTTP/1.1 502 Bad Gateway", "HTTP/1.1 503 Service Unavailable"),
    "junit http alone": ("server said HTTP 401", "server said HTTP 403"),
    "junit windows exit": ("exit code 3221225477", "exit code 3221226505"),
    "junit hresult": ("error code: 0x80004005", "error code: 0x80070005"),
    "junit class": ("at shop.PayTest.pays(PayTest.java:42)", "at shop.LoginTest.signs_in(LoginTest.java:42)"),
    "jest camel case": ("statusCode: 404.", "statusCode: 500."),
    "jest status is": ("response status was 200", "response status was 204"),
    "jest snake case": ('{"status_code": 409}', '{"status_code": 410}'),
    "jest words with a slash": ("and/or", "or/and"),
    "jest media type": ("expected text/html", "expected text/plain"),
    "host": ("at https://shop.example.test/", "at https://bank.example.test/"),
    "api resource": ("PUT /api/orders/17 failed", "PUT /api/users/17 failed"),
}


def test_the_table_has_at_least_sixty_pairs():
    assert len(SAME) + len(DIFFERENT) >= 60


@pytest.mark.parametrize(("one", "other"), SAME.values(), ids=SAME)
def test_texts_that_differ_for_no_reason_are_the_same(one, other):
    assert one != other
    assert stable(one) == stable(other) != ""


@pytest.mark.parametrize(("one", "other"), DIFFERENT.values(), ids=DIFFERENT)
def test_different_errors_stay_different(one, other):
    assert stable(one) != stable(other)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ""),
        (" \t\n", ""),
        (f"order {UUID_A}", "order <uuid>"),
        ("at 2026-11-30T00:09:17.123Z, 2026-11-30", "at <time>, <time>"),
        ("(/a/b/c.js:1:2)", "(<path>/c.js:<n>:<n>)"),
        ("~/shop/x.csv and file:///srv/shop/y.csv", "<path>/x.csv and <path>/y.csv"),
        ("/checkout", "/checkout"),
        ("https://qa7.example.test:8080/a/17?x=1", "https://qa<n>.example.test:<n>/a/<n>?x=<n>"),
        ("verification code 483920", "verification code <n>"),
        ("1.5 s of 12 %", "<n> s of <n> %"),
        ("\x1b]8;;https://x.test\x07link\x1b]8;;\x07 \x1b[1;31mred\x1b[0m", "link red"),
        ("\x00\x1b", "\x00\x1b"),
        ("‮abc 5", "‮abc <n>"),
        ("\ud800 5", "\ud800 <n>"),
    ],
)
def test_what_a_text_becomes(text, expected):
    assert stable(text) == expected


def test_a_stable_text_is_stable():
    """Otherwise a text that was sent redacted, or copied from a page, would be another error."""
    for pair in (*SAME.values(), *DIFFERENT.values()):
        for text in pair:
            assert stable(stable(text)) == stable(text)


def test_at_most_1000_characters_are_kept_and_4000_read():
    assert len(stable("x " * 3_000)) == 1_000
    assert stable(f"{UUID_A} " * 2_000) == stable(f"1{UUID_A[1:]} " * 2_000) == " ".join(["<uuid>"] * 108)
    assert stable(" " * 5_000) == ""


HOSTILE = [
    *("a", "1", "f0", "a/", "../", "a.b/", "C:\\", "1.", "12:34:", "1234-12-", "e1", "x-", "'", '"id=', "'#a", "'//a["),
    *("status ", "status code ", "http://", "Call log:", "@a1", "\x1b", "\x1b[0", "\x1b]", "\\", "'#\\", " ", "٣"),
]


def test_hostile_texts_take_linear_time():
    """Of 1 MB, 4,000 characters are read after escape codes are gone. A part that took quadratic time would take 16
    times as long for four times the text."""

    def seconds(text):
        def once():
            started = time.thread_time()
            stable(text)
            return time.thread_time() - started

        return min(once() for _ in range(3))

    def all_of(size):
        return sum(seconds((part * size)[:size]) for part in HOSTILE)

    assert all_of(4_000) < 9 * all_of(1_000)
    escapes = {size: seconds("\x1b[0" * (size // 3)) for size in (125_000, 1_000_000)}
    assert escapes[1_000_000] < 24 * escapes[125_000]
    assert seconds("x" * 1_000_000) < 9 * seconds("x" * 4_000)
