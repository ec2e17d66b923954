"""What `gateway init` writes: a project of the same shape as this one."""

from __future__ import annotations

from pathlib import Path

_SETTINGS = """\
# Settings of `gateway serve`; each is also a flag (--listen) and an environment variable (GATEWAY_LISTEN).
data: gateway-data
config: router_config
models: models
listen: 127.0.0.1:8080
admin_listen: 127.0.0.1:8081
workers: 1
"""

_POLICY = """\
# What people decide about the model `example`; every key has a default. Taken over when it changes.
model: example
first_version: serve          # the first version answers as soon as it is published
rollout:
  start: manual               # or auto: a version that passed its gate begins by itself
labels: {wait: 7d}
retraining:
  recipe: models/example.py
"""

_RECIPE = '''\
"""How the model `example` is trained: its features, its label, its candidates."""

from __future__ import annotations

from typing import Any

from gateway.retraining.recipe import Feature, Recipe


def logistic() -> Any:
    """A simple candidate."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))


recipe = Recipe(
    model="example",
    features=[Feature(name="a"), Feature(name="b")],
    label="label",
    candidates={"logistic": logistic},
    classes=(0, 1),
)
'''

_DOCKERFILE = """\
# Recipes and policies on top of the gateway's own image: docker build -t my-gateway .
FROM gateway
COPY --chown=10001:10001 models/ /models/
COPY --chown=10001:10001 router_config/ /router_config/
"""

_IGNORE = "gateway-data/\n__pycache__/\n"

FILES = {
    "gateway.yaml": _SETTINGS,
    "router_config/example.yaml": _POLICY,
    "models/example.py": _RECIPE,
    "Dockerfile": _DOCKERFILE,
    ".gitignore": _IGNORE,
}


def write_project(folder: Path) -> tuple[list[str], list[str]]:
    """Write the files that are not there yet; names of those written and of those kept."""
    written, kept = [], []
    for name, content in FILES.items():
        file = folder / name
        if file.exists():
            kept.append(name)
            continue
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
        written.append(name)
    return written, kept
