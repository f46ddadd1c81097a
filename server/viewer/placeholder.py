"""What is shown where a file has no thumbnail: a drawing of a sheet with the name of its format."""

from html import escape

_NAMES = {
    "application/gzip": "GZIP",
    "application/json": "JSON",
    "application/pdf": "PDF",
    "application/zip": "ZIP",
    "image/gif": "GIF",
    "image/jpeg": "JPEG",
    "image/png": "PNG",
    "image/webp": "WebP",
    "text/html": "HTML",
    "text/plain": "Text",
    "video/mp4": "MP4",
    "video/quicktime": "MOV",
    "video/webm": "WebM",
    "video/x-matroska": "MKV",
}
# Light like most screenshots, also on dark pages. No `style`: the server's Content-Security-Policy forbids it.
_DRAWING = """\
<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 320 200">
<title>{name}: {reason}</title>
<rect width="320" height="200" fill="#e4e4e4"/>
<path d="M132 40h40l16 16v60h-56z M172 40v16h16" fill="none" stroke="#555555" stroke-width="3"/>
<g fill="#555555" font-family="sans-serif" text-anchor="middle">
<text x="160" y="96" font-size="16">{name}</text>
<text x="160" y="152" font-size="15">{reason}</text>
</g>
</svg>
"""


def is_image(mime_type: str) -> bool:
    """Whether files of this type can have a thumbnail."""
    return mime_type in {"image/gif", "image/jpeg", "image/png", "image/webp"}


def drawing(mime_type: str, width: int, reason: str) -> bytes:
    """SVG, `width` pixels wide. `reason`: a few words."""
    name = _NAMES.get(mime_type, "File")
    values = {"name": escape(name), "reason": escape(reason), "width": width, "height": width * 5 // 8}
    return _DRAWING.format_map(values).encode()
