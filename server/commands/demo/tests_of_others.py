"""The 25 tests of the project `shop-app` (on a phone) and the 40 of `back-office` (an API, without pictures)."""

from functools import lru_cache

from server.commands.demo.acts import Act, Test, money_text
from server.commands.demo.products import PRODUCTS
from server.commands.demo.scene import Scene


def _tap(element: str, scene: Scene | None = None, tag: str = "", ms: int = 240) -> Act:
    return Act("click", f"Tap “{element}”", element, f"~{element}", "XCUIElementTypeButton", "", "", ms, scene, tag)


def _shown(words: str, selector: str, expected: str, scene: Scene | None = None, tag: str = "") -> Act:
    return Act("assert", words, "", selector, "XCUIElementTypeStaticText", "", expected, 120, scene, tag)


@lru_cache(maxsize=1)
def app_tests() -> tuple[Test, ...]:
    made: list[Test] = []
    for number, (area, name) in enumerate(_APP):
        index, first = (number * 5) % 24, number % 6 * 4
        acts = [
            Act("navigate", "Start the app", value="com.hearthside.app", ms=1900, scene=Scene("list", (first,))),
            Act("accept_alert", "Allow messages", "Allow", "~Allow", ms=200),
        ]
        if area == "browse":
            acts += _browse(index, first, ("All", "Kitchen", "Light", "Living")[number % 4])
        elif area == "account":
            acts += _sign_in()
        else:
            acts += _fill_basket(index)
        if area == "pay":
            acts += _pay(index, 51000 + number)
        acts.append(Act("execute_script", "Close the app", value="mobile: terminateApp", ms=300))
        made.append(Test(f"app/{area}/{number:02d}", name, tuple(acts), "Safari 26, iPhone 17", (area, "phone")))
    return tuple(made)


def _browse(index: int, first: int, category: str) -> list[Act]:
    return [
        _tap(category, Scene("list", (first, 0, category))),
        Act("scroll", "Swipe up", selector="~list", ms=330),
        _shown("Four tiles are in view", "~tile", "4 tiles"),
        _tap(PRODUCTS[index].name, Scene("article", (index,))),
        _shown("The price is shown", "~price", money_text(PRODUCTS[index].cents), None, "price"),
    ]


def _fill_basket(index: int) -> list[Act]:
    cents = PRODUCTS[index].cents
    basket = Scene("cart", (str(index), cents))
    return [
        _tap(PRODUCTS[index].name, Scene("article", (index,))),
        _tap("Add to basket", Scene("article", (index, 1)), "add"),
        _tap("Basket", basket),
        _shown("The total is right", "~total", money_text(cents), basket._replace(mark="total"), "total"),
    ]


def _pay(index: int, order: int) -> list[Act]:
    return [
        _tap("Checkout", Scene("pay", (PRODUCTS[index].cents,))),
        _tap("Pay now", Scene("paid", (order,)), "pay", 1400),
        _shown("The order has a number", "~order", str(order), None, "order"),
    ]


def _sign_in() -> list[Act]:
    return [
        _tap("You", Scene("you", (0,))),
        Act("type", "Enter “E-mail”", "E-mail", "~email", "XCUIElementTypeTextField", "maria.olsen@example.org"),
        Act("type", "Enter “Password”", "Password", "~password", "XCUIElementTypeSecureTextField", "correct horse"),
        _tap("Sign in", Scene("you", (1,)), "submit", 900),
        _shown("The person is greeted", "~greeting", "Hello Maria"),
    ]


_APP = [
    *(
        ("browse", f"browses {what}")
        for what in ("all articles", "the kitchen", "light", "living", "new ones", "by swiping")
    ),
    *(("browse", f"opens {PRODUCTS[i * 5 % 24].name}") for i in (6, 7, 8, 9)),
    *(("basket", f"puts {PRODUCTS[i * 5 % 24].name} into the basket") for i in (10, 11, 12, 13, 14, 15)),
    ("basket", "shows the basket without a connection"),
    *(("pay", f"pays {way}") for way in ("by card", "by wallet", "with a stored card")),
    *(
        ("account", name)
        for name in ("signs in", "signs in with a face", "keeps the session", "shows orders", "turns off messages")
    ),
]


@lru_cache(maxsize=1)
def api_tests() -> tuple[Test, ...]:
    made = []
    for noun, names in _API.items():
        for number, name in enumerate(names):
            path, key = f"/api/{noun}", 700 + number * 13
            acts = [
                Act("request", "POST /api/session", "session", "POST /api/session", "", '{"user": "robot"}', "200", 60),
                Act(
                    "request",
                    f"POST {path}",
                    noun,
                    f"POST {path}",
                    "",
                    f'{{"name": "{name}", "n": {number}}}',
                    "201",
                    85,
                    None,
                    "post",
                ),
                Act("assert", "The reply has an id", "id", "$.id", "", "", str(key), 3),
                Act("request", f"GET {path}/{key}", noun, f"GET {path}/{{id}}", "", "", "200", 40),
                Act("assert", "The name is the one sent", "name", "$.name", "", "", name, 3),
                Act(
                    "request",
                    f"PATCH {path}/{key}",
                    noun,
                    f"PATCH {path}/{{id}}",
                    "",
                    '{"state": "checked"}',
                    "200",
                    55,
                ),
                Act("assert", "The state has changed", "state", "$.state", "", "", "checked", 3, None, "state"),
                Act("request", f"GET {path}?state=checked", noun, f"GET {path}?state", "", "", "200", 70, None, "list"),
                Act("assert", "The list has it", "items", "$.items[*].id", "", "", str(key), 4, None, "items"),
                Act("request", f"DELETE {path}/{key}", noun, f"DELETE {path}/{{id}}", "", "", "204", 45),
            ]
            made.append(Test(f"{noun}::test_{name.replace(' ', '_')}", name, tuple(acts), "", (noun, "api")))
    return tuple(made)


_API = {
    "orders": [
        f"{verb} an order{rest}"
        for verb in ("creates", "splits", "refunds", "holds", "prints")
        for rest in ("", " of a guest")
    ],
    "stock": [
        f"{verb} stock {where}"
        for verb in ("counts", "moves", "reserves", "exports")
        for where in ("here", "at the depot")
    ],
    "prices": [f"{verb} a price{rest}" for verb in ("sets", "plans", "rounds", "imports") for rest in ("", " in CHF")],
    "customers": [
        "merges two people",
        "forgets a person",
        "finds Zoë by name",
        "finds 田中 by name",
        "blocks a person",
        "writes a note",
    ],
    "reports": [
        "sums the day",
        "sums the month",
        "lists returns",
        "exports as CSV",
        "sends by e-mail",
        "compares two years",
        "plans a report",
        "removes a report",
    ],
}
