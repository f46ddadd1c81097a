"""axe-core finds nothing wrong with any page (WCAG 2.2 A and AA), at both widths and in both colour schemes."""

import json
from hashlib import sha256
from pathlib import Path

from tests.browser.test_pages import DESK, PAGES, PHONE, opened, prefer, resize, site, visit
from tests.chromium import browser, chromium
from tests.up_server import up_server

__all__ = ["browser", "chromium", "opened", "site", "up_server", "visit"]  # fixtures

VENDOR = Path(__file__).parent.parent / "vendor"
AXE = VENDOR / "axe-core/axe.min.js"
STANDARD = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
FOUND = """axe.run(document, {runOnly: RULES, resultTypes: ["violations"]}).then((found) => found.violations.flatMap(
  (each) => each.nodes.map((node) => `${each.id}: ${node.target.join(" ")}: ${node.failureSummary}`)).join("\\n"))"""


async def violations(tab, rules):
    return await tab.evaluate(FOUND.replace("RULES", json.dumps(rules)))


@PAGES
async def test_a_page_meets_wcag(visit, site, path):
    for address in site.addresses()[path][:2]:
        tab = await visit(address)
        await tab.evaluate("document.querySelectorAll('details').forEach((each) => (each.open = true))")
        await tab.evaluate(AXE.read_text("utf-8") + ";0")
        for size in (DESK, PHONE):
            await resize(tab, *size)
            await prefer(tab, prefers_color_scheme="light")
            assert await violations(tab, STANDARD) == "", (address, size)
            await prefer(tab, prefers_color_scheme="dark")
            # Of what axe looks at, only colours depend on the scheme.
            assert await violations(tab, {"type": "rule", "values": ["color-contrast", "link-in-text-block"]}) == ""


async def test_axe_finds_what_is_wrong(visit, site):
    tab = await visit("/sign-in")
    await tab.evaluate(AXE.read_text("utf-8") + ";0")
    await tab.evaluate("document.querySelector('label').remove(); document.querySelector('h1').style.color = '#ddd'")
    found = await violations(tab, STANDARD)
    assert "label: " in found and "color-contrast: h1" in found


def test_axe_is_unmodified_and_has_its_licence():
    lines = (VENDOR / "SHA256SUMS").read_text("ascii").splitlines()
    recorded = {name: digest for digest, name in (line.split("  ") for line in lines)}
    found = {str(path.relative_to(VENDOR)) for path in VENDOR.glob("*/**/*") if path.is_file()}
    assert found == recorded.keys() and "axe-core/LICENSE" in found
    for name, digest in recorded.items():
        assert sha256((VENDOR / name).read_bytes()).hexdigest() == digest, name
