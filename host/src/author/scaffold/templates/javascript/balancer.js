// Picks two ready endpoints by chance, and of these the one with fewer requests in flight for its weight.

import { keys } from "staunch:plugin/config@0.1.0";
import { active } from "staunch:plugin/loads@0.1.0";
import { tried } from "staunch:plugin/selection@0.1.0";

let endpoints = [];
/** Where the first attempt of a request may go to. */
let candidates = [];

export const lifecycle = {
  configure() {
    const issues = keys("").map((path) => ({ path, message: "is unknown; there are no settings" }));
    if (issues.length > 0) throw issues;
  },
};

export const balancer = {
  update(_version, list) {
    endpoints = list;
    candidates = usable([]);
  },

  change(changes) {
    const byId = new Map(changes.map((change) => [change.id, change]));
    for (const endpoint of endpoints) {
      const change = byId.get(endpoint.id);
      if (change) Object.assign(endpoint, { weight: change.weight, ready: change.ready });
    }
    candidates = usable([]);
  },

  pick(cx) {
    const untried = cx.attempt > 0 ? usable(Array.from(tried())) : candidates;
    const list = untried.length > 0 ? untried : candidates;
    // The high bits are exact in every engine.
    const random = Math.floor(Math.abs(Number(cx.random)) / 2 ** 11);
    const first = Math.floor(random / 2 ** 21) % list.length;
    const one = list[first];
    if (!one) throw "unavailable";
    if (list.length === 1) return one.id;
    const other = list[(first + 1 + (random % (list.length - 1))) % list.length];
    return load(other) < load(one) ? other.id : one.id;
  },
};

/** The endpoints that are ready and not tried, of the first priority group that has any. */
function usable(tried) {
  const ready = endpoints.filter((endpoint) => endpoint.ready && !tried.includes(endpoint.id));
  const group = ready.reduce((least, endpoint) => Math.min(least, endpoint.priority), Infinity);
  return ready.filter((endpoint) => endpoint.priority === group);
}

function load(endpoint) {
  return active(endpoint.id) / Math.max(1, endpoint.weight);
}
