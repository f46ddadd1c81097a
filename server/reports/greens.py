"""The last green of a result, and its screenshot of the same step."""

from dataclasses import dataclass
from uuid import UUID

from server.database.queries import SQL
from server.database.reads import Reads
from server.reports import comparisons
from server.reports.panels import At, File


@dataclass(slots=True)
class Green:
    """The last green of a result, and the screenshot of the same step in it, if that was asked for and exists."""

    result: comparisons.ComparedResult
    image: File | None = None


async def of_step(reads: Reads, case_id: UUID, at: At | None) -> Green | None:
    """The last green of a result. With `at`, its steps are aligned to find the same step in it."""
    head = await comparisons.of_case(reads, case_id, None)
    base = await comparisons.last_green(reads, head)
    if base is None or at is None:
        return None if base is None else Green(base)
    compared = await comparisons.compare(reads, head, base)
    found = compared.comparison
    for row in found.rows if found else ():
        if row.base is not None and row.head is not None and found is not None:
            step = found.head.steps[row.head]
            if (step.iteration, step.number) == at:
                image = await reads.fetchrow(SQL.results.image_of_step, compared.ids[0][row.base])
                return Green(base, File(*image) if image else None)
    return Green(base)
