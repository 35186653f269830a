"""Twice as many requests as a proxy can do: how many it does then, and how long these take."""
import statistics, subprocess

import load
from cases.rounds import SMALL

CONNECTIONS = 2000
TIMES = 2


def overload(run, case: str) -> None:
    """For each peer the closed loop's req/s, and then an open loop at TIMES that rate over many connections."""
    rounds = []
    for r in range(run.args.rounds):
        row = {}
        for p in run.peers_of(case):
            try:
                with run.lock():
                    p.start()
                    load.generate(run, p.port, SMALL, 0.5)
                    capacity = load.generate(run, p.port, SMALL, run.args.seconds)["rps"]
                    how = dict(SMALL, conns=CONNECTIONS, rate=TIMES * capacity, warmup=1)
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
    run.say(f"\n### {case} (open loop at {TIMES} × the closed loop's req/s, {CONNECTIONS:,} connections)\n\n"
            "| peer | closed loop, req/s | offered | accepted | ÷ closed loop | refused % | unanswered % | p50 ms | p99 ms | "
            "refused p99 ms | errors | core busy % | generator's core % | generator late, p99 ms |\n|---|" + "---:|" * 13)
    for name, m in medians.items():
        run.say(f"| {name} | {m['capacity']:,.0f} | {m['offered']:,.0f} | {m['rps']:,.0f} | {m['rps'] / m['capacity']:.2f} | "
                f"{m['refused_share']:.0f} | {m['unanswered_share']:.0f} | {ms(m, 'p50')} | {ms(m, 'p99')} | "
                f"{ms(m, 'refused_p99', 'refused_samples')} | {m['errors']:.0f} | {m['core']:.0f} | {m['load_core']:.0f} | {m['late'] / 1e3:,.1f} |")


def ms(medians: dict, key: str, samples: str = "samples") -> str:
    """A percentile in milliseconds, where there was anything to take it of."""
    return f"{medians[key] / 1e3:,.1f}" if medians[samples] else "–"
