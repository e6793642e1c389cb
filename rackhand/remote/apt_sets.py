"""Exchange the driver's packages with apt: simulated, carried out, downloaded, put on hold."""

from __future__ import annotations

import contextlib
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from rackhand.remote import apt, command
from rackhand.remote.exchange import Exchange, Outcome
from rackhand.remote.problem import Problem

PREFERENCES = Path("/etc/apt/preferences.d")
PIN = PREFERENCES / "rackhand-nvidia"
ARCHIVES = Path("/var/cache/apt/archives")
# Downgrades are meant; holds are of our own making; what apt would recommend is no part of a set; and what apt is to
# install also is the solution of what was left half done.
FLAGS = ("--fix-broken", "--allow-downgrades", "--allow-change-held-packages", "--no-install-recommends")
# Without sources apt can only choose from what is installed and what it is given, and it asks nobody for anything.
OFFLINE = (
    *("-o", "Dir::Etc::SourceList=/dev/null", "-o", "Dir::Etc::SourceParts=/dev/null"),
    *("-o", "Dir::Cache::pkgcache=", "-o", "Dir::Cache::srcpkgcache="),
)
PLANNED = re.compile(r"^Inst (\S+)(?: \[(\S+)\])? \((\S+)")
REMOVED = re.compile(r"^(?:Remv|Purg) (\S+)")
# apt-get downloads into the directory where it runs.
DOWNLOAD = 'cd "$1" && shift && exec apt-get "$@"'


def simulate(wish: Exchange, timeout_s: int) -> Outcome:
    """Have apt work out what an exchange would do; raises Problem where it sees no way."""
    with _options(wish) as options:
        apt.get([*options, "--simulate", *FLAGS, "install", *_arguments(wish)], "driver-simulate", timeout_s)
    return planned(command.read("driver-simulate"))


def planned(lines: Sequence[str]) -> Outcome:
    """Read what apt said that it would do."""
    comes = {found[1]: found[3] for found in map(PLANNED.match, lines) if found}
    return Outcome(comes, [found[1] for found in map(REMOVED.match, lines) if found])


def carry_out(wish: Exchange, timeout_s: int) -> None:
    """Exchange the packages; raises Problem."""
    with _options(wish) as options:
        apt.get([*options, *FLAGS, "install", *_arguments(wish)], "driver-install", timeout_s)


def _arguments(wish: Exchange) -> list[str]:
    """Return what apt is to install and, with a minus behind it, to remove."""
    named = [f"{name}={version}" for name, version in wish.named.items()]
    return [*named, *wish.beside, *map(str, wish.files), *(f"{name}-" for name in wish.gone)]


@contextlib.contextmanager
def _options(wish: Exchange) -> Iterator[Sequence[str]]:
    """Yield options with which apt sees a new pin in place of ours, which nobody else does yet."""
    with tempfile.TemporaryDirectory() as folder:
        pinned = ("-o", f"Dir::Etc::PreferencesParts={folder}") if wish.pin else ()
        if wish.pin:
            for path in PREFERENCES.glob("*"):
                if path.is_file() and path.name != PIN.name:
                    shutil.copy(path, folder)
            Path(folder, PIN.name).write_text(wish.pin)
        yield (*pinned, *(OFFLINE if wish.offline else ()))


def download(folder: Path, wanted: Mapping[str, str], timeout_s: int) -> None:
    """Fetch packages into a directory, from the repositories or from what apt had fetched before; raises Problem."""
    command_line = ["sh", "-c", DOWNLOAD, "sh", str(folder), *apt.OPTIONS, "download"]
    named = [f"{name}={entry}" for name, entry in wanted.items()]
    status, lines = command.run([*command_line, *named], "driver-fetch", timeout_s, apt.ENVIRONMENT)
    for name, entry in wanted.items():
        if any(folder.glob(pattern(name, entry))):
            continue
        kept = next((each for each in ARCHIVES.glob(pattern(name, entry)) if _sound(each)), None)
        if kept is None:
            raise apt.explained(status, lines, ["download"], "driver-fetch")
        shutil.copyfile(kept, folder / kept.name)


def _sound(file: Path) -> bool:
    """Tell whether a package can be read to its end."""
    done = subprocess.run(["dpkg-deb", "--fsys-tarfile", file], stdout=subprocess.DEVNULL, check=False)
    return done.returncode == 0


def pattern(package: str, version: str) -> str:
    """Return the pattern of a file's name as apt writes it."""
    return f"{package}_{version.replace(':', '%3a')}_*.deb"


def package_of(file: str) -> str:
    """Return the package that is in a file, by its name."""
    return file.partition("_")[0]


def offers(names: Sequence[str], timeout_s: int) -> dict[str, list[str]]:
    """Return the package versions on offer by name, the newest first; names that nobody offers are absent."""
    command_line = ["apt-cache", "madison", *names]
    done = subprocess.run(command_line, capture_output=True, text=True, check=False, timeout=timeout_s)
    found: dict[str, list[str]] = {}
    for line in done.stdout.splitlines():
        if line.count("|") >= 2:
            name, entry = (part.strip() for part in line.split("|")[:2])
            found.setdefault(name, []).append(entry)
    return found


def update(repository_url: str, timeout_s: int) -> None:
    """Read every package list; apt only warns of lists that it could not fetch, but ours must be new."""
    apt.get(["update"], "driver-update", timeout_s)
    stale = [line for line in command.read("driver-update") if "Failed to fetch" in line and repository_url in line]
    if stale and repository_url:
        raise Problem(
            "repository-unreachable",
            f"the package list of {repository_url} cannot be fetched",
            "check the host's network and driver_repository_url, then run again",
            stale[-3:],
        )


def hold(held: Mapping[str, str], freed: Sequence[str], timeout_s: int) -> None:
    """Put packages on hold, and others no more; raises Problem."""
    for verb, names in (("unhold", sorted(freed)), ("hold", sorted(held))):
        if names:
            apt.mark(verb, names, "driver-install", timeout_s)
