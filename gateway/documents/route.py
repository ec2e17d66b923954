"""The route: which versions of a model answer now. A small document that operators and the rollout controller move.

Pure values and pure changes; the store's compare-and-swap decides who wins. Weights are percent with two decimals in
files and the API, and integers of 10,000 buckets inside.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from gateway.errors import InvalidConfig
from gateway.names import BUCKETS

Number = Annotated[int, Field(ge=1, strict=True)]
Bucket = Annotated[int, Field(ge=0, le=BUCKETS)]
Range = tuple[Bucket, Bucket]


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Canary(_Value):
    """A version that answers `weight` percent of live requests."""

    version: Number
    weight: float = Field(ge=0, le=100, description="percent of live traffic, two decimals")
    ranges: tuple[Range, ...] = Field(
        default=(), description="buckets it owns: [first, behind the last); may be left out"
    )

    @property
    def buckets(self) -> int:
        """The weight in buckets of 10,000."""
        return round(self.weight * BUCKETS / 100)


class Shadow(_Value):
    """A version that gets copies of `share` percent of requests and never answers."""

    version: Number
    share: float = Field(default=100, ge=0, le=100, description="percent of requests copied")

    @property
    def buckets(self) -> int:
        """The share in buckets of 10,000."""
        return round(self.share * BUCKETS / 100)


class Route(_Value):
    """Champion, canaries, shadows, the last champion (kept loaded), and the salt of the split."""

    champion: Number
    canaries: tuple[Canary, ...] = ()
    shadows: tuple[Shadow, ...] = ()
    previous: Number | None = None
    salt: str = ""

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        canaries = [canary.version for canary in self.canaries]
        shadows = [shadow.version for shadow in self.shadows]
        if sum(canary.buckets for canary in self.canaries) > BUCKETS:
            raise ValueError("the canaries' weights add up to more than 100")
        ranges = sorted(part for canary in self.canaries for part in canary.ranges)
        if any(first >= behind for first, behind in ranges) or any(
            left[1] > right[0] for left, right in pairwise(ranges)
        ):
            raise ValueError("canaries: the ranges are empty or overlap")
        for name, versions in (("canaries", canaries), ("shadows", shadows)):
            if len(set(versions)) != len(versions):
                raise ValueError(f"{name}: a version is named twice")
            if self.champion in versions:
                raise ValueError(f"{name}: version {self.champion} is the champion already")
        if both := set(canaries) & set(shadows):
            raise ValueError(f"version {min(both)} is canary and shadow at once")
        return self

    @property
    def versions(self) -> frozenset[int]:
        """Every version that must be loaded for this route."""
        named = {self.champion, *(c.version for c in self.canaries), *(s.version for s in self.shadows)}
        return frozenset(named | ({self.previous} if self.previous else set()))

    @property
    def challengers(self) -> frozenset[int]:
        """Canaries and shadows."""
        return frozenset(c.version for c in self.canaries) | frozenset(s.version for s in self.shadows)

    def weight_of(self, version: int) -> float:
        """Percent of live traffic that the version answers."""
        if version == self.champion:
            return round(100 - sum(canary.weight for canary in self.canaries), 2)
        return next((canary.weight for canary in self.canaries if canary.version == version), 0.0)

    @property
    def ownership(self) -> dict[int, tuple[Range, ...]]:
        """The buckets that each canary owns; the champion has the rest.

        A canary keeps the ranges it has (the first of them when its weight fell) and grows only by buckets that no
        other canary owns, so raising a weight moves callers from the champion to it and nobody else.
        """
        if not self.canaries:
            return {}
        kept = {canary.version: _first(canary.ranges, canary.buckets) for canary in self.canaries}
        taken = [False] * BUCKETS
        for ranges in kept.values():
            for first, behind in ranges:
                taken[first:behind] = [True] * (behind - first)
        free = iter([bucket for bucket in range(BUCKETS) if not taken[bucket]])
        owned: dict[int, tuple[Range, ...]] = {}
        for canary in self.canaries:
            ranges = kept[canary.version]
            missing = canary.buckets - sum(behind - first for first, behind in ranges)
            grown = [bucket for _, bucket in zip(range(missing), free, strict=False)]
            owned[canary.version] = _joined([*ranges, *((bucket, bucket + 1) for bucket in grown)])
        return owned

    def encode(self) -> bytes:
        """The document's body."""
        return self.model_dump_json().encode()


