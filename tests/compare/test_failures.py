"""Which failures have the same error."""

import pytest

from server.compare.failures import TEXT, Failed, group_of, own_frame

JS = """Error: no price
    at expectPrice (/home/ci/shop/node_modules/@shop/matchers/index.js:12:9)
    at checkBasket (/home/ci/shop/tests/basket.spec.ts:41:7)
    at /home/ci/shop/tests/pay.spec.ts:9:3"""
PYTHON = """Traceback (most recent call last):
  File "/ci/shop/tests/test_pay.py", line 9, in test_pays
    pay()
  File "/ci/shop/shop/pay.py", line 70, in pay
    client.post("/pay")
  File "/usr/lib/python3/site-packages/client.py", line 88, in post
    raise Timeout"""
JAVA = """org.openqa.selenium.TimeoutException: no
\tat java.base/java.lang.Thread.run(Thread.java:829)
\tat org.junit.Assert.fail(Assert.java:88)
\tat com.shop.PayTest.paysByCard(PayTest.java:31)"""


@pytest.mark.parametrize(
    ("trace", "frame"),
    [
        (JS, "at checkBasket (/home/ci/shop/tests/basket.spec.ts:41:7)"),
        (PYTHON, 'File "/ci/shop/shop/pay.py", line 70, in pay'),
        (JAVA, "at com.shop.PayTest.paysByCard(PayTest.java:31)"),
        (
            "checkBasket@https://shop.example/tests/basket.js:41:7\n",
            "checkBasket@https://shop.example/tests/basket.js:41:7",
        ),
        ("  at a (/x/node_modules/y.js:1:2)\n  at b (node:internal/z:1:2)", "at a (/x/node_modules/y.js:1:2)"),
        ("it broke, sorry", ""),
        ("", ""),
        ("\n" * 100_000, ""),
        ("at " * 100_000, ("at " * 100_000)[:64_000].strip()),
    ],
)
def test_the_frame_is_the_innermost_one_of_no_library(trace, frame):
    assert own_frame(trace) == frame


def test_the_text_is_the_results_else_the_steps_else_the_frame():
    step = Failed("StepError", "no button")
    own = group_of(Failed("Error", "no price", JS), step)
    assert (own.error_type, own.stable_text, own.sample) == ("Error", "no price", "no price")
    assert group_of(Failed("Error", "no price")) == own
    assert group_of(Failed("Error", "", JS), step) == group_of(step) == group_of(Failed("StepError", "no button"))
    for message in (None, ""):
        framed = group_of(Failed("Error", message, JS))
        moved = group_of(Failed("Error", None, JS.replace("41:7", "43:1").replace("/home/ci", "/build/7")))
        assert framed.fingerprint == moved.fingerprint
        assert "checkBasket" in framed.stable_text and framed.error_type == "Error"
        assert group_of(Failed("Error", message, JS), Failed("StepError", "")).stable_text == framed.stable_text
    assert group_of(Failed("TimeoutError", None)).stable_text == ""
    assert group_of(Failed(None, None)) is None and group_of(Failed("", "", "")) is None


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (Failed("E", "order 4711 is missing"), Failed("E", "order 4712 is missing"), True),
        (Failed("E", "order 4711 is missing"), Failed("F", "order 4711 is missing"), False),
        (Failed("E", "order is missing"), Failed(None, "order is missing"), False),
        (Failed(None, "x"), Failed("", "x"), True),
        (Failed("E", "status 404"), Failed("E", "status 500"), False),
        (Failed(None, "E\0x"), Failed("E", "x"), False),
        (Failed("E", "x" * TEXT), Failed("E", "x" * TEXT + "y"), True),
    ],
)
def test_errors_are_the_same_if_type_and_stable_text_are(one, other, same):
    left, right = group_of(one), group_of(other)
    assert (left.fingerprint == right.fingerprint) is same
    assert len(left.fingerprint) == 16 and len(left.sample) <= 2_000 and len(left.stable_text) <= 1_000
