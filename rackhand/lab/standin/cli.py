"""The command `vllm`: `--version` and `serve`."""

import errno
import signal
import sys
import threading
import time
from importlib.metadata import version
from types import FrameType

from . import arguments, startup
from .faults import Engine
from .journal import log
from .server import Server, die


def main() -> int:
    """Run the command line and return the exit status."""
    words = sys.argv[1:]
    if words in (["--version"], ["-v"]):
        print(version("vllm"))
        return 0
    if not words or words[0] != "serve":
        sys.stderr.write("usage: vllm [-h] [-v] {serve} ...\n")
        return 2
    return _serve(arguments.parse(words[1:]))


def _serve(given: arguments.Arguments) -> int:
    engine = Engine(version=version("vllm").partition("+")[0], port=given.port)
    if engine.fault("ignores-sigterm") is not None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    startup.start(given, engine)
    server = _bind(given, engine)
    if engine.fault("ignores-sigterm") is None:
        _stop_on_signal(server, given.shutdown_timeout_s)
    log(f"Starting vLLM server on http://{given.host}:{given.port}", source="entry.py:140")
    print("INFO:     Application startup complete.", flush=True)
    _schedule_death(engine)
    server.serve_forever(poll_interval=0.05)
    _wait_for_drain()
    log("[shutdown] API server: shutting down HTTP server", source="launcher.py:304")
    return 0


def _bind(given: arguments.Arguments, engine: Engine) -> Server:
    try:
        return Server(given, engine)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        what = f"error while attempting to bind on address {(given.host, given.port)}: address already in use"
        sys.stderr.write(f"OSError: [Errno {error.errno}] {what}\n")
        raise SystemExit(1) from None


def _stop_on_signal(server: Server, timeout_s: float) -> None:
    def stop(number: int, frame: FrameType | None) -> None:
        log("[shutdown] API server: shutdown triggered", source="launcher.py:254")
        threading.Thread(target=server.drain, args=(timeout_s,), name="drain").start()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)


def _schedule_death(engine: Engine) -> None:
    after_s = engine.fault_s("dies-after-ready", 1.0)
    if after_s is not None:
        threading.Timer(after_s, die).start()


def _wait_for_drain() -> None:
    while any(thread.name == "drain" for thread in threading.enumerate()):
        time.sleep(0.01)


if __name__ == "__main__":
    raise SystemExit(main())
