"""Every question of `rackhand diagnose`, in the order to read the answers: does it live, then why is it slow."""

from rackhand.diagnose.first_token import LATE_FIRST_TOKEN
from rackhand.diagnose.observation import Observation
from rackhand.diagnose.out_of_memory import MEMORY, MEMORY_TABLE
from rackhand.diagnose.rule import Question, Row, Table, Verdict
from rackhand.diagnose.slow import SLOW
from rackhand.journal import Finding, decisive_line


def _failure(seen: Observation) -> Finding | None:
    """Return the line that ended the engine, unless it is about memory, which has a question of its own."""
    ended = seen.unit is None or seen.unit.active != "active"
    found = decisive_line(seen.journal) if ended else None
    return found if found is not None and found.code not in MEMORY and (found.fatal or seen.unit is not None) else None


FAILURE = Question[Finding](
    code="R71", title="the engine ended", source="R71", quiet=True, look=_failure, needs="a journal",
    rows=(
        Row(code="engine-failure", when=lambda found: True, verdict=Verdict.FAIL,
            number=lambda found: f"{found.code}: {found.cause.rstrip('.')}",
            advice=("{remedy}",), values=lambda found: {"remedy": found.remedy.rstrip(".")}),
    ),
)  # fmt: skip

DIAGNOSIS: Table = (FAILURE, *MEMORY_TABLE, *SLOW, *LATE_FIRST_TOKEN)
