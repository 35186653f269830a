/** What is done to a query: parameters left out, the rest in order of their names. */
export interface Tidying {
  /** Names, or beginnings of names that end with `*`. */
  drop: string[];
  sort: boolean;
}

/** The path and query of a request, tidied. */
export function tidy(target: string, { drop, sort }: Tidying): string {
  const start = target.indexOf("?");
  if (start < 0) return target;
  const path = target.slice(0, start);
  let parameters = target.slice(start + 1).split("&").filter((parameter) => parameter !== "");
  parameters = parameters.filter((parameter) => !drop.some((pattern) => matches(name(parameter), pattern)));
  if (sort) {
    // Stable: values of the same name keep their order, in which they may mean something.
    parameters.sort((a, b) => compare(name(a), name(b)));
  }
  return parameters.length === 0 ? path : `${path}?${parameters.join("&")}`;
}

function name(parameter: string): string {
  const written = parameter.split("=", 1)[0]!.replaceAll("+", " ");
  try {
    return decodeURIComponent(written);
  } catch {
    return written;
  }
}

function matches(name: string, pattern: string): boolean {
  return pattern.endsWith("*") ? name.startsWith(pattern.slice(0, -1)) : name === pattern;
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
