"""The values that a status, type or category may have, and the type of times in replies."""

from datetime import datetime
from typing import Annotated, Literal, get_args

from msgspec import Meta

# A time in a reply. The Meta is only for the API documentation.
Moment = Annotated[datetime, Meta(tz=True)]

Status = Literal["Passed", "Failed", "Skipped", "Pending"]
RunStatus = Literal["Passed", "Failed", "Skipped", "Pending", "Running"]
ShardStatus = Literal["Running", "Passed", "Failed"]
ArtifactType = Literal["screenshot", "log", "video", "har", "other"]
Category = Literal["before", "after", "error", "checkpoint"]
TextEncoding = Literal["utf-8", "utf-16le", "utf-16be", "unknown"]
Shape = Literal["object", "array"]
# In the order of declaration, which msgspec loses: error messages list the values in this order.
WORDS = [get_args(words) for words in (Status, RunStatus, ShardStatus, ArtifactType, Category, TextEncoding, Shape)]
