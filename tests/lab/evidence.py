"""What a test holds against a run: the lines that an operator saw, and the files that a host has."""

from rackhand.lab.host import LabHost
from tests.lab.deploying import Result

# What a login alone changes, what systemd writes by itself, and the locks that a look at their holder opens.
NOT_OURS = (
    "var/log",
    "var/lib/systemd",
    "run",
    "tmp",
    "var/lib/dpkg/lock",
    "var/lib/apt/lists/lock",
    "var/cache/apt/archives/lock",
    "var/lib/prometheus/node-exporter",  # the host's own service writes the page of its GPUs anew all the time
)

Files = dict[str, tuple[int, int]]


def files(host: LabHost) -> Files:
    """Return size and time of change of every file in which this host differs from its image."""
    found: Files = {}
    for path in host.rootfs.rglob("*"):
        name = str(path.relative_to(host.rootfs))
        if not name.startswith(NOT_OURS) and (path.is_symlink() or not path.is_dir()):
            status = path.lstat()
            found[name] = (status.st_size, status.st_ctime_ns)
    return found


def touched(before: Files, after: Files) -> list[str]:
    """Name the files that came, went or changed between two readings."""
    return sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))


def reasons(result: Result, name: str) -> list[str]:
    """Return the lines with which the end of a run explains one host."""
    _, _, table = result.printed.rpartition("\nhost ")
    return [line for line in table.splitlines() if "→" in line and _tells_of(line, f"@lab/{name}")]


def _tells_of(line: str, name: str) -> bool:
    """Tell whether a line is about a host, alone or among others that have the same reason."""
    return any(place.startswith(name) for place in line.partition(": ")[0].split(", "))


def only_line(result: Result, name: str) -> str:
    """Return the one reason of a host, and require that there is one only and that it is the report's."""
    said = reasons(result, name)
    assert len(said) == 1, result.printed
    problem = result.problem(name)
    for field in ("what", "code", "next_step"):
        assert problem[field] in said[0]
    assert len(said[0]) < 400
    print(said[0])
    return said[0]


def healthy(result: Result, name: str) -> bool:
    """Tell whether a host got there and each of its servers went through the gate."""
    host = result.host(name)
    gates = [instance["gate"] for instance in host["instances"]]
    return host["status"] in ("healthy", "unchanged") and bool(gates) and set(gates) == {"passed"}
