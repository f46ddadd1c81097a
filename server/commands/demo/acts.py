"""What a step of a demo test does, and short functions that write tests with them."""

from dataclasses import dataclass, field
from typing import NamedTuple

from server.commands.demo.products import PRODUCTS
from server.commands.demo.scene import Scene

SHOP = "https://shop.hearthside.example"


class World(NamedTuple):
    """What differs between versions of the shop and of its tests."""

    pay_label: str = "Pay now"  # what the button says
    pay_selector: str = "#pay"  # how the tests find it
    cookies: bool = False  # whether a cookie banner opens


@dataclass(frozen=True)
class Act:
    """A step as a test is written. `tag` is how the story finds it; `scene` is what the page then looks like."""

    kind: str
    words: str
    element: str = ""
    selector: str = ""
    role: str = ""
    value: str = ""
    expected: str = ""
    ms: int = 180
    scene: Scene | None = None
    tag: str = ""


@dataclass(frozen=True)
class Test:
    """A test of a project. With several iterations, its acts are played once for each."""

    id: str
    name: str
    acts: tuple[Act, ...]
    browser: str = "chromium"
    tags: tuple[str, ...] = ()
    iterations: int = 1
    values: tuple[str, ...] = field(default=())  # the expected value of the act tagged "total", for each iteration


def go(path: str, scene: Scene | None, words: str = "", tag: str = "") -> Act:
    return Act("navigate", words or f"Open {path}", "", "", "", SHOP + path, "", 640, scene, tag)


def click(element: str, selector: str, scene: Scene | None = None, tag: str = "", ms: int = 210) -> Act:
    return Act("click", f"Click “{element}”", element, selector, "button", "", "", ms, scene, tag)


def fill(element: str, selector: str, value: str, scene: Scene | None = None) -> Act:
    return Act("type", f"Enter “{element}”", element, selector, "input", value, "", 260, scene)


def press(key: str, scene: Scene | None = None, ms: int = 420) -> Act:
    return Act("type", f"Press {key} in “Search”", "Search", "input[name=q]", "input", key, "", ms, scene)


def choose(element: str, selector: str, value: str, scene: Scene | None = None) -> Act:
    return Act("select", f"Choose {value} in “{element}”", element, selector, "select", value, "", 190, scene)


def see(words: str, selector: str, expected: str, scene: Scene | None = None, tag: str = "") -> Act:
    return Act("assert", words, "", selector, "", "", expected, 90, scene, tag)


def wait(words: str, selector: str, ms: int = 300, scene: Scene | None = None, tag: str = "") -> Act:
    return Act("wait", words, "", selector, "", "", "", ms, scene, tag)


def start(world: World, first: int = 0) -> list[Act]:
    """Open the shop; with the cookie banner, also close that."""
    home = Scene("home", (first, 0))
    if world.cookies:
        banner = Scene("home", (first, 0), "cookies")
        return [go("/", banner, "Open the shop", "home"), click("Accept all", "#cookies .accept", home, "cookies")]
    return [go("/", home, "Open the shop", "home")]


def drawn(query: str) -> str:
    """The query as pictures show it, because their font has Latin letters only."""
    return {"чайник": "chaynik", "كوب": "kub"}.get(query, query)


def find(query: str, count: int, first: int) -> list[Act]:
    """Search, and count the results; `first` is the number of the first product found."""
    found = Scene("search", (drawn(query), count, first))
    return [
        fill("Search", "input[name=q]", query),
        press("Enter", found),
        see(
            f"{count} results are shown",
            ".results > article",
            f"{count} articles",
            found._replace(mark="count"),
            "count",
        ),
    ]


def put_in(index: int) -> list[Act]:
    """Open a product of the list and put it into the basket."""
    name = PRODUCTS[index].name
    return [
        click(name, f'article[data-sku="HS-{1000 + index}"] a', Scene("product", (index,)), ms=480),
        choose("Size", "#size", "M", Scene("product", (index, 0, 1))),
        click("Add to basket", "button.add", Scene("product", (index, 1, 1), "toast:Added to your basket"), "add"),
    ]


def open_basket(articles: list[int]) -> list[Act]:
    """Open the basket and wait until its service has answered: the step that becomes slow."""
    cents = sum(PRODUCTS[i].cents for i in articles)
    given = (",".join(map(str, articles)), cents)
    total = Scene("basket", given, "", "total")
    return [
        click("Basket", "header a.basket", Scene("basket", (*given, "loading"))),
        wait("Wait for the basket's prices", "#basket[data-loaded]", 300, Scene("basket", given), "load"),
        see("The total is right", "#basket .total", money_text(cents), total, "total"),
    ]


def money_text(cents: int) -> str:
    return f"{cents / 100:.2f}"


def shop_test(area: str, name: str, acts: list[Act], iterations: int = 1, values: tuple[str, ...] = ()) -> Test:
    """A test of the project `shop`."""
    short = "".join(c if c.isalnum() else "-" for c in name.lower())
    browser = "firefox" if area in ("account", "home", "delivery") else "chromium"
    return Test(f"{area}/{short}", name, tuple(acts), browser, (area,), iterations, values)
