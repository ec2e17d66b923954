"""/livez, /readyz and /models."""

from __future__ import annotations

from typing import Any

import httpx


async def test_ready_follows_the_champions_and_live_does_not(client: httpx.AsyncClient, serving: Any) -> None:
    """A load balancer reads readyz, a supervisor livez: mixing them up restarts a gateway that only waits."""
    assert (await client.get("/livez")).status_code == 200
    assert (await client.get("/readyz")).status_code == 200
    serving.reasons = ["electricity: no version could be loaded"]
    answer = await client.get("/readyz")
    assert answer.status_code == 503
    assert answer.json()["reasons"] == serving.reasons
    assert answer.headers["retry-after"]
    assert (await client.get("/livez")).status_code == 200
    assert (await client.head("/readyz")).status_code == 503


async def test_the_example_of_a_model_is_answered(client: httpx.AsyncClient) -> None:
    """Somebody who knows nothing of the model can send what /models shows."""
    [model] = (await client.get("/models")).json()["models"]
    assert (model["name"], model["champion"], model["versions"]) == ("electricity", 3, [3, 4])
    assert model["weights"] == {"3": 90.0, "4": 10.0}
    assert model["features"][0]["name"] == "nswprice"
    answer = await client.post("/predict", json=model["example"])
    assert answer.status_code == 200
    assert "flags" not in answer.json()


async def test_models_need_a_token_when_clients_do(open_client: Any) -> None:
    client = open_client(client_auth=True)
    assert (await client.get("/models")).status_code == 401
    assert (await client.get("/v2/models/electricity")).status_code == 401
    assert (await client.get("/livez")).status_code == 200
