"""Preflight: everything that rules a host out, as a list of problems. Pure, read-only facts in."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import PurePath

from rackhand.catalog import Engine, branch_of, check_options, check_variables, engine
from rackhand.driver import choice
from rackhand.errors import RackhandError
from rackhand.outcome import Problem
from rackhand.plan import Instance, PlannedGpu
from rackhand.seen import cards, inventory
from rackhand.settings import Settings
from rackhand.survey import Survey
from rackhand.wishes import Wishes

MARGIN_MIB = 512
OURS = "vllm@"
# The line of vLLM itself; a CPU build is another distribution of the same versions.
_LOCKED = re.compile(r"^vllm(?:-cpu)?==(?P<version>[0-9]+(?:\.[0-9]+)*(?:\.?(?:post|rc)[0-9]+)?)", re.MULTILINE)


def system(host: str, survey: Survey, wishes: Wishes) -> list[Problem]:
    """Check the operating system, the disk and the engine's needs."""
    return [*_os(host, survey, wishes.settings), *_disk(host, survey, wishes), *_engine(host, survey, wishes)]


def _os(host: str, survey: Survey, settings: Settings) -> Iterator[Problem]:
    if not survey.host.systemd:
        yield _problem(host, "no-systemd", "systemd does not run here", "use a host that was booted with systemd")
    managed, ready = settings.driver_manage, survey.driver.ready
    if survey.driver.runfile and managed:
        yield _problem(
            host,
            "runfile-driver",
            "a driver from NVIDIA's .run installer is here",
            "run nvidia-uninstall on the host first",
        )
    # The driver packages bring the blacklist, and the reboot after them ends nouveau.
    if survey.driver.nouveau and not ready and not (managed and settings.driver_reboot_allowed):
        yield _problem(
            host, "nouveau", "the nouveau driver is loaded", "blacklist nouveau, rebuild the initramfs and reboot"
        )


def _disk(host: str, survey: Survey, wishes: Wishes) -> Iterator[Problem]:
    venv = 0 if survey.state.venv.digest == wishes.venv else wishes.settings.engine_disk_mib
    model = 0 if survey.state.model.files else wishes.total_bytes >> 20
    need, free = venv + model + MARGIN_MIB, survey.resources.disk_free_mib
    if need > free and venv + model:
        parts = f"{venv:,} environment, {model:,} weights, {MARGIN_MIB:,} reserve"
        what = f"{need:,} MiB are needed below /opt/rackhand ({parts}) and {free:,} MiB are free"
        yield _problem(host, "disk-too-small", what, f"free {need - free:,} MiB or mount a larger disk there")


def _engine(host: str, survey: Survey, wishes: Wishes) -> Iterator[Problem]:
    settings = wishes.settings
    try:
        release = engine(settings.engine_version)
    except RackhandError as error:
        yield Problem.of(RackhandError(error.code, error.what, host, error.next_step))
        return
    managed = settings.driver_manage
    branch = int(choice.branch(survey, settings) if managed else branch_of(survey.nvml.driver or "0"))
    if branch and branch < int(release.min_branch):
        what = f"vLLM {settings.engine_version} needs driver {release.min_branch} or newer, {branch} is wished or here"
        yield _problem(
            host, "driver-too-old", what, f"set driver_branch to {release.min_branch}, or an older engine_version"
        )
    if _number(survey.host.glibc) < release.glibc_min:
        need = ".".join(map(str, release.glibc_min))
        yield _problem(
            host, "glibc-too-old", f"glibc {survey.host.glibc} is older than {need}", "use a newer distribution release"
        )
    yield from _environment(host, wishes, release)
    yield from _options(host, settings)


def _environment(host: str, wishes: Wishes, release: Engine) -> Iterator[Problem]:
    """Hold the version that the requirements install, and the Python, against what is wished."""
    settings = wishes.settings
    locked = _LOCKED.search(wishes.requirements)
    if locked and locked["version"] != settings.engine_version:
        what = f"{settings.engine_requirements} holds {locked['version']}, engine_version is {settings.engine_version}"
        yield _problem(
            host, "engine-mismatch", what, f"set engine_version to '{locked['version']}', or other requirements"
        )
    least, most = (".".join(map(str, pair)) for pair in (release.python_min, release.python_max))
    if not release.python_min <= _number(settings.engine_python) <= release.python_max:
        what = f"vLLM {release.version} runs on Python {least} to {most}, engine_python is {settings.engine_python}"
        yield _problem(host, "engine-python", what, f"set engine_python to '{most}' or older, at least '{least}'")


