"""The release: rendered from this host's facts and placed beside the one that serves."""

from rackhand.operations import Change
from rackhand.plan import Plan
from rackhand.render import ROOT, Release, render
from rackhand.run import HostRun
from rackhand.seen import has_fabric
from rackhand.shelf import Shelved

TIMEOUT_S = 600


def stage(host: HostRun) -> Change | None:
    """Render the release and place it beside the current one; later where the GPUs are not known yet."""
    if not _complete(host.planned):
        return None
    wishes = host.intent
    rendered = render(host.planned, wishes.settings, wishes.weights, wishes.api_key, has_fabric(host.survey()))
    host.release, host.target = rendered, Shelved.model_validate(rendered.manifest)
    there = host.survey().state.releases.get(rendered.id)
    if there == rendered.fingerprint:
        return None

    verb = "restore" if there else "render"
    summary = f"{verb} release {rendered.id} ({_names(host)})"
    return Change(summary=summary, apply=lambda: _place(host, rendered))


def _place(host: HostRun, rendered: Release) -> None:
    content = {path: {"text": file.text, "mode": file.mode} for path, file in rendered.files.items()}
    host.board.phase(host.name, "render")  # of a host that is not in its turn nothing is shown
    with host.waiting("vLLM to accept its options", TIMEOUT_S, log="options"):
        placed = host.call(
            "release.place",
            TIMEOUT_S,
            root=ROOT,
            release=rendered.id,
            content=content,
            venv=host.planned.venv,
            model=host.planned.model,
            timeout_s=TIMEOUT_S - 60,
        )
    host.note("release", release=rendered.id, **placed)


def _complete(plan: Plan) -> bool:
    return all(gpu.uuid for gpu in plan.gpus)


def _names(host: HostRun) -> str:
    return ", ".join(instance.name for instance in host.planned.instances)
