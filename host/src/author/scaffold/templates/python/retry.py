"""Tries again elsewhere what failed or was answered with 503, as often as the setting `retries` says."""

from componentize_py_types import Err
from wit_world import exports
from wit_world.exports.retry import AttemptContext, RetryPlan
from wit_world.imports import config, registration
from wit_world.imports.types import ConfigIssue, Outcome_Failed


class State:
    """An instance of a plugin is one module, so there is one of it."""

    retries = 1


class Lifecycle(exports.Lifecycle):
    def configure(self) -> None:
        names = [name for name in config.keys("") if name != "retries"]
        issues = [ConfigIssue(name, "is unknown; there is only `retries`") for name in names]
        text = config.get("retries") or "1"
        if not text.isdecimal():
            issues.append(ConfigIssue("retries", "must be a whole number"))
        if issues:
            raise Err(issues)
        State.retries = int(text)
        registration.want_status(503, 503)


class Retry(exports.Retry):
    def decide(self, cx: AttemptContext) -> RetryPlan | None:
        is_worth_it = isinstance(cx.outcome, Outcome_Failed) or cx.outcome.value == 503
        return RetryPlan(delay=0, elsewhere=True) if is_worth_it and cx.attempt < State.retries else None
