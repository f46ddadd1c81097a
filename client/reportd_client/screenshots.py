"""Takes a picture of whatever a test has at hand. Known by what it can do, so that no browser tool is imported."""

from __future__ import annotations

import os
from typing import Any

SECONDS = 3.0


def image_of(source: Any) -> Any:
    """Image bytes or a path: of bytes, a path, a Playwright page or locator, a Selenium driver or element, or an image
    of Pillow. Raises TypeError, and what the browser raises."""
    if isinstance(source, (bytes, bytearray, memoryview, str, os.PathLike)):
        return source
    if hasattr(source, "get_screenshot_as_png"):
        return source.get_screenshot_as_png()
    if hasattr(source, "screenshot_as_png"):
        return source.screenshot_as_png
    if hasattr(source, "screenshot"):
        image = source.screenshot(timeout=SECONDS * 1000)
        if isinstance(image, bytes):
            return image
        if hasattr(image, "close"):
            image.close()  # a coroutine that nobody will await
        raise TypeError("screenshot() of an asynchronous page: pass the bytes, `await page.screenshot()`")
    raise TypeError(f"screenshot() takes image bytes, a path, a page or a driver, not {type(source).__name__}")
