"""Hosts of every distribution, by what they say of the ground that a driver would be put onto."""

from collections.abc import Mapping, Sequence
from typing import Any

from rackhand.driver.verdict import Verdict, verdict
from rackhand.survey import Survey, parse
from tests.surveys import answer, settings

# os-release, the kernel of the release with what follows it, and the header packages that are on offer.
SYSTEMS: dict[str, dict[str, str]] = {
    "debian-12": {"pretty": "Debian GNU/Linux 12 (bookworm)", "kernel": "6.1.0-41-amd64", "meta": "amd64"},
    "debian-12-cloud": {
        "pretty": "Debian GNU/Linux 12 (bookworm)", "kernel": "6.1.0-41-cloud-amd64", "meta": "cloud-amd64",
    },
    "debian-13": {"pretty": "Debian GNU/Linux 13 (trixie)", "kernel": "6.12.57+deb13-amd64", "meta": "amd64"},
    "ubuntu-22.04": {
        "pretty": "Ubuntu 22.04.5 LTS", "kernel": "6.8.0-90-generic", "meta": "generic-hwe-22.04",
    },
    "ubuntu-24.04": {"pretty": "Ubuntu 24.04.3 LTS", "kernel": "6.8.0-90-generic", "meta": "generic"},
    "ubuntu-26.04": {"pretty": "Ubuntu 26.04 LTS", "kernel": "7.0.0-14-generic", "meta": "generic"},
    "rhel-9.6": {
        "pretty": "Red Hat Enterprise Linux 9.6 (Plow)", "kernel": "5.14.0-570.62.1.el9_6.x86_64", "meta": "",
    },
    "almalinux-10.1": {
        "pretty": "AlmaLinux 10.1 (Heliotrope Lion)", "kernel": "6.12.0-124.20.1.el10_1.x86_64", "meta": "",
    },
}  # fmt: skip
HEADERS = {"rhel": "kernel-devel-", "almalinux": "kernel-devel-"}
NO_DRIVER = {"loaded": None, "flavour": "", "library": None, "nouveau": False, "runfile": False}
SWITCH = {
    "address": "0000:07:00.0", "vendor": "0x10de", "device": "0x22a3", "device_class": "0x068000",
    "subsystem_vendor": "0x10de", "subsystem_device": "0x0000", "driver": "", "numa_node": 0,
}  # fmt: skip
ROOMY = [{"path": path, "device": 1, "free_mib": 200_000} for path in ("/", "/boot", "/usr", "/var")]


def kernel(release: str, meta: str = "", **changes: Any) -> dict[str, Any]:
    """Return a kernel of the distribution that runs and boots next, without headers."""
    image = f"linux-image-{meta}" if meta else ""
    return {"release": release, "running": True, "next": True, "package": True, "meta": image, **changes}


def ready_built(*kernels: str) -> list[str]:
    """Return the packages of modules that Ubuntu builds for kernels and for kinds of them."""
    return [f"linux-modules-nvidia-{branch}-server-open-{kernel}" for branch in ("580", "595") for kernel in kernels]


def ground(system: str, **changes: Any) -> dict[str, Any]:
    """Return what a driver would be put onto: a fresh host of a release, whose repositories offer the headers."""
    here = SYSTEMS[system]
    return {
        "kernels": [kernel(here["kernel"], here["meta"])],
        "listed": True,
        "headers_offered": [f"{HEADERS.get(system.split('-')[0], 'linux-headers-')}{here['kernel']}"],
        "modules_offered": ready_built(here["kernel"], here["meta"]),
        "places": ROOMY,
        **changes,
    }


def host(
    system: str,
    cards: Sequence[str] = ("h100",),
    switched: bool = False,
    installed: Mapping[str, str] | None = None,
    loaded: str | None = None,
    **changes: Any,
) -> Survey:
    """Return a host; `installed` are its driver's packages, `changes` what differs in its ground or elsewhere."""
    distribution, version = system.split("-")[:2]
    elsewhere = {path.replace("__", "."): value for path, value in changes.items() if "__" in path}
    here = {name: value for name, value in changes.items() if "__" not in name}
    driver = {**NO_DRIVER, "loaded": loaded, "library": loaded, "flavour": "open" if loaded else ""}
    facts = answer(
        tuple(cards),
        {
            "host.distribution": distribution,
            "host.version": version,
            "host.pretty": SYSTEMS[system]["pretty"],
            "host.kernel": SYSTEMS[system]["kernel"],
            "driver": driver,
            "nvml": {"state": "ok" if loaded else "no-library", "driver": loaded or "", "gpus": []},
            "packages": {"installed": dict(installed or {}), "held": []},
            "ground": ground(system, packages=dict(installed or {}), **{"unloadable": loaded is not None, **here}),
            **elsewhere,
        },
    )
    facts["pci"] += [SWITCH] if switched else []
    return parse(facts, "gpu-1")


def decided(found: Survey, **wished: Any) -> Verdict:
    """Return the verdict on a host."""
    return verdict("gpu-1", found, settings(**wished))


def set_of(system: str, version: str, **wished: Any) -> dict[str, str]:
    """Return the packages that a plan for a version would have installed on such a host."""
    plan = decided(host(system), driver_branch=version.partition(".")[0], driver_version=version, **wished).plan
    assert plan is not None
    assert plan.packages is not None
    revision = "1" if system.startswith("debian") else "1ubuntu1"
    if wished.get("driver_source") == "distribution":
        revision = f"0ubuntu0.{system.split('-')[1]}.1"
    if system in ("rhel-9.6", "almalinux-10.1"):
        return {name: f"3:{version}-1.el{system.split('-')[1].partition('.')[0]}" for name in plan.packages.install}
    return {name: f"{version}-{revision}" for name in plan.packages.install}
