"""What the thumbnail process makes of images, in this process: sizes, orientation, colours."""

import io

import pytest
from PIL import Image, ImageDraw

from server.thumbs.child import thumbnail
from server.thumbs.pool import is_whole
from tests import makers

FORMATS = {"PNG": "RGB", "JPEG": "RGB", "GIF": "P", "WEBP": "RGB"}
RED, BLUE, GREEN = (220, 20, 20), (20, 20, 220), (20, 200, 20)


def saved(image, kind="PNG", **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def made(data, width=320, most_height=1280):
    """The thumbnail, decoded."""
    found = thumbnail(io.BytesIO(data), width, most_height)
    assert is_whole(found)
    image = Image.open(io.BytesIO(found))
    assert image.format == "WEBP"
    return image


def near(pixel, colour):
    return all(abs(one - other) < 40 for one, other in zip(pixel[:3], colour, strict=True))


def quarters(width, height, mode="RGB"):
    """Red at the top left, blue at the bottom right, green elsewhere."""
    image = Image.new("RGB", (width, height), GREEN)
    ImageDraw.Draw(image).rectangle((0, 0, width // 2, height // 2), RED)
    ImageDraw.Draw(image).rectangle((width // 2, height // 2, width, height), BLUE)
    return image.convert(mode)


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize(
    ("size", "width", "wanted"),
    [
        ((1280, 800), 320, (320, 200)),
        ((1280, 800), 960, (960, 600)),
        ((390, 844), 320, (320, 693)),
        ((390, 844), 960, (390, 844)),
        ((320, 200), 320, (320, 200)),
        ((321, 200), 320, (320, 199)),
        ((7, 5), 320, (7, 5)),
        ((1, 1), 960, (1, 1)),
        ((3000, 1), 320, (320, 1)),
        ((640, 6000), 320, (320, 1280)),
        ((100, 2000), 320, (100, 1280)),
    ],
)
def test_a_thumbnail_has_the_width_and_is_never_enlarged(kind, size, width, wanted):
    image = made(saved(quarters(*size, FORMATS[kind]), kind), width)
    assert image.size == wanted
    if min(size) > 4:
        assert near(image.convert("RGB").getpixel((0, 0)), RED)


def test_of_a_high_page_the_top_is_shown():
    page = Image.new("RGB", (400, 8000), BLUE)
    ImageDraw.Draw(page).rectangle((0, 0, 400, 1500), RED)
    image = made(saved(page)).convert("RGB")
    assert image.size == (320, 1280)
    assert near(image.getpixel((160, 1190)), RED) and near(image.getpixel((160, 1210)), BLUE)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("orientation", range(9))
def test_an_image_is_turned_as_its_exif_says(kind, orientation):
    """0 is not an orientation."""
    turns = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # what turns the upright image into the stored one
    upright = quarters(800, 1200)
    stored = upright.transpose(Image.Transpose(turns[orientation])) if orientation in turns else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = made(saved(stored, kind, exif=exif)).convert("RGB")
    assert image.size == (320, 480)
    assert near(image.getpixel((5, 5)), RED) and near(image.getpixel((314, 474)), BLUE)
    assert near(image.getpixel((314, 5)), GREEN)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_every_kind_of_png_keeps_its_colours(mode):
    if mode == "I;16":
        grey = Image.new(mode, (800, 500), 40_000)
    else:
        grey = Image.new("L", (800, 500), 255 if mode == "1" else 156).convert(mode)
    pixel = made(saved(grey)).convert("RGB").getpixel((100, 100))
    assert near(pixel, (255, 255, 255) if mode == "1" else (156, 156, 156))


def test_jpeg_in_cmyk():
    assert near(made(saved(quarters(800, 500, "CMYK"), "JPEG")).convert("RGB").getpixel((5, 5)), RED)


@pytest.mark.parametrize("mode", ["RGBA", "P", "LA"])
def test_transparency_is_kept(mode):
    clear = Image.new("RGBA", (800, 500), (0, 0, 0, 0))
    ImageDraw.Draw(clear).rectangle((400, 0, 800, 500), (200, 200, 200, 255))
    image = made(saved(clear.quantize(8) if mode == "P" else clear.convert(mode))).convert("RGBA")
    assert image.getpixel((40, 100))[3] < 20 and image.getpixel((280, 100))[3] > 235


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_of_an_animation_the_first_frame_is_shown(kind):
    first, others = Image.new("RGB", (400, 300), RED), [Image.new("RGB", (400, 300), BLUE)] * 3
    data = saved(first, kind, save_all=True, append_images=others, duration=100)
    image = made(data)
    assert getattr(image, "n_frames", 1) == 1 and near(image.convert("RGB").getpixel((9, 9)), RED)


def test_nothing_but_the_picture_is_kept():
    """EXIF may have a place and a camera's number."""
    image = made(makers.jpeg(400, 300, thumbnail=True))
    assert not image.getexif() and "icc_profile" not in image.info


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"x",
        makers.pdf(),
        makers.cut(makers.png(64, 64), 40),
        makers.cut(makers.gif(64, 64, frames=1), 900),
        makers.cut(makers.webp(64, 64), 400),
        saved(Image.new("RGB", (9, 9)), "TIFF"),
        saved(Image.new("RGB", (9, 9)), "BMP"),
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
        makers.blank_png(0, 10),
    ],
    ids=["empty", "text", "PDF", "cut PNG", "cut GIF", "cut WebP", "TIFF", "BMP", "EPS", "no width"],
)
def test_what_is_no_whole_image_of_the_four_formats_has_none(data):
    with pytest.raises(Exception):  # noqa: B017 - decoders raise what they like
        thumbnail(io.BytesIO(data), 320, 1280)
