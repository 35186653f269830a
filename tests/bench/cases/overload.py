"""Twice as many requests as a proxy can do: how many it does then, and how long these take.

Bodies are of 64 KiB: turning a request away takes half of the system calls of a small one, so that nobody can do so with all of
twice the load and have time left. The proxy has a part of its core only, so that load generator and upstream, which share
another, are not overloaded too.
"""
import contextlib, statistics, subprocess, sys

import load
from cases.rounds import LOADS

CONNECTIONS = 2000
TIMES = 2
LARGE = LOADS["large64k"][1]
# Percent of the proxy's core that it does not get.
HELD = 75


def overload(run, case: str) -> None:
    """For each peer the closed loop's req/s, and then an open loop at TIMES that rate over many connections. One that
    is like another is offered as much as that one: itself it would turn a part of the closed loop away."""
    rounds = []
    for r in range(run.args.rounds):
        row, capacities = {}, {}
        for p in run.peers_of(case):
            try:
                p.start()
                with run.lock(), hold(run):
                    load.generate(run, p.port, LARGE, 0.5)
                    capacity = capacities.get(p.spec.get("like"))
                    if not capacity:
                        capacity = capacities[p.name] = load.generate(run, p.port, LARGE, run.args.seconds)["rps"]
                    how = dict(LARGE, conns=CONNECTIONS, rate=TIMES * capacity, warmup=1)
                    m = load.measure(run, p, how)
                answers = m["samples"] + m["refused_samples"]
                m.update(capacity=capacity, offered=m["due"] / m["seconds"],
                         refused_share=100 * m["refused_samples"] / max(1, m["due"]),
                         accepted_share=100 * m["samples"] / max(1, m["due"]),
                         unanswered_share=100 * (m["due"] - answers) / max(1, m["due"]))
                row[p.name] = m
            except (RuntimeError, subprocess.CalledProcessError) as e:
                run.note(case, p, f"round {r + 1}: {e}")
            finally:
                p.stop()
        rounds.append(row)
    names = dict.fromkeys(n for row in rounds for n in row)
    medians = {n: {k: statistics.median(row[n][k] for row in rounds if n in row)
                   for k, v in next(row[n] for row in rounds if n in row).items() if isinstance(v, (int, float))} for n in names}
    run.keep(case, {"rounds": rounds, "summary": medians})
    run.say(f"\n### {case} (open loop at {TIMES} × the closed loop's req/s, {CONNECTIONS:,} connections, {100 - HELD}% of a core)\n\n"
            "| peer | closed loop, req/s | offered | accepted | ÷ closed loop | refused % | unanswered % | p50 ms | p99 ms | "
            "refused p99 ms | errors | core busy % | generator's core % | generator late, p99 ms |\n|---|" + "---:|" * 13)
    for name, m in medians.items():
        run.say(f"| {name} | {m['capacity']:,.0f} | {m['offered']:,.0f} | {m['rps']:,.0f} | {m['rps'] / m['capacity']:.2f} | "
                f"{m['refused_share']:.0f} | {m['unanswered_share']:.0f} | {ms(m, 'p50')} | {ms(m, 'p99')} | "
                f"{ms(m, 'refused_p99', 'refused_samples')} | {m['errors']:.0f} | {m['core']:.0f} | {m['load_core']:.0f} | {m['late'] / 1e3:,.1f} |")


@contextlib.contextmanager
def hold(run):
    """Keeps a part of the proxy's core from it."""
    argv = ["taskset", "-c", run.args.proxy_cpu, str(run.cache / "native/hold"), str(HELD)]
    holder = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        if holder.stdout.readline().strip() != "ready":
            print(f"overload: {holder.stderr.read().strip()}; the proxy has all of its core", file=sys.stderr)
        yield
    finally:
        holder.kill()
        holder.wait()


def ms(medians: dict, key: str, samples: str = "samples") -> str:
    """A percentile in milliseconds, where there was anything to take it of."""
    return f"{medians[key] / 1e3:,.1f}" if medians[samples] else "–"
