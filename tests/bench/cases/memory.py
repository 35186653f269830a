"""What memory idle connections take."""
import subprocess, time

import processes

# name: (front, how many idle connections are held, and how many then)
HELD = {"mem": ("plain", 1000, 10000), "mem-tls": ("tls", 1000, 5000)}


def memory(run, case: str) -> None:
    front, few, many = HELD[case]
    rows = {}
    for p in run.peers_of(case, front):
        holders = []
        try:
            with run.lock(wait=0):  # nothing is timed
                p.start()
                if not p.serves(front):
                    run.note(case, p, f"does not serve {front}")
                    continue
                time.sleep(0.5)
                m = {"idle": processes.rss(p.proc.pid)}
                for label, n in (("few", few), ("many", many - few)):
                    argv = ["taskset", "-c", run.args.load_cpu, str(run.cache / "native/load"), "--idle", str(n),
                            "--port", str(p.port if front == "plain" else p.tls_port)] + (["--tls"] if front == "tls" else [])
                    h = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
                    holders.append(h)
                    if h.stdout.readline().strip() != "ready":
                        raise RuntimeError(f"could not hold {n} idle connections")
                    time.sleep(0.5)
                    m[label] = processes.rss(p.proc.pid)
            rows[p.name] = {k: {"rss_kib": v[0], "pss_kib": v[1]} for k, v in m.items()}
            rows[p.name]["kib_per_conn"] = (m["many"][0] - m["few"][0]) / (many - few)
        except RuntimeError as e:
            run.note(case, p, str(e))
        finally:
            for h in holders:
                h.stdin.close()
                h.wait()
            p.stop()
    run.keep(case, rows)
    run.say(f"\n### {case} (RSS of the process tree, MiB)\n\n"
            f"| peer | idle | {few:,} connections | {many:,} connections | KiB per connection |\n|---|---:|---:|---:|---:|")
    for name, m in rows.items():
        run.say(f"| {name} | " + " | ".join(f"{m[k]['rss_kib'] / 1024:.1f}" for k in ("idle", "few", "many"))
                + f" | {m['kib_per_conn']:.1f} |")
