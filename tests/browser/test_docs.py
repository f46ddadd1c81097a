"""The documentation page in a real Chromium: it is shown, asks only this server, and can send a request."""

from server.viewer import assets
from tests.chromium import browser, chromium
from tests.up_server import up_server

__all__ = ["browser", "chromium", "up_server"]  # fixtures

SEEN = """(async () => {
    const wait = async (find) => {
        for (let i = 0; i < 600; i++) {
            const found = find();
            if (found) return found;
            await new Promise((resolve) => setTimeout(resolve, 100));
        }
        throw new Error(`${find} found nothing`);
    };
    const one = (selector) => wait(() => document.querySelector(selector));
    %s
})()"""
TRY = """
    const operation = "#operations-suite_runs-suite_runs_index";
    (await one(".btn.authorize")).click();
    const token = await one("#auth-bearer-value");
    Object.getOwnPropertyDescriptor(HTMLInputElement.prototype, "value").set.call(token, "TOKEN");
    token.dispatchEvent(new Event("input", { bubbles: true }));
    (await one(".auth-btn-wrapper .authorize")).click();
    (await one(".auth-btn-wrapper .btn-done")).click();
    (await one(`${operation} .try-out__btn`)).click();
    (await one(`${operation} .execute`)).click();
    const status = await one(`${operation} .live-responses-table tbody .response-col_status`);
    return status.innerText;
"""


async def test_a_call_can_be_tried_and_no_other_host_is_asked(browser, up_server):
    tab = await browser.open("about:blank")
    for domain in ("Network", "Log", "Runtime"):
        await tab.command(f"{domain}.enable")
    await tab.navigate(f"{up_server.url}/docs#/suite_runs/suite_runs_index")
    assert (await tab.evaluate(SEEN % TRY.replace("TOKEN", up_server.token))).startswith("200")
    asked = [event["request"]["url"] for event in tab.events_named("Network.requestWillBeSent")]
    outside = [url for url in asked if not url.startswith((f"{up_server.url}/", "data:"))]
    assert outside == [] and f"{up_server.url}/api/v1/openapi.json" in asked
    names = ("docs.css", "docs.js", "swagger-ui.css", "swagger-ui-bundle.js")
    assert {up_server.url + assets.address(name) for name in names} <= set(asked)
    entries = [event["entry"] for event in tab.events_named("Log.entryAdded")]
    assert [entry["text"] for entry in entries if "favicon" not in entry.get("url", "")] == []
    assert tab.events_named("Runtime.exceptionThrown") == []


async def test_files_can_be_chosen_for_an_upload(browser, up_server):
    for name in ("uploads_create", "uploads_create_batch"):
        tab = await browser.open(f"{up_server.url}/docs#/uploads/{name}")
        choose = f"""const operation = "#operations-uploads-{name}";
            (await one(`${{operation}} .try-out__btn`)).click();
            const add = await wait(() => document.querySelector(
                `${{operation}} input[type=file], ${{operation}} .json-schema-form-item-add`));
            if (add.type !== "file") add.click();
            return (await one(`${{operation}} input[type=file]`)).type"""
        assert await tab.evaluate(SEEN % choose) == "file", name


async def test_the_table_of_contents_opens_an_operation(browser, up_server):
    tab = await browser.open(f"{up_server.url}/docs")
    closed = "return (await one('.opblock-tag')) && document.querySelectorAll('.opblock').length"
    assert await tab.evaluate(SEEN % closed) == 0
    click = """document.querySelector('#contents a[href="#/steps/steps_create"]').click();
        return (await one("#operations-steps-steps_create.is-open")).innerText"""
    assert "/test-case-results/{case_id}/steps" in await tab.evaluate(SEEN % click)
