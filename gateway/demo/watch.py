"""What an operator sees from outside: jobs, alerts, versions, weights and the rollout, read from the admin API.

`View` is a value folded from answers of the API; `Watch` asks again and again, and stops the stream's clock while a
job answers an alert. The control process may vanish for seconds: what was seen last stays.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from gateway.client import AsyncClient, ClientError, Refused, model_path
from gateway.clock import Clock
from gateway.demo.send import Pause

ANSWERS_ALERT = "error_drift"
_LIVE_JOB = frozenset({"queued", "running"})
_ENDED_ROLLOUT = frozenset({"promoted", "rolled_back"})
_PROMOTED = frozenset({"promote", "promoted_on_gate"})
_ROLLED_BACK = frozenset({"roll_back", "restore"})
_JOBS_SECONDS = 0.075
_ROLLOUT_SECONDS = 0.2
_MODEL_SECONDS = 1.0
_GIVE_UP_SECONDS = 60.0
_SUMMARY_SECONDS = 3.0
_NEWEST_JOBS = 20
_MOST_ENTRIES = 1000


@dataclass
class View:
    """Everything seen so far.

    jobs: by id. alerts: advisory or not, by id. rollout: the newest one. promoted: version numbers. rolled_back: the
    reason by version number. audited: number of the last audit entry that was read. monitored: when the monitor wrote
    its summary, seconds since 1970.
    """

    jobs: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    alerts: dict[str, bool] = field(default_factory=dict)
    rollout: Mapping[str, Any] = field(default_factory=dict)
    promoted: set[int] = field(default_factory=set)
    rolled_back: dict[int, str] = field(default_factory=dict)
    audited: int = 0
    versions: int = 0
    champion: int = 0
    weights: dict[int, float] = field(default_factory=dict)
    monitored: float = 0.0

    def see_jobs(self, content: Mapping[str, Any]) -> None:
        """An answer of `GET /admin/jobs`."""
        self.jobs |= {job["id"]: job for job in content["jobs"]}

    def see_rollout(self, content: Mapping[str, Any]) -> None:
        """An answer of `GET /admin/models/{m}/rollout`."""
        self.rollout = content

    def see_audit(self, content: Mapping[str, Any]) -> None:
        """An answer of `GET /admin/audit`: no end of a rollout is missed, however soon the next one begins."""
        for entry in content["entries"]:
            self.audited = entry["number"]
            version = int(entry["subject"].rpartition("@")[2]) if "@" in entry["subject"] else 0
            if entry["action"] in _PROMOTED:
                self.promoted.add(version)
            elif entry["action"] in _ROLLED_BACK:
                self.rolled_back[version] = entry["reason"]

    def see_model(self, content: Mapping[str, Any]) -> None:
        """An answer of `GET /admin/models/{m}`."""
        self.versions = len(content["versions"])
        self.weights = {int(version): weight for version, weight in content["weights"].items()}
        self.champion = (content["route"] or {}).get("champion", 0)

    def see_monitoring(self, content: Mapping[str, Any]) -> None:
        """An answer of `GET /admin/models/{m}/monitoring`."""
        self.monitored = content["time"]
        self.alerts |= {alert["id"]: bool(alert.get("advisory")) for alert in content["alerts"]}

    def copy(self) -> View:
        """The jobs and alerts seen so far, which later looks leave alone."""
        return replace(self, jobs=dict(self.jobs), alerts=dict(self.alerts))

    @property
    def job(self) -> Mapping[str, Any] | None:
        """The job that is queued or running."""
        return next((job for job in self.jobs.values() if job["state"] in _LIVE_JOB), None)

    @property
    def is_answering_alert(self) -> bool:
        """True while a job that answers an alert is queued or running: the stream's clock stands."""
        return any(j["state"] in _LIVE_JOB and j["trigger"] == ANSWERS_ALERT for j in self.jobs.values())

    @property
    def is_rolling_out(self) -> bool:
        """True while a rollout may still move the route."""
        return bool(self.rollout) and (self.rollout["phase"] not in _ENDED_ROLLOUT or bool(self.rollout["guarding"]))

    @property
    def job_failure(self) -> str:
        """Why the last failed job failed; empty when none did."""
        return next((str(job["detail"]) for job in reversed(self.jobs.values()) if job["state"] == "failed"), "")

    @property
    def job_ends(self) -> dict[str, int]:
        """How many jobs are in which state."""
        states = [str(job["state"]) for job in self.jobs.values()]
        return {state: states.count(state) for state in dict.fromkeys(states)}

    def line(self) -> str:
        """Jobs, alerts and weights in one line."""
        decisive = sum(not advisory for advisory in self.alerts.values())
        weights = " ".join(f"@{version} {weight:g}%" for version, weight in self.weights.items())
        phase = f" {self.rollout['phase']} @{self.rollout['version']}" if self.is_rolling_out else ""
        return f"alerts {decisive}  jobs {len(self.jobs)}  versions {self.versions}  {weights}{phase}"


