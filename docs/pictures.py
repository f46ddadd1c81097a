"""`make pictures`: the screenshots of README. Fills a new server with the demo, and opens its pages in Chromium."""

import asyncio
import base64
import io
import json
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from tests.chromium import Browser, Tab, connected, launched, until
from tests.up_server import CHECKOUT, ENVIRONMENT, REPORTD, UpServer, running

FOLDER = Path(__file__).parent / "pictures"
API = "/api/v1/reports"
MAX_SIZE = 150 << 10  # bytes of a picture
COLOURS = (256, 128, 64, 32)  # the first number of colours whose file is small enough


@dataclass(frozen=True)
class Picture:
    """A file, the address of what it shows, and the theme."""

    name: str
    address: str
    theme: str = "light"
    width: int = 1280
    height: int = 800


def pictures(server: UpServer) -> Iterator[Picture]:
    """The pages worth showing: those of the newest finished run of the demo's shop."""
    runs = server.ask_json("GET", f"{API}/suite-runs?name=checkout&branch=main&status=Failed&limit=50")["items"]
    run = max(runs, key=lambda run: (run["test_counts"]["failed"], run["started_at"]))
    cases = server.ask_json("GET", f"{API}/suite-runs/{run['id']}/test-cases?status=Failed&per_page=100")["items"]
    case = next(case for case in cases if case["name"] == "pays by card")
    yield Picture("first-page", "/?project=shop")
    yield Picture("run", f"/runs/{run['id']}")
    yield Picture("result", f"/results/{case['id']}")
    yield Picture("result-dark", f"/results/{case['id']}?view=side", "dark")


async def sign_in(browser: Browser, server: UpServer) -> Tab:
    """A tab with the session of the admin's token."""
    tab = await browser.open(f"{server.url}/sign-in")
    loaded = len(tab.events_named("Page.frameStoppedLoading"))
    form = 'form = document.querySelectorAll("form")[1]'
    await tab.evaluate(f"{form}; form.token.value = {json.dumps(server.token)}; form.querySelector('button').click()")
    await until(lambda: len(tab.events_named("Page.frameStoppedLoading")) > loaded, lambda: "signing in")
    return tab


async def shoot(tab: Tab, server: UpServer, picture: Picture) -> bytes:
    """The page as a PNG."""
    size = {"width": picture.width, "height": picture.height, "deviceScaleFactor": 1, "mobile": picture.width < 600}
    await tab.command("Emulation.setDeviceMetricsOverride", **size)
    await tab.command("Emulation.setScrollbarsHidden", hidden=True)
    scheme = {"name": "prefers-color-scheme", "value": picture.theme}
    await tab.command("Emulation.setEmulatedMedia", features=[scheme])
    for _ in range(3):  # thumbnails are made at the first request, and may come a little later
        await tab.navigate(server.url + picture.address)
        await asyncio.sleep(2)
    shot = await tab.command("Page.captureScreenshot", format="png")
    return base64.b64decode(shot["data"])


def small(png: bytes) -> bytes:
    """The picture with as many colours as MAX_SIZE allows."""
    image = Image.open(io.BytesIO(png)).convert("RGB")
    for colours in COLOURS:
        file = io.BytesIO()
        image.quantize(colours, dither=Image.Dither.NONE).save(file, "PNG", optimize=True)
        if file.tell() <= MAX_SIZE:
            break
    return file.getvalue()


async def take(server: UpServer, devtools: str) -> None:
    FOLDER.mkdir(exist_ok=True)
    async with connected(devtools) as browser:
        tab = await sign_in(browser, server)
        for picture in pictures(server):
            file = FOLDER / f"{picture.name}.png"
            file.write_bytes(small(await shoot(tab, server, picture)))
            print(f"{file.relative_to(Path.cwd())}: {file.stat().st_size >> 10} KiB")


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        data, profile = Path(folder) / "data", Path(folder) / "chromium"
        profile.mkdir()
        with running(data) as server, launched(profile) as devtools:
            print("Sending the demo takes a minute or two.", flush=True)
            demo = [*REPORTD, "demo", "--data", str(data)]
            subprocess.run(demo, cwd=CHECKOUT, env=ENVIRONMENT, check=True)  # noqa: S603
            asyncio.run(take(server, devtools))


if __name__ == "__main__":
    main()
