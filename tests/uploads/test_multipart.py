"""server/uploads/multipart.py: valid and malformed bodies, in chunks of any sizes."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from server.errors import MalformedBody, NotMultipart, ReportError, TooLarge
from server.uploads.multipart import MAX_PARTS, End, Parser, Part, boundary_of
from server.uploads.names import clean_file_name, link_name
from tests.forms import a_body, a_file, a_part

NAMED = b'Content-Disposition: form-data; name="a"'
_ALLOWED = "0123456789ABCXYZabcxyz'()+_,-./:=?"


def events(boundary: bytes, chunks: list[bytes]) -> list[tuple[Part, bytes]]:
    """The parts of a complete body. Asserts the order of the events: head, data, end of the part."""
    parser, parts, content = Parser(boundary), [], None
    for chunk in chunks:
        for event in parser.feed(chunk):
            if isinstance(event, Part):
                assert content is None
                content = bytearray()
                parts.append((event, content))
            elif event is End.OF_PART:
                assert content is not None
                content = None
            else:
                assert content is not None and len(event) > 0
                content += event
    parser.close()
    assert content is None
    return [(part, bytes(content)) for part, content in parts]


def pieces(body: bytes, sizes: list[int]) -> list[bytes]:
    """`body` in chunks whose sizes cycle through `sizes`."""
    chunks, at, turn = [], 0, 0
    while at < len(body):
        size = sizes[turn % len(sizes)]
        chunks.append(body[at : at + size])
        at, turn = at + size, turn + 1
    return chunks


def outcome(boundary: bytes, chunks: list[bytes]) -> object:
    """The parts, or the type of the ReportError. Any other exception fails the test."""
    try:
        return events(boundary, chunks)
    except ReportError as error:
        return type(error)


def parse(body: bytes, boundary: bytes = b"X", size: int = 1 << 20) -> list[tuple[Part, bytes]]:
    return events(boundary, pieces(body, [size]))


def head(*lines: bytes, content: bytes = b"data") -> Part:
    """The head of a part with these header lines."""
    ((part, got),) = parse(b"--X\r\n" + b"".join(line + b"\r\n" for line in lines) + b"\r\n" + content + b"\r\n--X--")
    assert got == content
    return part


boundaries = st.text(_ALLOWED, min_size=1, max_size=70)
sizes = st.one_of(st.just([1]), st.lists(st.integers(1, 60), min_size=1, max_size=8), st.just([1 << 20]))
padding = st.text(" \t", max_size=20).map(str.encode)


@st.composite
def bodies(draw) -> tuple[bytes, list[tuple[Part, bytes]], bytes]:
    """(boundary, parts, body). The contents are full of pieces that look like the boundary."""
    boundary = draw(boundaries).encode()
    delimiter = b"\r\n--" + boundary
    lookalikes = st.one_of(
        st.integers(0, len(delimiter) - 1).map(lambda n: delimiter[:n]),
        st.integers(1, len(delimiter)).map(lambda n: delimiter[n:]),
        st.sampled_from([b"\r", b"\n", b"\r\n", b"\r\n\r\n", b"--", b"\r\r\n--", delimiter.replace(b"\r\n", b"\n")]),
        st.binary(max_size=20),
    )
    contents = (
        st.lists(lookalikes, max_size=12)
        .map(b"".join)
        .filter(lambda content: delimiter not in b"\r\n" + content)  # a client must choose another boundary
    )
    names = st.text(st.characters(codec="utf-8", exclude_characters='"\\\r\n;%'), min_size=1, max_size=20)
    parts, body = [], b""
    preamble = draw(contents)
    if preamble:
        body += preamble + b"\r\n"
    for number in range(draw(st.integers(1, 5))):
        name, file_name = draw(names), draw(st.none() | names)
        content_type = draw(st.sampled_from(["", "image/png", "text/plain; charset=utf-8"]))
        disposition = f'form-data; name="{name}"' + (f'; filename="{file_name}"' if file_name is not None else "")
        headers = [f"Content-Disposition: {disposition}"] + ([f"content-type:{content_type}"] if content_type else [])
        headers.append(f"X-Number: {number}")
        head = "\r\n".join(draw(st.permutations(headers))).encode()
        content = draw(contents)
        parts.append((Part(name, file_name, content_type), content))
        body += b"--" + boundary + draw(padding) + b"\r\n" + head + b"\r\n\r\n" + content + b"\r\n"
    body += b"--" + boundary + b"--" + draw(st.one_of(padding, contents, st.just(b"\r\n--" + boundary + b"\r\n")))
    return boundary, parts, body


@given(bodies(), sizes)
def test_the_parts_are_the_same_in_chunks_of_any_sizes(made, sizes):
    boundary, parts, body = made
    assert events(boundary, pieces(body, sizes)) == parts


@given(bodies(), sizes, st.data())
def test_a_damaged_body_has_the_same_outcome_in_chunks_of_any_sizes(made, sizes, data):
    boundary, _, body = made
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(body)))
        removed = data.draw(st.integers(0, 12))
        body = (
            body[:at]
            + data.draw(st.sampled_from([b"", b"\r\n", b"\r", b"-", b'"', b"\0", b"\xff"]))
            + body[at + removed :]
        )
    assert outcome(boundary, pieces(body, sizes)) == outcome(boundary, [body])


TOKENS = [
    b"--X",
    b"\r\n--X",
    b"--X--",
    b"\r\n",
    b"\r\n\r\n",
    NAMED,
    b'; filename="',
    b"Content-Type: ",
    b":",
    b"-",
    b'"',
    b"\\",
]


@given(st.lists(st.one_of(st.sampled_from(TOKENS), st.binary(max_size=10)), max_size=30).map(b"".join), sizes)
def test_arbitrary_bytes_are_parsed_or_raise_a_report_error(body, sizes):
    assert outcome(b"X", pieces(body, sizes)) == outcome(b"X", [body])


@given(st.binary(max_size=200).map(lambda raw: raw.decode("utf-8", "surrogateescape")))
@example("\udcff")  # how aiohttp decodes header bytes that are not UTF-8
def test_arbitrary_content_types_have_a_boundary_or_raise_a_report_error(text):
    for header in (text, f"multipart/form-data; boundary={text}", f'multipart/form-data; boundary="{text}"'):
        try:
            Parser(boundary_of(header))
        except ReportError as error:
            assert isinstance(error, NotMultipart | MalformedBody)


@pytest.mark.parametrize("size", [1, 2, 3, 1 << 20])
def test_empty_parts_are_parsed(size):
    body = b"--X\r\n" + NAMED + b"\r\n\r\n\r\n--X\r\n" + NAMED + b"\r\n\r\n\r\n--X--\r\n"
    assert parse(body, size=size) == [(Part("a", None, ""), b"")] * 2
    # RFC 2046, 5.1.1: the line end before a boundary belongs to the boundary. Here it also ends the headers.
    short = b"--X\r\n" + NAMED + b"\r\n\r\n--X\r\n" + NAMED + b"\r\n\r\n--X--"
    assert parse(short, size=size) == [(Part("a", None, ""), b"")] * 2


@pytest.mark.parametrize("size", [1, 1 << 20])
def test_a_body_without_parts_is_valid(size):
    assert parse(b"--X--", size=size) == parse(b"preamble\r\n--X--\r\nepilogue", size=size) == []


def test_bytes_after_the_final_boundary_are_ignored():
    body = a_body(a_file(b"one")) + a_body(a_file(b"two")) + b"\0" * 100_000
    ((_, content),) = parse(body, b"----reportd-test-7MA4YWxk", 1000)
    assert content == b"one"


def test_a_boundary_needs_a_carriage_return_and_a_line_feed():
    content = b"\n--X\n--X--\n--X\r\n"
    assert parse(b"--X\r\n" + NAMED + b"\r\n\r\n" + content + b"\r\n--X--")[0][1] == content
    with pytest.raises(MalformedBody):
        parse(b"--X\n" + NAMED + b"\n\ndata\n--X--")


@pytest.mark.parametrize("size", [1, 7, 1 << 20])
def test_blanks_after_a_boundary_are_ignored(size):
    body = b"--X \t \r\n" + NAMED + b"\r\n\r\ndata\r\n--X--\t \r\n"
    assert parse(body, size=size) == [(Part("a", None, ""), b"data")]


@pytest.mark.parametrize("count", [255, 256, 257, 258, 300])
def test_long_padding_has_the_same_outcome_in_chunks_of_any_sizes(count):
    body = b"--X" + b" " * count + b"\r\n" + NAMED + b"\r\n\r\ndata\r\n--X--"
    assert outcome(b"X", pieces(body, [1])) == outcome(b"X", [body])


def test_endless_padding_is_refused_and_not_buffered():
    parser = Parser(b"X")
    with pytest.raises(MalformedBody):
        list(parser.feed(b"--X"))
        for _ in range(1000):
            list(parser.feed(b" " * 100))


@pytest.mark.parametrize("size", [1, 1 << 20])
@pytest.mark.parametrize("after", [b"Y\r\n", b"-\r\n", b" x\r\n", b"\n", b"Y" * 300, b"\x0b\r\n"])
def test_a_boundary_followed_by_other_characters_is_refused(after, size):
    with pytest.raises(MalformedBody):
        parse(b"--X" + after + NAMED + b"\r\n\r\ndata\r\n--X--", size=size)


COMPLETE = b"--X\r\n" + NAMED + b"\r\n\r\ndata\r\n--X--"


@pytest.mark.parametrize("end", range(len(COMPLETE)))
def test_a_body_that_ends_before_its_final_boundary_is_refused(end):
    for size in (1, 1 << 20):
        with pytest.raises(MalformedBody):
            parse(COMPLETE[:end], size=size)


def test_a_body_may_end_right_after_its_final_boundary():
    assert parse(COMPLETE) == [(Part("a", None, ""), b"data")]


@pytest.mark.parametrize(
    "boundary", [b"", b"x" * 71, b"ends with blank ", b"a\r\nb", b"\xc3\xbc", b'a"b', b"a;b", b"a\n"]
)
def test_boundaries_that_rfc_2046_does_not_allow_are_refused(boundary):
    with pytest.raises(MalformedBody):
        Parser(boundary)


def test_a_boundary_may_have_70_characters():
    boundary = b"x" * 70
    assert parse(COMPLETE.replace(b"X", boundary), boundary, 1)[0][1] == b"data"


@pytest.mark.parametrize(
    ("header", "boundary"),
    [
        ("multipart/form-data; boundary=abc", b"abc"),
        ('Multipart/Form-Data;charset=utf-8;BOUNDARY="a b:c"', b"a b:c"),
        (
            "multipart/form-data ; boundary=----WebKitFormBoundary7MA4YWxkTrZu0gW",
            b"----WebKitFormBoundary7MA4YWxkTrZu0gW",
        ),
        ('multipart/form-data; boundary="a;boundary=b"', b"a;boundary=b"),
        ("multipart/form-data", b""),
        ("multipart/form-data; boundary=", b""),
        ("multipart/form-data; xboundary=abc", b""),
    ],
)
def test_the_boundary_is_read_from_the_content_type(header, boundary):
    assert boundary_of(header) == boundary


@pytest.mark.parametrize(
    "header", ["", "application/json", "multipart/mixed; boundary=a", "text/plain; multipart/form-data"]
)
def test_other_content_types_are_refused(header):
    with pytest.raises(NotMultipart):
        boundary_of(header)


def test_the_number_of_parts_is_limited():
    part = b"--X\r\n" + NAMED + b"\r\n\r\n\r\n"
    assert len(parse(part * MAX_PARTS + b"--X--")) == MAX_PARTS == 200
    with pytest.raises(TooLarge):
        parse(part * (MAX_PARTS + 1) + b"--X--")


def test_the_headers_of_a_part_are_limited_to_8_kib():
    for length, fits in [(8000, True), (8150, True), (8250, False), (20_000, False)]:
        body = b"--X\r\n" + NAMED + b"\r\nX-Long: " + b"x" * (length - 60) + b"\r\n\r\ndata\r\n--X--"
        for size in (1, 100, 1 << 20):
            assert (outcome(b"X", pieces(body, [size])) is not TooLarge) == fits, (length, size)


@pytest.mark.parametrize("length", range(8185, 8197))
def test_the_header_limit_is_the_same_in_chunks_of_any_sizes(length):
    lines = NAMED + b"\r\nX-Long: "
    body = b"--X\r\n" + lines + b"x" * (length - len(lines)) + b"\r\n\r\ndata\r\n--X--"
    assert outcome(b"X", pieces(body, [1])) == outcome(b"X", [body])


def test_endless_headers_are_refused_and_not_buffered():
    parser = Parser(b"X")
    list(parser.feed(b"--X\r\n" + NAMED))
    with pytest.raises(TooLarge):
        for _ in range(1000):
            list(parser.feed(b"\r\nX-More: " + b"x" * 50))


@pytest.mark.parametrize(
    "lines",
    [
        [],
        [b"Content-Type: image/png"],
        [b"Content-Disposition: form-data"],
        [b'Content-Disposition: form-data; name=""'],
        [b'Content-Disposition: form-data; filename="a.png"'],
        [b'Content-Disposition: attachment; name="a"'],
        [b"Content-Disposition"],
        [NAMED, b"no colon"],
        [NAMED, b" folded: line"],
        [NAMED, b"Content-Type : image/png"],
        [NAMED, b": value"],
        [NAMED, b"\xff\xfe: value"],
    ],
    ids=str,
)
def test_malformed_part_headers_are_refused(lines):
    with pytest.raises(MalformedBody):
        head(*lines)


@pytest.mark.parametrize("encoding", [b"7bit", b"8bit", b"BINARY", b" binary ", b""])
def test_identity_transfer_encodings_are_accepted(encoding):
    assert head(NAMED, b"Content-Transfer-Encoding:" + encoding) == Part("a", None, "")


@pytest.mark.parametrize("encoding", [b"base64", b"quoted-printable", b"Base64", b"x-unknown"])
def test_other_transfer_encodings_are_refused(encoding):
    with pytest.raises(MalformedBody, match="Content-Transfer-Encoding"):
        head(NAMED, b"Content-Transfer-Encoding: " + encoding)


@pytest.mark.parametrize(
    ("written", "sent", "cleaned"),
    [
        ('filename="shot.png"', "shot.png", "shot.png"),
        ("filename=shot.png", "shot.png", "shot.png"),
        ('FileName="shot.png"', "shot.png", "shot.png"),
        ('filename="shot one; two=3.png"', "shot one; two=3.png", "shot one; two=3.png"),
        ('filename="say \\"hi\\".png"', 'say "hi".png', 'say "hi".png'),  # curl, older browsers
        ('filename="say %22hi%22.png"', 'say "hi".png', 'say "hi".png'),  # WHATWG
        ('filename="a%0D%0Ab.png"', "a\r\nb.png", "ab.png"),
        ('filename="100%25.png"', "100%25.png", "100%25.png"),  # no general percent-decoding
        ('filename="größe ✓ 日本.png"', "größe ✓ 日本.png", "größe ✓ 日本.png"),
        ("filename*=UTF-8''gr%C3%B6%C3%9Fe%20%E2%9C%93.png", "größe ✓.png", "größe ✓.png"),
        ("filename*=utf-8'de'a%2Fb.png", "a/b.png", "b.png"),
        ("filename*=ISO-8859-1''gr%F6%DFe.png", "größe.png", "größe.png"),
        ("filename=\"plain.png\"; filename*=UTF-8''r%C3%B6d.png", "röd.png", "röd.png"),
        ("filename*=UTF-8''r%C3%B6d.png; filename=\"plain.png\"", "röd.png", "röd.png"),
        ("filename=\"plain.png\"; filename*=klingon''x.png", "plain.png", "plain.png"),
        ('filename="plain.png"; filename*=broken', "plain.png", "plain.png"),
        ("filename*=UTF-8''%FF%FE.png", "\ufffd\ufffd.png", "\ufffd\ufffd.png"),
        ('filename="=?utf-8?B?UHLDvGZ1bmcucG5n?="', "Prüfung.png", "Prüfung.png"),  # .NET
        ('filename="=?UTF-8?b?UHLDvGZ1bmcucG5n?="', "Prüfung.png", "Prüfung.png"),
        ('filename="=?utf-8?B?UHLDvGZ1bmcucG5nIQ?="', "Prüfung.png!", "Prüfung.png!"),  # without padding
        ('filename="=?iso-8859-1?Q?Pr=FCfung_1=3F.png?="', "Prüfung 1?.png", "Prüfung 1?.png"),
        ('filename="=?utf-8*de?q?r=C3=B6d?=.png"', "röd.png", "röd.png"),
        ('filename="=?utf-8?Q?r=C3=B6d?= =?utf-8?B?LnBuZw==?="', "röd.png", "röd.png"),
        ('filename="=?shift_jis?B?k/qWey5wbmc=?="', "日本.png", "日本.png"),
        ('filename="=?utf-8?B?Li4vYS9iLnBuZw==?="', "../a/b.png", "b.png"),
        (
            'filename="=?klingon?B?UHLDvGZ1bmcucG5n?="',
            "=?klingon?B?UHLDvGZ1bmcucG5n?=",
            "=?klingon?B?UHLDvGZ1bmcucG5n?=",
        ),
        ('filename="=?utf-8?B?/w==?=.png"', "=?utf-8?B?/w==?=.png", "w==?=.png"),  # not UTF-8
        ('filename="=?utf-8?B?x?=.png"', "=?utf-8?B?x?=.png", "=?utf-8?B?x?=.png"),
        ('filename="what=?.png"', "what=?.png", "what=?.png"),
        (
            "filename=\"=?utf-8?B?eA==?=\"; filename*=UTF-8''=%3Futf-8%3FB%3Feg==%3F=",
            "=?utf-8?B?eg==?=",
            "=?utf-8?B?eg==?=",
        ),
        ('filename="../../etc/passwd"', "../../etc/passwd", "passwd"),
        ('filename="/etc/passwd"', "/etc/passwd", "passwd"),
        ('filename="C:\\x\\y.png"', "C:\\x\\y.png", "y.png"),
        ('filename="C:\\\\x\\\\y.png"', "C:\\x\\y.png", "y.png"),
        ('filename="..\\..\\boot.ini"', "..\\..\\boot.ini", "boot.ini"),
        ('filename=".."', "..", "unnamed"),
        ('filename="a/.."', "a/..", "unnamed"),
        ('filename="folder/"', "folder/", "unnamed"),
        ('filename=""', "", "unnamed"),
        ('filename="   "', "   ", "unnamed"),
        ('filename=".hidden"', ".hidden", ".hidden"),
        ('filename="a\x00b\x1b[31m\x7f\x85.png"', "a\x00b\x1b[31m\x7f\x85.png", "ab[31m.png"),
        ('filename="cod\u202egnp.exe"', "cod\u202egnp.exe", "codgnp.exe"),  # would show as codexe.png
    ],
)
def test_file_names_are_decoded_and_cleaned(written, sent, cleaned):
    part = head(f'Content-Disposition: form-data; name="file"; {written}'.encode(), b"Content-Type: image/png")
    assert part == Part("file", sent, "image/png")
    assert clean_file_name(sent) == cleaned


AIOHTTP = "Python/3.11 aiohttp/3.14.5"


@pytest.mark.parametrize(
    ("sent", "user_agent", "name"),
    [
        ("login%20failed.png", AIOHTTP, "login failed.png"),
        ("100%25.png", AIOHTTP, "100%.png"),
        ("100%2525.png", AIOHTTP, "100%25.png"),  # undone once
        ("gr%C3%B6%C3%9Fe.png", AIOHTTP, "größe.png"),
        ("shots%2Fa.png", AIOHTTP, "shots/a.png"),
        ("plain.png", AIOHTTP, "plain.png"),
        ("%FF.png", AIOHTTP, "%FF.png"),  # not UTF-8
        ("50% of 100%25.png", AIOHTTP, "50% of 100%25.png"),  # aiohttp would have encoded the spaces
        ("a%2fb.png", AIOHTTP, "a%2fb.png"),  # aiohttp writes upper-case digits
        ("100%25.png", "curl/8.5.0", "100%25.png"),
        ("100%25.png", "Mozilla/5.0", "100%25.png"),
        ("100%25.png", "", "100%25.png"),
    ],
)
def test_percent_encoding_is_undone_for_aiohttp_only(sent, user_agent, name):
    parser = Parser(b"X", user_agent)
    part, *_ = parser.feed(
        b'--X\r\nContent-Disposition: form-data; name="file"; filename="%s"\r\n\r\ndata' % sent.encode()
    )
    assert part == Part("file", name, "")
    extended = b"--X\r\nContent-Disposition: form-data; name=a; filename*=UTF-8''100%2525.png\r\n\r\ndata"
    assert next(iter(Parser(b"X", user_agent).feed(extended))).file_name == "100%25.png"


@pytest.mark.parametrize(
    ("path", "name"),
    [
        (None, None),
        ("", None),
        ("shots/a.png", None),
        ("shots\\login failed.png", None),
        ("größe.png", None),
        ("shots/u\u0308.png", "ü.png"),
        ("login%20failed.png", "login failed.png"),
        ("x/100%25.png", "100%.png"),
        ("100%2525.png", "100%25.png"),  # undone once
        ("a%2Fu%CC%88.png", "ü.png"),
        ("x%5Cy.png", "y.png"),
        ("%FF.png", None),  # not UTF-8
        ("100%.png", None),
        ("a%00b.png", "ab.png"),  # PostgreSQL cannot store NUL
    ],
)
def test_the_name_that_links_compare(path, name):
    assert link_name(path) == name


def test_a_missing_file_name_differs_from_an_empty_one():
    assert head(NAMED).file_name is None
    assert head(NAMED + b'; filename=""').file_name == ""


def test_field_names_are_unquoted():
    assert head(b'Content-Disposition: form-data; name="a; \\"b\\""').name == 'a; "b"'
    assert head(b"content-disposition:FORM-DATA;NAME=files[]").name == "files[]"


def test_a_long_file_name_keeps_its_extension():
    assert clean_file_name("x" * 4000 + ".png") == "x" * 251 + ".png"
    assert clean_file_name("x" * 4000) == "x" * 255
    assert clean_file_name("ü" * 4000 + ".jpeg") == "ü" * 250 + ".jpeg"
    assert clean_file_name("a." + "x" * 4000) == "a." + "x" * 253
    part = head(f'Content-Disposition: form-data; name="file"; filename="{"x" * 4000}.png"'.encode())
    assert part.file_name == "x" * 4000 + ".png"


@given(st.text())
def test_a_cleaned_file_name_is_safe(sent):
    name = clean_file_name(sent)
    assert 1 <= len(name) <= 255
    assert not set(name) & set("/\\\0\r\n\x1b\x7f\u2028\u202e")
    assert name not in {".", ".."}
    name.encode()  # no lone surrogates, which PostgreSQL would refuse
    assert clean_file_name(name) == name


def test_file_data_is_not_copied():
    parser = Parser(b"X")
    list(parser.feed(b"--X\r\n" + NAMED + b"\r\n\r\nbegins"))
    chunk = b"\x89PNG" * 10_000
    (view,) = parser.feed(chunk)
    assert view.obj is chunk and len(view) == len(chunk)


def test_a_part_builds_the_expected_bytes():
    assert a_part(b"data", "A: b", boundary="X") == b"--X\r\nA: b\r\n\r\ndata\r\n"
