"""The weights: copied from here or downloaded from a hub, always checked, always complete or absent."""

from pathlib import Path

from rackhand.operations import Change
from rackhand.render import ROOT
from rackhand.run import HostRun
from rackhand.session import inner_s


def present(host: HostRun) -> Change | None:
    """Bring the weights unless their record is there and every file has its size."""
    state, weights = host.survey().state, host.intent.weights
    if state.model.files and state.model_intact:
        return None
    if weights.directory is not None:
        return Change(
            summary=f"copy {weights.id} ({weights.total_bytes >> 20} MiB)", apply=lambda: _copy(host, weights.directory)
        )
    return Change(summary=f"download {weights.source}", apply=lambda: _download(host))


def _copy(host: HostRun, directory: Path | None) -> None:
    weights, limit = host.intent.weights, host.intent.settings.model_transfer_timeout_s
    wanted = [file.model_dump() for file in weights.files]
    done = {"bytes": 0}
    with host.waiting(
        f"copy of {weights.id}", limit, detail=lambda: f"{done['bytes'] >> 20} of {weights.total_bytes >> 20} MiB"
    ):
        incoming = host.call("weights.open_incoming", limit, root=ROOT, model=weights.id, wanted=wanted)
        for file in weights.files:
            if file.path in incoming["missing"]:
                host.session.put((directory or Path()) / file.path, f"{incoming['place']}/{file.path}")
            done["bytes"] += file.size
        host.call("weights.accept", limit, root=ROOT, model=weights.id, wanted=wanted, source=weights.source)
    host.note("weights", model=weights.id, source=weights.source)


def _download(host: HostRun) -> None:
    wishes, settings = host.intent, host.intent.settings
    environment = {"HF_ENDPOINT": settings.model_hub_endpoint} if settings.model_hub_endpoint else {}
    if wishes.hub_token is not None:
        environment["HF_TOKEN"] = wishes.hub_token.get_secret_value()
    with host.waiting(f"download of {wishes.weights.source}", settings.model_transfer_timeout_s, log="weights"):
        host.call(
            "weights.download",
            settings.model_transfer_timeout_s,
            root=ROOT,
            model=wishes.weights.id,
            hub_id=settings.model_hub_id,
            revision=settings.model_revision,
            venv=wishes.venv,
            environment=environment,
            timeout_s=inner_s(settings.model_transfer_timeout_s),
        )
    host.note("weights", model=wishes.weights.id, source=wishes.weights.source)
