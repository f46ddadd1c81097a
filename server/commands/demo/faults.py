"""What goes wrong in the demo: messages and stack traces as Playwright, pytest and JUnit write them."""

from collections.abc import Callable
from dataclasses import dataclass

from server.commands.demo.scene import Scene

DIM, RED, GREEN, PLAIN = "\x1b[2m", "\x1b[31m", "\x1b[32m", "\x1b[39m"
Shown = Callable[[Scene | None], Scene | None]


@dataclass(frozen=True)
class Fault:
    """A failure of the act with this tag. Without a tag all steps pass, and only the result fails.

    `shown` makes the picture of the failure from the picture before it. After a `soft` failure the test goes on.
    """

    tag: str
    error_type: str
    message: str
    stack: str
    actual: str = ""
    ms: int = 0
    iteration: int = 1
    soft: tuple[str, ...] = ()  # tags of further acts that fail
    shown: Shown = lambda before: before
    status: int = 0  # of the request during the act, if that failed


def _trace(own: str, inner: str) -> str:
    return (
        f"    at {inner}\n    at {own}\n"
        "    at fixtures.use (/builds/shop/node_modules/@playwright/test/lib/worker/fixtureRunner.js:177:14)\n"
        "    at TestInfoImpl._runWithTimeout (/builds/shop/node_modules/playwright/lib/worker/testInfo.js:311:7)\n"
        "    at WorkerMain._runTest (/builds/shop/node_modules/playwright/lib/worker/workerMain.js:352:5)"
    )


def _spec(file: str, line: int) -> str:
    return f"/builds/shop/e2e/{file}.spec.ts:{line}:16"


def renamed() -> Fault:
    """The button "Pay now" has another name and id."""
    message = (
        "TimeoutError: locator('#pay'): no element after 30000ms\n"
        f"Call log:\n{DIM}  - waiting for locator('#pay'){PLAIN}\n"
        f"{DIM}  -   locator resolved to 0 elements{PLAIN}"
    )
    trace = _trace(_spec("pay", 41), "PaymentPage.pay (/builds/shop/e2e/pages/payment.ts:48:31)")
    return Fault("pay", "TimeoutError", message, trace, "no element", 30_000, shown=lambda before: before)


def not_enabled() -> Fault:
    """The button stays off, because the basket service has not answered in time."""
    message = (
        "TimeoutError: locator('[data-testid=place-order]'): not enabled after 30000ms\n"
        f"Call log:\n{DIM}  - waiting for locator('[data-testid=place-order]'){PLAIN}\n"
        f'{DIM}  -   locator resolved to <button disabled data-testid="place-order">Place order</button>{PLAIN}\n'
        f"{DIM}  -   attempting click action: waiting for the element to be visible, enabled and stable{PLAIN}\n"
        f"{DIM}  -     element is not enabled (retried 57 times){PLAIN}"
    )
    trace = _trace(_spec("pay", 41), "PaymentPage.pay (/builds/shop/e2e/pages/payment.ts:52:31)")

    def waiting(before: Scene | None) -> Scene | None:
        if before is None or before.page != "payment":
            return before
        index, method, _, label = before.given
        return Scene("payment", (index, method, "waiting", label), "", "pay")

    return Fault("pay", "TimeoutError", message, trace, "disabled", 30_000, shown=waiting, status=504)


def rounded() -> Fault:
    """The total of the third amount is rounded up."""
    message = (
        "Error: the total is 20.00, expected 19.99\n\n"
        f"{DIM}expect({PLAIN}{RED}locator{PLAIN}{DIM}).{PLAIN}toHaveText{DIM}("
        f"{PLAIN}{GREEN}expected{PLAIN}{DIM}){PLAIN}\n\nLocator: locator('#basket .total')\n"
        f'Expected string: {GREEN}"19.99"{PLAIN}\nReceived string: {RED}"20.00"{PLAIN}'
    )
    trace = _trace(_spec("basket", 118), "BasketPage.expectTotal (/builds/shop/e2e/pages/basket.ts:77:26)")
    shown: Shown = lambda _: Scene("basket", ("3", 2000), "", "total")  # noqa: E731
    return Fault("total", "Error", message, trace, "20.00", 5_000, iteration=3, shown=shown)


