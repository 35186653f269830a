"""Answers requests with 503 while maintenance is scheduled, and says with `retry-after` when it ends."""

from datetime import datetime, timedelta, timezone

from componentize_py_types import Err
from wit_world import exports
from wit_world.exports.request_rewriter import RequestAction, RequestAction_Proceed, RequestAction_Respond
from wit_world.imports import clock, config, request
from wit_world.imports.edits import LocalResponse
from wit_world.imports.types import ConfigIssue

import schedule

SETTINGS = ["windows", "utc_offset", "except", "message"]


class State:
    """What is read from the settings. An instance of a plugin is one module, so there is one of it."""

    windows: list[schedule.Window] = []
    zone = timezone.utc
    passing: list[str] = []
    message = "down for maintenance\n"


class Lifecycle(exports.Lifecycle):
    def configure(self) -> None:
        issues: list[ConfigIssue] = []

        def read(path: str, parse, default: str | None = None):
            text = config.get(path) or default
            try:
                if text is None:
                    raise ValueError("this setting is missing")
                return parse(text)
            except ValueError as error:
                issues.append(ConfigIssue(path, str(error)))

        for name in config.keys(""):
            if name not in SETTINGS:
                issues.append(ConfigIssue(name, f"there is no such setting; there are {', '.join(SETTINGS)}"))
        positions = config.keys("windows")
        if not positions:
            issues.append(ConfigIssue("windows", "at least one window is wanted"))
        offset = read("utc_offset", schedule.utc_offset, "+00:00")
        windows = []
        for position in positions:
            path = f"windows.{position}"
            days = [read(f"{path}.days.{at}", schedule.day) for at in config.keys(f"{path}.days")]
            begin, end = (read(f"{path}.{name}", schedule.time_of_day) for name in ("from", "to"))
            windows.append((days or range(7), begin, end))
        if issues:
            raise Err(issues)

        State.windows = [schedule.Window(frozenset(days), begin, end) for days, begin, end in windows]
        State.zone = timezone(offset)
        State.passing = [config.get(f"except.{position}") or "/" for position in config.keys("except")]
        State.message = config.get("message") or State.message


class RequestRewriter(exports.RequestRewriter):
    def on_request(self, wanted: list[bytes | None]) -> RequestAction:
        left = schedule.left(State.windows, datetime.fromtimestamp(clock.wall() / 1e9, State.zone))
        if left is None or any(request.path_and_query().startswith(path) for path in State.passing):
            return RequestAction_Proceed()
        seconds = -(-left // timedelta(seconds=1))
        fields = [("retry-after", str(seconds).encode()), ("content-type", b"text/plain; charset=utf-8")]
        return RequestAction_Respond(LocalResponse(503, fields, State.message.encode()))
