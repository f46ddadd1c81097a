"""A canvas for pictures that look like screenshots: drawn at twice the size, then reduced, so that edges are smooth.

All measures are in pixels of the finished picture. The same calls give the same bytes.
"""

import io
from functools import lru_cache

from PIL import Image, ImageColor, ImageDraw, ImageFilter, ImageFont

SCALE = 2
Colour = str
Box = tuple[float, float, float, float]  # x, y, width, height

INK, MUTED, FAINT, LINE, PAPER, WALL = "#1f2933", "#66727f", "#9aa5b1", "#e4e1da", "#ffffff", "#f7f4ee"
ACCENT, ACCENT_DARK, WARM, GOOD, BAD = "#0f766e", "#0b5750", "#c2621b", "#2f7d32", "#c62828"


class Canvas:
    def __init__(self, width: int, height: int, background: Colour = WALL) -> None:
        self.width, self.height = width, height
        self.image = Image.new("RGB", (width * SCALE, height * SCALE), background)
        self.draw = ImageDraw.Draw(self.image)
        self.areas: dict[str, Box] = {}  # by name, where something can be clicked

    def box(
        self, area: Box, fill: Colour | None, radius: float = 0, outline: Colour | None = None, width: float = 1
    ) -> None:
        pixels = round(width * SCALE)
        self.draw.rounded_rectangle(_corners(area), radius * SCALE, fill, outline, pixels if outline else 0)

    def card(self, area: Box, radius: float = 12, depth: float = 10, fill: Colour = PAPER) -> None:
        """A rounded box with a soft shadow below it."""
        x, y, width, height = area
        spread = int(depth * 2.5)
        mask = _shadow(int(width), int(height), int(radius), int(depth))
        place = round((x - spread) * SCALE), round((y - spread + depth * 0.4) * SCALE)
        self.image.paste(ImageColor.getrgb("#4a3f35"), place, mask)
        self.box(area, fill, radius)

    def gradient(self, area: Box, first: Colour, last: Colour, radius: float = 0, across: bool = False) -> None:
        """Fill a box from the top (or left) colour to the bottom (or right) one."""
        left, top, right, bottom = _corners(area)
        size = right - left + 1, bottom - top + 1
        self.image.paste(blend(size, first, last, across), (left, top), _rounded(size, round(radius * SCALE)))

    def text(
        self,
        at: tuple[float, float],
        text: str,
        size: float = 15,
        colour: Colour = INK,
        bold: bool = False,
        anchor: str = "ls",
    ) -> float:
        """Write one line; `at` is the start of its base line. Returns the width."""
        face = font(size)
        stroke = size / 22 * SCALE / 2 if bold else 0
        self.draw.text((at[0] * SCALE, at[1] * SCALE), text, colour, face, anchor, stroke_width=stroke)
        return float(face.getlength(text)) / SCALE

    def dots(self, at: tuple[float, float], count: int, colour: Colour, radius: float = 3, gap: float = 10) -> None:
        for i in range(count):
            self.disc((at[0] + i * gap, at[1]), radius, colour)

    def disc(self, centre: tuple[float, float], radius: float, fill: Colour, outline: Colour | None = None) -> None:
        x, y, reach = centre[0] * SCALE, centre[1] * SCALE, radius * SCALE
        self.draw.ellipse((x - reach, y - reach, x + reach, y + reach), fill, outline, SCALE if outline else 0)

    def line(self, points: list[tuple[float, float]], colour: Colour, width: float = 1) -> None:
        self.draw.line([(x * SCALE, y * SCALE) for x, y in points], colour, max(1, round(width * SCALE)), "curve")

    def star(self, at: tuple[float, float], radius: float, colour: Colour) -> None:
        points = [(0, -1), (0.23, -0.32), (0.95, -0.31), (0.38, 0.12), (0.59, 0.81)]
        mirrored = [*points, (0, 0.4), *[(-x, y) for x, y in reversed(points)][:-1]]
        self.draw.polygon([((at[0] + x * radius) * SCALE, (at[1] + y * radius) * SCALE) for x, y in mirrored], colour)

    def paste(self, picture: Image.Image, at: tuple[float, float], radius: float = 0) -> None:
        """Put in a picture that was drawn at SCALE."""
        place = round(at[0] * SCALE), round(at[1] * SCALE)
        self.image.paste(picture, place, _rounded(picture.size, round(radius * SCALE)))

    def dim(self, strength: float = 0.45) -> None:
        """Darken everything that is drawn so far, as below a dialog."""
        self.image = Image.blend(self.image, Image.new("RGB", self.image.size, "#1b2430"), strength)
        self.draw = ImageDraw.Draw(self.image)

    def mark(self, name: str) -> None:
        """A red outline around an area; nothing when the picture has no such area."""
        if name in self.areas:
            x, y, width, height = self.areas[name]
            self.box((x - 4, y - 4, width + 8, height + 8), None, 8, "#e11d48", 2.5)

    def png(self) -> bytes:
        stream = io.BytesIO()
        self.image.reduce(SCALE).save(stream, "PNG", compress_level=6)
        return stream.getvalue()


