"""The load generators, each behind one function, and what a run of theirs cost the proxy."""
import json, re, subprocess

import processes


def generate(run, port: int, how: dict, seconds: float, on: str | None = None) -> dict:
    """Runs a load generator once; a dict with at least `all`, `rps` and `errors`."""
    pin = ["taskset", "-c", on or run.args.load_cpu]
    tool = how.get("tool", "load")
    if tool == "wrk":
        return wrk(pin, port, how, seconds)
    if tool == "h2load":
        return h2load(pin, port, how)
    done = subprocess.run([*pin, *command(run, port, how, seconds)], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr.strip() or "load failed")
    return json.loads(done.stdout)


def command(run, port: int, how: dict, seconds: float) -> list[str]:
    argv = [str(run.cache / "native/load"), "--port", str(port), "--path", how["path"], "--conns", str(how["conns"]),
            "--seconds", str(seconds), "--warmup", str(how.get("warmup", 0.4)), "--host", how.get("host", "bench.test")]
    if how.get("rate"):
        argv += ["--rate", str(how["rate"])]
    return argv + [f"--{flag.replace('_', '-')}" for flag in ("new_conn", "tls") if how.get(flag)]


def wrk(pin: list[str], port: int, how: dict, seconds: float) -> dict:
    out = subprocess.run([*pin, "wrk", "-t1", f"-c{how['conns']}", f"-d{seconds}s", f"http://127.0.0.1:{port}{how['path']}"],
                         capture_output=True, text=True, check=True).stdout
    n = int(re.search(r"(\d+) requests in", out)[1])
    return {"all": n, "rps": float(re.search(r"Requests/sec:\s+([\d.]+)", out)[1]), "errors": int("Non-2xx" in out)}


def h2load(pin: list[str], port: int, how: dict) -> dict:
    n = how["requests"]
    out = subprocess.run([*pin, "h2load", "-t1", f"-c{how['conns']}", f"-m{how['streams']}", f"-n{n}",
                          f"https://127.0.0.1:{port}{how['path']}"], capture_output=True, text=True, check=True).stdout
    m = re.search(r"finished in ([\d.]+)(ms|s|us), ([\d.]+) req/s", out)
    ok = int(re.search(r"(\d+) succeeded", out)[1])
    return {"all": ok, "errors": n - ok, "rps": float(m[3])}


def measure(run, peer, how: dict, front: str = "plain", unit: str = "req") -> dict:
    """Runs the load generator against a peer once, and adds what that cost: `cpu_us` by `unit`, and so on."""
    how = dict(how, tls=front != "plain")
    port = peer.port if front == "plain" else peer.tls_port
    if how.get("tool") == "h2load":  # it counts exactly only when told how many
        probe = generate(run, port, dict(how, requests=2000), 0)
        how["requests"] = max(2000, int(probe["rps"] * run.args.seconds) // 320 * 320)
    conns0 = run.upstream_conns()
    c0, t0, l0 = processes.cpu(peer.proc.pid), processes.core_times(peer.cpus), processes.core_times(run.args.load_cpu)
    r = generate(run, port, how, run.args.seconds)
    c1, t1, l1 = processes.cpu(peer.proc.pid), processes.core_times(peer.cpus), processes.core_times(run.args.load_cpu)
    amount = r["all_bytes"] / 2**20 if unit == "mib" else r["all"]
    if not amount:
        raise RuntimeError("nothing came back")
    r["cpu_us"] = (c1[0] - c0[0]) / 1e3 / amount
    ticks = max(1, c1[1] + c1[2] - c0[1] - c0[2])
    r["user_us"] = r["cpu_us"] * (c1[1] - c0[1]) / ticks
    r["core"], r["load_core"] = processes.busy(t0, t1), processes.busy(l0, l1)
    if "bytes" in r:
        r["mibps"] = r["bytes"] / 2**20 / r["seconds"]
    r["upstream_conns"] = run.upstream_conns() - conns0
    return r
