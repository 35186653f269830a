"""Does each peer do the job? Status, bodies, even round robin, the scripts' headers; nothing is timed."""
import http.client

from peer import Peer, get


def verify(run, case: str) -> None:
    run.say(f"\n### {case}\n")
    found = {}
    for p in run.peers_of(case):
        try:
            p.start()
            fronts = [f for f in ("plain", "tls", "h2") if p.serves(f)]
            notes = check(p)
            found[p.name] = {"fronts": fronts, "notes": notes}
            run.say(f"- {p.name}: serves {', '.join(fronts)}; " + ("; ".join(notes) or "all checks hold"))
            if notes:
                run.note(case, p, "; ".join(notes))
        except (RuntimeError, OSError, http.client.HTTPException) as e:
            run.note(case, p, str(e) or type(e).__name__)
        p.stop()
    run.keep(case, found)


def check(peer: Peer) -> list[str]:
    """What is off."""
    notes, seen = [], {}
    c = http.client.HTTPConnection("127.0.0.1", peer.port, timeout=5)
    for _ in range(30):
        c.request("GET", "/b/200", headers={"Host": "bench.test"})
        r = c.getresponse()
        body = r.read()
        if r.status != 200 or len(body) != 200:
            notes.append(f"status {r.status}, {len(body)} bytes")
        seen[r.getheader("X-Upstream")] = seen.get(r.getheader("X-Upstream"), 0) + 1
    if peer.spec.get("even", True) and sorted(seen.values()) != [10, 10, 10]:
        notes.append(f"round robin is uneven: {seen}")
    status, body = get(peer.port, "/b/1048576")
    if status != 200 or len(body) != 1048576:
        notes.append("1 MiB body came back wrong")
    if peer.spec.get("header"):
        c.request("GET", "/b/1")
        r = c.getresponse()
        r.read()
        if r.getheader("x-bench") != "1":
            notes.append("the script's header is missing")
    c.close()
    return notes
