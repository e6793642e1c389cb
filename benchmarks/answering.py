"""`@simulated/200` for pyinfra, 200 hosts: every command is answered by benchmarks/simulated.py through a socket.

Registered only where the benchmark puts an entry point on PYTHONPATH.
"""

import json
import os
import socket
from collections.abc import Iterator
from io import IOBase
from typing import Any

from pyinfra.api import StringCommand
from pyinfra.api.exceptions import ConnectError
from pyinfra.connectors.base import BaseConnector
from pyinfra.connectors.util import CommandOutput, OutputLine
from typing_extensions import override

SOCKET = "RACKHAND_SIMULATED"
PREFIX = "@simulated/"


class SimulatedConnector(BaseConnector):
    """Hand the standard input of every command to the simulation and return what it says; uploads arrive at once."""

    handles_execution = True

    @override
    @staticmethod
    def make_names_data(name: str) -> Iterator[tuple[str, dict[str, Any], list[str]]]:
        """Name as many hosts as are asked for: pyinfra looks for connectors anew at every name with an `@`."""
        for number in range(1, int(name) + 1):
            yield f"{PREFIX}gpu-{number:04d}", {}, ["@simulated"]

    @override
    def connect(self) -> None:
        self.wire = socket.socket(socket.AF_UNIX)
        try:
            self.wire.connect(os.environ[SOCKET])
        except OSError as error:
            raise ConnectError(f"the simulation does not answer: {error}") from error
        self.lines = self.wire.makefile("rb")

    @override
    def disconnect(self) -> None:
        self.lines.close()
        self.wire.close()

    @override
    def run_shell_command(
        self, command: StringCommand, print_output: bool = False, print_input: bool = False, **arguments: Any
    ) -> tuple[bool, CommandOutput]:
        payload = arguments.get("_stdin")
        if not payload:
            return True, CommandOutput([])
        call = {"host": self.host.name.removeprefix(PREFIX), "payload": payload}
        self.wire.sendall(json.dumps(call).encode() + b"\n")
        return True, CommandOutput([OutputLine("stdout", self.lines.readline().decode().rstrip("\n"))])

    @override
    def put_file(
        self,
        filename_or_io: str | IOBase,
        remote_filename: str,
        remote_temp_filename: str | None = None,
        print_output: bool = False,
        print_input: bool = False,
        **arguments: Any,
    ) -> bool:
        return True

    @override
    def get_file(
        self,
        remote_filename: str,
        filename_or_io: str | IOBase,
        remote_temp_filename: str | None = None,
        print_output: bool = False,
        print_input: bool = False,
        **arguments: Any,
    ) -> bool:
        return False
