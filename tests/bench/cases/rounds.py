"""The cases that ask the same of every peer in interleaved rounds: what a request, a MiB or a handshake costs."""
import statistics, subprocess, sys

import load
from peer import Peer

# name: (front, load, unit). front: what the peer must offer. load: how to ask.
# unit: what CPU time is divided by.
LOADS = {
    "small":     ("plain", {"path": "/b/200", "conns": 64}, "req"),
    "small-wrk": ("plain", {"path": "/b/200", "conns": 64, "tool": "wrk"}, "req"),
    "latency":   ("plain", {"path": "/b/200", "conns": 64, "open_loop": True}, "req"),
    "large64k":  ("plain", {"path": "/b/65536", "conns": 32}, "mib"),
    "large1m":   ("plain", {"path": "/b/1048576", "conns": 16}, "mib"),
    "connect":   ("plain", {"path": "/b/200", "conns": 32, "new_conn": True}, "req"),
    "tls":       ("tls", {"path": "/b/200", "conns": 64}, "req"),
    "handshake": ("tls", {"path": "/b/200", "conns": 32, "new_conn": True}, "req"),
    "h2":        ("h2", {"path": "/b/200", "tool": "h2load", "conns": 10, "streams": 32, "requests": 2000}, "req"),
}
SMALL = LOADS["small"][1]

# The columns of each case's table: (title, key, decimals)
PER_REQUEST = [("req/s", "rps", 0), ("CPU µs/req", "cpu_us", 2), ("of it in user", "user_us", 2), ("core busy %", "core", 0)]
PER_MIB = [("MiB/s", "mibps", 0), ("CPU µs/MiB", "cpu_us", 0), ("of it in user", "user_us", 0), ("core busy %", "core", 0)]
LATENCY = [("p50 µs", "p50", 0), ("p99 µs", "p99", 0), ("p99.9 µs", "p999", 0),
           ("added p50", "add_p50", 0), ("added p99", "add_p99", 0), ("added p99.9", "add_p999", 0),
           ("CPU µs/req", "cpu_us", 2)]
COLUMNS = {"latency": LATENCY, "large64k": PER_MIB, "large1m": PER_MIB}
RATIO_KEYS = ("rps", "mibps", "cpu_us", "p50", "p99")


def compare(run, case: str) -> None:
    """Measures every peer in a case of LOADS, and prints its table."""
    front, how, unit = LOADS[case]
    if how.get("open_loop"):
        how = dict(how, rate=run.args.rate)
    up = start_all(run, case, run.peers_of(case, front), front)
    direct = run.upstream[0] if how.get("open_loop") else None
    rounds, held = interleave(run, case, [(p, how) for p in up], front, unit, direct)
    for p in up:
        p.stop()
    run.keep(case, {"rounds": rounds, "held": held, "summary": summary(rounds, run.args.baseline)})
    table(run, case)


def start_all(run, case: str, peers: list[Peer], front: str = "plain") -> list[Peer]:
    """Starts these peers, and answers which of them serve."""
    up = []
    for p in peers:
        try:
            p.start()
            if p.serves(front):
                up.append(p)
            else:
                run.note(case, p, f"does not serve {front}")
                p.stop()
        except RuntimeError as e:
            run.note(case, p, str(e))
    return up


