"""`gateway status`, `models`, `versions`: what there is and how it goes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from gateway.cli import live
from gateway.cli.remote import AsJson, Data, Model, Reason, Token, Url, connected, facts, show, table, when

NOTE_CHARACTERS = 120


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    app.command()(status)
    app.command()(models)
    app.command()(versions)


def status(url: Url = None, token: Token = None, data: Data = None, as_json: AsJson = False) -> None:
    """All models on one screen: route, rollout, alerts, jobs, health."""
    with connected(url, token, data) as client:
        found = client.get("/admin/models")["models"]
        jobs = client.get("/admin/jobs", limit=5)["jobs"]
    content = {"models": found, "jobs": jobs}
    if not found:
        show(content, as_json, "no model yet: publish one with `gateway publish NAME model.onnx`")
        return
    heads = ["model", "champion", "canaries", "shadows", "health", "accuracy", "rollout", "alerts", "job", "note"]
    job_heads = ["job", "model", "trigger", "state", "rows", "version", "detail"]
    job_rows = [[j["id"], j["model"], j["trigger"], j["state"], j["rows"], j["version"], j["detail"]] for j in jobs]
    parts = [table("", heads, [status_row(model) for model in found])]
    show(content, as_json, *parts, *([table("Jobs", job_heads, job_rows)] if jobs else []))


def status_row(model: Mapping[str, Any]) -> list[str]:
    """One line of the status. Pure."""
    route = model["route"] or {}
    canaries = [f"@{canary['version']} {canary['weight']:g}%" for canary in route.get("canaries", ())]
    shadows = [f"@{shadow['version']}" for shadow in route.get("shadows", ())]
    job = model["job"]
    return [
        model["name"],
        f"@{route['champion']}" if route else "none in service",
        " ".join(canaries),
        " ".join(shadows),
        "ready" if model["health"]["ready"] else "NOT READY",
        accuracy(model["live"], route.get("champion")),
        _experiment(model["experiment"]) or _rollout(model["rollout"]),
        str(model["alerts"]["unacknowledged"] or ""),
        f"{job['state']} ({job['trigger']})" if job else "",
        " ".join(_notes(model)),
    ]


def accuracy(live: Sequence[Mapping[str, Any]], champion: int | None) -> str:
    """The champion's rolling accuracy, empty while nothing is known of it."""
    for one in live:
        if one["version"] == champion and one["role"] == "champion":
            value = one["rolling"].get("accuracy", one["metrics"].get("accuracy"))
            return "" if value is None else f"{value:.3f}"
    return ""


def _rollout(rollout: Mapping[str, Any] | None) -> str:
    if not rollout:
        return ""
    step = f" {rollout['step'] + 1}/{len(rollout['steps'])}" if rollout["step"] >= 0 else ""
    return f"@{rollout['version']} {rollout['phase']}{step}"


def _experiment(experiment: Mapping[str, Any] | None) -> str:
    """While one is under way; no rollout goes on beside it."""
    if not experiment or experiment["phase"] != "running":
        return ""
    return f"experiment {' '.join(f'@{number}' for number in experiment['versions'])} {experiment['verdict']}"


def _notes(model: Mapping[str, Any]) -> list[str]:
    notes = []
    if model["frozen"]:
        notes.append("frozen")
    if model["policy"]["diverged"]:
        notes.append("policy file diverged")
    if model["policy"]["error"]:
        notes.append(model["policy"]["error"])
    if model["note"]:
        notes.append(model["note"])
    if question := (model.get("retraining") or {}).get("asks_for_a_person"):
        notes.append(f"asks for a person: {question[:NOTE_CHARACTERS]}")
    return notes


def models(
    model: Annotated[str | None, typer.Argument(help="only this one", show_default=False)] = None,
    url: Url = None,
    token: Token = None,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Models, their versions and routes; of one model its live figures too."""
    from gateway.client import model_path

    with connected(url, token, data) as client:
        content = client.get(model_path(model)) if model else client.get("/admin/models")
    found = [content] if model else content["models"]
    rows = [
        [
            f"{one['name']}@{v['number']}",
            v["role"],
            one["weights"].get(str(v["number"]), ""),
            _source(v),
            when(v["created"]),
        ]
        for one in found
        for v in one["versions"]
    ]
    parts: list[Any] = [table("", ["version", "role", "weight %", "from", "published"], rows)]
    for one in found if model else ():
        parts += [table("", heads, shown) for heads, shown in _figures(one) if shown]
        parts += [line] if (line := live.online_line(one)) else []
    show(content, as_json, *parts)


def _figures(model: Mapping[str, Any]) -> list[tuple[list[str], list[list[str]]]]:
    """Heads and rows of the tables of live figures."""
    return [(live.LIVE_HEADS, live.live_rows(model)), (live.SLICE_HEADS, live.slice_rows(model))]


def _source(version: Mapping[str, Any]) -> str:
    gate = {True: "gate passed", False: "gate failed", None: ""}[version["gate"]]
    if version.get("hold") and not version["condition"].get("released"):
        gate = "held for a person"
    data = "" if version.get("data_known", True) else "data unknown"
    return ", ".join(filter(None, [version["trigger"] or version["source"], gate, data]))


def versions(
    model: Model,
    number: Annotated[int | None, typer.Option(help="one version's whole manifest")] = None,
    release: Annotated[int | None, typer.Option(help="lift this version's quarantine")] = None,
    reason: Reason = "",
    url: Url = None,
    token: Token = None,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Versions of a model: signature, digest, lineage, gate report, condition."""
    from gateway.client import Call, model_path

    if data is not None and url is None and number is None and release is None:
        content: Any = {"versions": _from_directory(model, data)}
    else:
        with connected(url, token, data) as client:
            if release is not None:
                path = model_path(model, f"/versions/{release}/release")
                content = client.send(Call("POST", path, {"reason": reason}))
            else:
                content = client.get(model_path(model, f"/versions/{number}" if number else "/versions"))
    if release is not None:
        show(content, as_json, f"{model}@{release} may be loaded again")
    elif number is not None:
        keys = (
            "number",
            "digest",
            "size_bytes",
            "inputs",
            "outputs",
            "features",
            "prediction",
            "lineage",
            "gate",
            "card",
        )
        show(content, as_json, facts(content, keys))
    else:
        heads = ["version", "digest", "from", "parent", "gate", "condition", "published"]
        show(content, as_json, table("", heads, [_version_row(model, v) for v in content["versions"]]))


def _version_row(model: str, version: Mapping[str, Any]) -> list[object]:
    condition = version.get("condition") or {}
    said = [word for word in ("quarantined", "rolled_back", "suspect") if condition.get(word)]
    hold = "" if condition.get("released") else version["gate"].get("hold", "")
    source = version["lineage"]["trigger"] or version["lineage"]["source"]
    return [
        f"{model}@{version['number']}",
        version["digest"][:12],
        source if version["lineage"]["data_digest"] else f"{source}, data unknown",
        version["lineage"]["parent"] or "",
        {True: "passed", False: "failed", None: ""}[version["gate"]["passed"]],
        f"{', '.join(said)}: {condition.get('reason', '')}" if said else f"held: {hold}" if hold else "",
        when(version["created"]),
    ]


def _from_directory(model: str, data: Path) -> list[Any]:
    import asyncio

    import msgspec

    from gateway.cli.directory import opened
    from gateway.names import model_name

    with opened(data, make=False) as stores:
        manifests = asyncio.run(stores.registry.versions(model_name(model)))
    return [msgspec.to_builtins(manifest) for manifest in manifests]
