"""The documents are true: everything that has a name in code has its place in the docs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from prometheus_client.metrics import MetricWrapperBase
from pydantic import BaseModel
from starlette.routing import Route

from gateway import metrics
from gateway.api.admin_app import admin_routes
from gateway.api.serving_app import serving_routes
from gateway.documents.parse import parse_policy
from gateway.documents.policy import Policy
from gateway.names import Reason
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


@pytest.mark.parametrize("route", admin_routes(), ids=lambda route: f"{route.path} {route.methods}")
def test_every_admin_call_is_documented(route: Route) -> None:
    """Path and method, as the table writes them."""
    path = re.sub(r"\{(\w+)(:\w+)?\}", r"{\1}", route.path)
    for method in sorted((route.methods or set()) - {"HEAD"}):
        assert re.search(rf"`(\w+, )*{method}(, \w+)* {re.escape(path)}`", read("admin.md")), f"{method} {path}"


@pytest.mark.parametrize("route", serving_routes(), ids=lambda route: route.path)
def test_every_serving_call_is_documented(route: Route) -> None:
    """`/v2` is described as a whole by its own specification."""
    shown = "/v2" if route.path.startswith("/v2") else route.path
    assert shown in read("api.md")


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
