"""Write a run as an HTML page: one file, readable without a network, a script or rackhand."""

import re

from markupsafe import Markup

from rackhand.outcome import RunOutcome
from rackhand.page import colours, figures, told, words
from rackhand.page.timeline import timeline
from rackhand.report_json import command_words
from rackhand.templates import environment
from rackhand.terminal import clean
from rackhand.verdict import untouched_words, verdict

# What no page may hold (not in XML), and letters that turn the direction of the text around them.
_UNWRITABLE = re.compile("[\ufffe\uffff\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def render(run: RunOutcome) -> str:
    """Return the page; what comes from hosts is escaped, and its control characters are left out."""
    jinja = environment(autoescape=True, finalize=_harmless)
    jinja.filters |= {"px": _px, "duration": words.duration, "moment": words.moment, "names": words.names}
    return jinja.get_template("report.html.j2").render(
        run=run,
        verdict=verdict(run),
        command=command_words(run),
        counts=figures.counts(run),
        figures=figures.figures(run),
        timeline=timeline(run),
        problems=told.problems(run),
        warnings=told.warnings(run),
        health=told.health(run),
        untouched=untouched_words(run) if run.stopped else [],
        changes=told.changes(run),
        words=words,
        colours=colours,
    )


def _harmless(value: object) -> object:
    """Make text of a host fit for a page; what the templates themselves made is left as it is."""
    if not isinstance(value, str) or isinstance(value, Markup):
        return value
    return _UNWRITABLE.sub("", clean(value)).encode("utf-8", "replace").decode()


def _px(length: float) -> str:
    return f"{length:.1f}".removesuffix(".0")
