"""Files of other kinds than pictures, for the demo's newest failure: HAR, HTML, a log with colours, JSON, PDF."""

import json
from html import escape
from typing import NamedTuple

from server.commands.demo.result import Result


class File(NamedTuple):
    name: str
    artifact_type: str
    mime_type: str
    content: bytes


def files(result: Result) -> list[File]:
    return [
        File("network.har", "har", "application/json", _har(result)),
        File("page.html", "other", "text/html", _page(result)),
        File("worker.log", "log", "text/plain", _log(result)),
        File("basket.json", "other", "application/json", _basket()),
        File(
            "offer.pdf", "other", "application/pdf", _pdf("Hearthside: offer 48211", "Teapot Ida, 1 piece, EUR 53.90")
        ),
    ]


def _har(result: Result) -> bytes:
    entries = [
        {
            "startedDateTime": entry["started_at"],
            "time": entry["duration_ms"],
            "request": {
                "method": entry["method"],
                "url": entry["url"],
                "httpVersion": "HTTP/2",
                "cookies": [],
                "headers": [{"name": name, "value": value} for name, value in entry["request_headers"].items()],
                "queryString": [],
                "headersSize": -1,
                "bodySize": entry["request_size"],
            },
            "response": {
                "status": entry["status_code"],
                "statusText": {200: "OK", 201: "Created", 404: "Not Found", 504: "Gateway Timeout"}.get(
                    entry["status_code"], ""
                ),
                "httpVersion": "HTTP/2",
                "cookies": [],
                "headers": [{"name": name, "value": value} for name, value in entry["response_headers"].items()],
                "content": {"size": entry["response_size"], "mimeType": entry["response_headers"]["Content-Type"]},
                "redirectURL": "",
                "headersSize": -1,
                "bodySize": entry["response_size"],
            },
            "cache": {},
            "timings": {"send": 1, "wait": max(0, entry["duration_ms"] - 3), "receive": 2},
        }
        for entry in result.network
    ]
    log = {"version": "1.2", "creator": {"name": "Playwright", "version": "1.61"}, "pages": [], "entries": entries}
    return json.dumps({"log": log}, indent=1).encode()


def _page(result: Result) -> bytes:
    rows = "\n".join(
        f"      <li data-step='{step['step_number']}'>{escape(str(step['action']))}</li>" for step in result.steps
    )
    return f"""<!doctype html>
<html lang="de">
<head><meta charset="utf-8"><title>Zahlung – Hearthside</title>
<style>body {{ font: 16px sans-serif; margin: 3rem }} button {{ padding: 1rem 3rem }}</style></head>
<body>
  <h1>How would you like to pay?</h1>
  <form id="payment" action="/orders" method="post">
    <label>Card number <input name="card" value="4111 1111 1111 1111"></label>
    <p class="note" aria-busy="true">Loading the total of your basket …</p>
    <button data-testid="place-order" disabled>Place order</button>
  </form>
  <aside dir="rtl" lang="ar">شاي وأوانٍ فخارية</aside>
  <ol>
{rows}
  </ol>
  <script>document.title = "scripts never run here"</script>
</body>
</html>
""".encode()


def _log(result: Result) -> bytes:
    lines = ["\x1b[1mRunning 20 tests using 1 worker (shard 1 of 3)\x1b[0m", ""]
    for step in result.steps:
        took = f"\x1b[2m({step.get('duration_ms', 0)} ms)\x1b[0m"
        sign = {"Passed": "\x1b[32m✓\x1b[39m", "Failed": "\x1b[31m✘\x1b[39m"}.get(step["status"], "\x1b[33m-\x1b[39m")
        lines.append(f"  {sign}  {step['step_number']:>3} {step['action']} {took}")
        if step["status"] == "Failed":
            lines += ["", f"    \x1b[31m{result.fields['error_message']}\x1b[39m", ""]
    lines += [
        f"\x1b[36mpw:api\x1b[39m retry {n}: element is not enabled \x1b[2m+{n * 500} ms\x1b[0m" for n in range(1, 58)
    ]
    return "\n".join(
        [*lines, "", "\x1b[31m  1 failed\x1b[39m", "\x1b[32m  19 passed\x1b[39m \x1b[2m(1.4m)\x1b[22m", ""]
    ).encode()


def _basket() -> bytes:
    lines = [{"sku": "HS-1006", "name": "Teapot Ida", "quantity": 1, "price": {"cents": 4900, "currency": "EUR"}}]
    names = {"ar": "إبريق شاي", "ja": "急須「イダ」", "ru": "Чайник «Ида»"}
    state = {"loaded": False, "total": None, "service": "basket-v3", "tried": [120, 480, 1920, 7680]}
    return json.dumps(
        {"basket": {"lines": lines, "names": names, "state": state}}, indent=2, ensure_ascii=False
    ).encode()


def _pdf(title: str, line: str) -> bytes:
    """A page with two lines; PDF 32000-1, 7.5."""
    text = f"BT /F 26 Tf 60 740 Td ({title}) Tj /F 14 Tf 0 -40 Td ({line}) Tj ET\n0.06 0.46 0.43 rg 60 660 475 6 re f"
    objects = [
        "<< /Type /Catalog /Pages 2 0 R >>",
        "<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents 4 0 R /Resources << /Font << /F 5 0 R >> >> >>",
        f"<< /Length {len(text)} >>\nstream\n{text}\nendstream",
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    body, starts = "%PDF-1.4\n", []
    for number, content in enumerate(objects, 1):
        starts.append(len(body))
        body += f"{number} 0 obj\n{content}\nendobj\n"
    table = "".join(f"{start:010d} 00000 n \n" for start in starts)
    end = f"trailer\n<< /Size {len(objects) + 1} /Root 1 0 R >>\nstartxref\n{len(body)}\n%%EOF\n"
    return (body + f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n" + table + end).encode("ascii")
