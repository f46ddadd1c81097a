"""The program of the thumbnail process: decodes the images that its server sends, one at a time, under limits.

A hostile image can stop, fill or take over a decoder. So this is a process of its own: it has no settings, no database
connection and no open file but the image, may neither write files nor start programs, and is ended by limits of the
kernel. pool.py starts it as a script and talks to it through a socket, its standard input.

A request is a descriptor of the image's file and REQUEST: the width and the largest height of the thumbnail, in pixels.
The reply is REPLY, then as many bytes as it says: a WebP image, or the reason why there is none as text.
"""

import contextlib
import ctypes
import io
import math
import os
import resource
import signal
import socket
import struct
import sys
import time
import warnings
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:  # the server imports this module, and must not load Pillow
    from PIL import Image as Pillow

REQUEST = struct.Struct("!HH")
REPLY = struct.Struct("!?I")  # whether there is a thumbnail, and the length of what follows in bytes
MAX_PIXELS = 50_000_000
MAX_MEMORY = 512 << 20  # bytes of address space
MAX_SECONDS = 10  # of processor time for one image

_FORMATS = ("PNG", "JPEG", "GIF", "WEBP")
_QUALITY = 75
_GAP = 2  # an image is reduced by averaging to this multiple of the thumbnail, then filtered: a third of the time
_ORIENTATION = 0x0112  # the EXIF tag
_ALLOWED_FILES = 16
_PR_SET_PDEATHSIG = 1


def main(cores: str) -> None:
    """Serve requests until the server closes the socket. `cores`: the numbers of those to run on, with commas."""
    connection = socket.socket(fileno=sys.stdin.fileno())
    _step_back({int(core) for core in cores.split(",")})
    _load_decoders()
    _limit()
    while True:
        request, descriptors, _, _ = socket.recv_fds(connection, REQUEST.size, 1)
        if not descriptors or len(request) < REQUEST.size:
            return
        _limit_seconds()
        with open(descriptors[0], "rb") as file:
            made, body = _attempt(file, *REQUEST.unpack(request))
        connection.sendall(REPLY.pack(made, len(body)) + body)


def _attempt(file: BinaryIO, width: int, most_height: int) -> tuple[bool, bytes]:
    try:
        file.seek(0)  # the server shares its offset, and may have sent the file to another process before
        return True, thumbnail(file, width, most_height)
    except Exception as error:  # decoders raise what they like
        return False, f"{type(error).__name__}: {error}"[:200].encode(errors="replace")


def thumbnail(file: BinaryIO, width: int, most_height: int) -> bytes:
    """WebP of the first frame, turned as EXIF says, at most `width` wide: never enlarged, cut off at `most_height`.

    Raises what Pillow raises for images that it cannot decode, and for those above MAX_PIXELS.
    """
    from PIL import Image

    turns = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_270,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_90,
    }
    with Image.open(file, formats=_FORMATS) as image:
        orientation = image.getexif().get(_ORIENTATION)
        across = image.height if orientation in (5, 6, 7, 8) else image.width
        scale = min(1.0, width / across)
        size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
        image.draft(image.mode, (_GAP * size[0], _GAP * size[1]))  # only JPEG: decodes a smaller image
        # `reduce` first, also where `resize` could: it skips that for images with an alpha channel.
        factor = max(1, min(math.floor(image.width / size[0] / _GAP), math.floor(image.height / size[1] / _GAP)))
        small = _averageable(image)
        small = small.reduce(factor) if factor > 1 else small.copy()
    small = small.convert("RGBA" if small.has_transparency_data else "RGB")
    small = small.resize(size, Image.Resampling.LANCZOS) if small.size != size else small
    if orientation in turns:
        small = small.transpose(turns[orientation])
    made = io.BytesIO()
    small.crop((0, 0, small.width, min(small.height, most_height))).save(made, "WEBP", quality=_QUALITY)
    return made.getvalue()


def _averageable(image: "Pillow.Image") -> "Pillow.Image":
    """The first frame in a mode whose pixels can be averaged. Not a copy, where that is possible: two copies of 50
    megapixels with an alpha channel would take more than MAX_MEMORY."""
    if image.mode.startswith("I"):  # 16 bits of grey: `convert` would cut off what is above 255
        return image.convert("I").point(lambda value: value * (1 / 257)).convert("L")
    if image.mode in ("L", "LA", "RGB", "RGBA", "CMYK"):
        return image
    return image.convert("RGBA" if image.has_transparency_data else "RGB")


def _step_back(cores: set[int]) -> None:
    """Let the server go first, and end with it. What the system does not allow is left out: these are no limits."""
    libc = ctypes.CDLL(None)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)  # also in the middle of an image, when a closed socket is not seen
    for attempt in (
        lambda: os.sched_setaffinity(0, cores),  # a server may be bound to one core, which it then has for itself
        lambda: os.nice(10),
        lambda: _write("/proc/self/oom_score_adj", "1000"),  # of all processes, this one is the least loss
    ):
        with contextlib.suppress(OSError):
            attempt()


def _write(path: str, text: str) -> None:
    with open(path, "w", encoding="ascii") as file:
        file.write(text)


def _load_decoders() -> None:
    """Import the decoders before the limits, and turn the warning about large images into an error."""
    from PIL import GifImagePlugin, Image, JpegImagePlugin, PngImagePlugin, WebPImagePlugin

    assert GifImagePlugin and JpegImagePlugin and PngImagePlugin and WebPImagePlugin  # noqa: S101 - they register
    Image.MAX_IMAGE_PIXELS = MAX_PIXELS
    warnings.simplefilter("error", Image.DecompressionBombWarning)


def _limit() -> None:
    """Raises OSError or ValueError where the kernel refuses: nothing is decoded without limits."""
    for kind, most in (
        (resource.RLIMIT_AS, MAX_MEMORY),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NOFILE, _ALLOWED_FILES),
        (resource.RLIMIT_NPROC, 0),
    ):
        _, hard = resource.getrlimit(kind)
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(kind, (most, most))


def _limit_seconds() -> None:
    """The kernel counts the processor time of the whole process, so the limit is raised for each image."""
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    soft = math.ceil(time.process_time()) + MAX_SECONDS
    resource.setrlimit(resource.RLIMIT_CPU, (soft if hard == resource.RLIM_INFINITY else min(soft, hard), hard))


if __name__ == "__main__":
    main(sys.argv[1])
