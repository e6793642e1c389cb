"""Which hosts keep a run from beginning on the others, before anything has changed anywhere. Pure."""

from collections.abc import Iterable

from rackhand.naming import some
from rackhand.outcome import Problem
from rackhand.run import HostRun
from rackhand.verdict import NAMED

SILENT = ("connection-lost", "timeout")
# What became of the cards of one host, whatever is deployed to it.
UNFIT = ("gpu-unhealthy", "gpu-lost", "gpu-not-in-nvml", "gpu-count")


def hindrance(hosts: Iterable[HostRun]) -> str:
    """Say which hosts were refused where they keep the run from beginning; empty where it goes on without them.

    A host that merely fell silent keeps nobody from anything. For the others it is the policy of each host: for GPUs
    that ail or are missing `preflight_on_unhealthy`, for everything else `preflight_on_refusal`.
    """
    everyone = list(hosts)
    refused = {host.name: host for host in everyone if _reasons(host)}
    if not any(_stops(host) for host in refused.values()):
        return ""
    return f"{len(refused)} of {len(everyone)} refused ({some(sorted(refused), NAMED)})"


def _reasons(host: HostRun) -> list[Problem]:
    found = (*host.problems, *(host.refusal.reasons if host.refusal else ()))
    return [each for each in found if each.code not in SILENT]


def _stops(host: HostRun) -> bool:
    if host.wishes is None:
        return True
    settings = host.wishes.settings
    unfit = all(each.code in UNFIT for each in _reasons(host))
    return (settings.preflight_on_unhealthy if unfit else settings.preflight_on_refusal) == "stop"
