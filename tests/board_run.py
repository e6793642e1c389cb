"""A rollout of two hosts that others write into, for a terminal: `python board_run.py close|interrupt|raise`."""

from gevent import monkey  # type: ignore[import-untyped]

monkey.patch_all()

import os  # noqa: E402
import signal  # noqa: E402
import sys  # noqa: E402
import time  # noqa: E402

import click  # noqa: E402
import gevent  # noqa: E402
from pyinfra.api.output import set_echo  # noqa: E402
from pyinfra.progress import progress_spinner  # noqa: E402

from rackhand.rollout.board import Board  # noqa: E402
from rackhand.rollout.intent import Result  # noqa: E402

LONG = "a long line of somebody else " * 6
PHASES = ("drain", "stop", "start", "answering", "serving")


def begun() -> Board:
    board = Board(sys.stderr, time.monotonic(), time.monotonic)
    board.planned([["gpu-1", "gpu-2"]])
    board.wave(1)
    for name in ("gpu-1", "gpu-2"):
        board.began(name)
    return board


def talk(board: Board) -> None:
    """Let everybody write who writes in a real run, while the block is drawn many times."""
    for number in range(20):
        board.phase("gpu-1", PHASES[number % len(PHASES)], f"llama-{number}")
        click.echo(click.style(f"    echo {number} of somebody", "green"), err=True)
        print(f"print {number} of somebody")
        sys.stderr.write(f"half {number} ")
        gevent.sleep(0.06)
        sys.stderr.write("and half\n")
    click.echo(LONG, err=True)
    click.echo("\x1b[5A\x1b[2Jhostile", err=True)


def interrupted(board: Board) -> None:
    def leave(number: int, frame: object) -> None:
        board.close()
        click.echo("the table", err=True)
        os._exit(130)

    signal.signal(signal.SIGINT, leave)
    os.kill(os.getpid(), signal.SIGINT)
    gevent.sleep(5)


def main(end: str) -> None:
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    sys.stderr.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    set_echo(click.echo)
    with progress_spinner({"gpu-1", "gpu-2"}):
        gevent.sleep(0.1)
        board = begun()
        talk(board)
        if end == "interrupt":
            interrupted(board)
        if end == "raise":
            raise KeyboardInterrupt
    board.ended("gpu-1", Result(good=True))
    board.ended("gpu-2", Result(good=False, how="rolled back"))
    board.stopped("the canary failed: gpu-2 (rolled back)")
    board.close()
    board.close()
    click.echo("the table", err=True)


if __name__ == "__main__":
    main(sys.argv[1])
