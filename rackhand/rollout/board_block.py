"""A rollout as a block of a few lines, no wider than it is told. Pure."""

from collections import Counter
from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.constrain import Constrain
from rich.table import Table
from rich.text import Text

from rackhand.rollout.board_state import BoardState, Ended, Turn
from rackhand.rollout.board_words import brief, lasted, phrase, stop_line, summary
from rackhand.terminal import clean

ROWS, FEWEST = 10, 3
AROUND = 8  # lines of a block that are no rows
SECONDS = 8  # width of a duration
HEADINGS = ("host", "now", "instance", "for", "in turn")
STYLES = {
    "drain": "yellow",
    "stop": "yellow",
    "held": "yellow",
    "driver": "magenta",
    "reload": "magenta",
    "reboot": "magenta",
    "start": "cyan",
    "answering": "cyan",
    "serving": "green",
    "confirmed": "green",
}


def block(state: BoardState, now: float, elapsed_s: float, width: int, height: int = 24) -> Group:
    """Draw where everybody is; `height` is how many lines there are for it."""
    most = max(FEWEST, min(ROWS, height - AROUND))
    return Group(*_parts(state, now, elapsed_s, width, most))


def _parts(state: BoardState, now: float, elapsed_s: float, width: int, most: int) -> Iterator[RenderableType]:
    yield Text()
    yield _cut(Text(_head(state, elapsed_s, width), style="bold"), width)
    turns = _urgent_first(state)
    if turns:
        yield Constrain(_rows(turns[:most], now, width), width)
    if turns[most:]:
        yield _cut(Text(_others(turns[most:]), style="dim"), width)
    yield from _ends(state, width)
    if state.soaks_until is not None:
        left = f"soaking after wave {state.number}: {lasted(max(0.0, state.soaks_until - now) + 0.999)} left"
        yield _cut(Text(left, style="cyan"), width)
    if state.stopped:
        yield Constrain(Text(stop_line(state), style="bold red", overflow="fold"), width)


def _head(state: BoardState, elapsed_s: float, width: int) -> str:
    words = summary(state, elapsed_s)
    return words if len(words) <= width else brief(state, elapsed_s)


def _urgent_first(state: BoardState) -> list[Turn]:
    return sorted(state.turns.values(), key=lambda turn: not turn.back)


def _rows(turns: list[Turn], now: float, width: int) -> Table:
    cells = [_cells(turn, now) for turn in turns]
    host, phase, rest = _widths(cells, width)
    table = Table.grid(padding=(0, 2, 0, 0), pad_edge=False)
    for size, justify in ((host, "left"), (phase, "left"), (rest, "left"), (SECONDS, "right"), (SECONDS, "right")):
        right = justify == "right"
        table.add_column(width=size, no_wrap=True, overflow="ellipsis", justify="right" if right else "left")
    table.add_row(*(Text(word, style="dim") for word in HEADINGS))
    for turn, row in zip(turns, cells, strict=True):
        style = "red" if turn.back else STYLES.get(turn.phase, "")
        table.add_row(*(Text(word, style=style if place == 1 else "") for place, word in enumerate(row)))
    return table


def _cells(turn: Turn, now: float) -> tuple[str, ...]:
    back = "back: " if turn.back and turn.instances and turn.phase != "failed" else ""
    names = ", ".join(turn.instances)
    about = f"{names}: {turn.detail}" if names and turn.phase == "failed" else turn.note or names or turn.detail
    return (
        clean(turn.host),
        back + phrase(turn, ""),
        about,
        lasted(now - turn.since),
        lasted(now - turn.began),
    )


def _widths(cells: list[tuple[str, ...]], width: int) -> tuple[int, int, int]:
    """Share what two durations and the gaps leave: whole names and phases where they fit, the rest to instances."""
    free = width - 2 * SECONDS - 4 * 2
    longest = [max(Text(word).cell_len for word in column) for column in zip(HEADINGS, *cells, strict=True)]
    host = min(longest[0], max(8, free // 3))
    phase = min(longest[1], max(8, (free - host) * 2 // 3))
    return host, phase, max(4, min(longest[2], free - host - phase))


def _others(turns: list[Turn]) -> str:
    phases = Counter(phrase(turn, "") for turn in turns)
    return f"and {len(turns)} more: " + ", ".join(f"{count} {words}" for words, count in phases.most_common())


def _ends(state: BoardState, width: int) -> Iterator[Text]:
    """Name the hosts of this wave that are through, the last ones first, and all that failed in any wave."""
    here = [each for each in reversed(state.ended) if each.wave == state.number and not each.how]
    if here:
        yield _named("through", "green", [(each, "") for each in here], width)
    if bad := [each for each in reversed(state.ended) if each.how]:
        yield _named("failed", "red", [(each, "" if each.how == "failed" else f"{each.how}, ") for each in bad], width)


def _named(title: str, style: str, ends: list[tuple[Ended, str]], width: int) -> Text:
    """Name as many hosts as fit into one line, and count the others."""
    words = [f"{clean(each.host)} ({how}{lasted(each.seconds)})" for each, how in ends]
    shown, head = len(words), f"{title}: "
    while shown > 1 and Text(head + _joined(words, shown)).cell_len > width:
        shown -= 1
    line = Text(head, style=style).append(_joined(words, shown), style="not bold default")
    return _cut(line, width)


def _joined(words: list[str], shown: int) -> str:
    more = len(words) - shown
    return ", ".join(words[:shown]) + (f" and {more} more" if more else "")


def _cut(text: Text, width: int) -> Text:
    text.truncate(width, overflow="ellipsis")
    text.no_wrap = True
    return text
