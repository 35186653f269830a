// Takes tracking parameters out of the query and puts the rest in order, so that origins and caches see one address
// for one page.

import { get, keys } from "staunch:plugin/config@0.1.0";
import { pathAndQuery } from "staunch:plugin/request@0.1.0";
import type { ConfigIssue, RequestAction } from "staunch:plugin";

import { tidy, type Tidying } from "./query";

const TRACKING = ["utm_*", "fbclid", "gclid", "msclkid", "mc_eid"];

let tidying: Tidying = { drop: TRACKING, sort: true };

export const lifecycle = {
  configure(): void {
    const issues: ConfigIssue[] = [];
    for (const name of keys("")) {
      if (name !== "drop" && name !== "sort") {
        issues.push({ path: name, message: "there is no such setting; there are `drop` and `sort`" });
      }
    }
    const sort = get("sort") ?? "true";
    if (sort !== "true" && sort !== "false") issues.push({ path: "sort", message: "it is true or false" });
    const drop = keys("").includes("drop") ? keys("drop").map((position) => get(`drop.${position}`) ?? "") : TRACKING;
    drop.forEach((name, position) => {
      if (name === "") issues.push({ path: `drop.${position}`, message: "the name of a parameter is wanted" });
    });
    if (issues.length > 0) throw issues;
    tidying = { drop, sort: sort === "true" };
  },
};

export const requestRewriter = {
  onRequest(): RequestAction {
    const target = pathAndQuery();
    const tidied = tidy(target, tidying);
    if (tidied === target) return { tag: "proceed" };
    return { tag: "rewrite", val: [[{ tag: "path-and-query", val: tidied }], []] };
  },
};