def _first(ranges: tuple[Range, ...], count: int) -> tuple[Range, ...]:
    kept: list[Range] = []
    for first, behind in ranges:
        if count <= 0:
            break
        size = min(behind - first, count)
        kept.append((first, first + size))
        count -= size
    return tuple(kept)


def _joined(ranges: list[Range]) -> tuple[Range, ...]:
    joined: list[Range] = []
    for first, behind in ranges:
        if joined and joined[-1][1] == first:
            joined[-1] = (joined[-1][0], behind)
        else:
            joined.append((first, behind))
    return tuple(joined)


def keep_ownership(route: Route, before: Route) -> Route:
    """The route with every canary's buckets written out; under the same salt each keeps those that it owned before."""
    owned = before.ownership if before.salt == route.salt else {}
    kept = [canary.ranges or owned.get(canary.version, ()) for canary in route.canaries]
    canaries = tuple(
        canary.model_copy(update={"ranges": ranges}) for canary, ranges in zip(route.canaries, kept, strict=True)
    )
    known = Route.model_validate({**dict(route), "canaries": canaries})
    whole = tuple(canary.model_copy(update={"ranges": known.ownership[canary.version]}) for canary in known.canaries)
    return Route.model_validate({**dict(known), "canaries": whole})


def read_route(body: bytes) -> Route:
    """The route in a document's body. Raises pydantic's ValidationError."""
    return Route.model_validate_json(body)


def with_weights(route: Route, weights: Mapping[int, float]) -> Route:
    """The route with these canary weights changed; 0 takes a canary out, a new version becomes a canary.

    A shadow that gets a weight stops being a shadow. The champion gets the rest and can not be named.
    Raises InvalidConfig.
    """
    if route.champion in weights:
        raise InvalidConfig(f"version {route.champion} is the champion: it gets what the canaries leave")
    merged = {canary.version: canary.weight for canary in route.canaries} | dict(weights)
    return changed(
        route,
        canaries=tuple({"version": v, "weight": w} for v, w in merged.items() if w != 0),
        shadows=tuple(shadow for shadow in route.shadows if not weights.get(shadow.version)),
    )


def with_shadow(route: Route, version: int, share: float) -> Route:
    """The route with this version as a shadow at `share` percent (and no canary)."""
    rest = without(route, version)
    return changed(rest, shadows=(*rest.shadows, Shadow(version=version, share=share)))


def without(route: Route, version: int) -> Route:
    """The route with this challenger taken out."""
    return changed(
        route,
        canaries=tuple(canary for canary in route.canaries if canary.version != version),
        shadows=tuple(shadow for shadow in route.shadows if shadow.version != version),
    )


def promoted(route: Route, version: int) -> Route:
    """The route with this version as champion, the old champion as `previous`, other challengers kept."""
    rest = without(route, version)
    return changed(rest, champion=version, previous=route.champion)


def restored(route: Route) -> Route:
    """The route with `previous` as champion again and no challengers. Raises InvalidConfig when there is none."""
    if route.previous is None:
        raise InvalidConfig("there is no previous champion to restore")
    return changed(route, champion=route.previous, previous=None, canaries=(), shadows=())


def changed(route: Route, **fields: object) -> Route:
    """A validated copy with some fields changed. Raises InvalidConfig with the reason."""
    try:
        return keep_ownership(Route.model_validate({**dict(route), **fields}), route)
    except ValueError as error:
        raise InvalidConfig(f"the route would not be valid: {error}") from error
