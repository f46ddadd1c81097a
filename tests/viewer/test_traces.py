"""Which lines of a stack trace are frames, and whose."""

import time
from html import unescape

import pytest

from server.viewer import traces

FRAMES = [
    ("    at pay (/work/tests/pay.spec.ts:12:3)", "own"),
    ("    at async Page.click (/work/node_modules/playwright-core/lib/page.js:1:2)", "foreign"),
    (r"    at run (C:\work\node_modules\mocha\lib\run.js:1:2)", "foreign"),
    ("    at process.processTicks (node:internal/process/task_queues:95:5)", "foreign"),
    ('  File "/work/tests/test_pay.py", line 12, in test_pay', "own"),
    ('  File "/venv/lib/python3.11/site-packages/selenium/webdriver.py", line 1, in get', "foreign"),
    ('  File "<frozen importlib._bootstrap>", line 1, in _load', "foreign"),
    ("tests/test_pay.py:12: AssertionError", "own"),
    ("\tat com.shop.PayTest.pays(PayTest.java:12)", "own"),
    ("\tat java.base/java.lang.reflect.Method.invoke(Method.java:568)", "foreign"),
    ("\tat org.junit.jupiter.engine.Runner.run(Runner.java:1)", "foreign"),
    ("\t... 23 more", "foreign"),
    ("   at Shop.Tests.Pays() in C:\\shop\\Pays.cs:line 12", "own"),
    ("   at System.Threading.Tasks.Task.Run()", "foreign"),
    ("from /work/spec/pay_spec.rb:12:in `block'", "own"),
    ("/usr/lib/ruby/gems/3.1/rspec-core/lib/runner.rb:9:in `run'", "foreign"),
    ("\t/work/shop/pay_test.go:12 +0x1d", "own"),
    ("#0 /work/vendor/phpunit/TestCase.php(12): run()", "foreign"),
    ("AssertionError: expected 19.99", "text"),
    ("look at this", "text"),
    ("", "text"),
]


@pytest.mark.parametrize(("line", "kind"), FRAMES)
def test_a_line_is_a_frame_of_somebody(line, kind):
    ((part,), rest) = traces.parts(line)
    assert (part.kind, part.frames, rest) == (kind, kind != "text", [])


def test_frames_of_dependencies_in_a_row_are_one_part():
    text = (
        "Traceback (most recent call last):\n"
        '  File "/work/test_pay.py", line 3, in test_pay\n    page.click("#pay")\n    ^^^^^^^^^^\n'
        '  File "/x/site-packages/a.py", line 9, in click\n    raise <Error>\n'
        '  File "/x/site-packages/b.py", line 9, in wait\n    raise\n'
        "TimeoutError: 30 s\n"
    )
    parts, rest = traces.parts(text)
    assert [(part.kind, part.lines, part.frames) for part in parts] == [
        ("text", 1, 0), ("own", 3, 1), ("foreign", 4, 2), ("text", 2, 0)
    ]  # fmt: skip
    assert "raise &lt;Error&gt;" in parts[2].html and rest == []
    assert unescape("\n".join(part.html for part in parts)) == text


def test_colours_of_a_trace_last_over_its_parts():
    (first, second), _ = traces.parts("\x1b[31mError\n    at pay (pay.ts:1:1)")
    assert first.html == '<span class="in-red">Error</span>' and 'class="in-red">    at pay' in second.html


def test_a_hundred_lines_are_shown_and_the_rest_is_folded():
    shown, rest = traces.parts("\n".join(f"    at f{n} (a.ts:{n}:1)" for n in range(130)))
    assert ([part.lines for part in shown], [part.lines for part in rest]) == ([100], [30])
    foreign = "\n".join(f"    at f{n} (node_modules/a.js:{n}:1)" for n in range(130))
    shown, rest = traces.parts(f"{foreign}\nlast")
    assert [part.lines for part in shown] == [130, 1] and rest == []


@pytest.mark.parametrize("line", [" " * 999, "at " * 300, "File " + '"' * 900, "#1 " + "a:" * 500, "(" * 900, "a.py:1"])
def test_time_is_linear(line):
    def seconds(text):
        started = time.thread_time()
        traces.parts(text)
        return time.thread_time() - started

    short = min(seconds("\n".join([line] * 100)) for _ in range(3))
    assert min(seconds("\n".join([line] * 400)) for _ in range(3)) < 16 * short + 0.02
    assert min(seconds(line * 500) for _ in range(3)) < 100 * short + 0.1
