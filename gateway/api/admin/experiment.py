"""Experiments: start one over several versions, read its report, stop it."""

from __future__ import annotations

from typing import Any

import msgspec
from starlette.responses import Response

from gateway.api.admin.call import Asked, Call
from gateway.api.admin.rollout import ReasonBody
from gateway.api.admin.state import find_as, versions_of
from gateway.api.problems import json_response
from gateway.documents.duration import seconds
from gateway.documents.experiment import Experiment, Metric, Phase, Terms, experiment_name
from gateway.documents.policy import Policy, read_policy
from gateway.documents.store import policy_name
from gateway.documents.token import Scope
from gateway.errors import DocumentNotFound, Fault, InvalidInput
from gateway.rollout.experiment.operation import Experiments
from gateway.rollout.experiment.plan import WINNERS_PLAN


class StartBody(msgspec.Struct, forbid_unknown_fields=True):
    """Challengers with their percent, the metric, and what was agreed; None: as the policy says, or no limit.

    at_most: seconds, or text such as `7d`.
    """

    arms: dict[str, float]
    metric: Metric
    better: str | None = None
    alpha: float | None = None
    margin: float | None = None
    minimum_units: int | None = None
    until_units: int | None = None
    at_most: float | str | None = None
    until_decided: bool = False
    winner: str | None = None
    keep: bool = False
    reason: str = ""


async def show_experiment(asked: Asked) -> Response:
    """The report of the experiment under way, or of the last one."""
    await versions_of(asked.ports, asked.model)
    experiment = await find_as(asked.ports, experiment_name(asked.model), Experiment)
    if experiment is None:
        raise DocumentNotFound(experiment_name(asked.model), f"{asked.model} had no experiment yet")
    return json_response(experiment_view(experiment))


async def start(asked: Asked) -> Response:
    """Start an experiment: the champion against the arms that are named."""
    body = await asked.json(StartBody)
    await versions_of(asked.ports, asked.model)
    policy = await _policy(asked)
    arms = {_number(text): weight for text, weight in body.arms.items()}
    experiment = await _experiments(asked).start(asked.model, arms, _terms(body, policy), body.reason, asked.actor)
    return json_response(experiment_view(experiment), 201)


async def stop(asked: Asked) -> Response:
    """End the experiment now; what follows is as it was agreed."""
    body = await asked.json(ReasonBody)
    await versions_of(asked.ports, asked.model)
    experiment = await _experiments(asked).stop(asked.model, body.reason, asked.actor)
    return json_response(experiment_view(experiment))


def experiment_view(experiment: Experiment) -> dict[str, Any]:
    """The experiment as the API shows it. next: the command for a winner that nobody has promoted yet."""
    is_open = experiment.verdict == "winner" and experiment.winner != experiment.champion
    command = f"gateway rollout start {experiment.model} {experiment.winner} --plan {WINNERS_PLAN}"
    is_by_hand = is_open and experiment.phase is Phase.ENDED and experiment.terms.winner == "report"
    terms = experiment.terms
    return {
        "model": experiment.model,
        "number": experiment.number,
        "phase": experiment.phase,
        "reason": experiment.reason,
        "actor": experiment.actor,
        "started": experiment.started,
        "since": experiment.since,
        "champion": experiment.champion,
        "metric": terms.metric,
        "better": terms.better,
        "alpha": terms.alpha,
        "margin": terms.margin,
        "minimum_units": terms.minimum_units,
        "until_units": terms.until_units,
        "at_most": terms.at_most_seconds,
        "until_decided": terms.until_decided,
        "on_winner": terms.winner,
        "keep": terms.keep,
        "verdict": experiment.verdict,
        "winner": experiment.winner or None,
        "arms": experiment.report.get("arms") or _arms(experiment),
        "report": {key: value for key, value in experiment.report.items() if key != "arms"},
        "next": command if is_by_hand else "",
    }


def _arms(experiment: Experiment) -> list[dict[str, Any]]:
    """The arms before the first look."""
    rest = round(100.0 - sum(arm.weight for arm in experiment.arms), 2)
    champion = {"version": experiment.champion, "role": "champion", "weight": rest}
    return [champion, *({"version": a.version, "role": "canary", "weight": a.weight} for a in experiment.arms)]


def _terms(body: StartBody, policy: Policy) -> Terms:
    """What was asked for, and the policy's word where nothing was."""
    given = policy.rollout.experiment
    usual = "lower" if body.metric is Metric.ERRORS else "higher"
    return Terms(
        metric=body.metric,
        better=usual if body.better is None else body.better,
        alpha=given.alpha if body.alpha is None else body.alpha,
        margin=body.margin,
        minimum_units=given.minimum_units if body.minimum_units is None else body.minimum_units,
        until_units=body.until_units,
        at_most_seconds=_seconds(body.at_most),
        until_decided=body.until_decided,
        winner=_winner(body, given.winner),
        keep=body.keep,
    )


def _winner(body: StartBody, usual: str) -> str:
    """`keep` asks for a report unless the call itself asks for a promotion."""
    if body.winner is not None:
        return body.winner
    return "report" if body.keep else usual


def _seconds(value: float | str | None) -> float | None:
    try:
        return None if value is None else seconds(value)
    except ValueError as error:
        raise _bad("/at_most", str(error)) from None


def _number(text: str) -> int:
    if text.isascii() and text.isdigit() and len(text) <= 18 and not text.startswith("0"):
        return int(text)
    raise _bad(f"/arms/{text[:100]}", 'must be the number of a version, for example {"4": 10}')


def _bad(pointer: str, detail: str) -> InvalidInput:
    return InvalidInput(f"{pointer}: {detail}", [Fault(pointer, detail)])


def _experiments(asked: Asked) -> Experiments:
    ports = asked.ports
    return Experiments(ports.config, ports.traffic, ports.tee, asked.operations, ports.clock)


async def _policy(asked: Asked) -> Policy:
    stored = await asked.stored(policy_name(asked.model))
    return read_policy(stored.body) if stored is not None else Policy(model=asked.model)


CALLS = (
    Call("GET", "/admin/models/{model}/experiment", Scope.READ, show_experiment),
    Call("POST", "/admin/models/{model}/experiment", Scope.OPERATE, start),
    Call("POST", "/admin/models/{model}/experiment/stop", Scope.OPERATE, stop),
)
