import assert from "node:assert/strict";
import { test } from "node:test";

import { bytes, text } from "./text";

test("text goes to bytes and back", () => {
  for (const sample of ["", "plain 100%25", "café", "日本", "🦀 crab"]) {
    assert.deepEqual([...bytes(sample)], [...Buffer.from(sample)]);
    assert.equal(text(bytes(sample)), sample);
  }
});

test("bytes that are no text are taken one by one", () => {
  assert.equal(text(Uint8Array.of(0x61, 0xff, 0x25)), "a\u00ff%");
});
