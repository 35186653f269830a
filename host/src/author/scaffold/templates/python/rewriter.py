"""Sets a header of every request: `name` and `value` say which."""

from componentize_py_types import Err
from wit_world import exports
from wit_world.exports.request_rewriter import RequestAction, RequestAction_Fields
from wit_world.imports import config
from wit_world.imports.edits import FieldEdit_Set
from wit_world.imports.types import ConfigIssue


class State:
    """An instance of a plugin is one module, so there is one of it."""

    name = "x-hello"
    value = b"world"


class Lifecycle(exports.Lifecycle):
    def configure(self) -> None:
        names = [name for name in config.keys("") if name not in ("name", "value")]
        issues = [ConfigIssue(name, "is unknown; there are `name` and `value`") for name in names]
        if issues:
            raise Err(issues)
        State.name = config.get("name") or State.name
        if (value := config.get("value")) is not None:
            State.value = value.encode()


class RequestRewriter(exports.RequestRewriter):
    def on_request(self, wanted: list[bytes | None]) -> RequestAction:
        return RequestAction_Fields([FieldEdit_Set((State.name, State.value))])
