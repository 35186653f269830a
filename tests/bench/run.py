"""One run of the harness: its tools, the upstream, the peers, and where results go."""
import contextlib, fcntl, json, os, re, shutil, signal, subprocess, sys, time, tomllib
from pathlib import Path

import processes
from peer import PEERS, Peer, get

NATIVE = Path(__file__).resolve().parent / "native"
TOOLS = {"upstream": [], "load": ["-lssl", "-lcrypto", "-lm"], "hold": [], "floor": [], "floor_uring": ["-luring"]}
OPTIONAL = {"floor_uring"}
# Addresses that the upstream listens on at its fourth port, for the case of many endpoints.
MANY = 1000


class Run:
    def __init__(self, args, cases: dict):
        self.args, self.cases = args, cases
        self.upstream = [args.upstream_port + i for i in range(3)]
        self.many_port = args.upstream_port + 3
        self.cache = Path(args.cache).expanduser().resolve()
        self.out = Path(args.out).resolve()
        self.out.mkdir(parents=True, exist_ok=True)
        self.nginx_modules = nginx_modules()
        self.build()
        self.results = {"cases": {}, "notes": {}}
        if args.add and (self.out / "results.json").exists():
            self.results = json.loads((self.out / "results.json").read_text())
        else:
            (self.out / "report.md").unlink(missing_ok=True)
        self.results.update(machine=machine(), args=vars(args))
        self.faults = 0
        self.next_port = args.port
        self.peers = self.find_peers()

    def find_peers(self) -> list[Peer]:
        """The peers that were asked for, but for those that are not installed."""
        table = tomllib.loads((PEERS / "peers.toml").read_text())
        for extra in self.args.proxy:
            name, _, command = extra.partition("=")
            table[name] = {"command": command, "more": ["overload"], "like": "staunch"}
        wanted = list(table) if self.args.peers == "all" else self.args.peers.split(",")
        wanted += [e.partition("=")[0] for e in self.args.proxy]
        for name in set(wanted) - set(table):
            sys.exit(f"no such peer: {name}; there are {', '.join(table)}")
        found, missing = [], {}
        for name, spec in table.items():
            if name in wanted:
                like = table.get(spec.get("like"), {})
                spec = {**{k: like[k] for k in ("command", "needs", "fronts") if k in like}, **spec,
                        "vars": {**like.get("vars", {}), **spec.get("vars", {})}}
                peer = Peer(name, spec, self.port(), self)
                if peer.missing:
                    missing[name] = peer.missing
                else:
                    found.append(peer)
        for name, needs in missing.items():
            print(f"leaving out {name}: needs {', '.join(needs)}", file=sys.stderr)
        if missing:
            print(f"{NATIVE.parent / 'setup.sh'} installs the peers; going on without these", file=sys.stderr)
        return found

    def port(self) -> int:
        """The first of two ports nobody else has."""
        self.next_port += 2
        return self.next_port - 2

    def variant(self, peer: Peer, label: str, variables: dict | None = None, **kwargs) -> Peer:
        """The same peer with other settings, under another name."""
        spec = {**peer.spec, "vars": {**peer.spec.get("vars", {}), **(variables or {})}}
        return Peer(f"{peer.name} {label}", spec, self.port(), self, **kwargs)

    def peers_of(self, case: str, front: str = "plain") -> list[Peer]:
        return [p for p in self.peers if case in p.cases and front in p.fronts]

    def build(self) -> None:
        """Compiles the native tools and makes the certificate, where out of date."""
        for name, libs in TOOLS.items():
            src, dst = NATIVE / f"{name}.c", self.cache / "native" / name
            dst.parent.mkdir(parents=True, exist_ok=True)
            if not dst.exists() or dst.stat().st_mtime < src.stat().st_mtime:
                done = subprocess.run(["cc", "-O2", "-Wall", "-Wextra", "-o", dst, src, *libs], capture_output=True, text=True)
                if done.returncode and name not in OPTIONAL:
                    sys.exit(done.stderr)
        tls = self.cache / "tls"
        if not (tls / "both.pem").exists():
            tls.mkdir(parents=True, exist_ok=True)
            subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                            "-days", "3650", "-subj", "/CN=bench.test", "-addext",
                            "subjectAltName=DNS:bench.test,DNS:localhost,IP:127.0.0.1",
                            "-keyout", tls / "key.pem", "-out", tls / "cert.pem"], check=True, capture_output=True)
            (tls / "both.pem").write_bytes((tls / "cert.pem").read_bytes() + (tls / "key.pem").read_bytes())

    def go(self) -> None:
        """Runs every case that was asked for."""
        signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by SIGTERM"))  # so that finally runs
        names = self.args.cases.split(",")
        for name in names:
            if name not in self.cases:
                sys.exit(f"no such case: {name}; there are {', '.join(self.cases)}")
        ports = [*map(str, self.upstream), f"{self.many_port}*{MANY}"]
        up = processes.start([str(self.cache / "native/upstream"), *ports], self.args.load_cpu)
        try:
            time.sleep(0.3)
            if up.poll() is not None:
                sys.exit(f"the upstream could not listen on {', '.join(ports)}: are those ports taken?")
            for name in names:
                self.results["notes"].pop(name, None)
                self.cases[name](self, name)
                self.save()
        finally:
            for p in self.peers:
                p.stop()
            processes.stop(up)

    @contextlib.contextmanager
    def lock(self, wait: float | None = None):
        """Holds --lock exclusively, so that others sharing the cores stay off. After
        --lock-wait seconds (or wait) it makes do with a shared hold. Yields how it went."""
        if not self.args.lock:
            yield {"exclusive": None, "load": os.getloadavg()[0]}
            return
        with open(self.args.lock, "a") as f:
            give_up = time.monotonic() + (self.args.lock_wait if wait is None else wait)
            exclusive = False
            while not exclusive:
                try:
                    fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    exclusive = True
                except BlockingIOError:
                    if time.monotonic() > give_up:
                        fcntl.flock(f, fcntl.LOCK_SH)
                        break
                    time.sleep(0.05)
            yield {"exclusive": exclusive, "load": os.getloadavg()[0]}

    def upstream_conns(self) -> int:
        """Connections that the upstream has accepted so far."""
        stats = json.loads(get(self.upstream[0], "/stats")[1])
        return sum(p["conns"] for p in stats.values())

    def note(self, case: str, peer: Peer, text: str) -> None:
        """Keeps what went wrong. A run with notes ends with exit code 1."""
        self.faults += 1
        self.results["notes"].setdefault(case, {})[peer.name] = text
        print(f"{case}: {peer.name}: {text}", file=sys.stderr)

    def say(self, text: str) -> None:
        print(text, flush=True)
        with open(self.out / "report.md", "a") as f:
            f.write(text + "\n")

    def keep(self, case: str, result: dict) -> None:
        self.results["cases"][case] = result
        self.save()

    def save(self) -> None:
        (self.out / "results.json").write_text(json.dumps(self.results, indent=1, default=str))


def nginx_modules() -> str:
    """The folder of nginx's loadable modules."""
    if not shutil.which("nginx"):
        return ""
    told = subprocess.run(["nginx", "-V"], capture_output=True, text=True).stderr
    m = re.search(r"--modules-path=(\S+)", told)
    return m[1] if m else ""


def machine() -> dict:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((l.split(":")[1].strip() for l in lines if l.startswith("model name")), "?")
    return {"cpu": model, "cores": os.cpu_count(), "kernel": os.uname().release, "when": time.strftime("%Y-%m-%d %H:%M:%S")}
