"""The documents are true: everything that has a name in code has its place in the docs."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from prometheus_client.metrics import MetricWrapperBase
from pydantic import BaseModel
from starlette.routing import Route

from gateway import metrics
from gateway.api.admin.call import Call
from gateway.api.admin_app import CALLS
from gateway.api.serving_app import build_serving_app
from gateway.documents.parse import parse_policy
from gateway.documents.policy import Policy
from gateway.names import Reason
from gateway.serving.predict import Serving
from gateway.settings import Settings

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"


def read(name: str) -> str:
    return (DOCS / name).read_text()


@pytest.mark.parametrize("name", Settings.model_fields)
def test_every_setting_is_documented_with_its_default(name: str) -> None:
    """A setting that nobody can find does not exist."""
    found = re.search(rf"^## `{name}`\n\n.*Default: `([^`]*)`", read("settings.md"), re.MULTILINE)
    assert found, f"docs/settings.md has no heading for {name}"
    default = Settings.model_fields[name].default
    shown = ",".join(default) if isinstance(default, tuple) else str(default)
    assert found[1] == shown


def metric_names() -> list[str]:
    defined = [value for value in vars(metrics).values() if isinstance(value, MetricWrapperBase)]
    return sorted(d._name + ("_total" if d._type == "counter" else "") for d in defined)


@pytest.mark.parametrize("name", metric_names())
def test_every_metric_is_documented(name: str) -> None:
    """Dashboards are written from the docs."""
    assert f"## `{name}`" in read("metrics.md")


@pytest.mark.parametrize("call", CALLS, ids=lambda call: f"{call.method} {call.path}")
def test_every_admin_call_is_documented(call: Call) -> None:
    """Path and method, as the table writes them."""
    path = re.sub(r"\{(\w+)(:\w+)?\}", r"{\1}", call.path)
    assert f"`{call.method} {path}`" in read("admin.md"), f"{call.method} {path}"


def serving_paths() -> list[str]:
    app = build_serving_app(cast(Serving, SimpleNamespace(verify_token=None)), Settings())
    return sorted({route.path for route in app.routes if isinstance(route, Route)})


@pytest.mark.parametrize("path", serving_paths())
def test_every_serving_call_is_documented(path: str) -> None:
    """`/v2` is described as a whole by its own specification."""
    assert f"`{'/v2' if path.startswith('/v2') else path}`" in re.sub(r"`(GET|POST) ", "`", read("api.md"))


def policy_keys(model: type[BaseModel], value: BaseModel, prefix: str = "") -> list[str]:
    keys: list[str] = []
    for name in model.model_fields:
        inner = getattr(value, name)
        keys += policy_keys(type(inner), inner, f"{prefix}{name}.") if isinstance(inner, BaseModel) else [prefix + name]
    return keys


@pytest.mark.parametrize("key", policy_keys(Policy, Policy(model="m")))
def test_every_policy_key_is_documented(key: str) -> None:
    """With its default, beside it."""
    assert f"| `{key}` |" in read("policy.md")


@pytest.mark.parametrize("reason", Reason)
def test_every_reason_is_documented(reason: Reason) -> None:
    """A client that branches on a reason finds it explained."""
    assert f"| `{reason}` |" in read("api.md")


@pytest.mark.parametrize("file", sorted((ROOT / "router_config").glob("*.yaml")), ids=lambda file: file.name)
def test_every_example_policy_parses(file: Path) -> None:
    """What we ship as an example is accepted."""
    assert parse_policy(file.read_text(), str(file)).model == file.stem


def test_links_between_documents_lead_somewhere() -> None:
    """README and docs name files that exist."""
    for document in [ROOT / "README.md", *DOCS.rglob("*.md")]:
        for link in re.findall(r"\]\((?!http)([^)#]+)", document.read_text()):
            assert (document.parent / link).exists(), f"{document.name} links to {link}"
