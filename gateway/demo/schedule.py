"""The rival of the loop: the same model under a policy that trains in so many labels and hears no alert.

Everything else is as in the model's policy. Versions that nobody waits for would go through the long plan of steps
and come months late; these go through the short one, as the loop's own do, and need not be better than the champion
on the holdout, only not worse.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

FOLDER = "scheduled"


def scheduled(policy: dict[str, Any], labels: int) -> dict[str, Any]:
    """The policy with a job in every `labels` labels and none for an alert; its short plan for everything. Pure."""
    rollout, retraining = policy.get("rollout", {}), policy.get("retraining", {})
    guards = retraining.get("guards", {})
    steps = {"steps": rollout["expedited"]} if "expedited" in rollout else {}
    return {
        **policy,
        "rollout": {**rollout, **steps},
        "retraining": {
            **retraining,
            "triggers": {"error_drift": False, "labels": labels},
            "follow_ups": [],
            "guards": {**guards, "cooldown_labels": min(labels, guards.get("cooldown_labels", labels))},
        },
    }


def write_scheduled(folder: Path, data: Path, model: str, labels: int) -> Path:
    """Write the model's scheduled policy into the data directory; the folder it lies in."""
    yaml = YAML(typ="safe")
    policy = yaml.load((folder / "router_config" / f"{model}.yaml").read_text())
    out = data / FOLDER
    out.mkdir(parents=True, exist_ok=True)
    with (out / f"{model}.yaml").open("w") as file:
        yaml.dump(scheduled(policy, labels), file)
    return out
