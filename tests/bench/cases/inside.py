"""Where a proxy's time goes: its system calls, and its hottest functions."""
import re, shutil, signal, subprocess, sys, time

import load, processes
from cases.rounds import SMALL


def each_peer(run, case: str, measure) -> None:
    """Keeps and tells what `measure` finds out of each peer: a row of results and a line of the table."""
    rows = {}
    for p in run.peers_of(case):
        try:
            p.start()
            rows[p.name], line = measure(p)
            run.say(f"| {p.name} | {line} |")
        except (RuntimeError, OSError) as e:
            run.note(case, p, str(e))
        p.stop()
    run.keep(case, rows)


def syscalls(run, case: str) -> None:
    """Counts system calls per request with strace -c (it slows the proxy; the counts hold, the times do not)."""
    if not shutil.which("strace"):
        return print(f"{case}: needs strace", file=sys.stderr)
    run.say(f"\n### {case} (per request, counted by strace at saturation)\n\n| peer | all | each |\n|---|---:|---|")

    def measure(p):
        load.generate(run, p.port, SMALL, 0.3)
        log = p.work / "strace"
        with run.lock(wait=0):  # nothing is timed
            pids = sum((["-p", str(x)] for x in processes.tree(p.proc.pid)), [])
            st = subprocess.Popen(["strace", "-c", "-f", "-o", log, *pids], stderr=subprocess.DEVNULL)
            time.sleep(0.5)
            n = load.generate(run, p.port, SMALL, 1.5)["all"]
            st.send_signal(signal.SIGINT)
            st.wait()
        calls = {}
        for line in log.read_text().splitlines():
            f = line.split()
            if len(f) >= 5 and f[0].replace(".", "").isdigit() and f[-1] != "total":
                calls[f[-1]] = int(f[3]) / n
        each = ", ".join(f"{k} {v:.2f}" for k, v in sorted(calls.items(), key=lambda x: -x[1]) if v >= 0.01)
        return calls, f"{sum(calls.values()):.2f} | {each}"

    each_peer(run, case, measure)


def profile(run, case: str) -> None:
    """Where the CPU time of the small case goes, by perf's clock samples."""
    if not shutil.which("perf"):
        return print(f"{case}: needs perf", file=sys.stderr)
    run.say(f"\n### {case} (share of samples in the small case)\n\n| peer | by object | hottest symbols |\n|---|---|---|")

    def measure(p):
        load.generate(run, p.port, SMALL, 0.5)
        data = p.work / "perf.data"
        with run.lock():
            rec = subprocess.Popen(["perf", "record", "-q", "-e", "cpu-clock", "-F", "1999", "-o", data,
                                    "-p", ",".join(map(str, processes.tree(p.proc.pid)))],
                                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            time.sleep(0.3)
            load.generate(run, p.port, SMALL, 2)
            rec.send_signal(signal.SIGINT)
            rec.wait()
        row = {}
        for sort in ("dso", "symbol"):
            out = subprocess.run(["perf", "report", "-i", data, "--stdio", "-q", "--percent-limit", "0.5", "--sort", sort],
                                 capture_output=True, text=True).stdout
            row[sort] = [(float(m[1]), re.sub(r"(\s+-)+$", "", m[2].strip())) for m in re.finditer(r"^\s*([\d.]+)%\s+(.+)$", out, re.M)]
        data.unlink(missing_ok=True)
        show = lambda items, n: ", ".join(f"{name} {share:.0f}%" for share, name in items[:n])
        return row, f"{show(row['dso'], 5)} | {show(row['symbol'], 10)}"

    each_peer(run, case, measure)
