"""vLLM's parser under its own import path, for those who check a rendered configuration before they switch to it."""

from ..arguments import Arguments, parse  # noqa: TID252 — packed under another name, so never absolute


class FlexibleArgumentParser:
    """Parse `serve` with the words after it."""

    def __init__(self, **_: object) -> None:
        """Take what argparse takes; nothing of it matters here."""

    def add_subparsers(self, **_: object) -> None:
        """Accept the call; there is one command only."""

    def parse_args(self, words: list[str]) -> Arguments:
        """Parse `["serve", …]`. Ends the process with status 2 for an unknown option."""
        return parse(words[1:])
