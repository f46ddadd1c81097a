"""The page of a file: text in pages, trees, requests, and what is shown when a file is large, wrong or gone."""

import json
import re
import uuid
from html import unescape

import msgspec
import pytest
from aiohttp import FormData

from server.reports import har, text_files
from server.services import SERVICES
from server.uploads.content import KNOWN_TYPES
from tests.hostile import pdf
from tests.makers import png

LOG = "".join(f"\x1b[3{n % 8}mline {n}\x1b[0m\n" for n in range(1, 4_501))
API = "/api/v1/reports"


@pytest.fixture
def config(config):
    artifacts = msgspec.structs.replace(config.artifacts, allowed_types=sorted(KNOWN_TYPES))
    return msgspec.structs.replace(config, artifacts=artifacts)


@pytest.fixture
def send(client, make_case):
    """await send(name, content, type, …): the address of the page of a new file."""

    async def post(name, content, artifact_type="other", case=None, **fields):
        case = case or await make_case(status="Failed")
        form = FormData({"artifact_type": artifact_type, **fields})
        form.add_field("file", content, filename=name, content_type="text/plain")
        reply = await client.post(f"{API}/test-case-results/{case}/artifacts", data=form)
        assert reply.status == 201, await reply.text()
        return f"/results/{case}/files/{(await reply.json())['id']}"

    return post


def lines_of(page):
    """The numbers and texts of the lines that a page shows."""
    found = re.findall(r'<li id="L(\d+)"[^>]*><a[^>]*>\d+</a><bdi dir="auto">(.*?)</bdi></li>', page, re.DOTALL)
    return [(int(number), unescape(re.sub("<[^>]*>", "", text))) for number, text in found]


async def test_a_log_is_shown_in_pages_with_colours_and_line_links(send, visit):
    address = await send("worker.log", LOG.encode(), "log")
    first = await visit(address)
    assert lines_of(first) == [(n, f"line {n}") for n in range(1, 2_001)]
    assert '<span class="in-red">line 1</span>' in first and "\x1b" not in first
    assert f'href="{address}?line=7#L7"' in first and f'href="{address}?page=2"' in first
    assert lines_of(await visit(f"{address}?page=2"))[0] == (2_001, "line 2001")
    last = await visit(f"{address}?end=true")
    assert lines_of(last) == [(n, f"line {n}") for n in range(4_001, 4_501)] and "of 4,500" in last
    assert lines_of(await visit(f"{address}?page=99")) == lines_of(last)


async def test_a_line_has_an_address(send, visit):
    address = await send("worker.log", LOG.encode(), "log")
    page = await visit(f"{address}?line=2345")
    assert lines_of(page)[0][0] == 2_001 and '<li id="L2345" class="here">' in page
    page = await visit(f"{address}?line=99999")
    assert "This file has 4,500 lines." in page and lines_of(page)[-1][0] == 4_500


async def test_lines_are_found_and_lead_to_their_place(send, visit):
    address = await send("worker.log", LOG.encode() + b"An ERROR \xff here\n", "log")
    page = await visit(f"{address}?find=error")
    assert "1 line with" in page and "<mark>ERROR</mark> \\xff here" in page
    assert f'href="{address}?find=error&amp;line=4501#L4501"' in page
    page = await visit(f"{address}?find=line+44&wrap=no")
    assert "111 lines with" in page and page.count("<mark>line 44</mark>") == 111
    assert "No line has" in await visit(f"{address}?find=%3Cscript%3E")


async def test_a_long_line_is_cut_into_pages(send, visit):
    address = await send("wide.log", "é".encode() * (400 << 10) + b"\nend\n", "log")
    page = await visit(address)
    assert len(lines_of(page)) == 1 and "goes on on the next page" in page
    page = await visit(f"{address}?page=2")
    assert [number for number, _ in lines_of(page)] == [1, 2] and "began on the page before" in page
    assert "\\x" not in page


@pytest.mark.parametrize(
    ("content", "shown"),
    [
        (b"\xef\xbb\xbfa\r\nb\rc\n", [(1, "a"), (2, "b␍c")]),
        ("\ufeffÄ \U0001f600\nb".encode("utf-16-le"), [(1, "Ä \U0001f600"), (2, "b")]),
        ("\ufeffÄ \U0001f600\nb".encode("utf-16-be"), [(1, "Ä \U0001f600"), (2, "b")]),
        (b"bad \xff\xfe byte\n\xc3", [(1, "bad \\xff\\xfe byte"), (2, "\\xc3")]),
        (b"<script>alert(1)</script>\x1b]0;x\x07\x08\n\n", [(1, "<script>alert(1)</script>"), (2, "")]),
    ],
)
async def test_text_of_any_encoding_is_text(send, visit, content, shown):
    assert lines_of(await visit(await send("a.log", content, "log"))) == shown


async def test_json_is_a_tree_unless_it_is_large_or_wrong(send, visit):
    page = await visit(await send("a.json", json.dumps({"a": [1, {"b": "<b>"}]}).encode()))
    assert 'data-step=".a"' in page and 'data-step="[1]"' in page and "&#34;&lt;b&gt;&#34;" in page
    address = await send("a.json", json.dumps([0] * 5_000).encode())
    assert "5,000 values" in await visit(address) and lines_of(await visit(address))
    assert "5,000 values" in await visit(await send("a.json", b'{"a": '))
    assert "data-step" in await visit(await send("a.json", b'"\\ud800"'))


async def test_json_as_text_goes_back_to_the_tree(send, visit):
    address = await send("a.json", b'{"a": 1}')
    page = await visit(f"{address}?view=text")
    assert lines_of(page) == [(1, '{"a": 1}')] and f'href="{address}">Tree</a>' in page


