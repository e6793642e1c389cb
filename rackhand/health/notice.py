"""Write a finding down: what was seen, in numbers; how bad that is and what to do come from the catalogue."""

from rackhand.catalog.health import Meaning, health_book
from rackhand.outcome import Finding


def notice(code: str, seen: str = "", gpu: str = "", evidence: tuple[str, ...] = ()) -> Finding:
    """Return a finding of the catalogue; `seen` are the numbers of the case, `gpu` is a PCI address."""
    return told(code, health_book().finding(code), seen, gpu, evidence)


def told(code: str, meaning: Meaning, seen: str = "", gpu: str = "", evidence: tuple[str, ...] = ()) -> Finding:
    """Return a finding with this meaning; whose host it is on is filled in later."""
    what = f"{meaning.title}: {seen}" if seen else meaning.title
    return Finding(
        code=code, what=what, where="", next_step=meaning.advice, evidence=evidence, severity=meaning.severity, gpu=gpu
    )
