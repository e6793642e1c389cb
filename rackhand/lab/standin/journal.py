"""Log lines in the shape and order of vLLM's, on standard output."""

import os
import sys
import time


def log(text: str, *, process: str = "APIServer", level: str = "INFO", source: str = "standin.py:1") -> None:
    """Write one line as vLLM's logger does."""
    stamp = time.strftime("%m-%d %H:%M:%S")
    print(f"({process} pid={os.getpid()}) {level} {stamp} [{source}] {text}", flush=True)


def log_engine(text: str, *, level: str = "INFO", source: str = "core.py:1") -> None:
    """Write one line as the engine process does."""
    log(text, process="EngineCore", level=level, source=source)


def traceback(error: str, *, frames: tuple[tuple[str, int, str, str], ...]) -> None:
    """Write a traceback of the engine process that ends in `error`; frames are (file, line, function, code)."""
    log_engine("EngineCore failed to start.", level="ERROR")
    log_engine("Traceback (most recent call last):", level="ERROR")
    for path, line, function, code in frames:
        log_engine(f'  File "{path}", line {line}, in {function}', level="ERROR")
        log_engine(f"    {code}", level="ERROR")
    log_engine(error, level="ERROR")
    sys.stdout.flush()
