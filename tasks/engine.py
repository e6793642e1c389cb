"""vLLM itself, in an environment of its own that is complete or absent."""

from rackhand.operations import Change
from rackhand.render import ROOT
from rackhand.run import HostRun
from rackhand.session import inner_s


def environment(host: HostRun) -> Change | None:
    """Build the environment from hashed requirements with uv, beside the one that is serving."""
    wishes, state = host.intent, host.survey().state
    if state.venv.digest == wishes.venv:
        return None
    settings = wishes.settings

    def apply() -> None:
        _bring_uv(host)
        with host.waiting(f"vLLM {settings.engine_version} environment", settings.engine_build_timeout_s, log="venv"):
            record = host.call(
                "venv.build",
                settings.engine_build_timeout_s,
                root=ROOT,
                digest=wishes.venv,
                requirements=wishes.requirements,
                python=settings.engine_python,
                uv=wishes.uv.name,
                environment=dict(settings.engine_uv_env),
                timeout_s=inner_s(settings.engine_build_timeout_s),
            )
        host.note("environment", venv=wishes.venv, vllm=record["vllm"], seconds=record["seconds"])

    return Change(summary=f"build environment {wishes.venv} for vLLM {settings.engine_version}", apply=apply)


def _bring_uv(host: HostRun) -> None:
    if host.survey().state.uv:
        return
    uv = host.intent.uv
    wanted = [{"path": uv.name, "size": uv.path.stat().st_size, "sha256": uv.sha256}]
    with host.waiting("upload of uv", 600):
        incoming = host.call("weights.open_incoming", root=ROOT, model="uv", wanted=wanted)
        if incoming["missing"]:
            host.session.put(uv.path, f"{incoming['place']}/{uv.name}")
        host.call("venv.accept_uv", root=ROOT, name=uv.name, sha256=uv.sha256)
