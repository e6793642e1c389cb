"""The memory bill in a terminal: one bar of letters, and a legend with MiB and per cent."""

from itertools import accumulate

from rich.text import Text

from rackhand.picture.bars import Bar, Slice, cells
from rackhand.terminal import Terminal

# Each term has a letter of its own, so that the bar reads without colours; the ASCII twins are in rackhand.terminal.
GLYPHS = {
    "weights": "█", "activation": "▓", "non_torch": "▞", "cuda_graphs": "▒", "kv_cache": "░",
    "other_processes": "▚", "free": "·",
}  # fmt: skip
STYLES = {
    "weights": "blue", "activation": "yellow", "non_torch": "red", "cuda_graphs": "magenta", "kv_cache": "green",
    "other_processes": "bright_black", "free": "bright_black",
}  # fmt: skip
OTHER, MARK = "▓", "▲"


def draw(bar: Bar, terminal: Terminal) -> list[str]:
    """Return the lines of one bar: whose it is, the bar, where the allowed part ends, the legend."""
    heading = f"{bar.label}: {bar.total_mib:,.0f} MiB"
    width = min(terminal.width, 100)
    lines = [
        *terminal.drawn(terminal.styled(heading, "bold")),
        *terminal.paragraph(bar.note),
        *terminal.drawn(_strip(bar, terminal, width)),
    ]
    return [*lines, *_mark(bar, terminal, width), *terminal.drawn(_legend(bar, terminal))]


def _strip(bar: Bar, terminal: Terminal, width: int) -> Text:
    strip = Text(no_wrap=True)
    for part, count in zip(bar.slices, cells([part.mib for part in bar.slices], width), strict=True):
        strip.append(terminal.say(_glyph(part)) * count, style=STYLES.get(part.term, ""))
    return strip


def _mark(bar: Bar, terminal: Terminal, width: int) -> list[str]:
    """Point at the end of what vLLM may take, and at the end of the GPU where the bill goes beyond it."""
    ends = [(bar.allowed_mib, f"{bar.allowed_share:.0%} allowed: {bar.allowed_mib:,.0f} MiB")]
    if bar.end_mib > bar.total_mib:
        ends.append((bar.total_mib, f"the GPU ends: {bar.total_mib:,.0f} MiB"))
    return [terminal.say(_pointed(words, _place(bar, mib, width), width)) for mib, words in ends]


def _place(bar: Bar, mib: float, width: int) -> int:
    """Return the last cell before a size: a part's own last cell where the part ends there."""
    sizes = [part.mib for part in bar.slices]
    ends = zip(accumulate(sizes), accumulate(cells(sizes, width)), strict=True)
    exact = next((cell for end, cell in ends if abs(end - mib) < 1), None)
    return (round(mib / bar.end_mib * width) if exact is None else exact) - 1


def _pointed(words: str, place: int, width: int) -> str:
    place = min(width - 1, max(0, place))
    before = place >= len(words) + 1
    return f"{words} {MARK}".rjust(place + 1) if before else f"{MARK} {words}".rjust(place + len(words) + 2)


def _legend(bar: Bar, terminal: Terminal) -> Text:
    legend = Text()
    longest = max(len(part.name) for part in bar.slices)
    for part in bar.slices:
        legend.append(f"  {terminal.say(_glyph(part)) * 2} ", style=STYLES.get(part.term, ""))
        legend.append(f"{terminal.say(part.name):<{longest}}  {part.mib:>9,.0f} MiB  {part.share:>6.1%}\n")
    legend.right_crop(1)
    return legend


def _glyph(part: Slice) -> str:
    return GLYPHS.get(part.term, OTHER)