def interleave(run, case: str, asked: list[tuple[Peer, dict]], front: str = "plain", unit: str = "req",
               direct: int | None = None) -> tuple[list[dict], list[dict]]:
    """Measures all of `asked` once a round, in an order that turns by one each round. With `direct`, the
    upstream at that port is asked without a proxy too. Answers the rounds, and how the lock was held."""
    rounds, held = [], []
    for r in range(run.args.rounds):
        row = {}
        with run.lock() as how_held:
            held.append(how_held)
            if direct and asked:
                row["direct"] = load.generate(run, direct, asked[0][1], run.args.seconds)
            first = r % len(asked) if asked else 0
            for p, how in asked[first:] + asked[:first]:
                try:
                    if r == 0:  # warm: connections, JITs, allocators
                        load.generate(run, p.port if front == "plain" else p.tls_port, dict(how, tls=front != "plain"), 0.5)
                    row[p.name] = load.measure(run, p, how, front, unit)
                    if row[p.name].get("errors") or row[p.name].get("refused"):
                        run.note(case, p, f"round {r + 1}: not every answer was 200")
                except (RuntimeError, subprocess.CalledProcessError, TypeError) as e:
                    run.note(case, p, f"round {r + 1}: {e}")
        if "direct" in row:
            for m in row.values():
                for k in ("p50", "p99", "p999"):
                    m["add_" + k] = m[k] - row["direct"][k]
        rounds.append(row)
        print(f"{case}: round {r + 1}/{run.args.rounds}", file=sys.stderr)
    return rounds, held


def summary(rounds: list[dict], base: str) -> dict:
    """The medians over rounds, by peer, and the medians of each round's ratio to `base`."""
    out = {}
    for name in dict.fromkeys(n for row in rounds for n in row):
        mine = [row[name] for row in rounds if name in row]
        s = {k: statistics.median(m[k] for m in mine if k in m) for k in mine[0] if isinstance(mine[0][k], (int, float))}
        s["spread"] = {k: [min(m[k] for m in mine), max(m[k] for m in mine)] for k in RATIO_KEYS if k in mine[0]}
        both = [row for row in rounds if name in row and base in row]
        s["ratio"] = {k: statistics.median(row[name][k] / row[base][k] for row in both) for k in RATIO_KEYS
                      if both and all(k in row[name] and row[base].get(k) for row in both)}
        out[name] = s
    return out


def table(run, case: str) -> None:
    result, base = run.results["cases"][case], run.args.baseline
    medians, held, cols = result["summary"], result["held"], COLUMNS.get(case, PER_REQUEST)
    run.say(f"\n### {case}\n")
    if run.args.lock:
        run.say(f"{sum(h['exclusive'] for h in held)} of {len(held)} rounds had the machine alone; "
                f"load average at their start {min(h['load'] for h in held):.1f}–{max(h['load'] for h in held):.1f}.\n")
    key = next((k for t, k, _ in cols if k in ("rps", "mibps", "p50")), "rps")
    head = [t for t, _, _ in cols] + [f"{key} ÷ {base}", f"CPU ÷ {base}", "CPU min–max", "upstream conns", "errors"]
    run.say("| peer | " + " | ".join(head) + " |\n|---|" + "---:|" * len(head))
    for name, s in medians.items():
        cells = [f"{s[k]:,.{d}f}" if k in s else "–" for _, k, d in cols]
        cells += [f"{s['ratio'][k]:.2f}" if k in s["ratio"] else "–" for k in (key, "cpu_us")]
        lo_hi = s["spread"].get("cpu_us")
        cells.append(f"{lo_hi[0]:.1f}–{lo_hi[1]:.1f}" if lo_hi else "–")
        cells += [f"{s[k]:.0f}" if k in s else "–" for k in ("upstream_conns", "errors")]
        run.say(f"| {name} | " + " | ".join(cells) + " |")
    result["added"] = added(run, result["rounds"])
    if result["added"]:
        run.say("\n| script | CPU µs/req added (median of rounds) |\n|---|---:|")
        for label, cost in result["added"].items():
            run.say(f"| {label} | {cost:+.2f} |")


def added(run, rounds: list[dict]) -> dict[str, float]:
    """What each script costs: the peer that has it, less the one that has not, in the same round."""
    out = {}
    for p in run.peers:
        both = [row for row in rounds if p.name in row and p.pair in row]
        if both and "cpu_us" in both[0][p.name]:
            out[f"{p.name} over {p.pair}"] = statistics.median(row[p.name]["cpu_us"] - row[p.pair]["cpu_us"] for row in both)
    return out
