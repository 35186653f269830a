"""How long a proxy takes from its start to the first request it has answered."""
import contextlib, http.client, shutil, statistics, time

import processes
from cases import large
from peer import Peer, get

UPSTREAMS = 1000
PATIENCE = 60  # seconds


def start(run, case: str) -> None:
    """Three figures: with an empty cache, again with what that left in it, and with many upstreams."""
    rows = {}
    for peer in (p for p in run.peers_of(case) if p.name in large.KNOWN):
        many = run.variant(peer, f"{UPSTREAMS} upstreams", large.upstreams(peer.name, UPSTREAMS))
        times = {"first": [], "again": [], "many": []}
        try:
            for _ in range(run.args.rounds):
                cache = peer.work / "cache"
                shutil.rmtree(cache, ignore_errors=True)
                with run.lock():
                    times["first"].append(until_answered(peer, "bench.test", cache))
                    times["again"].append(until_answered(peer, "bench.test", cache))
                    times["many"].append(until_answered(many, f"host-{UPSTREAMS // 2}.test", cache))
            rows[peer.name] = {k: {key: statistics.median(t[key] for t in v) for key in v[0]} for k, v in times.items()}
        except RuntimeError as e:
            run.note(case, peer, str(e))
        finally:
            peer.stop()
            many.stop()
    run.keep(case, rows)
    run.say(f"\n### {case} (ms from exec to the first answer)\n\n| peer | empty cache | again | {UPSTREAMS:,} upstreams | "
            f"CPU ms of that | RSS then, MiB |\n|---|---:|---:|---:|---:|---:|")
    for name, m in rows.items():
        run.say(f"| {name} | " + " | ".join(f"{m[k]['ms']:.0f}" for k in ("first", "again", "many"))
                + f" | {m['many']['cpu_ms']:.0f} | {m['many']['rss_kib'] / 1024:.1f} |")


def until_answered(peer: Peer, host: str, cache) -> dict[str, float]:
    """Starts a peer and ends it once it has answered. A cache of its own, if it has one, is in `cache`."""
    peer.fill(peer.command)  # the files are written before the clock runs
    began = time.perf_counter()
    peer.spawn({"XDG_CACHE_HOME": str(cache)})
    while True:
        with contextlib.suppress(OSError, http.client.HTTPException):
            if get(peer.port, "/b/1", host)[0] == 200:
                break
        if peer.proc.poll() is not None or time.perf_counter() - began > PATIENCE:
            peer.stop()
            raise RuntimeError(f"{peer.name} did not come up:\n{peer.log()}")
        time.sleep(0.0005)
    took = time.perf_counter() - began
    found = {"ms": 1e3 * took, "cpu_ms": processes.cpu(peer.proc.pid)[0] / 1e6, "rss_kib": processes.rss(peer.proc.pid)[0]}
    peer.stop()
    return found
