"""Pictures of the demo's shop, as a browser of 1,280 x 800 shows it: each page is a function, `picture` draws one."""

from collections.abc import Callable

from server.commands.demo import account, checkout, phone
from server.commands.demo.canvas import ACCENT, ACCENT_DARK, FAINT, GOOD, INK, LINE, MUTED, PAPER, Canvas
from server.commands.demo.parts import HEIGHT, WIDTH, button, field, header, money, photo_of, rating, text_block, tile
from server.commands.demo.products import PRODUCTS
from server.commands.demo.scene import Scene


def picture(scene: Scene) -> bytes:
    """A PNG file; the same bytes each time."""
    if scene.page in phone.PAGES:
        return phone.picture(scene)
    canvas = Canvas(WIDTH, HEIGHT)
    PAGES[scene.page](canvas, *scene.given)
    kind, _, words = scene.over.partition(":")
    if kind:
        _OVER[kind](canvas, words)
    canvas.mark(scene.mark)
    return canvas.png()


def _home(canvas: Canvas, first: int = 0, basket: int = 0, person: str = "Sign in", note: str = "") -> None:
    header(canvas, basket, person=person)
    canvas.gradient((40, 118, 1200, 232), "#e9d9c3", "#c9e0da", 18, across=True)
    canvas.text((84, 186), "Autumn at home", 40, "#3b2f26", bold=True)
    canvas.text((86, 224), "Warm light, wool and stoneware from small workshops.", 17, "#5b4c3f")
    button(canvas, (86, 262, 170, 44), "Discover now", "discover")
    for i, x in enumerate((720, 890, 1060)):
        canvas.card((x, 142, 150, 184), 14, 10)
        canvas.paste(photo_of(first + 10 + i * 5, 150, 184), (x, 142), 14)
    canvas.text((40, 396), note or "New this week", 22, bold=True)
    canvas.text((1240, 396), "Show all", 14, ACCENT, anchor="rs")
    for i in range(4):
        tile(canvas, first + i * 3, (40 + i * 306, 416, 282, 360), f"tile{i}")


