"""Which images of a step the page shows, and in which mode."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

# Modes that show two images at once, and what they are called.
PAIRS = {"side": "Side by side", "slider": "Slider", "difference": "Difference"}
# The mode that shows all images of a step, in the order in which they were made.
ALL = "all"
_ROLES = {"error": "Error", "after": "After", "before": "Before", "checkpoint": "Checkpoint"}
_IN_TIME = ("before", "after", "checkpoint", "error")
# Which image a mode for two shows on the left, unless the address names one.
_LEFT = {"before": 0, "previous": 1, "green": 2}


@dataclass(frozen=True, slots=True)
class Image:
    """An image of the stage. `role` names it in the address: `view=before`."""

    role: str
    label: str
    file: Any  # reports.panels.File


@dataclass(frozen=True, slots=True)
class Mode:
    """A tab. `beside`: the image that a mode for two shows on the left; empty for the default."""

    view: str
    label: str
    chosen: bool
    beside: str = ""


@dataclass(frozen=True, slots=True)
class Stage:
    """What the stage shows: one image, two (`other` is the older one, on the left), or a `series`. `others`: the images
    that may take the place of the older one. `no_green`: the address asks for the image of the last green, which has
    none of this step."""

    modes: Sequence[Mode] = ()
    view: str = ""
    image: Image | None = None
    other: Image | None = None
    others: Sequence[Image] = ()
    series: Sequence[Image] = ()
    no_green: bool = False

    @property
    def identical(self) -> bool:
        """Whether both files have the same bytes."""
        return bool(self.image and self.other and self.image.file.checksum == self.other.file.checksum)


def stage(panel: Any, view: str | None, beside: str | None, green: Any = None, series: bool = False) -> Stage:
    """The stage of a step. `view`: the mode in the address. `beside`: the role of the image that a mode for two shows
    on the left. `green`: a reports.greens.Green, if there is one. What does not exist is replaced by the default: the
    first image, or with `series` all of them."""
    images = _images(panel)
    if not images:
        return Stage()
    left = [*images[1:], *_before(panel, images)]
    if green is not None and green.image is not None:
        left.append(Image("green", "Last green", green.image))
    with_green = green is not None and beside == "green"
    names = {each.role: each.label for each in images} | (PAIRS if left else {})
    if len(images) > (1 if series else 2):
        names[ALL] = "All"
    default = ALL if series and ALL in names else next(iter(names))
    shown = view if view in names else "side" if with_green and left else default
    other = next((each for each in left if each.role == beside), None) or min(left, key=_rank, default=None)
    modes = [Mode(name, label, name == shown, "green" if with_green else "") for name, label in names.items()]
    if green is not None:
        modes = [
            each if each.view != "side" else Mode("side", each.label, each.chosen and not with_green) for each in modes
        ]
        modes.append(Mode("side", "Last green", with_green and shown == "side", "green"))
    missing = with_green and green.image is None
    if shown in PAIRS:
        return Stage(modes, shown, images[0], other, left, no_green=missing)
    if shown == ALL:
        return Stage(modes, shown, images[0], series=sorted(images, key=_moment), no_green=missing)
    return Stage(modes, shown, next(each for each in images if each.role == shown), no_green=missing)


def _rank(image: Image) -> int:
    return _LEFT.get(image.role, len(_LEFT))


def _moment(image: Image) -> int:
    return _IN_TIME.index(image.role.partition("-")[0])


def _images(panel: Any) -> Sequence[Image]:
    """The step's own images, its screenshot first."""
    step, found = panel.step, dict[str, Image]()
    own = [file for file in panel.files if file.is_image and file.id != panel.around.image_before]
    first = panel.file(step.screenshot)
    if first is not None and first.is_image:
        own = [first, *(file for file in own if file.id != first.id)]
    for file in own:
        if file.type != "screenshot" and file is not first:
            continue
        role = file.category or ("error" if step.status == "Failed" else "after")
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
