"""Picks the ready endpoint with the fewest requests in flight for its weight, and among equals by chance."""

from componentize_py_types import Err
from wit_world import exports
from wit_world.exports.balancer import PickContext, PickError
from wit_world.imports import config, loads, selection
from wit_world.imports.types import ConfigIssue, Endpoint, EndpointChange


class State:
    """An instance of a plugin is one module, so there is one of it."""

    endpoints: list[Endpoint] = []


class Lifecycle(exports.Lifecycle):
    def configure(self) -> None:
        issues = [ConfigIssue(name, "is unknown; there are no settings") for name in config.keys("")]
        if issues:
            raise Err(issues)


class Balancer(exports.Balancer):
    def update(self, version: int, endpoints: list[Endpoint]) -> None:
        State.endpoints = endpoints

    def change(self, changes: list[EndpointChange]) -> None:
        by_id = {change.id: change for change in changes}
        for endpoint in State.endpoints:
            if change := by_id.get(endpoint.id):
                endpoint.weight, endpoint.ready = change.weight, change.ready

    def pick(self, cx: PickContext) -> int:
        active = loads.active_all()
        tried = selection.tried() if cx.attempt > 0 else []
        count = len(State.endpoints)
        # Chance says where to begin, so that equals have equal parts.
        start = cx.random % count if count else 0

        def order(endpoint: Endpoint) -> tuple[bool, int, float]:
            in_flight = active[endpoint.id] if endpoint.id < len(active) else 0
            return endpoint.id in tried, endpoint.priority, in_flight / max(1, endpoint.weight)

        rotated = (State.endpoints[(start + step) % count] for step in range(count))
        best = min((endpoint for endpoint in rotated if endpoint.ready), key=order, default=None)
        if best is None:
            raise Err(PickError.UNAVAILABLE)
        return best.id
