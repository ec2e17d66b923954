"""What an experiment does next: a pure decision over what is, and what becomes of the documents.

    plan(experiment, judged, failing, route, revision, now) -> Move     what to do
    next_experiment(experiment, move, now) -> Experiment                the document after it
    wanted_route(experiment, route) -> Route                            the route that the document asks for

Order of the questions: is a route change half-way, did a person move the arms, does a guard fail, is it over.
Knows neither stores nor clocks nor random numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from msgspec.structs import replace

from gateway.documents.experiment import LEAST_WEIGHT, MOST_CHALLENGERS, Experiment, Phase, Terms
from gateway.documents.route import Route, changed, with_weights
from gateway.errors import InvalidConfig
from gateway.rollout.experiment.verdict import Judged

LEAST_UNITS = 20
"""The intervals lean on the central limit theorem: below so many units of an arm nobody may ask for one."""

WINNERS_PLAN = "blue_green"
"""The plan on which a winner is promoted: callers have tried it already, and the guards after a promotion go on."""


class Act(StrEnum):
    """What a move does. The first three are also the words of decision records and of the audit trail."""

    START = "start"
    TAKE_OUT = "take_out"
    END = "end"
    PROMOTE = "promote"  # start the rollout of the winner
    YIELD = "yield"  # a person moved the arms: it ends, and the route stays as that person left it
    WRITE = "write"  # go on with a route change that was cut off
    ADOPT = "adopt"  # the cut-off change had reached the route: write that down
    NOTHING = "nothing"


MOVES_ROUTE = frozenset({Act.START, Act.TAKE_OUT, Act.END})


@dataclass(frozen=True, slots=True)
class Move:
    """What to do and why. version: the arm that it concerns, 0 for all."""

    act: Act
    reason: str = ""
    version: int = 0


def plan(
    experiment: Experiment,
    judged: Judged,
    failing: tuple[int, str] | None,
    route: Route,
    revision: int,
    now: float,
) -> Move:
    """What the experiment does next. revision: the route's. Asking again after the move is done gives NOTHING.

    failing: the arm that a guard or a quarantine rejects, and why.
    """
    if experiment.pending:
        return _unfinished(experiment, route, revision)
    if experiment.phase is Phase.ENDED:
        return Move(Act.PROMOTE, experiment.reason, experiment.promoting) if experiment.promoting else Move(Act.NOTHING)
    moved = _moved(experiment, route, revision)
    if moved:
        return Move(Act.YIELD, moved)
    if failing is not None:
        return Move(Act.TAKE_OUT, failing[1], failing[0])
    over = _over(experiment, judged, now)
    return Move(Act.END, over) if over else Move(Act.NOTHING, judged.reason)


def _unfinished(experiment: Experiment, route: Route, revision: int) -> Move:
    """A route change was announced in the document and never confirmed: confirm it, repeat it, or yield to a person."""
    if _is_written(experiment, route):
        return Move(Act.ADOPT, experiment.reason)
    if revision == experiment.pending or experiment.phase is Phase.ENDED:
        return Move(Act.WRITE, experiment.reason)
    return Move(Act.YIELD, "a person changed the route at the same time")


def _is_written(experiment: Experiment, route: Route) -> bool:
    arms = {arm.version for arm in experiment.arms}
    held = {canary.version: canary.weight for canary in route.canaries if canary.version in arms}
    if experiment.phase is Phase.ENDED:
        return experiment.terms.keep or not held
    wanted = {arm.version: arm.weight for arm in experiment.taking_part}
    return held == wanted and (route.champion, route.salt) == (experiment.champion, experiment.salt)


def _moved(experiment: Experiment, route: Route, revision: int) -> str:
    """What a person changed since the loop wrote the route last; empty: nothing that concerns the arms."""
    if revision == experiment.written:
        return ""
    if route.champion != experiment.champion:
        return f"a person changed the champion from {experiment.champion} to {route.champion}"
    if route.salt != experiment.salt:
        return "a person changed the salt of the split"
    for arm in experiment.arms:
        wanted = 0.0 if arm.out else arm.weight
        found = next((canary.weight for canary in route.canaries if canary.version == arm.version), 0.0)
        if found != wanted:
            return f"a person moved version {arm.version} from {wanted:g} % to {found:g} %"
    return ""


def _over(experiment: Experiment, judged: Judged, now: float) -> str:
    """Why the experiment ends now; empty: it goes on."""
    terms = experiment.terms
    if not experiment.taking_part:
        return "no challenger takes part any more"
    if terms.until_decided and judged.verdict != "undecided":
        return judged.reason
    taking_part = {experiment.champion, *(arm.version for arm in experiment.taking_part)}
    units = [arm["units"] for arm in judged.report.get("arms", []) if arm["version"] in taking_part]
    if terms.until_units is not None and units and min(units) >= terms.until_units:
        return f"each arm has {terms.until_units} units: {judged.reason}"
    if terms.at_most_seconds is not None and now - experiment.started >= terms.at_most_seconds:
        return f"its time of {terms.at_most_seconds:g} s is over: {judged.reason}"
    return ""


# What a move makes of the documents.


def next_experiment(experiment: Experiment, move: Move, judged: Judged, now: float, revision: int) -> Experiment:
    """The document after the move. revision: the route's before it; a change of it is announced as `pending`."""
    noted = with_figures(experiment, judged)
    if move.act is Act.ADOPT:
        return replace(experiment, pending=0, written=revision, first=experiment.first or revision)
    if move.act is Act.TAKE_OUT:
        arms = [replace(arm, out=move.reason) if arm.version == move.version else arm for arm in experiment.arms]
        return replace(noted, arms=tuple(arms), since=now, pending=revision)
    if move.act is Act.END:
        return replace(
            noted,
            phase=Phase.ENDED,
            reason=move.reason,
            since=now,
            pending=revision,
            promoting=_to_promote(noted),
        )
    if move.act is Act.YIELD:
        return replace(noted, phase=Phase.ENDED, reason=move.reason, since=now, pending=0)
    if move.act is Act.PROMOTE:
        return replace(experiment, promoting=0, since=now)
    return experiment


