"""What a picture of the demo shows."""

from typing import NamedTuple


class Scene(NamedTuple):
    """Equal scenes are equal bytes. `given` are the arguments of the page's function. `mark` is the area that a step
    acted on. `over` lies on top: cookies, toast:TEXT, dialog:TITLE|TEXT, busy:TEXT, and on a phone sheet:TITLE|TEXT,
    offline.
    """

    page: str
    given: tuple[int | str, ...] = ()
    over: str = ""
    mark: str = ""
