"""A small public client: predict, feedback and the admin calls, with or without asyncio.

    from gateway.client import Client

    with Client("http://127.0.0.1:8080") as client:
        answer = client.predict({"nswprice": 0.06, ...}, model="electricity")
        client.feedback(answer["id"], label=1)

The admin API has its own address and needs a token: `Client("http://127.0.0.1:8081", token=...)`. Knows the HTTP API
and nothing else of the gateway; every call is described once, in `Call` values, and both clients send them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self
from urllib.parse import quote

import httpx

Json = Any
"""Decoded JSON."""


class ClientError(Exception):
    """Something went wrong between this program and the gateway."""


class NotReachable(ClientError):
    """No connection, or no answer in time."""


class Refused(ClientError):
    """The gateway answered with an error. `status` and the whole `problem` (RFC 9457) are kept."""

    def __init__(self, status: int, problem: Mapping[str, Json]) -> None:
        text = problem.get("detail") or problem.get("error") or problem.get("title") or f"status {status}"
        super().__init__(str(text))
        self.status = status
        self.problem = dict(problem)

    @property
    def errors(self) -> list[dict[str, str]]:
        """The wrong places: `pointer` and `detail` each."""
        return list(self.problem.get("errors", ()))


class BadRequest(Refused):
    """400, 413, 415, 422: what was sent is wrong."""


class NotAuthorized(Refused):
    """401, 403: no token, or one without the scope."""


class NotFound(Refused):
    """404: no such model, version, job or path."""


class Conflict(Refused):
    """409, 412, 428: the present state does not allow it, or somebody else changed it first."""


class TryAgain(Refused):
    """408, 429, 503, 504: later, after `retry_after_seconds`."""

    retry_after_seconds: float = 1.0


_BY_STATUS: dict[int, type[Refused]] = {
    **dict.fromkeys((400, 413, 415, 422), BadRequest),
    **dict.fromkeys((401, 403), NotAuthorized),
    404: NotFound,
    **dict.fromkeys((409, 412, 428), Conflict),
    **dict.fromkeys((408, 429, 503, 504), TryAgain),
}


class Call(NamedTuple):
    """One call of the API."""

    method: str
    path: str
    content: Json = None
    params: Mapping[str, str | int | float] = {}
    headers: Mapping[str, str] = {}
    files: Mapping[str, Any] | None = None


class Tagged(NamedTuple):
    """A document and its ETag, to be sent back as If-Match. source: of a policy: file, api or default."""

    content: Json
    etag: str
    source: str = ""


def predict_call(
    inputs: Json,
    *,
    model: str | None = None,
    key: str | None = None,
    id: str | None = None,
    version: int | None = None,
) -> Call:
    """`POST /predict`. version: pins a loaded version, for debugging."""
    body = {"model": model, "inputs": inputs, "key": key, "id": id}
    headers = {"x-model-version": str(version)} if version is not None else {}
    return Call("POST", "/predict", _given(body), headers=headers)


def feedback_call(
    id: str,
    *,
    row: int = 0,
    label: str | int | float | bool | None = None,
    value: float | None = None,
) -> Call:
    """`POST /feedback` for one row."""
    return Call("POST", "/feedback", _given({"id": id, "row": row, "label": label, "value": value}))


def feedbacks_call(items: Sequence[Mapping[str, Json]]) -> Call:
    """`POST /feedback` for many rows; each item as in `feedback_call`."""
    return Call("POST", "/feedback", {"feedback": list(items)})


def model_path(model: str, rest: str = "") -> str:
    """The path of a model in the admin API."""
    return f"/admin/models/{quote(model, safe='')}{rest}"


def weights_call(model: str, weights: Mapping[int | str, float], reason: str, etag: str | None = None) -> Call:
    """Move canary weights in one change; the champion gets the rest."""
    body = {"weights": {str(version): weight for version, weight in weights.items()}, "reason": reason}
    return Call("POST", model_path(model, "/weights"), body, headers=_if_match(etag))


def route_call(model: str, route: Mapping[str, Json], etag: str, reason: str = "") -> Call:
    """Replace the whole route."""
    return Call("PUT", model_path(model, "/route"), route, _given({"reason": reason}), _if_match(etag))


def policy_call(model: str, policy: Mapping[str, Json], etag: str, reason: str = "", file: str = "") -> Call:
    """Replace the policy. file: the policy file it was read from, when it was."""
    params = _given({"reason": reason, "file": file})
    return Call("PUT", model_path(model, "/policy"), policy, params, _if_match(etag))


def rollout_call(model: str, version: int, plan: str = "steps", reason: str = "", dry_run: bool = False) -> Call:
    """Start a rollout. plan: steps | expedited | blue_green. dry_run: it tells what it would do and moves nothing."""
    body = {"version": version, "plan": plan, "reason": reason}
    return Call("POST", model_path(model, "/rollout"), body | {"dry_run": True} if dry_run else body)


def rollout_verb_call(model: str, verb: str, reason: str = "") -> Call:
    """Steer the rollout. verb: pause | resume | promote | roll-back."""
    return Call("POST", model_path(model, f"/rollout/{verb}"), {"reason": reason})


def experiment_call(model: str, arms: Mapping[int | str, float], metric: str, **terms: Json) -> Call:
    """Start an experiment. arms: percent of each challenger; terms: what else the call takes, None: left out."""
    weights = {str(version): weight for version, weight in arms.items()}
    return Call("POST", model_path(model, "/experiment"), _given({"arms": weights, "metric": metric, **terms}))


def stop_experiment_call(model: str, reason: str = "") -> Call:
    """Stop the experiment under way."""
    return Call("POST", model_path(model, "/experiment/stop"), {"reason": reason})


def act_call(model: str, act: str, reason: str = "") -> Call:
    """act: freeze | unfreeze | retrain."""
    return Call("POST", model_path(model, f"/{act}"), {"reason": reason})


def publish_call(model: str, package: Path) -> Call:
    """Publish a package directory (`model.onnx`, `manifest.json`, reference files) as the next version."""
    files = {file.name: (file.name, file.read_bytes()) for file in sorted(package.iterdir()) if file.is_file()}
    return Call("POST", model_path(model, "/versions"), files=files)


def _given(body: Mapping[str, Json]) -> dict[str, Json]:
    return {name: value for name, value in body.items() if value is not None and value != ""}


def _if_match(etag: str | None) -> dict[str, str]:
    return {"if-match": etag} if etag is not None else {}


def _headers(token: str | None) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"} if token else {}


def _arguments(call: Call) -> dict[str, Any]:
    sent: dict[str, Any] = {"params": dict(call.params), "headers": dict(call.headers)}
    if call.files is not None:
        sent["files"] = call.files
    elif call.content is not None:
        sent["json"] = call.content
    return sent


def read_answer(response: httpx.Response) -> Json:
    """The decoded body of an answer. Raises Refused (by its kind) for an error."""
    kind = response.headers.get("content-type", "")
    content = response.json() if "json" in kind and response.content else response.text
    if response.is_success:
        return content
    problem = content if isinstance(content, dict) else {"detail": str(content)[:500]}
    error = _BY_STATUS.get(response.status_code, Refused)(response.status_code, problem)
    if isinstance(error, TryAgain):
        error.retry_after_seconds = float(response.headers.get("retry-after", "1"))
    raise error


def _tagged(response: httpx.Response) -> Tagged:
    headers = response.headers
    return Tagged(read_answer(response), headers.get("etag", ""), headers.get("x-policy-source", ""))


@contextmanager
def _as_client_errors(base: httpx.URL) -> Iterator[None]:
    try:
        yield
    except httpx.TimeoutException as error:
        raise NotReachable(f"{base} did not answer in time") from error
    except httpx.TransportError as error:
        raise NotReachable(f"{base} is not reachable: {error}") from error


class Client:
    """The blocking client. Use it as a context manager, or `close` it."""

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        timeout_seconds: float = 30.0,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._http = httpx.Client(
            base_url=url, headers=_headers(token), timeout=timeout_seconds, transport=transport, trust_env=False
        )

    def send(self, call: Call) -> Json:
        """The decoded answer. Raises Refused or NotReachable."""
        with _as_client_errors(self._http.base_url):
            response = self._http.request(call.method, call.path, **_arguments(call))
        return read_answer(response)

    def get(self, path: str, **params: str | int | float) -> Json:
        """A GET by its path."""
        return self.send(Call("GET", path, params=params))

    def tagged(self, path: str) -> Tagged:
        """A document and its ETag."""
        with _as_client_errors(self._http.base_url):
            response = self._http.get(path)
        return _tagged(response)

    def predict(
        self,
        inputs: Json,
        *,
        model: str | None = None,
        key: str | None = None,
        id: str | None = None,
        version: int | None = None,
    ) -> Json:
        """One prediction: inputs are a record, a list of records, a list of rows, or tensors by name."""
        return self.send(predict_call(inputs, model=model, key=key, id=id, version=version))

    def feedback(
        self,
        id: str,
        *,
        row: int = 0,
        label: str | int | float | bool | None = None,
        value: float | None = None,
    ) -> Json:
        """The truth for one row of a prediction."""
        return self.send(feedback_call(id, row=row, label=label, value=value))

    def events(self) -> Iterator[Json]:
        """Live events of the admin API, for ever: `{"event": ..., "data": ...}` each."""
        with (
            _as_client_errors(self._http.base_url),
            self._http.stream("GET", "/admin/events", timeout=httpx.Timeout(10.0, read=None)) as response,
        ):
            if not response.is_success:
                response.read()
                read_answer(response)
            yield from _read_events(response.iter_lines())

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class AsyncClient:
    """The client for asyncio."""

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        timeout_seconds: float = 30.0,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._http = httpx.AsyncClient(
            base_url=url, headers=_headers(token), timeout=timeout_seconds, transport=transport, trust_env=False
        )

    async def send(self, call: Call) -> Json:
        """The decoded answer. Raises Refused or NotReachable."""
        with _as_client_errors(self._http.base_url):
            response = await self._http.request(call.method, call.path, **_arguments(call))
        return read_answer(response)

    async def get(self, path: str, **params: str | int | float) -> Json:
        """A GET by its path."""
        return await self.send(Call("GET", path, params=params))

    async def tagged(self, path: str) -> Tagged:
        """A document and its ETag."""
        with _as_client_errors(self._http.base_url):
            response = await self._http.get(path)
        return _tagged(response)

    async def predict(
        self,
        inputs: Json,
        *,
        model: str | None = None,
        key: str | None = None,
        id: str | None = None,
        version: int | None = None,
    ) -> Json:
        """One prediction: inputs are a record, a list of records, a list of rows, or tensors by name."""
        return await self.send(predict_call(inputs, model=model, key=key, id=id, version=version))

    async def feedback(
        self,
        id: str,
        *,
        row: int = 0,
        label: str | int | float | bool | None = None,
        value: float | None = None,
    ) -> Json:
        """The truth for one row of a prediction."""
        return await self.send(feedback_call(id, row=row, label=label, value=value))

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


def _read_events(lines: Iterator[str]) -> Iterator[Json]:
    name, data = "message", ""
    for line in lines:
        if line.startswith("event:"):
            name = line.removeprefix("event:").strip()
        elif line.startswith("data:"):
            data += line.removeprefix("data:").strip()
        elif not line and data:
            yield {"event": name, "data": json.loads(data)}
            name, data = "message", ""
