"""Compare a run with nothing to do with the same checks as an Ansible playbook, on the same practice hosts.

Run as root in the checkout: `uv run python benchmarks/vs_ansible.py`. Ansible gets an environment of its own.
"""

import argparse
import json
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import uv
import yaml

from benchmarks import measuring, practice
from benchmarks.measuring import CONNECTION, SESSION, Spent, spread
from rackhand.catalog import DriverHost, driver_packages
from rackhand.lab import shell
from rackhand.lab.host import LabHost
from rackhand.render import ROOT
from tests.lab.deploying import World

HERE = Path(__file__).parent / "ansible"
ANSIBLE_CORE, ANSIBLE_PYTHON = "2.21.5", "3.12"
WAYS = ("rackhand", "ansible, no connection yet", "ansible, connections kept")
COLUMNS = ("hosts", "run", "wall, s", "controller CPU, s", "connections per host", "SSH commands per host")


@dataclass(frozen=True, kw_only=True)
class Figures:
    """One run; connections and commands are per host, as the first host's sshd counted them."""

    hosts: int
    way: str
    wall_s: float
    cpu_s: float
    connections: int
    commands: int


@dataclass(frozen=True, kw_only=True)
class Ansible:
    """Ansible in a directory of its own, with an inventory of what was deployed."""

    directory: Path
    version: str
    python: str

    @property
    def sockets(self) -> Path:
        return self.directory / "cp"

    def install(self) -> None:
        """Make the environment."""
        program = uv.find_uv_bin()
        shell.run([program, "venv", "--quiet", "--python", self.python, str(self.directory / "venv")])
        target = str(self.directory / "venv" / "bin" / "python")
        shell.run([program, "pip", "install", "--quiet", "--python", target, f"ansible-core=={self.version}"])
        self.sockets.mkdir()

    def run(self, hosts: Sequence[LabHost]) -> Spent:
        """Run the playbook over some hosts; end this program unless it found nothing to do."""
        inventory, log = self.directory / "inventory.yaml", self.directory / "run.log"
        inventory.write_text(yaml.safe_dump({"all": {"hosts": {host.name: deployed(host) for host in hosts}}}))
        before = self._masters()
        command = [str(self.directory / "venv/bin/ansible-playbook"), "-i", str(inventory), str(HERE / "playbook.yaml")]
        spent = measuring.require(measuring.spend(command, log, self._environment()), log, "ansible-playbook")
        recap = re.findall(r"ok=\d+ +changed=(\d+) +unreachable=(\d+) +failed=(\d+)", log.read_text())
        if recap != [("0", "0", "0")] * len(hosts):
            sys.exit(f"{log.read_text()[-6000:]}\nthe playbook found something to do")
        return Spent(
            wall_s=spent.wall_s,
            cpu_s=spent.cpu_s + self._masters() - before,
            peak_mib=spent.peak_mib,
            status=spent.status,
        )

    def disconnect(self) -> None:
        """End the connections that were kept."""
        for socket in self.sockets.iterdir():
            shell.attempt(["ssh", "-o", f"ControlPath={socket}", "-O", "exit", "nobody"])

    def _masters(self) -> float:
        """Return the CPU seconds of the SSH processes that keep connections: they are nobody's children."""
        ticks, found = os.sysconf("SC_CLK_TCK"), 0.0
        for place in Path("/proc").glob("[0-9]*"):
            try:
                if str(self.sockets) in (place / "cmdline").read_text(errors="replace"):
                    fields = (place / "stat").read_text().rpartition(")")[2].split()
                    found += (int(fields[11]) + int(fields[12])) / ticks
            except OSError:
                continue
        return found

    def _environment(self) -> dict[str, str]:
        return {
            "ANSIBLE_CONFIG": str(HERE / "ansible.cfg"),
            "ANSIBLE_HOME": str(self.directory / "home"),
            "ANSIBLE_SSH_CONTROL_PATH_DIR": str(self.sockets),
            "PATH": f"{self.directory / 'venv/bin'}:{os.environ['PATH']}",
        }


def main() -> None:
    """Deploy, then let both find nothing to do, in turns; print, and remove everything."""
    options = _parser().parse_args()
    load, counts = os.getloadavg()[0], sorted(options.hosts)
    with practice.fleet(options.dir) as world:
        hosts = practice.boot(world, counts[-1])
        spent, _ = practice.deploy(world, hosts)
        measuring.require(spent, world.directory / "deploy.log", "the first deploy")
        ansible = Ansible(directory=world.directory / "ansible", version=options.ansible_core, python=options.python)
        prepare(ansible, hosts)
        runs = [run for count in counts for run in compare(world, ansible, hosts[:count], options.repeat)]
    about = {**measuring.machine(load), "ansible_core": options.ansible_core, "python": options.python}
    print(json.dumps({**about, "runs": [asdict(run) for run in runs]}) if options.json else page(load, options, runs))


def prepare(ansible: Ansible, hosts: Sequence[LabHost]) -> None:
    """Install Ansible, and on the hosts what its apt module needs; rackhand needs nothing there."""
    ansible.directory.mkdir()
    ansible.install()
    for host in hosts:
        for words in ("update -qq", "install -qq --no-install-recommends python3-apt"):
            done = host.run(["apt-get", *words.split()], timeout_s=300)
            if done.returncode:
                sys.exit(f"{host.name}: apt-get {words}: {done.stderr[-1000:]}")