def archive(count):
    request = {"method": "GET", "url": "https://shop.example/pay?<b>", "headers": [{"name": "X", "value": "<i>"}]}
    response = {"status": 503, "content": {"mimeType": "text/html", "size": 2048, "text": "<script>"}}
    return json.dumps({"log": {"entries": [{"request": request, "response": response, "time": 90}] * count}}).encode()


async def test_a_har_is_a_table_of_requests_and_one_of_them_whole(send, visit):
    address = await send("network.har", archive(501), "har")
    page = await visit(address)
    assert page.count('class="bad"') == 500 and "501 requests" in page and "https://shop.example/pay?&lt;b&gt;" in page
    page = await visit(f"{address}?page=2&entry=501")
    assert page.count('class="bad"') == 1 and "&lt;script&gt;" in page and "&lt;i&gt;" in page
    assert "200 requests" not in await visit(f"{address}?view=text")


async def test_a_har_that_is_none_or_comes_second_is_text(send, visit):
    assert "is no HAR" in await visit(await send("a.har", b"{ not json", "har"))
    assert "data-step" in await visit(await send("a.har", b'{"log": 1}', "har"))
    address = await send("network.har", archive(1), "har")
    with har._READING:
        page = await visit(f"{address}?line=1")
        assert "Another HAR file is being read" in page and lines_of(page)


async def test_a_json_or_har_of_a_gigabyte_costs_nothing(send, visit, rows, client, monkeypatch):
    """Only its first part is read, whatever it is: its size in the database decides before."""
    addresses = [await send("a.har", archive(1), "har"), await send("a.json", b"[1]")]
    rows("UPDATE test_artifacts SET file_size = 1073741824")
    read = []

    async def some(self, path, size, start, count):
        read.append(count)
        return b"[1]\n"[:count]

    async def parts(self, path, size, start, end, most):
        for _ in range(100):
            read.append(most)
            yield b"[1]\n" * (most >> 2)

    monkeypatch.setattr(type(client.app[SERVICES].storage), "read", some)
    monkeypatch.setattr(type(client.app[SERVICES].storage), "parts", parts)
    for address in addresses:
        assert 'id="L1"' in await visit(address)
        assert sum(read) <= 2 * text_files.BYTES
        read.clear()


async def test_page_source_is_text_and_rendered_in_a_sandbox(send, visit):
    address = await send("page.html", b"<!doctype html><script>alert(1)</script>")
    assert lines_of(await visit(address)) == [(1, "<!doctype html><script>alert(1)</script>")]
    page = await visit(f"{address}?view=rendered")
    assert (
        re.search(r'<iframe sandbox src="/api/v1/reports/artifacts/[\w-]+/download"', page) and "alert(1)" not in page
    )


@pytest.mark.parametrize(
    ("name", "content", "element"),
    [
        ("a.png", png(), "<img src="),
        ("a.pdf", pdf("x"), "<iframe src="),
        ("a.zip", b"PK\x05\x06" + bytes(18), "Save it"),
    ],
)
async def test_other_files_are_shown_as_a_browser_can(send, visit, name, content, element):
    page = await visit(await send(name, content))
    assert element in page and re.search(r"SHA-256 <code>[0-9a-f]{64}</code>", page) and "?download=true" in page


async def test_a_video_seeks_to_a_step_when_both_have_times(client, make_case, send, visit):
    case = await make_case(status="Failed")
    step = {"step_type": "ui", "status": "Passed"}
    times = [(5, "2026-01-24T12:00:05Z"), (9, "2026-01-24T12:00:09Z")]
    steps = [{**step, "step_number": n, "description": f"Do {n}", "started_at": at} for n, at in times]
    await client.post(f"{API}/test-case-results/{case}/steps/bulk", json={"steps": steps})
    content = bytes.fromhex("0000001866747970 69736f6d 00000200 69736f6d 6d703432 00000008 66726565")
    for captured, seeks in [("2026-01-24T12:00:01.5Z", True), ("2026-01-24T12:00:30Z", False), (None, False)]:
        times = {"captured_at": captured} if captured else {}
        address = await send(f"{seeks}{captured and captured[-4]}.mp4", content, "video", case, **times)
        page = await visit(f"{address}?step=1.9")
        assert "<video controls" in page and ("download#t=7.5" in page) is seeks and ("Do 5" in page) is seeks


async def test_a_file_that_is_gone_is_said_to_be(send, visit, storage):
    addresses = [await send("a.log", b"text\n", "log"), await send("a.png", png())]
    for path in (storage / "artifacts", storage):
        for file in path.rglob("a*.*"):
            if file.is_file():
                file.unlink()
    for address in addresses:
        page = await visit(address, 410)
        assert "The stored file is missing" in page and "SHA-256" in page


async def test_a_file_of_another_result_is_not_found(send, visit, make_case):
    address = await send("a.log", b"text\n", "log")
    other = await make_case()
    for path in (f"/results/{other}/files/{address[-36:]}", f"{address[:-36]}{uuid.uuid4()}", f"{address[:-36]}x"):
        assert "Artifact not found" in await visit(path, 404)


@pytest.mark.parametrize(
    "query", ["page=0", "line=x", "line=-1", "view=tree", "wrap=yes", "find=" + "x" * 201, "entry=1.5"]
)
async def test_a_query_that_is_none_is_refused(send, visit, query):
    assert "Error 422" in await visit(f"{await send('a.log', b'x', 'log')}?{query}", 422)


async def test_the_list_of_files_leads_to_their_pages(send, visit):
    address = await send("a.log", b"x", "log")
    assert f'href="{address}"' in await visit(address.partition("/files")[0])
