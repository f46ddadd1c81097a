"""The pages of a person: sign-in, account, and the import of a catalogue."""

from server.commands.demo.canvas import ACCENT, ACCENT_DARK, BAD, GOOD, INK, MUTED, WARM, Canvas
from server.commands.demo.parts import button, field, header, money, photo_of, text_block
from server.commands.demo.products import PRODUCTS


def signin(canvas: Canvas, filled: int = 0, fault: str = "", title: str = "Welcome back") -> None:
    header(canvas)
    canvas.paste(photo_of(9, 600, 704), (0, 96))
    canvas.card((690, 170, 480, 500), 18, 14)
    canvas.text((738, 240), title, 30, bold=True)
    canvas.text((738, 270), "Sign in to see your orders and wish list.", 14.5, MUTED)
    for i, (name, value) in enumerate((("E-mail", "maria.olsen@example.org"), ("Password", "************"))):
        canvas.text((738, 320 + i * 88), name, 13, MUTED)
        field(canvas, (738, 328 + i * 88, 384, 46), value if filled > i else "", bad=bool(fault))
        canvas.areas[name] = (738, 328 + i * 88, 384, 46)
    canvas.text((738, 490), fault or "Forgotten your password?", 14, BAD if fault else ACCENT)
    canvas.areas["message"] = (730, 472, 392, 28)
    button(canvas, (738, 516, 384, 50), "Sign in", "submit")
    canvas.text((930, 610), "New here?  Create an account", 14, MUTED, anchor="ms")


def account(canvas: Canvas, tab: str, rows: int = 3, state: str = "") -> None:
    header(canvas, person="Maria")
    canvas.text((40, 150), f"My account: {tab.lower()}", 28, bold=True)
    canvas.card((40, 178, 230, 300), 12, 7)
    for i, name in enumerate(("Orders", "Returns", "Wish list", "Addresses", "Gift cards")):
        if name == tab:
            canvas.box((52, 194 + i * 54, 206, 44), "#e7f2f0", 10)
        canvas.text((72, 222 + i * 54), name, 15, ACCENT_DARK if name == tab else MUTED, bold=name == tab)
        canvas.areas[name] = (52, 194 + i * 54, 206, 44)
    for i in range(rows):
        y, index = 178 + i * 122, (i * 5 + len(tab)) % len(PRODUCTS)
        canvas.card((300, y, 940, 106), 12, 7)
        canvas.paste(photo_of(index, 106, 106), (300, y), 12)
        canvas.text((430, y + 42), PRODUCTS[index].label, 17, bold=True)
        canvas.text((430, y + 68), f"Order {48211 - i * 317}   -   {12 - i} November", 13.5, MUTED)
        word, colour = (state, WARM) if state and i == 0 else ("delivered", GOOD)
        canvas.box((800, y + 36, 130, 34), "#f3efe7", 17)
        canvas.text((865, y + 58), word, 13.5, colour, anchor="ms")
        canvas.text((1060, y + 60), money(PRODUCTS[index].cents), 16, INK, True, "rs")
        button(
            canvas, (1090, y + 32, 126, 42), "Return" if tab in ("Orders", "Returns") else "Open", f"row{i}", plain=True
        )
    if not rows:
        text_block(canvas, (640, 320), ["Nothing here yet."], 19)


def imports(canvas: Canvas, row: int, faults: int = 0) -> None:
    """The page on which the shop's people import a supplier's catalogue."""
    header(canvas, person="Maria")
    canvas.text((40, 150), "Import a catalogue", 28, bold=True)
    canvas.text((40, 178), f"supplier-autumn.csv   -   row {row:,} of 1,990", 14.5, MUTED)
    canvas.box((40, 196, 1200, 12), "#e4e1da", 6)
    canvas.gradient((40, 196, max(14, 1200 * row / 1990), 12), "#17998d", ACCENT, 6, across=True)
    canvas.card((40, 228, 1200, 540), 12, 8)
    for i in range(9):
        number, y = row - 8 + i, 262 + i * 56
        if number < 1:
            continue
        bad = bool(faults) and i == 8
        if bad:
            canvas.box((48, y - 22, 1184, 50), "#fdeaea", 8)
            canvas.areas["row"] = (48, y - 22, 1184, 50)
        canvas.text((72, y + 8), f"{number:,}", 14, MUTED)
        canvas.paste(photo_of(number, 40, 40), (140, y - 16), 8)
        canvas.text((204, y + 8), PRODUCTS[number % 24].label, 15)
        canvas.text((560, y + 8), f"HS-{10000 + number * 7}", 14, MUTED)
        canvas.text((860, y + 8), "" if bad else money(PRODUCTS[number % 24].cents), 15, anchor="rs")
        canvas.text((1200, y + 8), "no price" if bad else "imported", 14, BAD if bad else GOOD, anchor="rs")
