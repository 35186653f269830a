// Sets a header of every request: `name` and `value` say which.

import { get, keys } from "staunch:plugin/config@0.1.0";

import { bytes } from "./text.js";

let name = "x-hello";
let value = bytes("world");

export const lifecycle = {
  configure() {
    const issues = keys("")
      .filter((path) => path !== "name" && path !== "value")
      .map((path) => ({ path, message: "is unknown; there are `name` and `value`" }));
    if (issues.length > 0) throw issues;
    name = get("name") ?? name;
    value = bytes(get("value") ?? "world");
  },
};

export const requestRewriter = {
  onRequest() {
    return { tag: "fields", val: [{ tag: "set", val: [name, value] }] };
  },
};
