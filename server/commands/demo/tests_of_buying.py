"""Tests of the project `shop` that search, fill the basket and pay, and the import of a catalogue."""

from functools import lru_cache

from server.commands.demo.acts import (
    Act,
    Test,
    World,
    choose,
    click,
    drawn,
    fill,
    find,
    go,
    open_basket,
    press,
    put_in,
    see,
    shop_test,
    start,
    wait,
)
from server.commands.demo.products import PRODUCTS
from server.commands.demo.scene import Scene

IMPORT_ROWS = 1990
AMOUNTS = ("4.99", "12.50", "19.99", "100.00", "1299.90")
# What is paid how: the name of the test's end, the method on the page, and the product.
_PAYMENTS = [("card", "Card", 6), ("voucher", "Voucher", 10), ("invoice", "Invoice", 4), ("wallet", "Wallet", 21)]
_PAYMENTS += [("card with 3-D Secure", "Card", 18), ("gift card", "Voucher", 15)]
# What is searched, how many are found, and the first of them.
_SEARCHES = [("mug", 4, 0), ("bowl", 2, 4), ("чайник", 1, 7), ("vase", 2, 8), ("lamp", 2, 10), ("كوب", 0, 0)]
_SEARCHES += [("blanket", 2, 21), ("cushion", 2, 14)]


def pays(world: World) -> list[Test]:
    made = []
    for number, (way, method, index) in enumerate(_PAYMENTS):
        paying = Scene("payment", (index, method, "ready", world.pay_label))
        query = PRODUCTS[index].kind
        acts = [
            *start(world, index % 3),
            wait("Wait for the header", "header.ready", 120),
            fill("Search", "input[name=q]", query),
            press("Enter", Scene("search", (query, 2, index))),
            see("2 results are shown", ".results > article", "2 articles"),
            *put_in(index),
            see("A note confirms it", ".toast", "Added to your basket"),
            *open_basket([index]),
            click("Checkout", "#checkout", Scene("address", (index,))),
            fill("Address", "#address", "Lindengasse 14, 1070 Wien", Scene("address", (index, "Standard"))),
            choose("Payment", f"input[name=pay][value={method.lower()}]", method, paying),
            click("Pay now", world.pay_selector, Scene("done", (48211 + number, index)), "pay", 900),
            see("The receipt has a number", ".receipt .number", str(48211 + number), tag="receipt"),
            wait("Wait for the confirmation by e-mail", "mailbox: order confirmed", 700, None),
        ]
        made.append(shop_test("pay", f"pays by {way}", acts))
    return made


def searches(world: World) -> list[Test]:
    made = []
    for query, count, first in _SEARCHES:
        cheapest = Scene("search", (drawn(query), count, first, 0, "Price"))
        acts = [
            *start(world),
            wait("Wait for the header", "header.ready", 120),
            *find(query, count, first),
            see("The address has the query", "location", f"/search?q={query}"),
            choose("Sort", "#sort", "Price", cheapest),
            see(
                "The cheapest is first",
                ".results > article:first-child",
                PRODUCTS[first].name if count else "nothing",
                tag="first",
            ),
            see("The filter lists three prices", ".filter .price", "3 prices", tag="filter"),
            see("The footer has the imprint", "footer a.imprint", "Imprint"),
        ]
        made.append(shop_test("search", f"searches “{query}”", acts))
    return made


def baskets(world: World) -> list[Test]:
    plain = [
        ("adds a mug to the basket", [0]),
        ("changes the quantity", [5, 5]),
        ("removes an article", [8, 12]),
        ("keeps the basket after sign-in", [2]),
        ("shows the total of three articles", [3, 7, 14]),
        ("delivers free from 60 euros", [9]),
        ("redeems a voucher", [11]),
        ("shows “وعاء فخار” in the basket", [5]),
        ("refuses more than 20 pieces", [20, 20, 20]),
    ]
    made = []
    for name, articles in plain:
        index = articles[0]
        cents = sum(PRODUCTS[i].cents for i in articles)
        given = (",".join(map(str, articles)), cents)
        acts = [
            *start(world, index % 3),
            *find(PRODUCTS[index].kind, 2, index),
            *put_in(index),
            *open_basket(articles),
            fill("Quantity", "input.quantity", str(articles.count(index)), Scene("basket", given, "", "quantity")),
            see("The header counts the articles", "header .count", str(len(articles))),
            see("Delivery is shown", "#basket .delivery", "4.90" if cents < 6000 else "free"),
            go("/", Scene("home", (index % 3, len(articles))), "Go back to the shop"),
        ]
        made.append(shop_test("basket", name, acts))
    amounts = [
        go("/basket?test=amounts", Scene("basket", ("3", 1999, "loading")), "Open a prepared basket"),
        fill("Amount", "#amount", "(the amount)"),
        click("Calculate", "#calculate", Scene("basket", ("3", 1999))),
        see("The tax is included", "#basket .tax", "yes"),
        see("The total is right", "#basket .total", "(the amount)", Scene("basket", ("3", 1999), "", "total"), "total"),
        click("Empty the basket", "#empty", Scene("basket", ("", 0))),
    ]
    name = "calculates the total of five amounts"
    made.append(shop_test("basket", name, amounts, iterations=5, values=AMOUNTS))
    return made


@lru_cache(maxsize=1)
def catalogue_import() -> Test:
    """The test with 2,000 steps: one for each row of a supplier's file, and a picture for every 200th."""
    rows = [
        Act(
            "assert",
            f"Import row {row:,}: {PRODUCTS[row % 24].name}",
            f"row {row:,}",
            f"tr[data-row='{row}'] .state",
            "row",
            "",
            "imported",
            35,
            Scene("imports", (row,)) if row % 200 == 0 else None,
            f"row{row}",
        )
        for row in range(1, IMPORT_ROWS + 1)
    ]
    first = [
        go("/admin/import", Scene("signin", (2,)), "Open the import"),
        fill("E-mail", "#email", "maria.olsen@example.org"),
        fill("Password", "#password", "correct horse battery"),
        click("Sign in", "form.sign-in button"),
        Act(
            "upload_file",
            "Choose supplier-autumn.csv",
            "File",
            "input[type=file]",
            "input",
            "supplier-autumn.csv",
            ms=300,
        ),
        click("Import", "#import", Scene("imports", (1,)), ms=800),
    ]
    last = [
        see("All rows are imported", ".progress", f"{IMPORT_ROWS} rows", Scene("imports", (IMPORT_ROWS,))),
        click("Publish", "#publish"),
        see("The shop shows the new articles", ".new", f"{IMPORT_ROWS} articles"),
        wait("Wait for the search index", "index ready", 2100),
    ]
    return Test(
        "catalogue/imports-the-catalogue", "imports the catalogue", (*first, *rows, *last), "chromium", ("catalogue",)
    )