def _options(host: str, settings: Settings) -> Iterator[Problem]:
    """Let the catalogue judge the user's options and variables for this version."""
    version = settings.engine_version
    found = [*check_options(version, settings.serve_options), *check_variables(version, settings.serve_env)]
    yield from (replace(problem, where=host, what=f"{problem.where}: {problem.what}") for problem in found)


def hardware(host: str, survey: Survey, found: tuple[PlannedGpu, ...], settings: Settings) -> list[Problem]:
    """Check the GPUs against the inventory, against each other's view (PCI, NVML) and against what vLLM can use."""
    return [*_presence(host, survey, found, settings), *_nvml(host, survey, found), *_ability(host, survey, settings)]


def _presence(host: str, survey: Survey, found: tuple[PlannedGpu, ...], settings: Settings) -> Iterator[Problem]:
    promised = settings.gpu_count
    if not found:
        wish = f"the inventory promises {promised}" if promised else "the PCI bus shows none"
        yield _problem(
            host,
            "no-gpu",
            f"no NVIDIA GPU here; {wish}",
            "check the hardware (lspci -nn), or take the host out of the inventory",
        )
    elif promised is not None and promised != len({gpu.address for gpu in found}):
        yield _problem(
            host,
            "gpu-count",
            f"{cards(found)} here, the inventory promises {promised} GPU{'' if promised == 1 else 's'}",
            "look for a fallen GPU (lspci, dmesg) or correct gpu_count",
        )
    model = settings.gpu_model
    others = sorted({gpu.card for gpu in found if model and model.lower() not in gpu.card.lower()})
    if others:
        yield _problem(
            host,
            "gpu-model",
            f"{', '.join(others)} here, the inventory promises {model}",
            "check the host or correct gpu_model",
        )


def _nvml(host: str, survey: Survey, found: tuple[PlannedGpu, ...]) -> Iterator[Problem]:
    if survey.nvml.state == "lost":
        gone = [gpu for gpu in survey.nvml.gpus if gpu.lost]
        lost = ", ".join(f"{gpu.index} ({gpu.detail})" if gpu.detail else str(gpu.index) for gpu in gone)
        yield _problem(
            host,
            "gpu-lost",
            f"NVML has lost GPU {lost}",
            "look for Xid lines in the kernel log; reset the GPU or reboot",
        )
    seen = {gpu.address for gpu in survey.nvml.gpus}
    missing = sorted({gpu.address for gpu in found} - seen)
    if survey.nvml.state == "ok" and missing:
        yield _problem(
            host,
            "gpu-not-in-nvml",
            f"{', '.join(missing)} is on the PCI bus and not in NVML",
            "look for RmInitAdapter or Xid lines in the kernel log",
        )


def _ability(host: str, survey: Survey, settings: Settings) -> Iterator[Problem]:
    try:
        least = engine(settings.engine_version).capability
    except RackhandError:
        return  # already reported by the engine's own check
    branch = int(choice.branch(survey, settings))
    for gpu in inventory(survey).gpus:
        oldest, newest = int(gpu.card.min_branch), int(gpu.card.max_branch or branch)
        if gpu.card.capability >= least and settings.driver_manage and not oldest <= branch <= newest:
            what = f"{gpu.card.name} at {gpu.address} needs driver branch {oldest} or newer, {branch} is wished"
            yield _problem(host, "driver-branch", what, f"set driver_branch to {oldest} or newer, or to None")
        if gpu.card.capability < least:
            have, need = (".".join(map(str, pair)) for pair in (gpu.card.capability, least))
            wanted = f"vLLM {settings.engine_version} needs {need}"
            what = f"{gpu.card.name} at {gpu.address} has compute capability {have}, {wanted}"
            yield _problem(
                host, "gpu-too-old", what, "take this host out of the inventory: no current vLLM has kernels for it"
            )


def ports(host: str, survey: Survey, instances: Sequence[Instance]) -> list[Problem]:
    """Check that the planned ports are free or ours."""
    wanted = {instance.port: instance for instance in instances}
    taken = [item for item in survey.listeners if item.port in wanted and not PurePath(item.unit).name.startswith(OURS)]
    return [
        _problem(
            host, "port-taken", f"port {item.port} is taken by {item}", "stop that service or set another serve_port"
        )
        for item in taken
    ]


def _problem(host: str, code: str, what: str, next_step: str) -> Problem:
    return Problem(code=code, what=what, where=host, next_step=next_step)


def _number(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())
