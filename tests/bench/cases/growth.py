"""What a request costs when the configuration grows: endpoints of the upstream, routes with hosts."""
import statistics

from cases import large
from cases.rounds import SMALL, interleave, start_all
from run import MANY

ENDPOINTS = (3, 100, MANY)
HOSTS = (1, 100, 10_000)


def growth(run, case: str) -> None:
    addresses = [f"127.1.{i // 250}.{i % 250 + 1}:{run.many_port}" for i in range(MANY)]
    names = [f"host-{i}.test" for i in range(max(HOSTS))]
    endpoints = {n: (lambda peer, n=n: large.endpoints(peer, addresses[:n]), SMALL) for n in ENDPOINTS}
    hosts = {n: (lambda peer, n=n: large.hosts(peer, names[:n]), dict(SMALL, host=names[n // 2])) for n in HOSTS}
    run.keep(case, {"endpoints": grow(run, case, "endpoints", endpoints), "hosts": grow(run, case, "hosts", hosts)})


def grow(run, case: str, what: str, sizes: dict) -> dict:
    """Measures every peer at every size. `sizes`: the settings as a function of the peer, and the load, by size."""
    variants, asked = {}, []
    for peer in (p for p in run.peers_of(case) if p.name in large.KNOWN):
        for n, (settings, how) in sizes.items():
            variant = run.variant(peer, f"{n} {what}", settings(peer.name))
            variants[peer.name, n] = variant.name
            asked.append((variant, how))
    try:
        up = start_all(run, case, [p for p, _ in asked])
        rounds, held = interleave(run, f"{case}: {what}", [(p, how) for p, how in asked if p in up])
    finally:
        for p, _ in asked:
            p.stop()
    first, *rest = sizes
    run.say(f"\n### {case}: {what}\n\n| peer | " + " | ".join(f"{n:,}, CPU µs/req" for n in sizes) + " | "
            + " | ".join(f"{n:,} ÷ {first:,}" for n in rest) + " | upstream conns |\n|---|" + "---:|" * (2 * len(sizes)))
    out = {"rounds": rounds, "held": held, "peers": {}}
    for peer in dict.fromkeys(name for name, _ in variants):
        mine = [[row.get(variants[peer, n]) for n in sizes] for row in rounds]
        mine = [row for row in mine if all(row)]
        if not mine:
            continue
        cost = [statistics.median(row[i]["cpu_us"] for row in mine) for i in range(len(sizes))]
        ratio = [statistics.median(row[i]["cpu_us"] / row[0]["cpu_us"] for row in mine) for i in range(1, len(sizes))]
        conns = "/".join(f"{statistics.median(row[i]['upstream_conns'] for row in mine):.0f}" for i in range(len(sizes)))
        out["peers"][peer] = {"sizes": list(sizes), "cpu_us": cost, "ratio": ratio}
        run.say(f"| {peer} | " + " | ".join(f"{c:.2f}" for c in cost) + " | " + " | ".join(f"{r:.2f}" for r in ratio)
                + f" | {conns} |")
    return out
