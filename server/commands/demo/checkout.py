"""The pages from the basket to the receipt."""

from server.commands.demo.canvas import ACCENT, ACCENT_DARK, BAD, GOOD, INK, LINE, MUTED, PAPER, WARM, Canvas, mix
from server.commands.demo.parts import WIDTH, button, field, header, money, photo_of, rating, text_block
from server.commands.demo.products import PRODUCTS

DELIVERY = 490


def basket(canvas: Canvas, articles: str, cents: int, state: str = "ready") -> None:
    """`articles` are the numbers of products, like "0,4,4"; `state` is ready, loading or empty."""
    numbers = [int(number) for number in articles.split(",") if number]
    header(canvas, len(numbers))
    canvas.text((40, 150), "Your basket", 30, bold=True)
    for i, number in enumerate(dict.fromkeys(numbers)):
        y, product = 178 + i * 138, PRODUCTS[number]
        canvas.card((40, y, 780, 122), 12, 7)
        canvas.paste(photo_of(number, 122, 122), (40, y), 12)
        canvas.text((186, y + 42), product.label, 17, bold=True)
        canvas.text((186, y + 66), "Size M   -   in stock", 13, MUTED)
        canvas.text((186, y + 98), "Remove", 13, WARM)
        canvas.areas.setdefault("remove", (178, y + 82, 66, 24))
        field(canvas, (540, y + 40, 96, 40), f"{numbers.count(number)}")
        canvas.areas.setdefault("quantity", (540, y + 40, 96, 40))
        if state == "loading":
            canvas.box((700, y + 50, 96, 18), "#e9e5dd", 9)
        else:
            canvas.text((796, y + 68), money(product.cents * numbers.count(number)), 17, INK, True, "rs")
    _suggestions(canvas, numbers[0] if numbers else 20)
    if not numbers:
        text_block(canvas, (300, 320), ["Your basket is empty.", "What about a candle?"], 19)
    canvas.card((860, 178, 380, 360), 14, 10)
    canvas.text((886, 218), "Summary", 19, bold=True)
    whole = cents + (DELIVERY if 0 < cents < 6000 else 0)
    for i, (name, value) in enumerate(
        (("Articles", cents), ("Delivery", whole - cents), ("Tax included", whole * 19 // 119))
    ):
        canvas.text((886, 262 + i * 34), name, 15, MUTED)
        if state == "loading":
            canvas.box((1130, 250 + i * 34, 84, 15), "#e9e5dd", 7)
        else:
            canvas.text((1214, 262 + i * 34), money(value), 15, INK, anchor="rs")
    canvas.box((886, 352, 328, 1), LINE)
    canvas.text((886, 392), "Total", 18, bold=True)
    canvas.text((1214, 392), "..." if state == "loading" else money(whole), 21, ACCENT_DARK, True, "rs")
    canvas.areas["total"] = (1090, 366, 132, 40)
    field(canvas, (886, 416, 214, 42), "Voucher or gift card")
    canvas.areas["voucher"] = (886, 416, 214, 42)
    button(canvas, (1110, 416, 104, 42), "Redeem", "redeem", plain=True)
    button(canvas, (886, 472, 328, 48), "Checkout", "checkout", off=state == "loading" or not numbers)


def _suggestions(canvas: Canvas, index: int) -> None:
    canvas.text((40, 608), "Goes well with it", 18, bold=True)
    for i in range(4):
        other, x = (index + 5 + i * 4) % len(PRODUCTS), 40 + i * 306
        canvas.card((x, 628, 282, 140), 12, 7)
        canvas.paste(photo_of(other, 130, 140), (x, 628), 12)
        canvas.text((x + 144, 668), PRODUCTS[other].label, 14, bold=True)
        rating(canvas, (x + 150, 690), other)
        canvas.text((x + 144, 742), money(PRODUCTS[other].cents), 15, ACCENT_DARK, True)


def _method(canvas: Canvas, method: str, filled: bool) -> None:
    """The card that is paid with, or a picture for the other methods."""
    if method == "Card":
        canvas.gradient((72, 282, 300, 176), "#2f5d62", "#16302f", 16, across=True)
        canvas.box((96, 314, 42, 30), "#e3c47a", 6)
        canvas.text((96, 392), "4111 1111 1111 1111" if filled else "", 19, "#eef5f4")
        canvas.text((96, 434), "MARIA OLSEN", 13, "#b9d3d0")
        return
    first, last = {"Wallet": ("#5b4b8a", "#2d2550"), "Voucher": ("#c2621b", "#7a3511")}.get(
        method, ("#e9e4d8", "#cfc7b4")
    )
    canvas.gradient((72, 282, 300, 176), first, last, 16, across=True)
    colour = INK if method == "Invoice" else "#fdf3dc"
    canvas.text((96, 332), method, 24, colour, True)
    for i, width in enumerate((180, 140, 210) if method == "Invoice" else (120,)):
        canvas.box((96, 354 + i * 20, width, 8), mix(last, colour, 0.35), 4)
    canvas.text((96, 436), "HEARTHSIDE", 13, colour)


def _checkout(canvas: Canvas, step: int) -> None:
    canvas.box((0, 0, WIDTH, 84), PAPER)
    canvas.box((0, 83, WIDTH, 1), LINE)
    canvas.gradient((40, 27, 30, 30), "#17998d", ACCENT_DARK, 9)
    canvas.disc((55, 42), 7, "#fdf3dc")
    canvas.text((80, 50), "Hearthside", 22, INK, bold=True)
    for i, name in enumerate(("Basket", "Address", "Payment", "Done")):
        x = 470 + i * 190
        canvas.disc((x, 42), 14, ACCENT if i <= step else "#e4e1da")
        canvas.text((x, 47), str(i + 1), 13, "#ffffff" if i <= step else MUTED, anchor="ms")
        canvas.text((x + 24, 47), name, 14, INK if i == step else MUTED, bold=i == step)
        if i < 3:
            canvas.box((x + 100, 41, 56, 2), ACCENT if i < step else LINE)


def _side(canvas: Canvas, index: int, cents: int) -> None:
    canvas.card((880, 128, 360, 300), 14, 9)
    canvas.text((904, 166), "Your order", 18, bold=True)
    canvas.paste(photo_of(index, 76, 76), (904, 184), 10)
    canvas.text((996, 216), PRODUCTS[index].label, 15)
    canvas.text((996, 240), "Size M, 1 piece", 13, MUTED)
    for i, (name, value) in enumerate((("Articles", cents), ("Delivery", DELIVERY), ("Total", cents + DELIVERY))):
        canvas.text((904, 312 + i * 34), name, 15, INK if i == 2 else MUTED, bold=i == 2)
        canvas.text((1216, 312 + i * 34), money(value), 15, INK, i == 2, "rs")


def address(canvas: Canvas, index: int, filled: str = "", fault: str = "") -> None:
    _checkout(canvas, 1)
    canvas.card((40, 128, 800, 560), 14, 9)
    canvas.text((72, 176), "Where shall we send it?", 24, bold=True)
    values = ("Maria", "Olsen", "Lindengasse 14", "1070", "Vienna", "maria.olsen@example.org") if filled else ("",) * 6
    names = ("First name", "Last name", "Street and number", "Postal code", "City", "E-mail")
    places = ((72, 214, 360), (456, 214, 352), (72, 296, 736), (72, 378, 200), (296, 378, 512), (72, 460, 736))
    for name, value, (x, y, width) in zip(names, values, places, strict=True):
        canvas.text((x, y), name, 13, MUTED)
        field(canvas, (x, y + 8, width, 44), value, bad=fault == name)
        canvas.areas[name] = (x, y + 8, width, 44)
    if fault:
        canvas.text((72, 532), f"Please enter a valid {fault.lower()}.", 14, BAD)
    for i, name in enumerate(("Standard, 2 to 3 days", "Express, tomorrow", "Pick up in the shop")):
        chosen = filled == name.partition(",")[0] or (i == 0 and filled in ("", "Standard"))
        x = 72 + i * 250
        canvas.box((x, 546, 236, 48), "#e7f2f0" if chosen else PAPER, 10, ACCENT if chosen else LINE, 1.5)
        canvas.disc((x + 22, 570), 7, ACCENT if chosen else PAPER, ACCENT)
        canvas.text((x + 40, 575), name, 14)
        canvas.areas[name.partition(",")[0]] = (x, 546, 236, 48)
    button(canvas, (600, 618, 208, 48), "Continue to payment", "continue")
    _side(canvas, index, PRODUCTS[index].cents)


def payment(canvas: Canvas, index: int, method: str = "Card", state: str = "ready", label: str = "Pay now") -> None:
    """`state` is empty, ready, waiting (the button is off while the total is loaded) or declined."""
    _checkout(canvas, 2)
    canvas.card((40, 128, 800, 540), 14, 9)
    canvas.text((72, 176), "How would you like to pay?", 24, bold=True)
    for i, name in enumerate(("Card", "Wallet", "Invoice", "Voucher")):
        chosen, x = name == method, 72 + i * 186
        canvas.box((x, 200, 174, 56), "#e7f2f0" if chosen else PAPER, 12, ACCENT if chosen else LINE, 1.5)
        canvas.disc((x + 26, 228), 8, ACCENT if chosen else PAPER, ACCENT)
        canvas.text((x + 46, 233), name, 15, bold=chosen)
        canvas.areas[name] = (x, 200, 174, 56)
    _method(canvas, method, state != "empty")
    card = [("Card number", "4111 1111 1111 1111"), ("Valid until", "12/29"), ("Security code", "***")]
    other = [("Name", "Maria Olsen"), (f"{method} number", "HS-2231-8890"), ("Reference", "checkout")]
    for i, (name, value) in enumerate(card if method == "Card" else other):
        x, y = (404, 296) if i == 0 else (404 + (i - 1) * 210, 380)
        canvas.text((x, y), name, 13, MUTED)
        width = 404 if i == 0 else 194
        field(canvas, (x, y + 8, width, 44), "" if state == "empty" else value, bad=state == "declined" and i == 0)
        canvas.areas[name] = (x, y + 8, width, 44)
    if state == "declined":
        canvas.text((404, 472), "The bank has declined this card.", 14, BAD)
    canvas.box((72, 500, 18, 18), ACCENT, 4)
    canvas.line([(76, 509), (80, 514), (87, 504)], PAPER, 2)
    canvas.text((102, 514), "I have read the terms and the right of withdrawal", 14, MUTED)
    canvas.areas["terms"] = (68, 496, 360, 26)
    if state == "waiting":
        canvas.text((72, 588), "Loading the total of your basket ...", 14, MUTED)
    button(canvas, (520, 560, 288, 56), label, "pay", off=state == "waiting", busy=state == "waiting")
    _side(canvas, index, PRODUCTS[index].cents)


def done(canvas: Canvas, number: int, index: int) -> None:
    _checkout(canvas, 3)
    canvas.card((290, 150, 700, 500), 18, 14)
    canvas.disc((640, 240), 44, "#e3f1e4")
    canvas.line([(620, 241), (635, 257), (662, 224)], GOOD, 6)
    canvas.text((640, 332), "Thank you, Maria!", 32, INK, True, "ms")
    canvas.text((640, 370), f"Your order {number} is on its way to our packers.", 16, MUTED, anchor="ms")
    canvas.areas["order"] = (420, 350, 440, 30)
    canvas.box((350, 404, 580, 112), "#f7f4ee", 12)
    canvas.paste(photo_of(index, 88, 88), (364, 416), 10)
    canvas.text((476, 452), PRODUCTS[index].label, 17, bold=True)
    canvas.text((476, 480), "arrives on Thursday", 14, MUTED)
    canvas.text((908, 466), money(PRODUCTS[index].cents + DELIVERY), 18, ACCENT_DARK, True, "rs")
    button(canvas, (440, 552, 190, 48), "Show receipt", "receipt")
    button(canvas, (650, 552, 190, 48), "Shop on", "on", plain=True)
