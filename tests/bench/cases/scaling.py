"""How many more requests two workers on two cores do than one.

Where load and upstream have no cores of their own, requests for each second say nothing. What a request costs does: workers that
wait for each other, or take a cache line from each other, pay for it in CPU time, so that two do at most as many times what one
does as twice the cost with one goes into the cost with two.
"""
import json, statistics, subprocess

import load, processes
from cases.rounds import SMALL, start_all

WANTED = 4  # cores: two for the proxy, two for two load generators and the upstream


def scaling(run, case: str) -> None:
    cores = sorted(processes.allowed())
    two, rest = cores[:2], cores[2:] or cores
    others = ",".join(map(str, rest))
    rows = {}
    for peer in run.peers_of(case):
        pair = [run.variant(peer, f"{n} workers", cpus=",".join(map(str, two[:n])), workers=n) for n in (1, 2)]
        try:
            if len(start_all(run, case, pair)) < 2:
                continue
            found = []
            for _ in range(run.args.rounds):
                with run.lock():
                    found.append([ask(run, p, others) for p in pair])
            rows[peer.name] = {
                **{key: [statistics.median(f[i][key] for f in found) for i in (0, 1)] for key in ("rps", "cpu_us", "core")},
                "ratio": statistics.median(b["rps"] / a["rps"] for a, b in found),
                "by_cost": statistics.median(2 * a["cpu_us"] / b["cpu_us"] for a, b in found),
            }
        except RuntimeError as e:
            run.note(case, peer, str(e))
        finally:
            for p in pair:
                p.stop()
    run.keep(case, {"cores": len(cores), "rows": rows})
    shared = " Load and upstream share them with the proxy: look at the cost, not at req/s." if len(cores) < WANTED else ""
    run.say(f"\n### {case}\n\nOf {len(cores)} cores.{shared}\n\n"
            "| peer | 1 worker, req/s | 2 workers, req/s | ratio | 1 worker, CPU µs/req | 2 workers, CPU µs/req | 2 × cost of 1 ÷ cost of 2 | "
            "cores busy % |\n|---|---:|---:|---:|---:|---:|---:|---:|")
    for name, m in rows.items():
        rps, cost, busy = (m[key] for key in ("rps", "cpu_us", "core"))
        run.say(f"| {name} | {rps[0]:,.0f} | {rps[1]:,.0f} | {m['ratio']:.2f} | {cost[0]:.2f} | {cost[1]:.2f} | {m['by_cost']:.2f} | "
                f"{busy[0]:.0f}, {busy[1]:.0f} |")


def ask(run, peer, on: str) -> dict:
    """Two load generators at once; their req/s together, and what each request cost the proxy."""
    argv = ["taskset", "-c", on, *load.command(run, peer.port, SMALL, run.args.seconds)]
    cores, cost = processes.core_times(peer.cpus), processes.cpu(peer.proc.pid)
    both = [subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    told = [json.loads(p.communicate()[0] or "{}") for p in both]
    spent, busy = processes.cpu(peer.proc.pid)[0] - cost[0], processes.busy(cores, processes.core_times(peer.cpus))
    if not all(told):
        raise RuntimeError("load failed")
    return {"rps": sum(t["rps"] for t in told), "core": busy, "cpu_us": spent / 1e3 / sum(t["all"] for t in told)}
