"""Where one practice fleet keeps its things, and under which names."""

import hashlib
import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

CACHE = Path("/var/cache/rackhand-lab")
STATE = Path("/var/lib/rackhand-lab")
MARK = ".rackhand-lab"


def cache() -> Path:
    """Return the cache shared by all checkouts: images, driver repositories, downloads of uv."""
    return Path(os.environ.get("RACKHAND_LAB_CACHE", CACHE))


def locks() -> Path:
    """Return the directory of lock files; it outlives every fleet."""
    return cache() / "locks"


def say(line: str) -> None:
    """Tell the person who waits what is being waited for."""
    print(f"lab: {line}", file=sys.stderr, flush=True)


@dataclass(frozen=True, kw_only=True)
class Places:
    """Name every file, link and table of one fleet; `digest` keeps two checkouts apart."""

    root: Path
    digest: str

    @classmethod
    def of(cls, checkout: Path) -> "Places":
        """Return the fleet of a checkout, or the one at $RACKHAND_LAB_DIR."""
        chosen = os.environ.get("RACKHAND_LAB_DIR")
        if chosen:
            return cls.at(Path(chosen))
        digest = _digest(checkout)
        return cls(root=STATE / digest, digest=digest)

    @classmethod
    def at(cls, root: Path) -> "Places":
        """Return the fleet whose state is in `root`."""
        return cls(root=root.resolve(), digest=_digest(root))

    @property
    def bridge(self) -> str:
        """Name the bridge of this fleet's hosts."""
        return f"rh{self.digest[:6]}"

    @property
    def table(self) -> str:
        """Name the nftables table of this fleet."""
        return f"rackhand_{self.digest[:6]}"

    @property
    def lock(self) -> Path:
        """Name the lock file that guards the state below `root`."""
        return locks() / f"{self.digest}.lock"

    @property
    def hosts(self) -> Path:
        """Name the directory with one folder per host."""
        return self.root / "hosts"

    @property
    def www(self) -> Path:
        """Name the directory that is served over HTTP on the bridge."""
        return self.root / "www"

    def make(self) -> None:
        """Make `root`; where nothing else is in it, it is marked as the fleet's own."""
        self.root.mkdir(parents=True, exist_ok=True)
        if not any(self.root.iterdir()):
            (self.root / MARK).touch()

    def remove(self) -> None:
        """Remove the state: all of `root` if it is the fleet's own, else only what the fleet put there."""
        own = [self.root] if (self.root / MARK).exists() else [self.hosts, self.www, self.root / "ssh"]
        for directory in own:
            shutil.rmtree(directory, ignore_errors=True)
        for pattern in ("reservations.*", "server.log"):
            for file in self.root.glob(pattern):
                file.unlink(missing_ok=True)

    def machine(self, number: int) -> str:
        """Name the nspawn machine with that address; short, because the kernel allows 15 letters for its cable."""
        return f"{self.digest[:6]}-{number}"


def _digest(path: Path) -> str:
    return hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:8]
