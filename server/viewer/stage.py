"""Which images of a step the page shows, and in which mode."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

# Modes that show two images at once, and what they are called.
PAIRS = {"side": "Side by side", "slider": "Slider", "difference": "Difference"}
_ROLES = {"error": "Error", "after": "After", "before": "Before", "checkpoint": "Checkpoint"}


@dataclass(frozen=True, slots=True)
class Image:
    """An image of the stage. `role` names it in the address: `view=before`."""

    role: str
    label: str
    file: Any  # reports.results.File


@dataclass(frozen=True, slots=True)
class Mode:
    view: str
    label: str
    chosen: bool


@dataclass(frozen=True, slots=True)
class Stage:
    """What the stage shows: one image, or two (`other` is the older one, on the left). `others`: the images that may
    take its place."""

    view: str
    modes: list[Mode]
    image: Image | None
    other: Image | None = None
    others: tuple[Image, ...] = ()

    @property
    def identical(self) -> bool:
        """Whether both files have the same bytes."""
        return bool(self.image and self.other and self.image.file.checksum == self.other.file.checksum)


def stage(panel: Any, view: str | None, beside: str | None, green: Any = None) -> Stage:
    """The stage of a step. `view`: the mode in the address. `beside`: the role of the image that a mode for two shows
    on the left. `green`: the same step's image in last green. What does not exist is replaced by the default."""
    images = _images(panel)
    left = [each for each in (*images[1:], *_before(panel, images)) if images]
    if images and green is not None:
        left.append(Image("green", "Last green", green))
    names = {each.role: each.label for each in images} | (PAIRS if left else {})
    shown = view if view in names else next(iter(names), "")
    modes = [Mode(name, label, name == shown) for name, label in names.items()]
    if not images:
        return Stage("", [], None)
    if shown in PAIRS:
        order = {"before": 0, "previous": 1, "green": 2}
        other = next((each for each in left if each.role == beside), None)
        other = other or min(left, key=lambda each: order.get(each.role, 3))
        return Stage(shown, modes, images[0], other, tuple(left))
    return Stage(shown, modes, next(each for each in images if each.role == shown))


def _images(panel: Any) -> Sequence[Image]:
    """The step's own images, its screenshot first."""
    step, found = panel.step, dict[str, Image]()
    own = [file for file in panel.files if file.is_image and file.id != panel.around.image_before]
    first = panel.file(step.screenshot)
    if first is not None and first.is_image:
        own = [first, *(file for file in own if file.id != first.id)]
    for file in own:
        role = file.category or ("error" if step.status == "Failed" else "after")
        if file.type != "screenshot" and file is not first:
            continue
        number = sum(known.partition("-")[0] == role for known in found) + 1
        name, label = (role, _ROLES[role]) if number == 1 else (f"{role}-{number}", f"{_ROLES[role]} {number}")
        found[name] = Image(name, label, file)
    return list(found.values())


def _before(panel: Any, images: Sequence[Image]) -> list[Image]:
    """The screenshot of the step before stands for a missing image of before the step."""
    file = panel.file(panel.around.image_before)
    if file is None or not file.is_image or any(each.role == "before" or each.file.id == file.id for each in images):
        return []
    return [Image("previous", "Step before", file)]
