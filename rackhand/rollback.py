"""Which release a host goes back to, or why to none: what the host has and what was asked for, in. Pure."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from rackhand import remedies, settings
from rackhand.driver import back
from rackhand.errors import RackhandError
from rackhand.outcome import Problem
from rackhand.plan import Instance, Plan, PlannedGpu, Refusal
from rackhand.seen import cards, gpus
from rackhand.settings import Settings
from rackhand.shelf import Shelved
from rackhand.survey import Survey
from rackhand.wishes import Wishes, bare

# What a rollback reads of an inventory; how a host is served stands in the release.
READ = (
    *("rollout_", "drain_", "lease_", "release_", "router_", "gate_", "preflight_", "report_"),
    *("driver_manage", "driver_reboot_", "driver_install_"),
)
IN_TURN = "turn"
TYPED = re.compile(r"(?:--data=)?release=(.*)")
ID = re.compile(r"[0-9a-f]{1,12}")


def resolve(data: Mapping[str, Any], typed: Sequence[str], where: str) -> tuple[Wishes, str]:
    """Return what a rollback needs of the inventory, and the id (or its beginning) that was asked for, if any.

    `typed` is the command line: there an id of digits alone is still a text. Raises RackhandError.
    """
    wished = settings.part(data, READ, where)
    words = [found[1] for word in typed if (found := TYPED.fullmatch(word))]
    release = words[-1] if words else str(data.get("release") or "")
    if release and not ID.fullmatch(release):
        what = f"release: '{release}' is no id of a release, nor the beginning of one"
        raise RackhandError("settings", what, where, "give --data release= up to 12 digits of 0-9a-f")
    return bare(wished), release


def served(wishes: Wishes, release: Shelved) -> Wishes:
    """Complete the wishes with what the release says: report, gate and progress read them there."""
    told = {
        "model_name": release.served_name,
        "engine_version": release.engine_version,
        "serve_host": release.host,
        "serve_port": min((each.port for each in release.instances), default=8000),
    }
    return bare(wishes.settings.model_copy(update=told), release.model, release.venv)


def choose(host: str, survey: Survey, wished: str, settings: Settings) -> Shelved | Refusal:
    """Choose the release that a host goes back to; without an id the previous one, unless it went back already."""
    there = {each.id: each for each in survey.shelf}
    usual = survey.state.current if went_back(survey) else survey.state.previous
    names = [name for name in there if name.startswith(wished)] if wished else [usual]
    reasons = list(_unfound(host, survey, wished, [name for name in names if name in there]))
    if not reasons:
        release = there[names[0]]
        reasons = [*_unfit(host, survey, release, named=bool(wished)), *_gpus(host, survey, release)]
        driver = back.refusal(host, survey, release.driver, settings)
        reasons += [driver] if driver else []
        if not reasons:
            return release
    return Refusal(host=host, cards=cards(gpus(survey)), reasons=tuple(reasons))


def _unfound(host: str, survey: Survey, wished: str, names: Sequence[str]) -> Iterator[Problem]:
    there, step = listed(survey), "choose one of those below: --data release=<id>"
    if not there:
        what = "there is no release of rackhand on the host"
        yield Problem(code="not-deployed", what=what, where=host, next_step="deploy to it first")
    elif wished and not names:
        what = f"the host has no release {wished}"
        yield Problem(code="no-such-release", what=what, where=host, next_step=step, evidence=there)
    elif len(names) > 1:
        what = f"{len(names)} releases begin with {wished}: {', '.join(names)}"
        yield Problem(code="ambiguous-release", what=what, where=host, next_step="give more of its id", evidence=there)
    elif not names or (not wished and names[0] == survey.state.current and not went_back(survey)):
        what = "the host has no previous release to go back to"
        yield Problem(code="no-previous", what=what, where=host, next_step=step, evidence=there)


def current(survey: Survey) -> Shelved | None:
    """Return the release that a host has now; None without one that makes sense."""
    return next((each for each in survey.shelf if each.id == survey.state.current), None)


def went_back(survey: Survey) -> bool:
    """Tell whether the release of a host is one that it went back to: running a rollback again must not undo it."""
    now = current(survey)
    return now is not None and now.back != ""


def stays(now: Shelved, moves: Iterable[tuple[Shelved, Shelved]], others: Iterable[Shelved]) -> bool:
    """Tell whether a host serves already what others go back to (pairs of from and to), and so was never changed.

    It does where the run that accepted its release accepted theirs, too, or where engine and model are those that they
    go to and not those that they leave. Ids differ with the GPUs, and a fleet is not always deployed in one run. It
    does, too, where one of the `others` came back to the like in its turn, in a run that did not change this host.
    """
    same = any((now.run and now.run == to.run) or _kind(now) == _kind(to) != _kind(left) for left, to in moves)
    failed = [each for each in others if each.back == IN_TURN]
    return same or any(_kind(now) == _kind(each) and now.run != each.run for each in failed)


def _kind(release: Shelved) -> tuple[str, str, str]:
    return release.engine_version, release.model, release.served_name


def listed(survey: Survey) -> tuple[str, ...]:
    """List the releases of a host for a person, the newest first."""
    marks = {survey.state.current: ", current", survey.state.previous: ", previous"}
    return tuple(
        f"{each.id}  vLLM {each.engine_version}, {each.model}, {each.date} UTC, {each.verdict or 'no verdict'}"
        f"{marks.get(each.id, '')}{f', lacks {each.missing}' if each.missing else ''}"
        for each in sorted(survey.shelf, key=lambda each: each.when, reverse=True)
    )


def _unfit(host: str, survey: Survey, release: Shelved, *, named: bool) -> Iterator[Problem]:
    if release.missing:
        what = f"release {release.id} lacks {release.missing} on the host"
        step = "choose another with --data release=<id>, or deploy"
        yield Problem(code="release-incomplete", what=what, where=host, next_step=step, evidence=listed(survey))
    if release.verdict == "failed" and not named:
        what = f"the previous release {release.id} did not pass its gate on {release.date} UTC"
        step = f"try it all the same with --data release={release.id}, or choose another"
        yield Problem(code="release-failed", what=what, where=host, next_step=step, evidence=listed(survey))


def _gpus(host: str, survey: Survey, release: Shelved) -> Iterator[Problem]:
    """Yield why the release's instances cannot have their GPUs now."""
    nvml = survey.nvml
    if nvml.state not in ("ok", "lost"):
        what, step = f"NVML does not work: {nvml.detail or nvml.state}", remedies.nvml(nvml.state)
        yield Problem(code=f"nvml-{nvml.state}", what=what, where=host, next_step=step)
        return
    there = {gpu.uuid for gpu in gpus(survey) if gpu.uuid}
    for instance in release.instances:
        gone = [uuid for uuid in instance.gpus if uuid not in there]
        if gone:
            what = f"release {release.id} serves {instance.name} on GPUs that are not there: {', '.join(gone)}"
            step = "look for Xid lines in the kernel log; or deploy, which plans for the GPUs that are there"
            yield Problem(code="gpu-missing", what=what, where=host, next_step=step)


