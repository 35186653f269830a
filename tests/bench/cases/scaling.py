"""How many more requests two workers on two cores do than one."""
import json, statistics, subprocess

import load, processes
from cases.rounds import SMALL, start_all

WANTED = 4  # cores: two for the proxy, two for two load generators and the upstream


def scaling(run, case: str) -> None:
    cores = sorted(processes.allowed())
    if len(cores) < WANTED and not run.args.force:
        run.keep(case, {"not_measurable": f"{len(cores)} cores, {WANTED} wanted"})
        return run.say(f"\n### {case}\n\nNot measurable here: it wants {WANTED} cores, and there are {len(cores)} (--force does it all the same).")
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
            rows[peer.name] = {"one": statistics.median(a["rps"] for a, _ in found),
                               "two": statistics.median(b["rps"] for _, b in found),
                               "ratio": statistics.median(b["rps"] / a["rps"] for a, b in found),
                               "core": [statistics.median(f[i]["core"] for f in found) for i in (0, 1)]}
        except RuntimeError as e:
            run.note(case, peer, str(e))
        finally:
            for p in pair:
                p.stop()
    run.keep(case, rows)
    shared = " The generator shares the proxy's cores: do not trust these." if len(cores) < WANTED else ""
    run.say(f"\n### {case}\n\nOf {len(cores)} cores.{shared}\n\n| peer | 1 worker, req/s | 2 workers, req/s | ratio | cores busy % |\n"
            "|---|---:|---:|---:|---:|")
    for name, m in rows.items():
        run.say(f"| {name} | {m['one']:,.0f} | {m['two']:,.0f} | {m['ratio']:.2f} | {m['core'][0]:.0f}, {m['core'][1]:.0f} |")


def ask(run, peer, on: str) -> dict:
    """Two load generators at once; their req/s together."""
    argv = ["taskset", "-c", on, *load.command(run, peer.port, SMALL, run.args.seconds)]
    before = processes.core_times(peer.cpus)
    both = [subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    told = [json.loads(p.communicate()[0] or "{}") for p in both]
    if not all(told):
        raise RuntimeError("load failed")
    return {"rps": sum(t["rps"] for t in told), "core": processes.busy(before, processes.core_times(peer.cpus))}
