"""Talk to one host: call remote code, upload files, notice when the connection is gone.

Every call is one SSH command, whatever it does on the host; `commands` counts them.
"""

import json
import time
from pathlib import Path
from typing import Any

from paramiko import SSHException
from pyinfra.api import Host, QuoteString, StringCommand
from pyinfra.api.exceptions import ConnectError
from pyinfra.connectors.local import LocalConnector
from pyinfra.connectors.util import CommandOutput

from rackhand import payload
from rackhand.errors import RackhandError
from rackhand.ssh import tune

NO_PYTHON = 127
NO_SUDO = 126
# How Python names the one failure that any call may meet and that is no fault of ours.
NO_SPACE = "No space left on device"
SHELL = (
    "command -v python3 >/dev/null || {{ cat >/dev/null; exit 127; }}; "
    'if [ "$(id -u)" -eq 0 ]; then exec python3 -c {loader}; fi; '
    "sudo -n true 2>/dev/null || {{ cat >/dev/null; exit 126; }}; exec sudo -n python3 -c {loader}"
)
GONE = (OSError, EOFError, SSHException)


def inner_s(limit_s: int) -> int:
    """Return the limit for work on the host, in seconds, that lets it explain itself before `limit_s` ends the call."""
    return max(1, limit_s - min(60, limit_s // 4))


REBOOT = (
    "if [ \"$(id -u)\" -eq 0 ]; then s=; else s='sudo -n'; fi; "
    "( sleep 1; $s systemctl reboot ) </dev/null >/dev/null 2>&1 &"
)


class Session:
    """One host's connection; all methods raise RackhandError and nothing else."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.name: str = host.name
        self.commands = 0

    def call(self, function: str, within_s: int = 120, **args: Any) -> Any:
        """Call `module.function` of rackhand.remote on the host and return its result.

        Raises RackhandError: connection-lost, timeout, no-python, sudo-password, remote-crash, or the Problem's code.
        """
        self.commands += 1
        quoted = QuoteString(payload.LOADER)
        command = StringCommand(SHELL.format(loader=str(StringCommand(quoted))))
        try:
            _, output = self.host.run_shell_command(
                command, _stdin=payload.pack(function, args), _timeout=within_s, _success_exit_codes=[0]
            )
        except TimeoutError:
            raise self._error(
                "timeout", f"{function} did not answer within {within_s} s", "look at the host, then run again"
            ) from None
        except GONE as error:
            raise self._lost(error) from None
        return self._result(function, output)

    def _result(self, function: str, output: CommandOutput) -> Any:
        try:
            answer = json.loads(output.stdout_lines[-1])
        except (ValueError, IndexError):
            raise self._broken(function, output) from None
        if "problem" in answer:
            problem = answer["problem"]
            raise self._error(problem["code"], problem["what"], problem["next_step"], tuple(problem["evidence"]))
        return answer["result"]

    def _broken(self, function: str, output: CommandOutput) -> RackhandError:
        """Tell the three ways apart in which no JSON came back."""
        lines = [line for line in output.stderr_lines if line.strip()]
        if not lines and not output.stdout_lines and not self._alive():
            return self._lost("no answer")
        kind = self._shell_status()
        if kind == NO_PYTHON:
            return self._error(
                "no-python",
                "python3 is not installed",
                "install python3 on the host (Debian, Ubuntu: apt-get install python3)",
            )
        if kind == NO_SUDO:
            user = self.host.data.get("ssh_user") or "the SSH user"
            return self._error(
                "sudo-password",
                f"sudo asks {user} for a password",
                "allow it without one (NOPASSWD in sudoers) or connect as root",
            )
        return self._crashed(function, lines)

    def _crashed(self, function: str, lines: list[str]) -> RackhandError:
        """Explain code of ours that failed; a full disk may stop any of it."""
        if any(NO_SPACE in line for line in lines[-1:]):
            what = f"a disk of the host filled up ({function})"
            return self._error("disk-full", what, "free space on the host, then run again", tuple(lines[-1:]))
        what = f"{function} failed on the host"
        return self._error("remote-crash", what, "run again with --debug and report it", tuple(lines[-4:]))

    def _shell_status(self) -> int:
        """Ask again with an empty program which precondition is missing; only after a failed call."""
        probe = (
            "command -v python3 >/dev/null || exit 127; "
            '[ "$(id -u)" -eq 0 ] || sudo -n true 2>/dev/null || exit 126; exit 0'
        )
        self.commands += 1
        for status in (NO_PYTHON, NO_SUDO):
            try:
                matches, _ = self.host.run_shell_command(
                    StringCommand(probe), _timeout=20, _success_exit_codes=[status]
                )
            except GONE:
                return 0
            if matches:
                return status
        return 0

    def _alive(self) -> bool:
        try:
            alive, _ = self.host.run_shell_command(StringCommand("true"), _timeout=20)
        except GONE:
            return False
        return bool(alive)

    def put(self, source: Path, destination: str) -> None:
        """Upload one file as the login user."""
        self.commands += 1
        try:
            stored = self.host.put_file(str(source), destination)
        except GONE as error:
            raise self._lost(error) from None
        except ConnectError as error:
            if not self._alive():
                raise self._lost(error) from None
            what = f"could not upload {source.name}: {error}"
            raise self._error("upload", what, "enable the SFTP subsystem of the host's sshd") from None
        if not stored:
            raise self._error(
                "upload",
                f"could not upload {source.name} to {destination}",
                "check free space and permissions on the host",
            )

    def reconnect(self) -> bool:
        """Open a new connection in place of one that was lost; return whether that worked, in a few seconds."""
        client = getattr(self.host.connector, "client", None)
        try:
            if client is not None:
                client.close()
            self.host.connector.disconnect()
            self.host.connected = False
            self.host.connect(show_errors=False)
            tune(self.host)
        except GONE:
            self.host.connected = False
        return bool(self.host.connected)

    def boot_id(self) -> str | None:
        """Return the host's boot id over a connection that is renewed when needed; None while it is away."""
        self.commands += 1
        try:
            if not self.host.connected:
                self.host.connect(show_errors=False)
                tune(self.host)
            if not self.host.connected:
                return None
            fine, output = self.host.run_shell_command(
                StringCommand("cat /proc/sys/kernel/random/boot_id"), _timeout=20
            )
        except GONE:
            fine, output = False, None
        if not fine or output is None:
            self.host.connected = False
            return None
        return output.stdout.strip() or None

    def reboot(self, timeout_s: int, poll_s: float = 1.0) -> None:
        """Reboot and return when the host is back with another boot id; raises RackhandError `reboot` otherwise."""
        if isinstance(self.host.connector, LocalConnector):
            raise self._error("reboot-here", "this machine itself needs a reboot", "reboot it, then run again")
        before = self.boot_id() or self.boot_id()
        if before is None:
            raise self._lost("it was not rebooted, since it does not say which boot this is")
        self.commands += 1
        try:
            self.host.run_shell_command(StringCommand(REBOOT), _timeout=20)
        except GONE as error:
            raise self._lost(error) from None
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            time.sleep(poll_s)
            now = self.boot_id()
            if now and now != before:
                self.host.connector.disconnect()
                return
        raise self._error(
            "reboot",
            f"the host is not back with a new boot id after {timeout_s} s",
            "look at its console, then run again",
        )

    def _lost(self, error: object) -> RackhandError:
        reason = f": {error}" if str(error) else ""
        return self._error(
            "connection-lost",
            f"the SSH connection is gone{reason}",
            "check the host and its network, then run again: the deploy continues where it was",
        )

    def _error(self, code: str, what: str, next_step: str, evidence: tuple[str, ...] = ()) -> RackhandError:
        return RackhandError(code, what, self.name, next_step, evidence)
