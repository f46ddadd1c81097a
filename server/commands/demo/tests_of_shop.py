"""The 60 tests of the project `shop`, for the version of the shop that a World describes."""

from server.commands.demo.acts import (
    Act,
    Test,
    World,
    choose,
    click,
    fill,
    find,
    money_text,
    open_basket,
    put_in,
    see,
    shop_test,
    start,
    wait,
)
from server.commands.demo.products import PRODUCTS
from server.commands.demo.scene import Scene
from server.commands.demo.tests_of_buying import baskets, pays, searches


def tests(world: World) -> tuple[Test, ...]:
    """All but the import of a catalogue, which is not in each run."""
    made = [*pays(world), *searches(world), *baskets(world), *_signs_in(world), *_accounts(world)]
    made += [*_products(world), *_homes(world), *_deliveries(world)]
    return tuple(made)


def _signs_in(world: World) -> list[Test]:
    made = []
    for name, fault in (
        ("signs in", ""),
        ("refuses a wrong password", "E-mail or password is wrong."),
        ("refuses an unknown person", "E-mail or password is wrong."),
        ("signs out", ""),
        ("resets a forgotten password", "We have sent you a link."),
        ("registers Zoë Björk-Núñez", ""),
        ("remembers the person", ""),
        ("waits after five wrong passwords", "Please wait for 60 seconds."),
    ):
        after = Scene("signin", (2, fault), "", "message") if fault else Scene("account", ("Orders", 3))
        acts = [
            *start(world),
            click("Sign in", "header a.sign-in", Scene("signin"), ms=390),
            wait("Wait for the form", "form.sign-in", 140),
            fill("E-mail", "#email", "maria.olsen@example.org", Scene("signin", (1,))),
            fill("Password", "#password", "correct horse battery", Scene("signin", (2,))),
            click("Sign in", "form.sign-in button", after, "submit", 620),
            see("The page says so", "main", fault or "My account"),
            see("The cookie is HttpOnly", "cookie: session", "HttpOnly; Secure"),
            wait("Wait until nothing is loading", "network idle", 510),
            see("No error in the console", "console", "0 errors", tag="console"),
        ]
        made.append(shop_test("sign-in", name, acts))
    return made


def _accounts(world: World) -> list[Test]:
    made = []
    for name, tab, rows in (
        ("shows past orders", "Orders", 4),
        ("returns an order", "Returns", 2),
        ("cancels an order", "Orders", 3),
        ("orders again", "Orders", 2),
        ("changes the address", "Addresses", 1),
        ("downloads an invoice", "Orders", 1),
        ("shows the balance of a gift card", "Gift cards", 2),
        ("fills the wish list", "Wish list", 4),
    ):
        listed = Scene("account", (tab, rows))
        asked = Scene(
            "account", (tab, rows), f"dialog:{name.capitalize()}?|You can change this later./We send an e-mail."
        )
        acts = [
            *start(world),
            click("Sign in", "header a.sign-in", Scene("signin"), ms=390),
            fill("E-mail", "#email", "maria.olsen@example.org"),
            fill("Password", "#password", "correct horse battery", Scene("signin", (2,))),
            click("Sign in", "form.sign-in button", Scene("account", ("Orders", 3)), "submit", 620),
            click(tab, f"nav >> text={tab}", listed),
            see(f"{rows} entries are listed", "main .entry", f"{rows} entries", listed._replace(mark=tab)),
            click("Open", "main .entry:first-child button", asked),
            click("Confirm", ".dialog .confirm", Scene("account", (tab, rows, "in progress")), "confirm", 540),
            see("The state is shown", "main .entry:first-child .state", "in progress", tag="state"),
            wait("Wait for the confirmation by e-mail", "mailbox: your request", 650),
        ]
        made.append(shop_test("account", name, acts))
    return made


def _products(world: World) -> list[Test]:
    made = []
    for number, name in enumerate(
        (
            "enlarges a photo",
            "shows reviews",
            "offers four sizes",
            "says that an article is sold out",
            "compares two articles",
            "suggests similar articles",
            "shows “湯呑み yunomi cup”",
            "shows what was seen before",
        )
    ):
        index = (number * 3) % 24 if "yunomi" not in name else 3
        product = PRODUCTS[index]
        page = Scene("product", (index,))
        acts = [
            *start(world, number % 3),
            *find(product.kind, 2, index),
            click(product.name, f'article[data-sku="HS-{1000 + index}"] a', page, ms=480),
            see("The name is the title", "h1", product.name),
            see("The price is shown", ".price", money_text(product.cents), page._replace(mark="price")),
            Act("hover", "Point at the photo", "Photo", ".photo img", "img", "", "", 150),
            see("The reviews are counted", ".reviews .count", str(38 + index * 7), page._replace(mark="reviews")),
            Act("scroll", "Scroll to the end", "", "window", "", "", "", 240),
            choose("Size", "#size", "L", Scene("product", (index, 0, 2))),
            see("It is in stock", ".stock", "In stock"),
        ]
        made.append(shop_test("product", name, acts))
    return made


def _homes(world: World) -> list[Test]:
    made = []
    for number, name in enumerate(
        (
            "opens a category",
            "shows the banner of the season",
            "subscribes to the newsletter",
            "changes the language",
            "filters by price",
            "sorts by price",
        )
    ):
        chosen = Scene("search", (("kitchen", "autumn", "news", "living", "under 20", "all")[number], 6, number * 3))
        acts = [
            *start(world, number % 3),
            wait("Wait for the banner", ".banner.ready", 180),
            see("Four articles are new", ".new > article", "4 articles"),
            Act("scroll", "Scroll to the footer", "", "footer", "", "", "", 210),
            fill("E-mail", "footer input", "maria.olsen@example.org"),
            click(
                "Subscribe", "footer button.subscribe", Scene("home", (number % 3, 0), "toast:Thank you!"), "subscribe"
            ),
            click("Discover now", ".banner a", chosen, ms=450),
            see("Six articles are shown", ".results > article", "6 articles", chosen._replace(mark="count"), "count"),
            see("The title names the category", "h1", str(chosen.given[0])),
        ]
        made.append(shop_test("home", name, acts))
    return made


def _deliveries(world: World) -> list[Test]:
    made = []
    for number, (name, way) in enumerate(
        (
            ("checks the postal code", "Standard"),
            ("delivers by express", "Express"),
            ("is picked up in the shop", "Pick up in the shop"),
            ("delivers to Österreich and Łódź", "Standard"),
            ("names the day of delivery", "Express"),
        )
    ):
        index = 12 + number
        acts = [
            *start(world, number % 3),
            *find(PRODUCTS[index].kind, 2, index),
            *put_in(index),
            *open_basket([index]),
            click("Checkout", "#checkout", Scene("address", (index,))),
            fill("Postal code", "#postal", "1070", Scene("address", (index, "", "Postal code"))),
            fill("Address", "#address", "Lindengasse 14, 1070 Wien", Scene("address", (index, "Standard"))),
            choose("Delivery", "input[name=delivery]", way, Scene("address", (index, way), "", way)),
            click("Continue to payment", "#continue", Scene("payment", (index, "Card", "empty", world.pay_label))),
        ]
        made.append(shop_test("delivery", name, acts))
    return made
