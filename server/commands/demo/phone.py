"""Pictures of the demo's phone app, 390 x 844."""

from collections.abc import Callable

from server.commands.demo.canvas import ACCENT, ACCENT_DARK, BAD, FAINT, GOOD, INK, LINE, MUTED, PAPER, Canvas
from server.commands.demo.parts import button, field, money, photo_of, pill, rating, text_block
from server.commands.demo.products import PRODUCTS
from server.commands.demo.scene import Scene

WIDTH, HEIGHT = 390, 844


def picture(scene: Scene) -> bytes:
    canvas = Canvas(WIDTH, HEIGHT)
    PAGES[scene.page](canvas, *scene.given)
    kind, _, words = scene.over.partition(":")
    if kind == "sheet":
        _sheet(canvas, words)
    elif kind == "offline":
        canvas.box((0, 98, WIDTH, 40), BAD)
        canvas.text((195, 123), "No connection. Showing what was stored.", 13.5, "#ffffff", anchor="ms")
        canvas.areas["offline"] = (4, 102, 382, 32)
    canvas.mark(scene.mark)
    return canvas.png()


def _frame(canvas: Canvas, title: str, tab: str, basket: int = 0) -> None:
    canvas.box((0, 0, WIDTH, 98), PAPER)
    canvas.text((30, 32), "9:41", 15, INK, True)
    canvas.box((322, 20, 24, 12), None, 3, INK)
    canvas.box((325, 23, 15, 6), INK, 1)
    for i in range(4):
        canvas.box((292 + i * 6, 30 - i * 3, 4, 3 + i * 3), INK, 1)
    canvas.text((20, 80), title, 24, INK, True)
    canvas.box((0, 97, WIDTH, 1), LINE)
    canvas.box((0, 766, WIDTH, 78), PAPER)
    canvas.box((0, 766, WIDTH, 1), LINE)
    for i, name in enumerate(("Shop", "Search", "Basket", "You")):
        x, chosen = 49 + i * 97, name == tab
        canvas.disc((x, 790), 10, "#d3e9e6" if chosen else "#f0ece3", ACCENT if chosen else FAINT)
        canvas.text((x, 818), name, 12, ACCENT_DARK if chosen else MUTED, chosen, "ms")
        canvas.areas[f"tab-{name}"] = (x - 40, 772, 80, 54)
    if basket:
        canvas.disc((254, 780), 9, BAD)
        canvas.text((254, 784), str(basket), 11, "#ffffff", True, "ms")
    canvas.box((128, 832, 134, 5), INK, 3)


def _list(canvas: Canvas, first: int = 0, basket: int = 0, choice: str = "All") -> None:
    _frame(canvas, "Hearthside", "Shop", basket)
    for i, name in enumerate(("All", "Kitchen", "Light", "Living")):
        pill(canvas, (20 + i * 90, 112, 80, 34), name, name == choice)
        canvas.areas[name] = (20 + i * 90, 112, 80, 34)
    for i in range(4):
        x, y, index = 20 + i % 2 * 180, 162 + i // 2 * 302, (first + i) % len(PRODUCTS)
        canvas.card((x, y, 170, 288), 14, 8)
        canvas.paste(photo_of(index, 170, 190), (x, y), 14)
        canvas.box((x, y + 180, 170, 14), PAPER)
        canvas.text((x + 12, y + 216), PRODUCTS[index].label, 14.5, INK, True)
        rating(canvas, (x + 17, y + 236), index)
        canvas.text((x + 12, y + 270), money(PRODUCTS[index].cents), 16, ACCENT_DARK, True)
        canvas.areas[f"tile{i}"] = (x, y, 170, 288)


def _article(canvas: Canvas, index: int, basket: int = 0) -> None:
    product = PRODUCTS[index]
    _frame(canvas, product.label, "Shop", basket)
    canvas.paste(photo_of(index, 390, 356), (0, 98))
    canvas.card((0, 436, 390, 340), 22, 10)
    canvas.text((24, 482), product.label, 23, INK, True)
    rating(canvas, (30, 508), index, 6)
    canvas.text((24, 556), money(product.cents), 26, ACCENT_DARK, True)
    text_block(canvas, (24, 592), ["Thrown by hand and fired twice.", "Goes into the dishwasher."], 14.5, MUTED)
    button(canvas, (24, 640, 342, 54), "Add to basket", "add")
    canvas.disc((34, 724), 5, GOOD)
    canvas.text((48, 729), "With you on Thursday", 14, GOOD)
    canvas.box((0, 766, WIDTH, 1), LINE)


