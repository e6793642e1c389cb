"""How code on a host says that it cannot go on: a code, what happened, what to do next, and quoted lines."""

from __future__ import annotations


class Problem(Exception):
    """Carry one failure back to the controller, which adds where it happened."""

    def __init__(self, code: str, what: str, next_step: str, evidence: list[str] | None = None) -> None:
        super().__init__(what)
        self.code = code
        self.what = what
        self.next_step = next_step
        self.evidence = evidence or []

    def to_json(self) -> dict[str, object]:
        return {"code": self.code, "what": self.what, "next_step": self.next_step, "evidence": self.evidence}
