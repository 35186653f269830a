// Picks the ready endpoint with the fewest requests in flight for its weight, and among equals by chance.

import { keys } from "staunch:plugin/config@0.1.0";
import { activeAll } from "staunch:plugin/loads@0.1.0";
import { tried } from "staunch:plugin/selection@0.1.0";

let endpoints = [];

export const lifecycle = {
  configure() {
    const issues = keys("").map((path) => ({ path, message: "is unknown; there are no settings" }));
    if (issues.length > 0) throw issues;
  },
};

export const balancer = {
  update(_version, list) {
    endpoints = list;
  },

  change(changes) {
    for (const { id, weight, ready } of changes) {
      for (const endpoint of endpoints) {
        if (endpoint.id === id) Object.assign(endpoint, { weight, ready });
      }
    }
  },

  pick(cx) {
    const active = activeAll();
    const before = cx.attempt > 0 ? tried() : [];
    const wasTried = (id) => Array.prototype.includes.call(before, id);
    // Chance says where to begin, so that equals have equal parts. The high bits are exact in every engine.
    const start = Math.floor(Math.abs(Number(cx.random)) / 2 ** 32);
    let best;
    let bestRank = 0;
    let bestLoad = 0;
    for (let step = 0; step < endpoints.length; step++) {
      const next = endpoints[(start + step) % endpoints.length];
      if (!next.ready) continue;
      // What was not tried goes before what was, and then the lower priority group before the other.
      const rank = next.priority + (wasTried(next.id) ? 2 ** 32 : 0);
      const load = Number(active[next.id] ?? 0) / Math.max(1, next.weight);
      if (!best || rank < bestRank || (rank === bestRank && load < bestLoad)) {
        best = next;
        bestRank = rank;
        bestLoad = load;
      }
    }
    if (!best) throw "unavailable";
    return best.id;
  },
};
