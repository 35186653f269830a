#!/usr/bin/env python3
"""Measures reverse proxies side by side on this machine. Standard library only.

    tests/bench/bench.py                                   # every peer, the cases of README's table
    tests/bench/bench.py --peers staunch,nginx --cases small,latency
    tests/bench/bench.py --summary                         # README's table from the results of the run before
    tests/bench/bench.py --peers nginx --proxy 'mine=path/to/proxy --config @conf:mine.conf@'

A --proxy command may use the placeholders that peers/peers.toml explains; the
same values are in its environment as BENCH_PORT, BENCH_TLS_PORT, BENCH_U1..3,
BENCH_CERT, BENCH_KEY, BENCH_WORK and BENCH_WORKERS. It must stay in the
foreground, listen on 127.0.0.1:@port@ and forward to 127.0.0.1:@u1@..@u3@. If it
also listens on @tls_port@ (TLS, ALPN h2 and http/1.1) the TLS and HTTP/2 cases
run too.

How it measures. The proxy runs on one core (--proxy-cpu), the load generator and
the upstream on another (--load-cpu). All peers of a case are started, checked and
kept running; then every round measures each of them once, one after another, in
an order that turns by one each round. A figure is the median over rounds; a
ratio is the median of the per-round ratios to --baseline. The steadiest figure is
CPU microseconds per request: the run time of the proxy's process tree divided by
requests completed. On loopback it contains the kernel's TCP work for both of the
proxy's sockets, as sent by the proxy.

Ends with 1 when something could not be measured or did not do its job.
"""
import argparse, json, os, resource, sys
from pathlib import Path

import processes, summary
from cases import CASES, DEFAULT
from run import Run

REPOSITORY = Path(__file__).resolve().parents[2]
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", REPOSITORY / "target"))


def main() -> int:
    args = arguments()
    out = Path(args.out)
    if args.summary:
        print(summary.markdown(json.loads((out / "results.json").read_text())))
        return 0
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(hard, 65536), max(hard, 65536)))
    except (ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # mem wants 10,000 and some
    run = Run(args, CASES)
    run.go()
    (out / "summary.md").write_text(summary.markdown(run.results) + "\n")
    print(f"the tables are in {out / 'report.md'}, README's in {out / 'summary.md'}", file=sys.stderr)
    return 1 if run.faults else 0


def arguments() -> argparse.Namespace:
    cores = sorted(processes.allowed())
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--peers", default="all", help="names from peers/peers.toml, comma separated (default: all that are installed)")
    p.add_argument("--proxy", action="append", default=[], metavar="NAME=COMMAND", help="one more peer; may repeat")
    p.add_argument("--cases", default=",".join(DEFAULT), help="of: " + ", ".join(CASES))
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--seconds", type=float, default=3, help="length of one measurement")
    p.add_argument("--rate", type=int, default=4000, help="requests a second in the latency case")
    p.add_argument("--baseline", default="nginx", help="the peer that ratios refer to")
    p.add_argument("--workers", type=int, default=1, help="worker threads of each proxy")
    p.add_argument("--staunch", default=os.environ.get("BENCH_STAUNCH", str(TARGET / "release/staunch")), help="the binary of staunch")
    p.add_argument("--proxy-cpu", default=str(cores[0]), help="core(s) for the proxy, as taskset takes them")
    p.add_argument("--load-cpu", default=str(cores[min(1, len(cores) - 1)]), help="core(s) for load generator and upstream")
    p.add_argument("--port", type=int, default=18000, help="first of the ports the peers listen on")
    p.add_argument("--upstream-port", type=int, default=9001, help="first of the four ports the upstream listens on")
    p.add_argument("--lock", help="a file to flock exclusively during each round")
    p.add_argument("--lock-wait", type=float, default=1e9, help="seconds to wait for it before sharing it instead")
    p.add_argument("--cache", default=os.environ.get("BENCH_CACHE", "~/.cache/staunch-bench"), help="where setup.sh put the peers")
    p.add_argument("--out", default=str(TARGET / "bench"), help="folder for report.md, results.json and the peers' work files")
    p.add_argument("--add", action="store_true", help="keep the cases that a run before left in --out, but for those that run now")
    p.add_argument("--summary", action="store_true", help="measure nothing: print README's table from --out")
    args = p.parse_args()
    args.staunch = str(Path(args.staunch).resolve())
    return args


if __name__ == "__main__":
    sys.exit(main())