def three_articles() -> Fault:
    """The total on the branch that repairs it, before it does."""
    message = 'Error: the total is 111.40, expected 111.39\n\nExpected string: "111.39"\nReceived string: "111.40"'
    trace = _trace(_spec("basket", 64), "BasketPage.expectTotal (/builds/shop/e2e/pages/basket.ts:77:26)")
    return Fault("total", "Error", message, trace, "111.40", 5_000)


def covered() -> Fault:
    """The note about cookies lies over the page."""
    message = (
        "TimeoutError: locator.click: Timeout 15000ms exceeded.\n"
        f"Call log:\n{DIM}  - waiting for locator('footer button.subscribe'){PLAIN}\n"
        f'{DIM}  -   <div id="cookies" class="banner">…</div> intercepts pointer events{PLAIN}\n'
        f"{DIM}  -   retrying click action, attempt #28{PLAIN}"
    )
    trace = _trace(_spec("home", 33), "Footer.subscribe (/builds/shop/e2e/pages/footer.ts:19:22)")

    def banner(before: Scene | None) -> Scene | None:
        return None if before is None else before._replace(over="cookies", mark="accept")

    return Fault("subscribe", "TimeoutError", message, trace, "covered by #cookies", 15_000, shown=banner)


def fewer(expected: int, soft: tuple[str, ...] = ()) -> Fault:
    """The search finds one article less."""
    found = expected - 1
    message = (
        f"Error: expected {expected} articles, got {found}\n\n"
        f"Locator: locator('.results > article')\nExpected: {GREEN}{expected}{PLAIN}\nReceived: {RED}{found}{PLAIN}"
    )
    trace = _trace(_spec("search", 22), "SearchPage.expectCount (/builds/shop/e2e/pages/search.ts:31:28)")

    def shown(before: Scene | None) -> Scene | None:
        if before is None or before.page != "search":
            return before
        query, _, *rest = before.given
        return Scene("search", (query, found, *rest), "", "count")

    return Fault("count", "Error", message, trace, f"{found} articles", 5_000, soft=soft, shown=shown)


def unavailable() -> Fault:
    """The service for returns replies 503."""
    message = (
        "Error: POST /api/returns → 503 Service Unavailable\n\nexpect(response).toBeOK()\n"
        "POST https://shop.hearthside.example/api/returns → 503 Service Unavailable\n"
        'Response text:\n{"error": "upstream", "detail": "no healthy upstream: returns-v2"}'
    )
    trace = _trace(_spec("account", 87), "AccountPage.confirm (/builds/shop/e2e/pages/account.ts:140:9)")
    shown: Shown = lambda before: before and before._replace(over="busy:Asking the warehouse", mark="")  # noqa: E731
    return Fault("confirm", "Error", message, trace, "503 Service Unavailable", 8_200, shown=shown, status=503)


def page_error() -> Fault:
    """An exception in the page after the last step."""
    message = (
        "Error: the page threw an exception after the test\n\n"
        "TypeError: Cannot read properties of undefined (reading 'wishes')\n"
        "    at render (https://shop.hearthside.example/assets/wish-list-4f1c09.js:1:20931)"
    )
    return Fault("", "Error", message, _trace(_spec("account", 12), "afterEach (/builds/shop/e2e/hooks.ts:9:11)"))


def row_without_price(row: int) -> Fault:
    message = (
        f"Error: row {row:,} has no price\n\nexpect(locator).toHaveText(expected)\n"
        f'Locator: locator("tr[data-row=\'{row}\'] .state")\nExpected string: "imported"\nReceived string: "no price"'
    )
    trace = _trace(_spec("catalogue", 58), "ImportPage.expectRow (/builds/shop/e2e/pages/import.ts:66:24)")
    shown: Shown = lambda _: Scene("imports", (row, 1), "", "row")  # noqa: E731
    return Fault(f"row{row}", "Error", message, trace, "no price", 5_000, shown=shown)


