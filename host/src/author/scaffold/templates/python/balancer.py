"""Picks two ready endpoints by chance, and of these the one with fewer requests in flight for its weight."""

from componentize_py_types import Err
from wit_world import exports
from wit_world.exports.balancer import PickContext, PickError
from wit_world.imports import config, loads, selection
from wit_world.imports.types import ConfigIssue, Endpoint, EndpointChange


class State:
    """An instance of a plugin is one module, so there is one of it."""

    endpoints: list[Endpoint] = []
    # Where the first attempt of a request may go to.
    candidates: list[Endpoint] = []


class Lifecycle(exports.Lifecycle):
    def configure(self) -> None:
        issues = [ConfigIssue(name, "is unknown; there are no settings") for name in config.keys("")]
        if issues:
            raise Err(issues)


class Balancer(exports.Balancer):
    def update(self, version: int, endpoints: list[Endpoint]) -> None:
        State.endpoints = endpoints
        State.candidates = usable([])

    def change(self, changes: list[EndpointChange]) -> None:
        by_id = {change.id: change for change in changes}
        for endpoint in State.endpoints:
            if change := by_id.get(endpoint.id):
                endpoint.weight, endpoint.ready = change.weight, change.ready
        State.candidates = usable([])

    def pick(self, cx: PickContext) -> int:
        candidates = (usable(selection.tried()) if cx.attempt > 0 else []) or State.candidates
        count = len(candidates)
        if count == 0:
            raise Err(PickError.UNAVAILABLE)
        first = (cx.random >> 32) % count
        if count == 1:
            return candidates[first].id
        other = (first + 1 + (cx.random & 0xFFFFFFFF) % (count - 1)) % count
        return min(candidates[first], candidates[other], key=load).id


def usable(tried: list[int]) -> list[Endpoint]:
    """The endpoints that are ready and not tried, of the first priority group that has any."""
    ready = [endpoint for endpoint in State.endpoints if endpoint.ready and endpoint.id not in tried]
    group = min((endpoint.priority for endpoint in ready), default=0)
    return [endpoint for endpoint in ready if endpoint.priority == group]


def load(endpoint: Endpoint) -> float:
    return loads.active(endpoint.id) / max(1, endpoint.weight)
