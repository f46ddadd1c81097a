"""Files that a client need not send: it names bytes that the project has already, and these are staged.

They are read, hashed and inspected like received bytes. So a rotten stored file does not spread, and the type follows
from the bytes, the file name and the artifact type, as for a file that is sent.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from uuid import UUID

from server.storage.disk import FULL
from server.storage.stage import Stage
from server.uploads.multipart import Part
from server.uploads.receive import StagedFile
from server.uploads.refusals import CONTENT_MISSING, STORAGE_FULL

_CHUNK = 256 << 10  # bytes to read at once
_PORTION = 64 << 20  # bytes of files that one disk call reads: more could exceed its timeout on a slow disk


@dataclass(frozen=True, slots=True)
class Known:
    """The bytes that a client names. `index`: which of the named files of its request, from 0."""

    index: int
    file_name: str
    checksum: str
    size: int


async def stage_known(stage: Stage, project_id: UUID, wanted: Sequence[Known], limit: int) -> list[StagedFile]:
    """The named files of a project, staged. One that the project does not have gets the refusal CONTENT_MISSING.

    `limit`: the largest file in bytes. Raises StorageAway.
    """
    files = [StagedFile(each.index, Part("", each.file_name, ""), limit, stage, known=True) for each in wanted]
    for portion in _portions(list(zip(files, wanted, strict=True))):
        await stage.run(_adopt, stage, project_id, portion)
    return files


def _adopt(stage: Stage, project_id: UUID, portion: Sequence[tuple[StagedFile, Known]]) -> None:
    for file, wanted in portion:
        try:
            descriptor = stage.disk.adopt(project_id, wanted.checksum, wanted.size, file.path)
        except OSError as error:
            if error.errno not in FULL:
                raise
            file.refusal = STORAGE_FULL
        else:
            if descriptor is None or not _has_bytes(descriptor, file, wanted):
                file.refusal = CONTENT_MISSING
        if file.refusal is not None:
            stage.discard(file.path)


def _has_bytes(descriptor: int, file: StagedFile, wanted: Known) -> bool:
    """Reads a staged file to its end: whether it has the bytes that were named."""
    with open(descriptor, "rb", buffering=0) as stream:
        try:
            while (chunk := stream.read(_CHUNK)) and file.take(memoryview(chunk)):
                pass
        except OSError:  # a bad sector
            return False
    file.finish()
    return file.refusal is None and file.checksum == wanted.checksum


def _portions(files: Sequence[tuple[StagedFile, Known]]) -> Iterator[Sequence[tuple[StagedFile, Known]]]:
    start = size = 0
    for end, (_, wanted) in enumerate(files, 1):
        size += wanted.size
        if size >= _PORTION or end == len(files):
            yield files[start:end]
            start, size = end, 0