def warnings(host: str, survey: Survey, release: Shelved, settings: Settings) -> tuple[Problem, ...]:
    """Return what is not as it was when the release served; none of it is changed by a rollback."""
    return tuple(_warnings(host, survey, release, settings))


def _warnings(host: str, survey: Survey, release: Shelved, settings: Settings) -> Iterator[Problem]:
    loaded = survey.driver.loaded or ""
    if back.differs(survey, release.driver) and not back.moves(survey, release.driver, settings):
        age = "newer" if _version(loaded) > _version(release.driver) else "older"
        what = (
            f"driver {loaded} is {age} than {release.driver}, with which release {release.id} ran; it is left as it is"
        )
        step = "nothing if the release passes its gate" if age == "newer" else "deploy if the release does not start"
        yield Problem(code="driver-changed", what=what, where=host, next_step=step)
    if release.back and release.id == survey.state.current:
        what = f"release {release.id} is one that the host went back to on {release.date} UTC; it stays"
        step = "nothing; another one is tried with --data release=<id> (rackhand status --json)"
        yield Problem(code="back-already", what=what, where=host, next_step=step)
    if release.edited:
        what = (
            f"files of release {release.id} were changed by hand: {', '.join(release.edited)}; they serve as they are"
        )
        yield Problem(code="release-edited", what=what, where=host, next_step="a deploy of its settings puts them back")


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", text))


def plan(host: str, survey: Survey, release: Shelved, settings: Settings) -> Plan:
    """Return the plan of a release that is on the host: what its manifest says, on the GPUs that are there."""
    found, driver = gpus(survey), back.plan(survey, release.driver, settings)
    instances = tuple(
        Instance(
            name=each.name,
            port=each.port,
            gpus=_positions(found, each.gpus),
            max_model_len=each.max_model_len,
            starts_after=each.starts_after,
        )
        for each in release.instances
    )
    return Plan(
        host=host,
        gpus=found,
        cards=cards(found),
        driver=driver,
        engine_version=release.engine_version,
        venv=release.venv,
        model=release.model,
        instances=instances,
        start_timeout_s=release.start_timeout_s,
        words=(*_words(survey, release, instances), *driver.words),
    )


def _positions(found: Sequence[PlannedGpu], uuids: Sequence[str]) -> tuple[int, ...]:
    places = {gpu.uuid: position for position, gpu in enumerate(found)}
    return tuple(places[uuid] for uuid in uuids)


def _words(survey: Survey, release: Shelved, instances: Sequence[Instance]) -> Iterator[str]:
    """Yield for a person what goes back from what to what."""
    now = current(survey)
    if now is not None and now.id == release.id:
        yield f"release {release.id} is the current one already; its instances are asked for five tokens"
    else:
        yield f"back from {_told(now) if now else 'no release'} to {_told(release)}"
    yield f"used last on {release.date} UTC, {release.verdict or 'without a verdict'}"
    yield f"instances {', '.join(f'{each.name} on port {each.port}' for each in instances)}"


def _told(release: Shelved) -> str:
    return f"release {release.id} (vLLM {release.engine_version}, {release.model})"


def decide(host: str, survey: Survey, wishes: Wishes, wished: str) -> tuple[Plan | Refusal, Wishes, Shelved | None]:
    """Choose and plan; return the plan or refusal, the wishes completed by the release, and the release."""
    settings = wishes.settings
    chosen = choose(host, survey, wished, settings)
    if isinstance(chosen, Refusal):
        return chosen, wishes, None
    told = tuple(each.what for each in warnings(host, survey, chosen, settings))
    made = replace(plan(host, survey, chosen, settings), warnings=told)
    return made, served(wishes, chosen), chosen
