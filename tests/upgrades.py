"""Runs with waves and turns, as their reports tell of them: whole, rolled back at the canary, interrupted, large."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from rackhand.health.notice import notice
from rackhand.health.policy import Policy, decided
from rackhand.outcome import (
    Comparison,
    Difference,
    Finding,
    HostOutcome,
    HostStatus,
    InstanceOutcome,
    Problem,
    RunOutcome,
    StepOutcome,
    TurnEvent,
    TurnOutcome,
    WaveOutcome,
)

OLD, NEW = "0a11c0ffee00", "3f9c2a7be1d0"
BEGAN_S = 42.0
# An event and how long after the one before it, forward and on the way back.
STOP = (("drain", 0.1), ("drained", 2.1), ("stop", 0.0), ("stopped", 1.2), ("freed", 0.6))
START = (("start", 0.1), ("answering", 27.9), ("gated", 0.9), ("serving", 0.05))
FAILED = (("start", 0.1), ("answering", 27.9), ("failed", 1.5), ("restoring", 0.0), ("stop", 0.05), ("stopped", 1.4))
BACK = (*FAILED, ("freed", 0.5), ("switched", 0.1), ("start", 0.1), ("answering", 24.0), ("gated", 0.7))
BACK_S = 26.9
HOST_WIDE = ("armed", "switched", "restoring", "restored", "accepted", "confirmed", "closed")
REASON = "gate-completion: the completion holds no token"
DIFFERENCES = (
    Difference(name="vLLM", before="0.31.0", after="0.32.0"),
    Difference(name="tiny-0: max-num-seqs", before="", after="512"),
)
MEMORY = Comparison(predicted_tokens=926_928, reported_tokens=926_880, percent=0.01, words="926,880 tokens")
NO_TOKEN = Problem(
    code="gate-completion",
    what="the server answers, and its completion holds no token",
    where="gpu-a1 vllm@tiny-0",
    next_step="look at journalctl -u vllm@tiny-0",
    evidence=("ERROR scheduler produced no output",),
)


def told(steps: Sequence[tuple[str, float]], began_s: float, instance: str = "tiny-0") -> Iterator[TurnEvent]:
    """Yield events one after another."""
    at_s = began_s
    for phase, after_s in steps:
        at_s += after_s
        detail = REASON if phase == "failed" else ""
        yield TurnEvent(
            at_s=round(at_s, 3), phase=phase, instance="" if phase in HOST_WIDE else instance, detail=detail
        )


def upgraded(name: str, wave: int = 1, began_s: float = BEGAN_S) -> HostOutcome:
    """Return a host that serves the new release after its turn."""
    steps = (("armed", 0.2), *STOP, ("switched", 0.1), *START, ("accepted", 0.0), ("confirmed", 0.4), ("closed", 0.1))
    events = tuple(told(steps, began_s))
    instance = InstanceOutcome(
        name="tiny-0", port=8000, gpus=("GPU-1",), gate="passed", text="a b c d e", ready_s=28.8, memory=MEMORY
    )
    return HostOutcome(
        name=name,
        status=HostStatus.HEALTHY,
        gpus="1x NVIDIA H100 80GB HBM3",
        vllm="0.32.0",
        model="tiny",
        release=NEW,
        instances=(instance,),
        steps=(StepOutcome(name="Turns | switch", changed=True, summary=f"release {NEW}", seconds=34.0),),
        seconds=80.0,
        ssh_commands=31,
        differences=DIFFERENCES,
        turn=TurnOutcome(
            wave=wave,
            began_s=began_s,
            ended_s=round(events[-1].at_s + 0.1, 1),
            before=OLD,
            after=NEW,
            out_s=32.9,
            start_s=27.9,
            cut_off=0,
            events=events,
        ),
    )


def rolled_back(name: str, wave: int = 1, began_s: float = BEGAN_S) -> HostOutcome:
    """Return a host on which the new release failed the gate, and that serves the old one again."""
    steps = (("armed", 0.2), *STOP, ("switched", 0.1), *BACK, ("serving", 0.05), ("restored", 0.0), ("closed", 0.1))
    good, events = upgraded(name, wave, began_s), tuple(told(steps, began_s))
    assert good.turn
    turn = replace(good.turn, ended_s=round(events[-1].at_s + 0.1, 1), after=OLD, back_s=BACK_S, events=events)
    problem = replace(NO_TOKEN, where=f"{name} vllm@tiny-0")
    return replace(
        good,
        status=HostStatus.ROLLED_BACK,
        release=OLD,
        vllm="0.31.0",
        problems=(problem,),
        turn=replace(turn, out_s=60.5),
        findings=ailing(name),
    )


def ailing(name: str) -> tuple[Finding, ...]:
    """Return what the health check found on a host that may serve all the same."""
    gpu = "0000:17:00.0"
    slow = [notice("power-brake", gpu=gpu), notice("pcie-width", "x8 of x16", gpu)]
    return decided([notice("power-limit", "500 of 700 W", gpu), *slow], Policy(), name)


def left_alone(name: str) -> HostOutcome:
    """Return a host that a stopped rollout did not come to."""
    good = upgraded(name)
    instances = tuple(replace(each, gate="not run", text="", ready_s=None, memory=None) for each in good.instances)
    barred = replace(NO_TOKEN, code="rollout-stopped", what="it did not get its turn", where=name, evidence=())
    return replace(
        good, status=HostStatus.NOT_RUN, release=OLD, instances=instances, steps=(), turn=None, problems=(barred,)
    )


def rollout(*waves: Sequence[HostOutcome], stopped: str = "") -> RunOutcome:
    """Return a run over waves; one whose hosts had no turn never began."""
    hosts = tuple(host for wave in waves for host in wave)
    ends = [host.turn.ended_s for host in hosts if host.turn and host.turn.ended_s is not None]
    return RunOutcome(
        run="20261123T230000Z-0a1b2c",
        command="pyinfra inventory/lab.py deploy.py -y",
        dry=False,
        started="2026-11-23T23:00:00+00:00",
        finished="2026-11-23T23:03:20+00:00",
        seconds=max([*ends, 70.0]) + 1,
        hosts=hosts,
        waves=tuple(_wave(number, wave) for number, wave in enumerate(waves, start=1)),
        stopped=stopped,
        owner="ops@control",
    )


def _wave(number: int, hosts: Sequence[HostOutcome]) -> WaveOutcome:
    turns = [host.turn for host in hosts if host.turn]
    ends = [turn.ended_s for turn in turns if turn.ended_s is not None]
    return WaveOutcome(
        number=number,
        hosts=tuple(host.name for host in hosts),
        began_s=min((turn.began_s for turn in turns), default=None),
        ended_s=max(ends) if turns and len(ends) == len(turns) else None,
    )


UPGRADE = rollout(
    [upgraded("gpu-a1")], [upgraded("gpu-a2", 2, 76.0), upgraded("gpu-b1", 2, 76.0)], [upgraded("gpu-b2", 3, 110.0)]
)
AT_THE_CANARY = rollout(
    [rolled_back("gpu-a1")],
    [left_alone("gpu-a2"), left_alone("gpu-b1")],
    stopped="gpu-a1, a canary, was rolled back",
)


def interrupted() -> RunOutcome:
    """Return a run that ended while its canary's engine started."""
    host = upgraded("gpu-a1")
    assert host.turn
    place = [event.phase for event in host.turn.events].index("start")
    turn = replace(
        host.turn, ended_s=None, after="", out_s=None, start_s=None, cut_off=None, events=host.turn.events[: place + 1]
    )
    return rollout([replace(host, status=HostStatus.INTERRUPTED, turn=turn)], [left_alone("gpu-a2")])


def large(hosts: int = 200) -> RunOutcome:
    """Return a run over many hosts, one of which was rolled back."""
    names = [f"gpu-{number:03}" for number in range(2, hosts + 1)]
    waves = [names[at : at + 50] for at in range(0, len(names), 50)]
    made = [
        [(rolled_back if name == "gpu-133" else upgraded)(name, number, BEGAN_S + 40.0 * number) for name in wave]
        for number, wave in enumerate(waves, start=2)
    ]
    return rollout([upgraded("gpu-001")], *made)
