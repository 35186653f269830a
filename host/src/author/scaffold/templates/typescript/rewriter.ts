// Sets a header of every request: `name` and `value` say which.

import { get, keys } from "staunch:plugin/config@0.1.0";
import type { ConfigIssue, RequestAction } from "staunch:plugin";

import { bytes } from "./text";

let name = "x-hello";
let value = bytes("world");

export const lifecycle = {
  configure(): void {
    const issues: ConfigIssue[] = keys("")
      .filter((path) => path !== "name" && path !== "value")
      .map((path) => ({ path, message: "is unknown; there are `name` and `value`" }));
    if (issues.length > 0) throw issues;
    name = get("name") ?? name;
    value = bytes(get("value") ?? "world");
  },
};

export const requestRewriter = {
  onRequest(): RequestAction {
    return { tag: "fields", val: [{ tag: "set", val: [name, value] }] };
  },
};