def _cart(canvas: Canvas, articles: str, cents: int) -> None:
    numbers = [int(number) for number in articles.split(",") if number]
    _frame(canvas, "Basket", "Basket", len(numbers))
    for i, number in enumerate(numbers[:4]):
        y = 116 + i * 108
        canvas.card((20, y, 350, 94), 12, 7)
        canvas.paste(photo_of(number, 94, 94), (20, y), 12)
        canvas.text((128, y + 38), PRODUCTS[number].label, 15.5, INK, True)
        canvas.text((128, y + 68), money(PRODUCTS[number].cents), 15, ACCENT_DARK)
        canvas.text((350, y + 68), "x 1", 15, MUTED, anchor="rs")
    if not numbers:
        canvas.text((195, 360), "Your basket is empty.", 17, MUTED, anchor="ms")
    canvas.card((0, 640, 390, 126), 18, 10)
    canvas.text((24, 678), "Total", 17, INK, True)
    canvas.text((366, 678), money(cents), 20, ACCENT_DARK, True, "rs")
    canvas.areas["total"] = (250, 656, 122, 32)
    button(canvas, (24, 698, 342, 52), "Checkout", "checkout", off=not numbers)


def _pay(canvas: Canvas, cents: int, state: str = "ready") -> None:
    _frame(canvas, "Payment", "Basket", 1)
    canvas.gradient((20, 118, 350, 204), "#2f5d62", "#16302f", 18, across=True)
    canvas.box((46, 156, 48, 34), "#e3c47a", 6)
    canvas.text((46, 246), "4111 1111 1111 1111", 22, "#eef5f4")
    canvas.text((46, 292), "MARIA OLSEN", 14, "#b9d3d0")
    for i, (name, value) in enumerate((("Valid until", "12/29"), ("Security code", "***"))):
        canvas.text((20 + i * 180, 356), name, 13, MUTED)
        field(canvas, (20 + i * 180, 364, 170, 48), value if state != "empty" else "", bad=state == "declined")
        canvas.areas[name] = (20 + i * 180, 364, 170, 48)
    if state == "declined":
        canvas.text((20, 438), "The bank has declined this card.", 14, BAD)
    canvas.text((20, 680), "To pay", 16, MUTED)
    canvas.text((370, 680), money(cents), 22, INK, True, "rs")
    button(canvas, (20, 700, 350, 54), "Pay now", "pay")


def _paid(canvas: Canvas, number: int) -> None:
    _frame(canvas, "Done", "Basket")
    canvas.disc((195, 270), 56, "#e3f1e4")
    canvas.line([(170, 272), (188, 292), (222, 250)], GOOD, 7)
    canvas.text((195, 380), "Thank you, Maria!", 27, INK, True, "ms")
    canvas.text((195, 416), f"Order {number}", 16, MUTED, anchor="ms")
    canvas.areas["order"] = (110, 396, 170, 30)
    button(canvas, (60, 470, 270, 52), "Show receipt", "receipt")


def _you(canvas: Canvas, signed_in: int, filled: int = 0) -> None:
    _frame(canvas, "Hello Maria" if signed_in else "Sign in", "You")
    if not signed_in:
        canvas.paste(photo_of(17, 390, 220), (0, 98))
        for i, (name, value) in enumerate((("E-mail", "maria.olsen@example.org"), ("Password", "************"))):
            canvas.text((24, 364 + i * 84), name, 13, MUTED)
            field(canvas, (24, 372 + i * 84, 342, 48), value if filled > i else "")
            canvas.areas[name] = (24, 372 + i * 84, 342, 48)
        button(canvas, (24, 548, 342, 54), "Sign in", "submit")
        return
    for i, name in enumerate(("Orders", "Wish list", "Addresses", "Gift cards", "Notifications", "Language")):
        canvas.card((20, 116 + i * 80, 350, 66), 12, 6)
        canvas.gradient((34, 131 + i * 80, 36, 36), "#cfe6e2", "#9fcac4", 10)
        canvas.text((88, 156 + i * 80), name, 16, INK)
        canvas.text((350, 156 + i * 80), ">", 16, FAINT, anchor="rs")
        canvas.areas[name] = (20, 116 + i * 80, 350, 66)


def _sheet(canvas: Canvas, words: str) -> None:
    canvas.dim()
    title, _, text = words.partition("|")
    canvas.card((0, 560, 390, 300), 24, 20)
    canvas.box((170, 574, 50, 5), LINE, 3)
    canvas.text((24, 624), title, 22, INK, True)
    text_block(canvas, (24, 656), text.split("/"), 14.5, MUTED)
    button(canvas, (24, 730, 342, 54), "Allow", "allow")


PAGES: dict[str, Callable[..., None]] = {
    "list": _list,
    "article": _article,
    "cart": _cart,
    "pay": _pay,
    "paid": _paid,
    "you": _you,
}
