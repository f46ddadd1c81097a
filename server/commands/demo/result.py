"""A result of the demo, with everything that belongs to it, as the API takes it."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from server.commands.demo.acts import Test
from server.commands.demo.scene import Scene


@dataclass(frozen=True)
class Picture:
    """An image to send. `sent` is false for one that a step only names; a `lost` one is sent, and then removed from the
    disk."""

    file_name: str
    category: str
    step: int
    iteration: int
    scene: Scene
    at: datetime
    sent: bool = True
    lost: bool = False


@dataclass
class Result:
    """A test case result: `fields` is its body in POST …/test-cases/bulk."""

    test: Test
    fields: dict[str, Any]
    steps: list[dict[str, Any]] = field(default_factory=list)
    pictures: list[Picture] = field(default_factory=list)
    checkpoints: list[dict[str, Any]] = field(default_factory=list)
    console: list[dict[str, Any]] = field(default_factory=list)
    network: list[dict[str, Any]] = field(default_factory=list)
    featured: bool = False  # it gets files of every kind

    @property
    def failed(self) -> bool:
        return bool(self.fields["status"] == "Failed")


def time(at: datetime) -> str:
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
