"""Every question of `rackhand diagnose`, in the order to read the answers: does it live, then why is it slow."""

from rackhand.diagnose import numbers
from rackhand.diagnose.first_token import LATE_FIRST_TOKEN
from rackhand.diagnose.observation import Observation
from rackhand.diagnose.out_of_memory import MEMORY, MEMORY_TABLE
from rackhand.diagnose.rule import Question, Row, Table, Verdict
from rackhand.diagnose.slow import SLOW
from rackhand.journal import Finding, decisive_line

MOST_FAILED = 0.01
# vLLM's own last words: with one of them a journal needs no unit to say that the engine ended.
LAST_WORDS = ("Engine core initialization failed", "EngineDeadError")


def _failure(seen: Observation) -> Finding | None:
    """Return the line that ended the engine, unless it is about memory, which has a question of its own."""
    ended = seen.unit is None or seen.unit.active != "active"
    found = decisive_line(seen.journal) if ended else None
    if found is None or found.code in MEMORY:
        return None
    said = any(words in line for line in seen.journal for words in LAST_WORDS)
    return found if found.fatal or said or seen.unit is not None else None


FAILURE = Question[Finding](
    code="R71", title="the engine ended", source="R71", quiet=True, look=_failure, needs="a journal",
    rows=(
        Row(code="engine-failure", when=lambda found: True, verdict=Verdict.FAIL,
            number=lambda found: f"{found.code}: {found.cause.rstrip('.')}",
            advice=("{remedy}",), values=lambda found: {"remedy": found.remedy.rstrip(".")}),
    ),
)  # fmt: skip

FAILING = Question[tuple[float, float]](
    code="R46", title="failed requests", source="R46", quiet=True, look=numbers.failed, needs="finished requests",
    rows=(
        Row(code="requests-fail", verdict=Verdict.WARN, when=lambda found: found[0] > MOST_FAILED * found[1],
            number=lambda found: f"{found[0]:g} of {found[1]:g} requests were aborted or failed since the start",
            advice=("read the journal: an aborted request is also one whose client went away, so look at timeouts of "
                    "clients and proxies, too",)),
        Row(code="requests-end-well", verdict=Verdict.PASS, when=lambda found: found[1] > 0,
            number=lambda found: f"{found[0]:g} of {found[1]:g} requests were aborted or failed since the start"),
    ),
)  # fmt: skip

DIAGNOSIS: Table = (FAILURE, *MEMORY_TABLE, FAILING, *SLOW, *LATE_FIRST_TOKEN)
