"""README's table, from the results of a run."""

# case: (what is asked, unit, key of the median, decimals)
TIMED = {
    "small": ("200 B, 64 connections", "CPU µs/request", "cpu_us", 1),
    "large64k": ("64 KiB bodies", "CPU µs/MiB", "cpu_us", 0),
    "large1m": ("1 MiB bodies", "CPU µs/MiB", "cpu_us", 0),
    "connect": ("a connection for each request", "CPU µs/request", "cpu_us", 1),
    "tls": ("200 B over TLS 1.3", "CPU µs/request", "cpu_us", 1),
    "handshake": ("a TLS handshake for each request", "CPU µs/request", "cpu_us", 0),
    "h2": ("200 B over HTTP/2", "CPU µs/request", "cpu_us", 1),
}
HELD = {"mem": "an idle connection", "mem-tls": "an idle TLS connection"}
FIRST = ("nginx", "staunch")
OTHERS = ("haproxy", "envoy", "caddy", "pingora", "hyper")


def markdown(results: dict) -> str:
    """One row per case: nginx and staunch as they are, and everybody but nginx ÷ nginx."""
    cases, machine, args = results["cases"], results["machine"], results["args"]
    parts = [f"{machine['cpu']}, {machine['cores']} cores, Linux {machine['kernel']}, {machine['when'][:10]}; "
             f"medians of rounds ({args['rounds']}) of {args['seconds']:g} s, proxies with one worker on one core.",
             proxies(cases), scripts(cases), growth(cases), start(cases), overload(cases), scaling(cases)]
    return "\n\n".join(part for part in parts if part)


def rows(heads: list[str], lines: list[list[str]], words: int = 1) -> str:
    """A table whose first `words` columns are words, and the others numbers."""
    if not lines:
        return ""
    rule = "|" + "---|" * words + "---:|" * (len(heads) - words)
    return "\n".join(["| " + " | ".join(heads) + " |", rule, *("| " + " | ".join(line) + " |" for line in lines)])


def proxies(cases: dict) -> str:
    measured: list[tuple[str, str, int, dict, dict]] = []  # what, unit, decimals, figures by peer, their ratios to nginx
    for case, (what, unit, key, decimals) in TIMED.items():
        if case in cases:
            medians = cases[case]["summary"]
            measured.append((what, unit, decimals, {n: m.get(key) for n, m in medians.items()},
                             {n: m["ratio"].get(key) for n, m in medians.items()}))
        if case == "small" and "latency" in cases:
            for key, percentile in (("p50", "median"), ("p99", "p99")):
                medians = cases["latency"]["summary"]
                measured.append(("200 B, 64 connections, open loop", f"µs, {percentile}", 0, {n: m[key] for n, m in medians.items()},
                                 {n: m["ratio"].get(key) for n, m in medians.items()}))
    for case, what in HELD.items():
        if case in cases:
            figures = {n: m["kib_per_conn"] for n, m in cases[case].items()}
            base = figures.get("nginx")
            measured.append((what, "KiB", 1, figures, {n: f / base for n, f in figures.items()} if base else {}))
    others = [n for n in OTHERS if any(n in figures for *_, figures, _ in measured)]

    def line(what, unit, decimals, figures, ratios):
        absolute = [f"{figures[n]:,.{decimals}f}" if figures.get(n) is not None else "–" for n in FIRST]
        return [what, unit, *absolute, *(f"{ratios[n]:.2f}" if ratios.get(n) is not None else "–" for n in ("staunch", *others))]

    return rows(["what", "unit", *FIRST, *(f"{n} ÷ nginx" for n in ("staunch", *others))], [line(*m) for m in measured], 2)


def scripts(cases: dict) -> str:
    added = cases.get("small", {}).get("added", {})
    return rows(["a script", "CPU µs added to a request"], [[label, f"{cost:+.2f}"] for label, cost in added.items()])


def growth(cases: dict) -> str:
    lines, heads = [], []
    for what in ("endpoints", "hosts"):
        for name, m in cases.get("growth", {}).get(what, {}).get("peers", {}).items():
            first, *rest = m["sizes"]
            heads = ["CPU of a request", "smallest, µs", "100 ÷ smallest", "largest ÷ smallest"]
            lines.append([f"{name}, {first:,} to {rest[-1]:,} {what}", f"{m['cpu_us'][0]:.1f}", *(f"{r:.2f}" for r in m["ratio"])])
    return rows(heads, lines)


def start(cases: dict) -> str:
    lines = [[name, *(f"{m[k]['ms']:.0f}" for k in ("first", "again", "many")), f"{m['many']['rss_kib'] / 1024:.0f}"]
             for name, m in cases.get("start", {}).items()]
    return rows(["exec to first answer", "empty cache, ms", "again, ms", "1,000 upstreams, ms", "RSS then, MiB"], lines)


def overload(cases: dict) -> str:
    lines = [[name, f"{m['offered']:,.0f}", f"{m['rps']:,.0f}", f"{m['refused_share']:.0f}", f"{m['unanswered_share']:.0f}",
              *(f"{m[k] / 1e3:,.1f}" if m["samples"] else "–" for k in ("p50", "p99"))]
             for name, m in cases.get("overload", {}).get("summary", {}).items()]
    return rows(["twice the load it can take", "offered/s", "accepted/s", "refused %", "unanswered %", "p50 ms of accepted", "p99 ms"], lines)


def scaling(cases: dict) -> str:
    lines = [[name, f"{m['cpu_us'][0]:.1f}", f"{m['cpu_us'][1]:.1f}", f"{m['by_cost']:.2f}"]
             for name, m in cases.get("scaling", {}).get("rows", {}).items()]
    return rows(["CPU µs/req", "1 worker", "2 workers", "so 2 do as much as"], lines)
