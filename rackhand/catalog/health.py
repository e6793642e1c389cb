"""health.yaml: what the health check may find, how bad it is, what to do, and what Xid numbers mean."""

from collections.abc import Iterator
from functools import cache
from typing import Annotated

from pydantic import Field
from typing_extensions import override

from rackhand.catalog.book import HERE, Book, Entry, read
from rackhand.outcome import Severity

Words = Annotated[str, Field(min_length=1)]
XID = "xid-"


class Meaning(Entry):
    """How bad something is; `title` completes the sentence "what it means", `advice` is the next step."""

    severity: Severity
    title: Words
    advice: Words


class FindingRow(Meaning):
    """One finding; `early` says that no change of the driver cures it."""

    early: bool = False
    code: Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")]


class XidRow(Meaning):
    """One number of an Xid; `often` is how many of them since boot make an error of a warning."""

    number: Annotated[int, Field(gt=0)]
    often: Annotated[int, Field(gt=1)] | None = None


class HealthBook(Book):
    """The whole file; `unlisted` is what is said of an Xid that has no row."""

    findings: tuple[FindingRow, ...]
    xids: tuple[XidRow, ...]
    unlisted: Meaning

    @override
    def entries(self) -> Iterator[Entry]:
        yield from (*super().entries(), self.unlisted)

    def finding(self, code: str) -> FindingRow:
        return next(row for row in self.findings if row.code == code)

    def early(self) -> frozenset[str]:
        """Return the codes of what no change of the driver cures."""
        return frozenset(row.code for row in self.findings if row.early)

    def xid(self, number: int) -> XidRow | None:
        return next((row for row in self.xids if row.number == number), None)


@cache
def health_book() -> HealthBook:
    """Return the checked file."""
    return read(HealthBook, HERE / "health.yaml")


def health_codes() -> frozenset[str]:
    """Return the codes of all findings that have a row."""
    book = health_book()
    return frozenset([*(row.code for row in book.findings), *(f"{XID}{row.number}" for row in book.xids)])
