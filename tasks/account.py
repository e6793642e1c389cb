"""The host itself: service user, directories, operating system packages."""

from rackhand import compiler
from rackhand.operations import Change
from rackhand.render import ROOT, USER
from rackhand.run import HostRun
from rackhand.session import inner_s

TIMEOUT_S = 1800


def prepare(host: HostRun) -> Change | None:
    """Create the unprivileged user and our directories, and install the packages that vLLM needs."""
    seen = host.survey()
    wanted = compiler.packages(host.intent.settings, seen.host.distribution)
    missing = [name for name in wanted if name not in seen.packages.installed]
    if seen.state.user and not missing:
        return None

    def apply() -> None:
        with host.waiting("operating system packages", TIMEOUT_S, log="packages"):
            host.call(
                "account.prepare", TIMEOUT_S, root=ROOT, user=USER, packages=missing, timeout_s=inner_s(TIMEOUT_S)
            )

    return Change(
        summary=f"user {USER}, directories" + (f", packages {', '.join(missing)}" if missing else ""), apply=apply
    )
