"""What the demo's shop sells, and a "photo" of each article, drawn from gradients and simple shapes."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

from PIL import Image, ImageDraw, ImageFilter, ImageOps

from server.commands.demo.canvas import blend, mix

Pen = ImageDraw.ImageDraw


@dataclass(frozen=True)
class Product:
    """`name` is what steps say, `label` what pictures show: the font of the pictures has no letters beyond ASCII."""

    name: str
    label: str
    kind: str
    colour: str
    cents: int


PRODUCTS = [
    Product("Stoneware mug", "Stoneware mug", "mug", "#4f7f8c", 1450),
    Product("Teetasse Grün", "Tea cup, green", "mug", "#6f9a63", 1290),
    Product("Enamel mug", "Enamel mug", "mug", "#d8d3c4", 1190),
    Product("湯呑み yunomi cup", "Yunomi cup", "mug", "#8a4b3a", 1999),
    Product("Pasta bowl", "Pasta bowl", "bowl", "#c9744f", 1850),
    Product("وعاء فخار — clay bowl", "Clay bowl", "bowl", "#a86b4c", 2240),
    Product("Teapot Ida", "Teapot Ida", "teapot", "#41657a", 4900),
    Product("Чайник «Волга»", "Teapot Volga", "teapot", "#b6473f", 5650),
    Product("Bud vase", "Bud vase", "vase", "#7d8fb3", 2490),
    Product("Floor vase Åre", "Floor vase", "vase", "#5d6d5a", 8900),
    Product("Table lamp Nook", "Table lamp Nook", "lamp", "#d9a441", 7900),
    Product("Reading lamp", "Reading lamp", "lamp", "#3f4a56", 6450),
    Product("Oak stool", "Oak stool", "stool", "#b98a55", 8900),
    Product("Kitchen stool", "Kitchen stool", "stool", "#5f7f6f", 7450),
    Product("Linen cushion", "Linen cushion", "cushion", "#c7a48b", 3490),
    Product("כרית פסים — striped cushion", "Striped cushion", "cushion", "#39648f", 3290),
    Product("Rubber plant", "Rubber plant", "plant", "#b0643f", 2750),
    Product("Olive tree, small", "Olive tree, small", "plant", "#8d8f8a", 4590),
    Product("Wall clock", "Wall clock", "clock", "#2f3b46", 5490),
    Product("Kitchen timer", "Kitchen timer", "clock", "#b23a3a", 1690),
    Product("Beeswax candle", "Beeswax candle", "candle", "#d7a63c", 990),
    Product("Wool blanket", "Wool blanket", "blanket", "#8b5a6b", 12900),
    Product("Checked blanket", "Checked blanket", "blanket", "#3d6b63", 11450),
    Product("Oak board", "Oak board", "board", "#bd8c53", 3850),
]


@lru_cache(maxsize=96)
def photo(index: int, width: int, height: int) -> Image.Image:
    """The picture of an article, in the pixels of the drawing."""
    product = PRODUCTS[index % len(PRODUCTS)]
    wall = mix("#efe9df", product.colour, 0.12)
    picture = blend((width, height), mix(wall, "#ffffff", 0.5), wall)
    table = blend((width, height - int(height * 0.72)), mix(wall, "#8d7a66", 0.22), mix(wall, "#8d7a66", 0.38))
    picture.paste(table, (0, int(height * 0.72)))
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    ground = Image.new("L", (width // 4, height // 4), 0)
    oval = [(left + side * 0.22) / 4, (top + side * 0.76) / 4, (left + side * 0.8) / 4, (top + side * 0.87) / 4]
    ImageDraw.Draw(ground).ellipse(oval, 120)
    ground = ground.filter(ImageFilter.GaussianBlur(side / 110)).resize((width, height))
    picture.paste(Image.new("RGB", (width, height), mix(wall, "#2c2118", 0.7)), (0, 0), ground)
    _SHAPES[product.kind](_Object(picture, left, top, side), product.colour)
    return picture


class _Object:
    """Draws shapes in a unit square on a picture, each shaded from the left to the right as if it were round."""

    def __init__(self, picture: Image.Image, left: int, top: int, side: int) -> None:
        self._picture, self._left, self._top, self._side = picture, left, top, side

    def shade(self, colour: str, shape: Callable[[Pen, Callable[..., list[float]]], None], flat: bool = False) -> None:
        mask = Image.new("L", self._picture.size, 0)
        shape(ImageDraw.Draw(mask), self._at)
        box = mask.getbbox()
        if box is None:
            return
        size = box[2] - box[0], box[3] - box[1]
        light, dark = mix(colour, "#ffffff", 0.0 if flat else 0.34), mix(colour, "#1a1410", 0.0 if flat else 0.34)
        ramp = Image.linear_gradient("L").transpose(Image.Transpose.ROTATE_90).resize(size)
        self._picture.paste(ImageOps.colorize(ramp, dark, light), box[:2], mask.crop(box))

    def oval(self, colour: str, x: float, y: float, width: float, height: float, flat: bool = False) -> None:
        self.shade(colour, lambda pen, at: pen.ellipse(at(x, y, x + width, y + height), 255), flat)

    def slab(self, colour: str, area: tuple[float, float, float, float], radius: float, flat: bool = False) -> None:
        x, y, width, height = area
        reach = radius * self._side
        self.shade(colour, lambda pen, at: pen.rounded_rectangle(at(x, y, x + width, y + height), reach, 255), flat)

    def polygon(self, colour: str, *corners: float, flat: bool = False) -> None:
        self.shade(colour, lambda pen, at: pen.polygon(at(*corners), 255), flat)

    def arc(self, colour: str, area: tuple[float, float, float, float], start: int, end: int, width: float) -> None:
        x, y, w, h = area
        thick = max(1, int(width * self._side))
        self.shade(colour, lambda pen, at: pen.arc(at(x, y, x + w, y + h), start, end, 255, thick))

    def line(self, colour: str, *corners: float, width: float = 0.02) -> None:
        thick = max(1, int(width * self._side))
        self.shade(colour, lambda pen, at: pen.line(at(*corners), 255, thick, "curve"))

    def _at(self, *numbers: float) -> list[float]:
        offsets = self._left, self._top
        return [offsets[i % 2] + number * self._side for i, number in enumerate(numbers)]


def _mug(thing: _Object, colour: str) -> None:
    thing.arc(mix(colour, "#000000", 0.12), (0.58, 0.42, 0.24, 0.28), 250, 110, 0.045)
    thing.slab(colour, (0.28, 0.33, 0.4, 0.5), 0.07)
    thing.oval(mix(colour, "#ffffff", 0.25), 0.28, 0.28, 0.4, 0.11)
    thing.oval(mix(colour, "#1a1410", 0.55), 0.305, 0.295, 0.35, 0.08)
    thing.slab(mix(colour, "#ffffff", 0.55), (0.28, 0.6, 0.4, 0.035), 0, flat=False)


def _bowl(thing: _Object, colour: str) -> None:
    thing.shade(colour, lambda pen, at: pen.pieslice(at(0.18, 0.22, 0.82, 0.84), 0, 180, 255))
    thing.slab(mix(colour, "#1a1410", 0.2), (0.4, 0.8, 0.2, 0.045), 0.01)
    thing.oval(mix(colour, "#ffffff", 0.3), 0.18, 0.44, 0.64, 0.17)
    thing.oval(mix(colour, "#1a1410", 0.35), 0.205, 0.46, 0.59, 0.13)


def _teapot(thing: _Object, colour: str) -> None:
    thing.arc(mix(colour, "#000000", 0.1), (0.62, 0.42, 0.24, 0.3), 260, 100, 0.04)
    thing.polygon(colour, 0.34, 0.6, 0.14, 0.42, 0.11, 0.46, 0.3, 0.76)
    thing.oval(colour, 0.24, 0.4, 0.5, 0.45)
    thing.oval(mix(colour, "#ffffff", 0.15), 0.35, 0.36, 0.28, 0.1)
    thing.oval(mix(colour, "#1a1410", 0.3), 0.46, 0.3, 0.06, 0.07)


def _vase(thing: _Object, colour: str) -> None:
    for x, y in ((0.36, 0.14), (0.5, 0.08), (0.63, 0.16)):
        thing.line("#6d7c55", 0.49, 0.5, (x + 0.5) / 2, 0.34, x, y + 0.05, width=0.012)
        thing.oval("#d8a0a0" if x < 0.6 else "#e3c07a", x - 0.05, y - 0.02, 0.1, 0.1)
    thing.slab(colour, (0.44, 0.38, 0.11, 0.2), 0.02)
    thing.oval(colour, 0.32, 0.5, 0.35, 0.36)
    thing.oval(mix(colour, "#1a1410", 0.5), 0.45, 0.37, 0.09, 0.03)


def _lamp(thing: _Object, colour: str) -> None:
    thing.oval("#fff3cf", 0.3, 0.44, 0.4, 0.09, flat=True)
    thing.slab("#6b5b4b", (0.485, 0.46, 0.03, 0.36), 0.01)
    thing.oval("#54473a", 0.36, 0.8, 0.28, 0.07)
    thing.polygon(colour, 0.39, 0.16, 0.61, 0.16, 0.74, 0.48, 0.26, 0.48)
    thing.oval(mix(colour, "#ffffff", 0.4), 0.39, 0.14, 0.22, 0.045)


def _stool(thing: _Object, colour: str) -> None:
    dark = mix(colour, "#1a1410", 0.25)
    for left, right in ((0.3, 0.24), (0.7, 0.76), (0.42, 0.4), (0.58, 0.6)):
        thing.line(dark, left, 0.42, right, 0.86, width=0.035)
    thing.line(dark, 0.27, 0.66, 0.73, 0.66, width=0.022)
    thing.slab(mix(colour, "#1a1410", 0.15), (0.22, 0.4, 0.56, 0.06), 0.03)
    thing.oval(colour, 0.22, 0.33, 0.56, 0.14)


def _cushion(thing: _Object, colour: str) -> None:
    thing.slab(colour, (0.22, 0.28, 0.56, 0.54), 0.11)
    for i in range(5):
        thing.slab(mix(colour, "#ffffff", 0.42), (0.29 + i * 0.1, 0.29, 0.018, 0.52), 0.005)
    thing.oval(mix(colour, "#1a1410", 0.35), 0.48, 0.53, 0.04, 0.04)


def _plant(thing: _Object, colour: str) -> None:
    leaves = [(0.5, 0.1), (0.36, 0.2), (0.64, 0.22), (0.26, 0.36), (0.74, 0.38), (0.44, 0.32), (0.57, 0.36)]
    for i, (x, y) in enumerate(leaves):
        thing.line("#5c6b45", 0.5, 0.66, x, y + 0.1, width=0.014)
        thing.oval(mix("#3f7d4e", "#a8c686", i % 3 / 4), x - 0.075, y - 0.03, 0.15, 0.22)
    thing.polygon(colour, 0.34, 0.6, 0.66, 0.6, 0.61, 0.86, 0.39, 0.86)
    thing.slab(mix(colour, "#ffffff", 0.15), (0.32, 0.56, 0.36, 0.07), 0.015)


def _clock(thing: _Object, colour: str) -> None:
    thing.oval(colour, 0.2, 0.18, 0.6, 0.6)
    thing.oval("#fbf8f1", 0.25, 0.23, 0.5, 0.5, flat=True)
    for x, y in ((0.5, 0.27), (0.71, 0.48), (0.5, 0.69), (0.29, 0.48), (0.61, 0.3), (0.39, 0.66)):
        thing.oval(colour, x - 0.012, y - 0.012, 0.024, 0.024, flat=True)
    thing.line(colour, 0.5, 0.48, 0.41, 0.37, width=0.022)
    thing.line(colour, 0.5, 0.48, 0.62, 0.36, width=0.014)
    thing.oval("#c2621b", 0.48, 0.46, 0.04, 0.04, flat=True)


def _candle(thing: _Object, colour: str) -> None:
    thing.oval("#ffe9a8", 0.44, 0.14, 0.12, 0.19, flat=True)
    thing.oval("#f59e32", 0.47, 0.19, 0.06, 0.13, flat=True)
    thing.line("#3b2f26", 0.5, 0.3, 0.5, 0.37, width=0.012)
    thing.slab(colour, (0.38, 0.36, 0.24, 0.48), 0.03)
    thing.oval(mix(colour, "#ffffff", 0.4), 0.38, 0.34, 0.24, 0.06)


def _blanket(thing: _Object, colour: str) -> None:
    for i in range(4):
        shade = mix(colour, "#ffffff", i * 0.12)
        thing.slab(shade, (0.19 + i * 0.012, 0.66 - i * 0.125, 0.62 - i * 0.024, 0.15), 0.07)
        thing.slab(mix(colour, "#f6e7d2", 0.7), (0.25, 0.715 - i * 0.125, 0.5, 0.014), 0.004)
    for i in range(9):
        thing.line(mix(colour, "#1a1410", 0.2), 0.24 + i * 0.065, 0.8, 0.235 + i * 0.067, 0.86, width=0.009)


def _board(thing: _Object, colour: str) -> None:
    thing.slab(colour, (0.3, 0.3, 0.4, 0.56), 0.06)
    thing.slab(colour, (0.44, 0.12, 0.12, 0.24), 0.05)
    for i in range(5):
        thing.slab(mix(colour, "#6b4423", 0.35), (0.34 + i * 0.075, 0.34, 0.008, 0.48 - i % 2 * 0.1), 0.002)
    thing.oval("#efe9df", 0.475, 0.16, 0.05, 0.05, flat=True)


_SHAPES: dict[str, Callable[[_Object, str], None]] = {
    "mug": _mug,
    "bowl": _bowl,
    "teapot": _teapot,
    "vase": _vase,
    "lamp": _lamp,
    "stool": _stool,
    "cushion": _cushion,
    "plant": _plant,
    "clock": _clock,
    "candle": _candle,
    "blanket": _blanket,
    "board": _board,
}
