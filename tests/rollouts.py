"""Rollouts on paper: hosts whose turns last a few moments of a clock that nobody waits for."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from io import StringIO

import gevent  # type: ignore[import-untyped]
from gevent.pool import Pool  # type: ignore[import-untyped]
from typing_extensions import override

from rackhand.rollout.board import Board
from rackhand.rollout.conductor import Conductor
from rackhand.rollout.intent import Intent, Member, Result, Verdict
from rackhand.rollout.policy import Policy

MODEL = "llama"


@dataclass(kw_only=True)
class Actor:
    """One host: what it wants, for how many moments it works, and how that ends."""

    name: str
    groups: tuple[str, ...] = ()
    intent: Intent = field(default_factory=lambda: serving(1))
    moments: int = 3
    result: Result | None = None
    present: bool = True
    how: str = "failed"
    look_fails: Exception | None = None
    work_fails: Exception | None = None

    @property
    def end(self) -> Result:
        return self.result or Result(good=True, serves=self.intent.will_serve)


def serving(count: int, disturbs: bool = True, whole: bool = False, model: str = MODEL) -> Intent:
    """Return the intent of a host that serves a model before and after."""
    replicas = {model: count} if count else {}
    return Intent(disturbs=disturbs, serves=replicas, will_serve=replicas, whole=whole)


def bare(count: int = 1) -> Intent:
    return Intent(disturbs=True, serves={}, will_serve={MODEL: count})


def rolled_back(count: int = 1) -> Result:
    return Result(good=False, serves={MODEL: count}, how="rolled back")


LOST = Result(good=False, serves={}, how="lost")


def actors(count: int, **changes: object) -> list[Actor]:
    """Return hosts h1, h2, …; `changes` maps names to whole actors or to results."""
    made = [Actor(name=f"h{number}") for number in range(1, count + 1)]
    for actor in made:
        change = changes.get(actor.name)
        if isinstance(change, Result):
            actor.result = change
        elif isinstance(change, Intent):
            actor.intent = change
    return made


class Told(Board):
    """A board that knows in which order hosts were let begin, which is a moment before they do."""

    def __init__(self, run: "Rollout") -> None:
        super().__init__(run.stream, 0.0, lambda: run.now)
        self.run = run

    @override
    def began(self, host: str) -> None:
        self.run.known.append(("let begin", host))
        super().began(host)


@dataclass
class Rollout:
    """Runs a conductor over actors; `story` holds ("begin"|"end", host, moment) in the order in which it happened.

    `known` holds ("let begin"|"end", host) in the order in which the conductor decided and heard.
    """

    actors: Sequence[Actor]
    policy: Policy = field(default_factory=Policy)
    pool: int = 1000
    now: float = 0.0
    story: list[tuple[str, str, float]] = field(default_factory=list)
    working: list[str] = field(default_factory=list)
    most_working: int = 0
    slept: float = 0.0
    stream: StringIO = field(default_factory=StringIO)
    known: list[tuple[str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.by_name = {actor.name: actor for actor in self.actors}
        self.board = Told(self)
        self.conductor = Conductor(
            self.policy, self.fleet, self.look, self.work, self.board, 0.0, lambda: self.now, self.sleep
        )
        self.verdicts: dict[str, Verdict] = {}
        self.errors: dict[str, Exception] = {}

    def fleet(self) -> list[Member]:
        return [Member(name=a.name, groups=a.groups, present=a.present, how=a.how) for a in self.actors]

    def look(self, name: str) -> Intent:
        gevent.sleep(0)
        if fails := self.by_name[name].look_fails:
            raise fails
        return self.by_name[name].intent

    def work(self, name: str) -> Result:
        actor = self.by_name[name]
        self.story.append(("begin", name, self.now))
        if actor.intent.disturbs:
            self.working.append(name)
            self.most_working = max(self.most_working, len(self.working))
        for _ in range(actor.moments):
            gevent.sleep(0)
            self.now += 1
        if actor.intent.disturbs:
            self.working.remove(name)
        self.story.append(("end", name, self.now))
        self.known.append(("end", name))
        if actor.work_fails:
            raise actor.work_fails
        return actor.end

    def sleep(self, seconds: float) -> None:
        gevent.sleep(0)
        self.slept += seconds
        self.now += seconds

    def attend(self, name: str) -> None:
        try:
            self.verdicts[name] = self.conductor.attend(name)
        except Exception as error:
            self.errors[name] = error

    def run(self, order: Sequence[str] = ()) -> "Rollout":
        """Let every present host's operation ask the conductor, as pyinfra's pool would."""
        names = order or [actor.name for actor in self.actors if actor.present]
        with gevent.Timeout(20):
            Pool(self.pool).map(self.attend, names)
        return self

    @property
    def begun(self) -> list[str]:
        return [name for what, name, _ in self.story if what == "begin"]

    @property
    def ended(self) -> list[str]:
        return [name for what, name, _ in self.story if what == "end"]

    @property
    def planned(self) -> list[tuple[str, ...]]:
        return [wave.hosts for wave in self.conductor.waves]


def invented(seed: int) -> Rollout:
    """Invent a fleet and a policy: every kind of host, failure and rule comes up in a few hundred seeds."""
    dice = random.Random(seed)
    made = [_actor(dice, number) for number in range(dice.randint(1, 12))]
    policy = Policy(
        canary=tuple(dice.sample(["h0", "h3", "blue", "h7"], dice.choice((0, 0, 1, 2)))),
        waves=dice.choice(((1, "25%"), (1,), (2, 3), ("100%",), (1, 2, 4), ())),
        soak_s=dice.choice((0, 0, 5)),
        max_out=dice.choice((None, None, 1, 2)),
        max_failures=dice.choice((0, 1, 3)),
        min_replicas=dice.choice(("auto", "auto", 0, 1, 2)),
        instances_at_once=dice.choice((1, 2)),
    )
    return Rollout(made, policy, pool=dice.choice((1, 2, 1000)))


def _actor(dice: random.Random, number: int) -> Actor:
    model = dice.choice((MODEL, MODEL, "qwen"))
    count = dice.choice((0, 1, 1, 2, 4))
    before: Mapping[str, int] = {model: count} if count else {}
    after = before if dice.random() < 0.8 else {dice.choice((MODEL, "qwen")): dice.choice((1, 2))}
    intent = Intent(disturbs=dice.random() < 0.8, serves=before, will_serve=after, whole=dice.random() < 0.3)
    intent = intent if intent.disturbs else replace(intent, will_serve=before)
    actor = Actor(name=f"h{number}", intent=intent, moments=dice.randint(0, 6), present=dice.random() > 0.08)
    actor.groups = (dice.choice(("blue", "green")),)
    fate = dice.random()
    if fate < 0.1:
        actor.result = Result(good=False, serves=before, how="rolled back")
    elif fate < 0.15:
        actor.result = Result(good=False, how="lost")
    elif fate < 0.18:
        actor.work_fails = OSError("unplugged")
    elif fate < 0.21:
        actor.look_fails = OSError("unplugged")
    return actor