@lru_cache(maxsize=64)
def font(size: float) -> ImageFont.FreeTypeFont:
    """Pillow's built-in font, which has little beyond ASCII: no euro sign, no umlauts."""
    face = ImageFont.load_default(size * SCALE)
    if not isinstance(face, ImageFont.FreeTypeFont):
        raise RuntimeError("Pillow was built without FreeType, which draws the text of the demo's pictures.")
    return face


def blend(size: tuple[int, int], first: Colour, last: Colour, across: bool = False) -> Image.Image:
    """A picture of `size` that goes from one colour to another, down or `across`."""
    ramp = _ramp(size[0] if across else size[1], first, last)
    return (ramp.transpose(Image.Transpose.ROTATE_90) if across else ramp).resize(size)


@lru_cache(maxsize=256)
def _ramp(length: int, first: Colour, last: Colour) -> Image.Image:
    start, end = ImageColor.getrgb(first)[:3], ImageColor.getrgb(last)[:3]
    ramp = Image.new("RGB", (1, length))
    steps = max(1, length - 1)
    ramp.putdata(
        [tuple(round(a + (b - a) * i / steps) for a, b in zip(start, end, strict=True)) for i in range(length)]
    )
    return ramp


def mix(first: Colour, last: Colour, share: float) -> Colour:
    """The colour that lies `share` (0 to 1) of the way from `first` to `last`."""
    pairs = zip(ImageColor.getrgb(first)[:3], ImageColor.getrgb(last)[:3], strict=True)
    return "#" + "".join(f"{round(a + (b - a) * share):02x}" for a, b in pairs)


@lru_cache(maxsize=128)
def _rounded(size: tuple[int, int], radius: int) -> Image.Image:
    mask = Image.new("L", size, 0)
    ImageDraw.Draw(mask).rounded_rectangle((0, 0, size[0] - 1, size[1] - 1), radius, 255)
    return mask


@lru_cache(maxsize=128)
def _shadow(width: int, height: int, radius: int, depth: int) -> Image.Image:
    """Blurred at half of the finished size, because a blur of the drawing's size takes sixteen times as long."""
    spread = int(depth * 2.5)
    small = Image.new("L", ((width + 2 * spread) // 2, (height + 2 * spread) // 2), 0)
    corners = spread // 2, spread // 2, (spread + width) // 2, (spread + height) // 2
    ImageDraw.Draw(small).rounded_rectangle(corners, radius / 2, 52)
    blurred = small.filter(ImageFilter.GaussianBlur(depth / 2))
    size = (width + 2 * spread) * SCALE, (height + 2 * spread) * SCALE
    return blurred.resize(size, Image.Resampling.BILINEAR)


def _corners(area: Box) -> tuple[int, int, int, int]:
    x, y, width, height = area
    return round(x * SCALE), round(y * SCALE), round((x + width) * SCALE) - 1, round((y + height) * SCALE) - 1
