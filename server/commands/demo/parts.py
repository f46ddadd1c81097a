"""Parts that the demo's pages share: buttons, fields, prices, stars, photos, the header and an article's tile."""

from PIL import Image

from server.commands.demo.canvas import ACCENT, ACCENT_DARK, BAD, FAINT, INK, LINE, MUTED, PAPER, SCALE, Box, Canvas
from server.commands.demo.products import PRODUCTS, photo


def money(cents: int) -> str:
    return f"EUR {cents // 100:,}.{cents % 100:02d}"


WIDTH, HEIGHT = 1280, 800  # of the browser's window


def photo_of(index: int, width: float, height: float) -> Image.Image:
    return photo(index % len(PRODUCTS), round(width * SCALE), round(height * SCALE))


def button(
    canvas: Canvas, area: Box, label: str, name: str, plain: bool = False, off: bool = False, busy: bool = False
) -> None:
    """`name` is the area's name for marks; `off`: it cannot be clicked."""
    x, y, width, height = area
    radius = min(12, height / 2)
    if off:
        canvas.box(area, "#d9d6cf", radius)
    elif plain:
        canvas.box(area, PAPER, radius, "#cfd8d6", 1.5)
    else:
        canvas.gradient(area, "#14877d", ACCENT_DARK, radius)
    colour = "#8d9299" if off else ACCENT_DARK if plain else "#ffffff"
    size = 15 if height < 50 else 17
    canvas.text((x + width / 2, y + height / 2 + size * 0.35), label, size, colour, not plain, "ms")
    if busy:
        canvas.dots((x + width - 44, y + height / 2), 3, "#8d9299", 3)
    canvas.areas[name] = area


def field(canvas: Canvas, area: Box, value: str, bad: bool = False) -> None:
    x, y, _, height = area
    canvas.box(area, "#fdf3f3" if bad else PAPER, 9, BAD if bad else LINE, 1.5)
    canvas.text((x + 14, y + height / 2 + 5), value, 14.5, INK)


def rating(canvas: Canvas, at: tuple[float, float], seed: int, radius: float = 5) -> None:
    full = 3 + seed % 3
    for i in range(5):
        canvas.star((at[0] + i * radius * 2.5, at[1]), radius, "#e0a02f" if i < full else "#e2ddd2")


def text_block(canvas: Canvas, at: tuple[float, float], lines: list[str], size: float, colour: str = INK) -> None:
    for i, line in enumerate(lines):
        canvas.text((at[0], at[1] + i * size * 1.55), line, size, colour)


def pill(canvas: Canvas, area: Box, label: str, chosen: bool) -> None:
    x, y, width, height = area
    canvas.box(area, ACCENT if chosen else PAPER, height / 2, ACCENT if chosen else LINE, 1)
    canvas.text((x + width / 2, y + height / 2 + 5), label, 13, "#ffffff" if chosen else FAINT, chosen, "ms")


def header(canvas: Canvas, basket: int = 0, query: str = "", person: str = "Sign in") -> None:
    canvas.box((0, 0, WIDTH, 30), ACCENT_DARK)
    canvas.text((WIDTH / 2, 20), "Free delivery from EUR 60   -   30 days to return", 12, "#d9ece9", anchor="ms")
    canvas.box((0, 30, WIDTH, 66), PAPER)
    canvas.box((0, 95, WIDTH, 1), LINE)
    canvas.gradient((40, 48, 30, 30), "#17998d", ACCENT_DARK, 9)
    canvas.disc((55, 63), 7, "#fdf3dc")
    canvas.text((80, 71), "Hearthside", 22, INK, bold=True)
    canvas.areas["search"] = (330, 46, 470, 36)
    canvas.box((330, 46, 470, 36), "#f3f1ec", 18)
    canvas.disc((352, 63), 6, "#f3f1ec", MUTED)
    canvas.line([(356, 68), (361, 73)], MUTED, 1.5)
    canvas.text((374, 69), query or "Search mugs, lamps, blankets", 14, INK if query else FAINT)
    canvas.text((900, 69), "Inspiration", 14, MUTED)
    canvas.text((1005, 69), person, 14, INK)
    canvas.areas["account"] = (995, 50, 90, 28)
    button(canvas, (1130, 46, 110, 36), f"Basket  {basket}" if basket else "Basket", "basket", plain=not basket)


def tile(canvas: Canvas, index: int, area: Box, name: str) -> None:
    x, y, width, height = area
    canvas.card(area, 12, 8)
    canvas.paste(photo_of(index, width, height - 84), (x, y), 12)
    canvas.box((x, y + height - 96, width, 14), PAPER)
    product = PRODUCTS[index % len(PRODUCTS)]
    canvas.text((x + 14, y + height - 62), product.label, 14.5, bold=True)
    rating(canvas, (x + 20, y + height - 44), index)
    canvas.text((x + 14, y + height - 16), money(product.cents), 16, ACCENT_DARK, bold=True)
    canvas.disc((x + width - 28, y + height - 26), 14, "#e7f2f0")
    canvas.text((x + width - 28, y + height - 20), "+", 19, ACCENT, anchor="ms")
    canvas.areas[name] = area
