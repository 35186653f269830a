// Tries again elsewhere what failed or was answered with 503, as often as the setting `retries` says.

import { get, keys } from "staunch:plugin/config@0.1.0";
import { wantStatus } from "staunch:plugin/registration@0.1.0";
import type { AttemptContext, ConfigIssue, Maybe, RetryPlan } from "staunch:plugin";

let retries = 1;

export const lifecycle = {
  configure(): void {
    const issues: ConfigIssue[] = keys("")
      .filter((path) => path !== "retries")
      .map((path) => ({ path, message: "is unknown; there is only `retries`" }));
    const text = get("retries") ?? "1";
    if (!/^[0-9]{1,4}$/.test(text)) issues.push({ path: "retries", message: "must be a whole number below 10000" });
    if (issues.length > 0) throw issues;
    retries = Number(text);
    wantStatus(503, 503);
  },
};

export const retry = {
  decide(cx: AttemptContext): Maybe<RetryPlan> {
    const isWorthIt = cx.outcome.tag === "failed" || cx.outcome.val === 503;
    return isWorthIt && cx.attempt < retries ? { delay: 0, elsewhere: true } : undefined;
  },
};
