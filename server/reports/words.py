"""The words of reports: which values a status, a type or a category may have, and how a time looks in a reply."""

from datetime import datetime
from typing import Annotated, Literal, get_args

from msgspec import Meta

# A time in a reply; what it says of itself is for the documentation.
Moment = Annotated[datetime, Meta(tz=True)]

Status = Literal["Passed", "Failed", "Skipped", "Pending"]
RunStatus = Literal["Passed", "Failed", "Skipped", "Pending", "Running"]
ArtifactType = Literal["screenshot", "log", "video", "har", "other"]
Category = Literal["before", "after", "error", "checkpoint"]
Shape = Literal["object", "array"]
# As declared: msgspec forgets the order.
WORDS = [get_args(words) for words in (Status, RunStatus, ArtifactType, Category, Shape)]