def moment(tag: str) -> Fault:
    """What passes at the next attempt."""
    message = (
        "Error: locator.click: Element is not attached to the DOM\n"
        f"Call log:\n{DIM}  - performing click action{PLAIN}\n"
        f"{DIM}  - element was detached from the DOM, retrying{PLAIN}"
    )
    trace = _trace(_spec("basket", 29), "ProductPage.act (/builds/shop/e2e/pages/product.ts:25:18)")
    return Fault(tag, "Error", message, trace, "detached", 2_400)


def gift_card() -> Fault:
    message = "AssertionError: the gift card has 25.00 left, expected 0.00\n\n+ expected - actual\n\n-25.00\n+0.00"
    trace = _trace(_spec("pay", 96), "GiftCards.balance (/builds/shop/e2e/pages/gift-cards.ts:14:10)")
    return Fault("receipt", "AssertionError", message, trace, "25.00", 5_000)


def no_element() -> Fault:
    message = (
        "org.openqa.selenium.NoSuchElementException: An element could not be located on the page using the given "
        "search parameters.\nFor documentation on this error, please visit: "
        "https://www.selenium.dev/documentation/webdriver/troubleshooting/errors#no-such-element-exception"
    )
    stack = (
        f"{message}\n"
        "\tat io.appium.java_client.AppiumDriver.execute(AppiumDriver.java:277)\n"
        "\tat org.openqa.selenium.remote.RemoteWebDriver.findElement(RemoteWebDriver.java:165)\n"
        "\tat example.hearthside.app.pages.BasketPage.total(BasketPage.java:41)\n"
        "\tat example.hearthside.app.OfflineTest.showsTheBasketWithoutAConnection(OfflineTest.java:58)\n"
        "\tat java.base/java.lang.reflect.Method.invoke(Method.java:580)\n"
        "\tat org.junit.jupiter.engine.execution.MethodInvocation.proceed(MethodInvocation.java:60)\n"
        "Caused by: java.net.SocketTimeoutException: timeout\n"
        "\tat okhttp3.internal.http2.Http2Stream$StreamTimeout.newTimeoutException(Http2Stream.kt:675)\n\t... 41 more"
    )
    shown: Shown = lambda before: before and before._replace(over="offline", mark="offline")  # noqa: E731
    return Fault(
        "total", "org.openqa.selenium.NoSuchElementException", message, stack, "no element", 10_000, shown=shown
    )


def app_ended() -> Fault:
    message = "org.openqa.selenium.WebDriverException: The app com.hearthside.app crashed (SIGSEGV, 0x0000000104a8c1f4)"
    stack = (
        f"{message}\n\tat io.appium.java_client.ios.IOSDriver.execute(IOSDriver.java:244)\n"
        "\tat example.hearthside.app.pages.SignInPage.submit(SignInPage.java:33)\n"
        "\tat example.hearthside.app.SignInTest.signsIn(SignInTest.java:21)"
    )
    return Fault("submit", "org.openqa.selenium.WebDriverException", message, stack, "crashed", 4_100)


def pytest_assertion(test: str, tag: str, left: str, right: str) -> Fault:
    message = f"AssertionError: assert '{left}' == '{right}'\n  \n  - {right}\n  + {left}"
    stack = (
        f"back_office/tests/test_api.py:74: in {test.partition('::')[2]}\n    assert reply.json()[field] == wanted\n"
        f"E   AssertionError: assert '{left}' == '{right}'\nE     \nE     - {right}\nE     + {left}\n\n"
        "/usr/lib/python3.13/site-packages/_pytest/assertion/rewrite.py:182: in exec_module\n"
        "    exec(co, module.__dict__)"
    )
    return Fault(tag, "AssertionError", message, stack, left)


def api_unavailable(path: str) -> Fault:
    message = f"requests.exceptions.HTTPError: 503 Server Error: Service Unavailable for url: https://office.hearthside.example{path}"
    stack = (
        "back_office/client.py:38: in post\n    reply.raise_for_status()\n"
        "/usr/lib/python3.13/site-packages/requests/models.py:1026: in raise_for_status\n"
        f"    raise HTTPError(http_error_msg, response=self)\nE   {message}"
    )
    return Fault("post", "requests.exceptions.HTTPError", message, stack, "503", 5_020, status=503)