def _search(canvas: Canvas, query: str, count: int, first: int = 0, basket: int = 0, order: str = "Relevance") -> None:
    header(canvas, basket, query)
    canvas.text((40, 146), f'{count} results for "{query}"', 25, bold=True)
    canvas.areas["count"] = (36, 118, 330, 38)
    canvas.areas["sort"] = (1040, 122, 200, 34)
    field(canvas, (1040, 122, 200, 34), f"Sort: {order}")
    canvas.card((40, 176, 216, 590), 12, 6)
    row = 208.0
    for title, options in (
        ("Price", ("up to EUR 20", "EUR 20 to 50", "over EUR 50")),
        ("Material", ("Stoneware", "Oak", "Wool", "Linen")),
        ("Delivery", ("In stock", "Pick up today")),
    ):
        canvas.text((60, row), title, 15, bold=True)
        for i, option in enumerate(options):
            canvas.box((60, row + 16 + i * 30, 16, 16), PAPER, 4, FAINT)
            canvas.text((86, row + 29 + i * 30), option, 13.5, MUTED)
        row += 52 + len(options) * 30
    for i in range(min(count, 6)):
        area = (284.0 + i % 3 * 322, 176.0 + i // 3 * 304, 312.0, 290.0)
        tile(canvas, first + i, area, f"tile{i}")
    if not count:
        text_block(canvas, (560, 380), ["Nothing found.", "Try another word, or have a look at what is new."], 18)


def _product(canvas: Canvas, index: int, basket: int = 0, chosen: int = -1, note: str = "") -> None:
    product = PRODUCTS[index]
    header(canvas, basket)
    canvas.text((40, 130), f"Home   /   Kitchen   /   {product.label}", 13, MUTED)
    canvas.card((40, 152, 560, 500), 16, 10)
    canvas.paste(photo_of(index, 560, 500), (40, 152), 16)
    for i in range(4):
        canvas.paste(photo_of(index + i, 128, 100), (40 + i * 144, 670), 10)
    canvas.box((40, 670, 128, 100), None, 10, ACCENT, 2)
    canvas.text((650, 196), product.label, 34, bold=True)
    rating(canvas, (656, 226), index, 6)
    canvas.text((740, 231), f"{38 + index * 7} reviews", 13.5, MUTED)
    canvas.areas["reviews"] = (646, 212, 180, 28)
    canvas.text((650, 286), money(product.cents), 31, ACCENT_DARK, bold=True)
    canvas.areas["price"] = (646, 256, 180, 40)
    canvas.text((650, 312), "including tax, plus delivery", 13, MUTED)
    canvas.text((650, 354), "Size", 14, MUTED)
    for i, size in enumerate(("S", "M", "L", "XL")):
        area = (650.0 + i * 62, 366.0, 52.0, 42.0)
        canvas.box(area, "#e7f2f0" if i == chosen else PAPER, 10, ACCENT if i == chosen else LINE, 1.5)
        canvas.text((676 + i * 62, 393), size, 15, INK, anchor="ms")
        canvas.areas[f"size{i}"] = area
    button(canvas, (650, 438, 380, 52), "Add to basket", "add")
    button(canvas, (1046, 438, 194, 52), "Wish list", "wish", plain=True)
    canvas.disc((660, 520), 5, GOOD)
    canvas.text((674, 525), note or "In stock, with you on Thursday", 14, GOOD)
    lines = [
        "Thrown by hand and fired twice, so no two are quite alike.",
        "Goes into the dishwasher and the microwave.",
    ]
    text_block(canvas, (650, 568), lines, 15, MUTED)
    for i, fact in enumerate(("Made in small batches", "Packed without plastic", "2 years of guarantee")):
        canvas.box((650 + i * 200, 640, 190, 48), "#f0ece3", 10)
        canvas.text((745 + i * 200, 669), fact, 13, INK, anchor="ms")


def _cookies(canvas: Canvas, _: str) -> None:
    canvas.dim(0.28)
    canvas.card((240, 560, 800, 200), 16, 18)
    canvas.disc((300, 622), 26, "#d9a86a")
    for x, y in ((292, 614), (308, 620), (298, 632), (310, 634)):
        canvas.disc((x, y), 3.5, "#6b4423")
    canvas.text((346, 618), "We use cookies", 21, bold=True)
    text_block(canvas, (346, 646), ["Some are needed for the basket, others help us to improve the shop."], 14.5, MUTED)
    button(canvas, (650, 690, 170, 46), "Only needed ones", "needed", plain=True)
    button(canvas, (836, 690, 170, 46), "Accept all", "accept")


def _toast(canvas: Canvas, words: str) -> None:
    canvas.card((880, 110, 360, 76), 12, 14, INK)
    canvas.disc((916, 148), 14, "#2f9e6b")
    canvas.line([(909, 148), (914, 154), (923, 142)], "#ffffff", 2.5)
    canvas.text((944, 153), words, 15, "#f4f6f8")
    canvas.areas["toast"] = (880, 110, 360, 76)


def _dialog(canvas: Canvas, words: str) -> None:
    canvas.dim()
    title, _, text = words.partition("|")
    canvas.card((390, 250, 500, 280), 18, 20)
    canvas.text((430, 312), title, 25, bold=True)
    text_block(canvas, (430, 350), text.split("/"), 15, MUTED)
    button(canvas, (560, 452, 130, 46), "Not now", "cancel", plain=True)
    button(canvas, (704, 452, 150, 46), "Confirm", "confirm")


def _busy(canvas: Canvas, words: str) -> None:
    canvas.dim(0.3)
    canvas.card((490, 330, 300, 130), 16, 18)
    for i in range(8):
        x, y = ((0, -1), (0.7, -0.7), (1, 0), (0.7, 0.7), (0, 1), (-0.7, 0.7), (-1, 0), (-0.7, -0.7))[i]
        canvas.disc(
            (640 + x * 20, 376 + y * 20), 4.5, ("#0f766e", "#4b9a94", "#87bcb8", "#b7d6d3", *["#dbe8e6"] * 4)[i]
        )
    canvas.text((640, 434), words or "One moment, please", 15, MUTED, anchor="ms")


_OVER: dict[str, Callable[[Canvas, str], None]] = {
    "cookies": _cookies,
    "toast": _toast,
    "dialog": _dialog,
    "busy": _busy,
}
PAGES: dict[str, Callable[..., None]] = {
    "home": _home,
    "search": _search,
    "product": _product,
    "basket": checkout.basket,
    "address": checkout.address,
    "payment": checkout.payment,
    "done": checkout.done,
    "signin": account.signin,
    "account": account.account,
    "imports": account.imports,
}
