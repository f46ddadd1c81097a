"""stable(): the one meaning of "the same text" for error groups, alignment of steps, and comparison of values and URLs.

It replaces what differs between two runs of one test for no reason: ids, times, folders, addresses, numbers.
"""

import re

_READ = 4_000  # characters after escape codes are removed
_KEPT = 1_000  # characters of the result

_ANSI = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\^_])")
_CALL_LOG = "Call log:"

# Every part starts only where a run of its characters starts (the lookbehinds), and no part can match the same
# characters in two ways. Otherwise hostile texts would take quadratic time.
_UUID = r"(?P<uuid>(?<![0-9A-Za-z])[0-9A-Fa-f]{8}-(?:[0-9A-Fa-f]{4}-){3}[0-9A-Fa-f]{12}(?![0-9A-Za-z]))"
_TIME = (
    r"(?P<time>(?<!\d)(?:\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:[.,]\d{1,9})?)?(?: ?(?:Z|[+-]\d\d:?\d\d))?)?"
    r"|\d\d:\d\d:\d\d(?:[.,]\d{1,9})?)(?!\d))"
)
# Eight or more hexadecimal digits, 0x…, and Java's Object@1b28cd, which has fewer when it starts with zeros.
_HEX = (
    r"(?P<hex>(?<![0-9A-Za-z])(?:0[xX][0-9A-Fa-f]++|(?=[A-Fa-f]*\d)[0-9A-Fa-f]{8,}+)(?![0-9A-Za-z])"
    r"|(?<=\w@)(?=[a-f]*\d)[0-9a-f]{5,7}+(?![\w.@-]))"
)
_NUMBER = r"(?P<number>(?:(?<![\w)\]])[+-])?\d++(?:[.,]\d++)*+(?:[eE][+-]?\d++(?!\w))?)"

# A status, exit or error code says what happened: 404 is not 500. The codes of Windows have ten digits; other numbers
# of more than five are those that a shop sends by mail.
_CODE = (
    r"(?P<code>(?:(?<![A-Za-z])|(?<=[a-z])(?=[CS]))(?i:(?:status|errno|exit|code|http(?:/\d(?:\.\d)?)?)"
    r"(?:[ _-]?(?:status|code))?)(?:[ =:\"'(\[#]| is | was | of ){1,3}"
    r"(?:0x[0-9A-Fa-f]++|-?(?:\d{1,5}|3\d{9}))(?!\d|\.\d))"
)
# What is quoted and starts like a CSS selector, an XPath expression, or a selector with its engine's name.
_SELECTOR_START = (
    r"[#.][A-Za-z_-][^/\n]|\[[A-Za-z_@-]|\(?\.?//(?:[\w:-]+(?=[\[/\"'`])|\*|@)"
    r"|(?:css|xpath|id|name|text|role|testid|data-testid|class|link|internal:[a-z-]+)[=:](?!//)"
)
_SELECTOR = rf"(?P<selector>(?P<quote>[\"'`])(?:{_SELECTOR_START})(?:\\.|(?!(?P=quote))[^\n\\]){{0,300}}(?P=quote))"
_URL = r"(?P<url>(?<![A-Za-z0-9+.-])(?!file:)[A-Za-z][A-Za-z0-9+.-]{1,15}://[^\s\"'`<>()\[\]{}]++)"
_PART = r"[\w.@+%=~-]++"
_PATH = (
    rf"(?P<path>(?<![\w.@+%=~\\/-])(?:(?:file:|~|\.{{1,2}}|[A-Za-z]:)?(?:[\\/]++{_PART}){{2,}}+[\\/]*+"
    rf"|{_PART}(?:[\\/]++{_PART})++))"
)
_ROOTED = re.compile(r"(?:file:|~|\.{1,2}|[A-Za-z]:)?[\\/]")
_EXTENSION = re.compile(r"\.[A-Za-z]\w{0,9}$")

_SMALL = re.compile("|".join((_UUID, _TIME, _HEX, _NUMBER)))
_ALL = re.compile("|".join((_CODE, _SELECTOR, _URL, _UUID, _TIME, _PATH, _HEX, _NUMBER)))
_ONLY_UUID = re.compile(_UUID)
_NAMES = {"uuid": "<uuid>", "time": "<time>", "hex": "<hex>", "number": "<n>"}


def stable(text: str) -> str:
    """The text without what differs from run to run, at most 1,000 characters. Takes linear time.

    Escape codes go. Of the first 4,000 characters, UUIDs become `<uuid>`, ISO dates and times `<time>`, paths
    `<path>/` and their last part, hexadecimal ids `<hex>`, other numbers `<n>`; white space becomes one space. Codes
    (`status 404`, `exit code 1`) and quoted selectors stay as they are.
    """
    if "\x1b" in text:
        text = _ANSI.sub("", text)
    if len(text) > _READ:
        text = next(iter(text[:_READ].rsplit(None, 1)), "")  # half a UUID would not be found as one
    text = _without_repeats(text)
    return " ".join(_ALL.sub(_replacement, text).split())[:_KEPT]


def _without_repeats(text: str) -> str:
    """Only the first line of Playwright's call log, which often alone has the selector. How often the other lines are
    repeated depends on the machine's speed."""
    before, mark, log = text.partition(_CALL_LOG)
    return f"{before}{mark} {log.lstrip().partition(chr(10))[0]}" if mark else text


def _replacement(found: re.Match[str]) -> str:
    kind, text = found.lastgroup or "", found.group()
    if kind == "path":
        return _short(text)
    if kind == "url":
        return _small(text)
    if kind == "selector":  # an id that was generated for this run is no part of what the test's author wrote
        return _ONLY_UUID.sub("<uuid>", text)
    return _NAMES.get(kind, text)


def _short(path: str) -> str:
    """`<path>/` and the last part that is a name; ids after it are kept as `<n>`: `<path>/orders/<n>`.

    `tests/login.py` is such a path, too, but `and/or` is none.
    """
    if not _ROOTED.match(path) and not _EXTENSION.search(path):
        return _small(path)
    parts = [_small(part) for part in re.split(r"[\\/]+", path) if part]
    first = len(parts) - 1
    while first > 0 and not re.search(r"[^\W\d_]", re.sub(r"<\w+>", "", parts[first])):
        first -= 1
    return "/".join(["<path>", *parts[first:]])


def _small(text: str) -> str:
    return _SMALL.sub(lambda found: _NAMES[found.lastgroup or ""], text)