def compare(world: World, ansible: Ansible, hosts: Sequence[LabHost], repeat: int) -> Iterator[Figures]:
    """Run all ways one after the other, so often; the first round warms caches and does not count."""
    for number in range(repeat + 1):
        for way in WAYS:
            figures = _once(world, ansible, hosts, way)
            print(f"{figures.hosts} hosts, {way}: {figures.wall_s:.1f} s", file=sys.stderr, flush=True)
            if number:
                yield figures


def _once(world: World, ansible: Ansible, hosts: Sequence[LabHost], way: str) -> Figures:
    if way == WAYS[1]:
        ansible.disconnect()
    before = [measuring.heard(hosts[0], words) for words in (CONNECTION, SESSION)]
    spent = _rackhand(world, hosts) if way == WAYS[0] else ansible.run(hosts)
    after = [measuring.heard(hosts[0], words) for words in (CONNECTION, SESSION)]
    connections, commands = (now - was for now, was in zip(after, before, strict=True))
    return Figures(
        hosts=len(hosts), way=way, wall_s=spent.wall_s, cpu_s=spent.cpu_s, connections=connections, commands=commands
    )


def _rackhand(world: World, hosts: Sequence[LabHost]) -> Spent:
    spent, report = practice.deploy(world, hosts)
    measuring.require(spent, world.directory / "deploy.log", "the run with nothing to do")
    if {host["status"] for host in report["hosts"]} != {"unchanged"}:
        sys.exit(f"{(world.directory / 'deploy.log').read_text()[-4000:]}\nthe run found something to do")
    return spent


def deployed(host: LabHost) -> dict[str, Any]:
    """Return how Ansible reaches a host, and what it will find there: read from the release that serves."""
    base = host.rootfs / ROOT.lstrip("/")
    current = (base / "current").readlink().name
    release = base / "releases" / current
    manifest = json.loads((release / "manifest.json").read_text())
    paths = [
        "vllm@.service",
        "manifest.json",
        *sorted(f"instances/{path.name}" for path in release.glob("instances/*")),
    ]
    record = json.loads((base / "models" / manifest["model"] / "rackhand.json").read_text())
    return {
        **_reached(host),
        **_packages(host, manifest["driver"]),
        "root": ROOT,
        "release": current,
        "rendered": str(release),
        "files": [{"path": path, "mode": f"0{(release / path).stat().st_mode & 0o777:o}"} for path in paths],
        "venv": manifest["venv"],
        "model": manifest["model"],
        "sizes": [file["size"] for file in record["files"]],
        "instances": [{"name": each["name"], "port": each["port"]} for each in manifest["instances"]],
        "gpus": [gpu for each in manifest["instances"] for gpu in each["gpus"]],
        "engine_version": manifest["engine_version"],
        "served_name": manifest["served_name"],
        "max_model_len": 256,
    }


def _reached(host: LabHost) -> dict[str, str]:
    given = f"-F /dev/null -o UserKnownHostsFile={host.known_hosts} -o IdentitiesOnly=yes"
    return {
        "ansible_host": host.address,
        "ansible_user": "root",
        "ansible_ssh_private_key_file": str(host.key),
        "ansible_ssh_common_args": given,
    }


def _packages(host: LabHost, driver: str) -> Mapping[str, Any]:
    """Name the packages that were asked for, and those that were put on hold."""
    asked = driver_packages(DriverHost(distribution="debian", version="12"), driver.partition(".")[0]).install
    held = host.run(["apt-mark", "showhold"]).stdout.split()
    exact = host.run(["dpkg-query", "-W", "-f", "${Package}=${Version}\n", *asked]).stdout.split()
    return {"packages": ["gcc", "libc6-dev", *exact], "members": held, "driver_version": driver}


def page(load: float, options: argparse.Namespace, runs: Sequence[Figures]) -> str:
    """Return the figures as Markdown."""
    groups = [[run for run in runs if (run.hosts, run.way) == kind] for kind in dict.fromkeys(map(_kind, runs))]
    about = (
        f"{measuring.place(load)}, ansible-core {options.ansible_core}, {options.repeat} rounds: median (least-most)"
    )
    return f"{about}\n\n{measuring.table(COLUMNS, [_row(group) for group in groups])}"


def _kind(run: Figures) -> tuple[int, str]:
    return run.hosts, run.way


def _row(group: Sequence[Figures]) -> list[str]:
    counts = [spread([getattr(run, name) for run in group], 0) for name in ("connections", "commands")]
    times = [spread([getattr(run, name) for run in group]) for name in ("wall_s", "cpu_s")]
    return [str(group[0].hosts), group[0].way, *times, *counts]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--hosts", type=int, nargs="+", default=[2, 4, 8], help="how many hosts, e.g. 2 4 8")
    parser.add_argument("--repeat", type=int, default=3, help="rounds that count, after one that does not")
    parser.add_argument("--ansible-core", default=ANSIBLE_CORE, help=f"its version (default: {ANSIBLE_CORE})")
    parser.add_argument("--python", default=ANSIBLE_PYTHON, help="Python for Ansible, a version or a path")
    parser.add_argument("--json", action="store_true", help="print JSON with every run instead of a table")
    parser.add_argument("--dir", default=None, help="where to put the fleet (default: for temporary files)")
    return parser


if __name__ == "__main__":
    main()
