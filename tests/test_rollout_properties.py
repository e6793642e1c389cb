"""What holds of every rollout, whatever the fleet, the rules and the failures: hundreds of invented ones."""

from collections import Counter

import pytest

from rackhand.rollout.capacity import Capacity
from rackhand.rollout.waves import canaries
from tests.rollouts import Rollout, invented

SEEDS = range(400)


@pytest.fixture(params=range(8), scope="module")
def runs(request: pytest.FixtureRequest) -> list[Rollout]:
    return [invented(seed).run() for seed in SEEDS if seed % 8 == request.param]


def wave_of(run: Rollout) -> dict[str, int]:
    return {name: wave.number for wave in run.conductor.waves for name in wave.hosts}


def test_everybody_gets_exactly_one_answer(runs: list[Rollout]) -> None:
    for run in runs:
        present = {actor.name for actor in run.actors if actor.present}
        assert run.verdicts.keys() | run.errors.keys() == present
        assert not run.verdicts.keys() & run.errors.keys()
        assert max(Counter(run.begun).values(), default=1) == 1
        admitted = {name for name, verdict in run.verdicts.items() if verdict.admitted}
        broke = {actor.name for actor in run.actors if actor.work_fails}
        assert admitted <= set(run.begun) <= admitted | broke


def test_never_are_two_waves_at_work(runs: list[Rollout]) -> None:
    for run in runs:
        waves, working = wave_of(run), list[str]()
        for what, name, _ in run.story:
            if name in waves:
                working.append(name) if what == "begin" else working.remove(name)
            assert len({waves[each] for each in working}) <= 1


def test_never_are_more_out_than_allowed(runs: list[Rollout]) -> None:
    for run in runs:
        most, out = run.policy.max_out, set[str]()
        for what, name, _ in run.story:
            serves = bool(run.by_name[name].intent.serves) and name in wave_of(run)
            out = out | {name} if what == "begin" and serves else out - {name}
            assert most is None or len(out) <= most


def test_never_are_fewer_servers_healthy_than_must_be(runs: list[Rollout]) -> None:
    for run in runs:
        if run.policy.min_replicas == "auto":
            continue
        for after, least in _healthy(run):
            assert all(after[model] >= least for model in ("llama", "qwen") if model in _kept(run)), run


def _kept(run: Rollout) -> set[str]:
    known = [a.intent for a in run.actors if a.present and not a.look_fails]
    return {model for intent in known for model in intent.will_serve}


def _healthy(run: Rollout) -> list[tuple[Counter[str], int]]:
    """Return what is healthy at each beginning of a turn that takes something out, as the hosts themselves know it."""
    seen: list[tuple[Counter[str], int]] = []
    known = [a for a in run.actors if a.present and not a.look_fails]
    healthy = {actor.name: Counter(actor.intent.serves) for actor in known}
    for what, name, _ in run.story:
        actor = run.by_name[name]
        if what == "end":
            healthy[name] = Counter() if actor.work_fails else Counter(actor.end.serves)
        elif actor.intent.disturbs:
            before = sum(healthy.values(), Counter[str]())
            healthy[name] = Counter(Capacity(policy=run.policy).during(actor.intent))
            after = sum(healthy.values(), Counter[str]())
            least = run.policy.min_replicas
            assert isinstance(least, int)
            # Only what this turn takes away has to be allowed: who serves nothing takes nothing.
            lost = [model for model in ("llama", "qwen") if after[model] < before[model]]
            seen += [(Counter({m: after[m] if m in lost else 99 for m in ("llama", "qwen")}), least)]
    return seen


def test_after_a_failure_beyond_the_budget_nobody_begins(runs: list[Rollout]) -> None:
    for run in runs:
        waves = wave_of(run)
        canary = {*canaries(run.fleet(), run.policy.canary), *(run.planned[0] if run.planned else ())}
        failed = [a.name for a in run.actors if not a.present or a.look_fails]
        for what, name in run.known:
            if what == "let begin":
                assert name in waves
                assert len(failed) <= run.policy.max_failures
                assert not canary & set(failed)
            elif what == "end" and (run.by_name[name].work_fails or not run.by_name[name].end.good):
                failed.append(name)


def test_the_first_wave_is_the_canary_alone(runs: list[Rollout]) -> None:
    for run in runs:
        begun = [name for name in run.begun if name in wave_of(run)]
        assert not begun or begun[0] in run.planned[0]


def test_a_rollout_that_ended_early_says_why(runs: list[Rollout]) -> None:
    for run in runs:
        barred = [verdict for verdict in run.verdicts.values() if not verdict.admitted]
        assert all(verdict.reason for verdict in barred)
        assert not barred or run.conductor.stopped


def test_a_rollout_tells_the_same_story_again(runs: list[Rollout]) -> None:
    for run in runs[:10]:
        assert Rollout(run.actors, run.policy, run.pool).run().story == run.story


def test_the_invented_rollouts_are_worth_it() -> None:
    runs = [invented(seed).run() for seed in SEEDS]
    ended = Counter("stopped" if run.conductor.stopped else "through" for run in runs if run.planned)
    assert min(ended.values()) > 50
    said = " ".join(run.conductor.stopped for run in runs)
    for words in ("the canary failed", "rollout_max_failures is", "rollout_min_replicas is", "rollout_max_out is"):
        assert words in said