def with_figures(experiment: Experiment, judged: Judged) -> Experiment:
    """The document with the newest figures."""
    return replace(experiment, verdict=judged.verdict, winner=judged.winner, report=judged.report)


def _to_promote(experiment: Experiment) -> int:
    is_wanted = experiment.terms.winner == "promote" and experiment.verdict == "winner"
    return experiment.winner if is_wanted and experiment.winner != experiment.champion else 0


def wanted_route(experiment: Experiment, route: Route) -> Route:
    """The route with the arms at their weights, or without them once it ended. Raises InvalidConfig."""
    present = {canary.version for canary in route.canaries}
    if experiment.phase is Phase.ENDED:
        gone = [] if experiment.terms.keep else [arm.version for arm in experiment.arms if arm.version in present]
        return with_weights(route, dict.fromkeys(gone, 0.0)) if gone else route
    weights = {arm.version: 0.0 if arm.out else arm.weight for arm in experiment.arms}
    return with_weights(changed(route, salt=experiment.salt), weights)


# What may be asked for.


def check_weights(champion: int, weights: dict[int, float]) -> None:
    """Raises InvalidConfig naming what is wrong with the arms."""
    if not 1 <= len(weights) <= MOST_CHALLENGERS:
        raise InvalidConfig(f"arms: name 1 to {MOST_CHALLENGERS} challengers with their percent, not {len(weights)}")
    if champion in weights:
        raise InvalidConfig(
            f"arms: version {champion} is the champion: it is the control and gets what the others leave"
        )
    for version, weight in weights.items():
        if not LEAST_WEIGHT <= weight <= 100.0:
            raise InvalidConfig(
                f"arms: {weight:g} for version {version} is not between {LEAST_WEIGHT:g} and 100 percent"
            )
    total = round(sum(weights.values()), 2)
    if total > 100.0 - LEAST_WEIGHT:
        raise InvalidConfig(f"arms: the weights add up to {total:g}; leave at least {LEAST_WEIGHT:g} to the champion")


def check_terms(terms: Terms) -> None:
    """Raises InvalidConfig naming the field."""
    checks = (
        (terms.better in {"higher", "lower"}, "better: write higher or lower"),
        (
            terms.better == "lower" or terms.metric != "errors",
            "better: of the metric errors the lower one is better",
        ),
        (
            terms.better == "higher" or terms.metric != "label",
            "better: of the metric label the higher one is better",
        ),
        (0.0 < terms.alpha <= 0.5, "alpha: must be above 0 and at most 0.5"),
        (terms.margin is None or 0.0 < terms.margin < float("inf"), "margin: must be above 0"),
        (terms.minimum_units >= LEAST_UNITS, f"minimum_units: must be at least {LEAST_UNITS}"),
        (
            terms.until_units is None or terms.until_units >= terms.minimum_units,
            f"until_units: must be at least minimum_units ({terms.minimum_units})",
        ),
        (terms.at_most_seconds is None or terms.at_most_seconds > 0.0, "at_most: must be above 0 seconds"),
        (terms.winner in {"report", "promote"}, "winner: write report or promote"),
        (
            terms.winner == "report" or _ends(terms),
            "winner: say when a winner is promoted: until_units, at_most or until_decided",
        ),
        (
            terms.winner == "report" or not terms.keep,
            "keep: a winner that is promoted takes the canaries out; keep them only with winner: report",
        ),
    )
    for holds, message in checks:
        if not holds:
            raise InvalidConfig(message)


def _ends(terms: Terms) -> bool:
    return terms.until_decided or terms.until_units is not None or terms.at_most_seconds is not None
