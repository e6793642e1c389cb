"""The release: rendered from this host's facts, staged whole, then made the current one."""

from rackhand import truth
from rackhand.operations import Change
from rackhand.plan import Plan
from rackhand.render import ROOT, Release, render
from rackhand.run import HostRun
from rackhand.seen import has_fabric

TIMEOUT_S = 600


def stage(host: HostRun) -> Change | None:
    """Render the release and place it beside the current one."""
    if not host.live and not _complete(host.planned):
        return None
    host.release = release = render(host.planned, host.intent.settings, host.intent.api_key, has_fabric(host.survey()))
    there = host.survey().state.releases.get(release.id)
    if there == release.fingerprint:
        return None

    def apply() -> None:
        content = {path: {"text": file.text, "mode": file.mode} for path, file in release.files.items()}
        with host.waiting("vLLM to accept its options", TIMEOUT_S, log="options"):
            placed = host.call(
                "release.place",
                TIMEOUT_S,
                root=ROOT,
                release=release.id,
                content=content,
                venv=host.planned.venv,
                model=host.planned.model,
                timeout_s=TIMEOUT_S - 60,
            )
        host.note("release", release=release.id, **placed)

    verb = "restore" if there else "render"
    return Change(summary=f"{verb} release {release.id} ({_names(host)})", apply=apply)


def switch(host: HostRun) -> Change | None:
    """Point `current` to the staged release and install its unit file."""
    release = host.release
    if release is None or not _differs(host, release):
        return None
    before = host.survey().state.current or "none"

    def apply() -> None:
        host.call("release.switch", root=ROOT, release=release.id)
        host.note("switch", release=release.id, before=before)

    again = f"restore the unit file of release {release.id}"
    lost = "".join(f"; {words}" for words in truth.losses(host.survey().state, host.planned.instances))
    summary = again if before == release.id else f"switch from release {before} to {release.id}{lost}"
    return Change(summary=summary, apply=apply)


def _differs(host: HostRun, release: Release) -> bool:
    state = host.survey().state
    units = (state.unit_sha256, state.drop_ins) != (release.unit_sha256, release.drop_ins)
    return state.current != release.id or units


def _complete(plan: Plan) -> bool:
    return all(gpu.uuid for gpu in plan.gpus)


def _names(host: HostRun) -> str:
    return ", ".join(instance.name for instance in host.planned.instances)