class Watch:
    """Keeps a view fresh and the pause in step with it. `run` for ever, or `look` once."""

    def __init__(self, admin: AsyncClient, model: str, pause: Pause, clock: Clock) -> None:
        self.view = View()
        self._admin = admin
        self._model = model
        self._pause = pause
        self._clock = clock

    async def run(self) -> None:
        """Look again and again, until cancelled. Raises Refused when the gateway refuses what it should answer."""
        async with asyncio.TaskGroup() as group:
            for look, seconds in (
                (self._look_at_jobs, _JOBS_SECONDS),
                (self._look_at_rollouts, _ROLLOUT_SECONDS),
                (self._look_at_model, _MODEL_SECONDS),
            ):
                group.create_task(self._again(look, seconds))

    async def settle(self) -> View:
        """The view once the monitor has seen what was sent (it has three seconds) and no job is left."""
        now, give_up = self._clock.now(), self._clock.monotonic() + _SUMMARY_SECONDS
        while (await self.look()).monitored < now and self._clock.monotonic() < give_up:
            await self._clock.sleep(0.1)
        return await self.until_idle()

    async def until_idle(self) -> View:
        """The view once no job is queued or running."""
        while (await self.look()).job is not None:
            await self._clock.sleep(0.1)
        return self.view

    async def look(self) -> View:
        """The view after one whole look; waits for a gateway that is away."""
        for look in (self._look_at_jobs, self._look_at_rollouts, self._look_at_model):
            await until_answered(look, self._clock)
        return self.view

    async def _again(self, look: Callable[[], Awaitable[None]], seconds: float) -> None:
        while True:
            await until_answered(look, self._clock)
            await self._clock.sleep(seconds)

    async def _look_at_jobs(self) -> None:
        self.view.see_jobs(await self._admin.get("/admin/jobs", model=self._model, limit=_NEWEST_JOBS))
        if self.view.is_answering_alert:
            self._pause.hold()
        else:
            self._pause.release()

    async def _look_at_rollouts(self) -> None:
        new = await self._admin.get("/admin/audit", subject=self._model, after=self.view.audited, limit=_MOST_ENTRIES)
        self.view.see_audit(new)
        try:
            self.view.see_rollout(await self._admin.get(model_path(self._model, "/rollout")))
        except Refused as error:
            if error.status != 404:  # there was none yet
                raise

    async def _look_at_model(self) -> None:
        self.view.see_model(await self._admin.get(model_path(self._model)))
        self.view.see_monitoring(await self._admin.get(model_path(self._model, "/monitoring")))


async def until_answered(call: Callable[[], Awaitable[Any]], clock: Clock) -> Any:
    """What the call gives, tried again while the gateway is away. Raises ClientError after a minute, or when refused.

    4xx is an answer; 5xx is what a restart looks like.
    """
    give_up = clock.monotonic() + _GIVE_UP_SECONDS
    while True:
        try:
            return await call()
        except ClientError as error:
            if (isinstance(error, Refused) and error.status < 500) or clock.monotonic() > give_up:
                raise
        await clock.sleep(0.1)
