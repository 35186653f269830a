import assert from "node:assert/strict";
import { test } from "node:test";

import { tidy } from "./query";

test("a tidy query is dropped from, and sorted", () => {
  const tidying = { drop: ["utm_*", "gclid"], sort: true };
  const cases: [string, string][] = [
    ["/a", "/a"],
    ["/a?", "/a"],
    ["/a?utm_source=x", "/a"],
    ["/a?b=2&utm_medium=mail&a=1", "/a?a=1&b=2"],
    ["/a?gclid=1&gclidx=2", "/a?gclidx=2"],
    ["/a?%75tm_id=1&c", "/a?c"],
    ["/a?%ff=1&b=%zz", "/a?%ff=1&b=%zz"],
    ["/a?b=2&a=3&b=1&&a=0", "/a?a=3&a=0&b=2&b=1"],
    ["/a?x=1?utm_source=2", "/a?x=1?utm_source=2"],
  ];
  for (const [from, to] of cases) assert.equal(tidy(from, tidying), to, from);
});

test("the order is left alone when nobody asks for another", () => {
  assert.equal(tidy("/a?b=1&a=2&utm_x=3", { drop: ["utm_*"], sort: false }), "/a?b=1&a=2");
});
