"""Load on a running gateway, for any model it serves.

    locust -f loadtests/locustfile.py --host http://127.0.0.1:8080

opens the web page on port 8089; `--headless -u 20 -r 20 -t 30s` does without. Single rows, batches of 32, sticky
keys and feedback always run (choose with `--tags single batch sticky feedback`). With `--admin` and a token (scope
operate) one user more moves a canary's weight all the time (alone with single rows: `--tags weights`). The summary
at the end shows each version's share of the answers beside the weight it had; any failed request, or none at
all, makes locust end with code 1.
"""

from __future__ import annotations

import itertools
import random
import sys
from typing import Any

from locust import FastHttpUser, between, events, tag, task
from locust.argument_parser import LocustArgumentParser
from locust.env import Environment
from locust.exception import StopUser
from locust.runners import WorkerRunner

from loadtests.shares import Shares, label_of, many_inputs, one_input

BATCH_ROWS = 32
KEYS = 100_000
WEIGHTS = (10, 30, 50, 20)

shares = Shares()


def _options(parser: LocustArgumentParser) -> None:
    parser.add_argument(
        "--admin",
        default="",
        env_var="GATEWAY_ADMIN",
        help="admin address, such as http://127.0.0.1:8081: move a canary's weight during the load",
    )
    parser.add_argument(
        "--admin-token", default="", env_var="GATEWAY_TOKEN", is_secret=True, help="its token, scope operate"
    )
    parser.add_argument(
        "--client-token",
        default="",
        env_var="GATEWAY_CLIENT_TOKEN",
        is_secret=True,
        help="token for /predict and /feedback, where the gateway asks for one",
    )


def _report(data: dict[str, Any], **_: Any) -> None:
    data["shares"] = shares.take()


def _reported(data: dict[str, Any], **_: Any) -> None:
    shares.add(data["shares"])


def _forget(**_: Any) -> None:
    shares.take()


def _summary(environment: Environment, **_: Any) -> None:
    if not isinstance(environment.runner, WorkerRunner):
        print("\nAnswers by version, beside the mean weight in force:", *shares.lines(), sep="\n", file=sys.stderr)


def _expect_requests(environment: Environment, **_: Any) -> None:
    """A load that never came to a request proves nothing: that is no success either."""
    if not isinstance(environment.runner, WorkerRunner) and not environment.stats.total.num_requests:
        print("no request ended in this time", file=sys.stderr)
        environment.process_exit_code = 1


# locust's hooks come without types.
_hooks: Any = events
_hooks.init_command_line_parser.add_listener(_options)
_hooks.report_to_master.add_listener(_report)
_hooks.worker_report.add_listener(_reported)
_hooks.test_start.add_listener(_forget)
_hooks.test_stop.add_listener(_summary)
_hooks.quitting.add_listener(_expect_requests)


class _Caller(FastHttpUser):
    """Reads what is served before it does anything."""

    abstract = True
    models: list[dict[str, Any]]

    def on_start(self) -> None:
        self.draw = random.Random()
        options = self.environment.parsed_options
        token = options.client_token if options else ""
        self.bearer = {"Authorization": f"Bearer {token}"} if token else {}
        self.models = []
        self.look()
        if not self.models:
            raise StopUser

    def look(self) -> None:
        """Read `GET /models`: what can be asked, and the weights in force."""
        with self.client.get("/models", headers=self.bearer, catch_response=True) as response:
            if response.status_code != 200:
                return
            self.models = response.json()["models"]
            shares.learn(self.models)
            if not self.models:
                response.failure("the gateway serves no model: publish one first")


class Client(_Caller):
    """A client program: predictions of every kind, and labels for some of them."""

    def predict(self, inputs: Any, model: dict[str, Any], name: str, **more: Any) -> dict[str, Any] | None:
        """The answer, or None when the request failed."""
        body = {"model": model["name"], "inputs": inputs, **more}
        path = f"/predict ({name})"
        with self.client.post("/predict", json=body, headers=self.bearer, name=path, catch_response=True) as response:
            if response.status_code != 200:
                return None
            try:
                answer: dict[str, Any] = response.json()
                shares.count(answer["model"], answer["version"])
            except (ValueError, KeyError) as error:
                response.failure(f"not an answer: {error!r}")
                return None
            return answer

    @tag("single", "weights")
    @task(20)
    def single(self) -> None:
        """One row."""
        model = self.draw.choice(self.models)
        self.predict(one_input(model, self.draw), model, "single")

    @tag("batch")
    @task(4)
    def batch(self) -> None:
        """32 rows in one request."""
        model = self.draw.choice(self.models)
        self.predict(many_inputs(model, BATCH_ROWS, self.draw), model, f"batch of {BATCH_ROWS}")

    @tag("sticky")
    @task(10)
    def sticky(self) -> None:
        """A key, as a caller has who must keep its version."""
        model = self.draw.choice(self.models)
        key = f"caller-{self.draw.randrange(KEYS)}"
        self.predict(one_input(model, self.draw), model, "sticky key", key=key)

    @tag("feedback")
    @task(5)
    def feedback(self) -> None:
        """One row, and its label right after."""
        model = self.draw.choice(self.models)
        answer = self.predict(one_input(model, self.draw), model, "single")
        if answer is not None:
            label = {"id": answer["id"], **label_of(model, answer["outputs"])}
            self.client.post("/feedback", json=label, headers=self.bearer)

    @tag("single", "batch", "sticky", "feedback", "weights")
    @task(1)
    def served(self) -> None:
        """What is served now."""
        self.look()


class Operator(_Caller):
    """A person at the weights: one canary's weight goes up and down as long as the load lasts."""

    fixed_count = 1
    wait_time = between(1, 2)

    def on_start(self) -> None:
        super().on_start()
        options = self.environment.parsed_options
        self.admin = options.admin.rstrip("/") if options else ""
        if not self.admin:
            raise StopUser
        self.authorization = {"Authorization": f"Bearer {options.admin_token}"} if options else {}
        self.next_weight = itertools.cycle(WEIGHTS)
        found = [(model, self._challenger(model)) for model in self.models]
        found = [(model, version) for model, version in found if version]
        if not found:
            print("No model has a second version loaded: no weight is moved.", file=sys.stderr)
            raise StopUser
        self.model, self.version = found[0]
        self.before = shares.weights[self.model["name"]].get(self.version, 0.0)

    def on_stop(self) -> None:
        if hasattr(self, "before"):
            self._set(self.before)

    @tag("weights")
    @task
    def move(self) -> None:
        """The next weight."""
        self._set(next(self.next_weight))

    def _set(self, weight: float) -> None:
        name, champion = self.model["name"], self.model["champion"]
        body = {"weights": {str(self.version): weight}, "reason": "load test"}
        url = f"{self.admin}/admin/models/{name}/weights"
        path = "/admin/models/.../weights"
        with self.client.post(url, json=body, headers=self.authorization, name=path, catch_response=True) as response:
            if response.status_code == 200:
                shares.move(name, self.version, weight, champion)

    @staticmethod
    def _challenger(model: dict[str, Any]) -> int:
        others: list[int] = [version for version in model["versions"] if version != model["champion"]]
        canaries = [version for version in others if str(version) in model["weights"]]
        return (canaries or others or [0])[0]
