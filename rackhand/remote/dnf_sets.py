"""Exchange the driver's packages with dnf: simulated, carried out, downloaded, locked at their versions.

dnf's own Python is asked, not its command line, which knows no transaction that both installs and removes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rackhand.remote import command, dnf, dpkg, files, rpm
from rackhand.remote.dnf_script import SCRIPT
from rackhand.remote.exchange import Exchange, Outcome

REPOSITORY = "rackhand-nvidia"
PROGRAM = Path("/usr/bin/dnf")
ERASE_S = 300
FOLLOWS = re.compile(r"(kernel-devel-matched)-(.+)\.[^.]+$")


def simulate(wish: Exchange, timeout_s: int) -> Outcome:
    """Have dnf work out what an exchange would do; raises Problem where it sees no way."""
    lines = _dnf("simulate", "driver-simulate", timeout_s, **_wished(wish))
    rows = [line.split() for line in lines]
    comes = {rpm.named(row[1], row[2], row[3]): row[2] for row in rows if row[:1] == ["+"]}
    goes = [rpm.named(row[1], row[2], row[3]) for row in rows if row[:1] == ["-"]]
    return Outcome(comes, [name for name in goes if name not in comes])


def carry_out(wish: Exchange, timeout_s: int) -> None:
    """Exchange the packages; raises Problem."""
    _dnf("run", "driver-install", timeout_s, **_wished(wish))


def _wished(wish: Exchange) -> dict[str, Any]:
    named = [] if wish.offline else [_spec(name, entry) for name, entry in wish.named.items()]
    there = {each.name: each.version for each in rpm.here()}
    beside = [name for name in wish.beside if not _newer_there(name, there)]
    words = {"install": [*named, *beside], "files": [str(file) for file in wish.files], "remove": wish.gone}
    return {**words, "online": not wish.offline}


def _newer_there(name: str, there: Mapping[str, str]) -> bool:
    """Say whether what follows the newest kernel is at that kernel or beyond: it is not to go back to an older one."""
    found = FOLLOWS.match(name)
    return found is not None and found[1] in there and not rpm.older(there[found[1]], found[2])


def _spec(name: str, entry: str) -> str:
    """Return the words by which dnf finds a package; kernels' names have their versions in them."""
    return name if rpm.SIDE_BY_SIDE.match(name.partition(f"-{entry}.")[0]) else f"{name}-{entry}"


def download(folder: Path, wanted: Mapping[str, str], timeout_s: int) -> None:
    """Fetch packages into a directory, each signed by the key of its repository; raises Problem."""
    specs = {_spec(name, entry): _file(name, entry) for name, entry in wanted.items()}
    _dnf("download", "driver-fetch", timeout_s, online=True, download=specs, folder=str(folder))


def pattern(package: str, version: str) -> str:
    """Return the pattern of a file's name in the store."""
    return _file(package, version)


def _file(package: str, version: str) -> str:
    return f"{package.replace('_', '%5f')}_{version.replace(':', '%3a')}.rpm"


def package_of(file: str) -> str:
    """Return the package that is in a file, by its name."""
    return file.partition("_")[0].replace("%5f", "_")


def offers(names: Sequence[str], timeout_s: int) -> dict[str, list[str]]:
    """Return the package versions on offer by name, the newest first; names that nobody offers are absent."""
    lines = _dnf("offers", "driver-offers", timeout_s, online=True, names=list(names))
    found: dict[str, list[str]] = {}
    for name, entry, architecture in (line.split()[1:4] for line in lines if line.startswith("= ")):
        full = f"{name}-{rpm.bare(entry)}.{architecture}"
        entries = found.setdefault(full if full in names else name, [])
        place = next((at for at, each in enumerate(entries) if rpm.older(each, entry)), len(entries))
        entries.insert(place, entry)
    return {name: found[name] for name in names if name in found}


def update(repository_url: str, timeout_s: int) -> None:
    """Read every package list; raises Problem where one cannot be fetched."""
    _dnf("update", "driver-update", timeout_s, online=True)


def hold(held: Mapping[str, str], freed: Sequence[str], timeout_s: int) -> None:
    """Lock packages at their versions, and others no more; locks of what is not ours stay as they are."""
    ours = [re.compile(rf"!?{re.escape(name)}-\d+:\d") for name in (*held, *freed)]
    before = rpm.LOCKS.read_text() if rpm.LOCKS.exists() else ""
    kept = [line for line in before.splitlines() if not any(each.match(line) for each in ours)]
    locks = [f"{name}-{rpm.full(entry)}.*" for name, entry in sorted(held.items())]
    files.write(rpm.LOCKS, "".join(f"{line}\n" for line in (*kept, *locks)))


def mend(family: Sequence[str]) -> None:
    """Take away what a transaction that was cut off left of older versions: the newer ones are whole by then."""
    for each in rpm.leftovers():
        if dpkg.belongs(each.name, family):
            named = f"{each.name}-{rpm.bare(each.version)}"
            command.run(["rpm", "--erase", "--nodeps", "--noscripts", named], "rpm-repair", ERASE_S)


def _dnf(action: str, log: str, timeout_s: int, **wish: Any) -> list[str]:
    """Let the Python that dnf itself runs with do something; return every line that it said."""
    interpreter = PROGRAM.read_text(errors="replace").partition("\n")[0].removeprefix("#!").split()[0]
    text = json.dumps({"action": action, "repository": REPOSITORY, **wish})
    status, lines = command.run([interpreter, "-c", SCRIPT, text], log, timeout_s, {"LC_ALL": "C.UTF-8"})
    if status:
        raise dnf.explained(status, lines, log)
    return command.read(log)
