"""A proxy under measurement: its command and configuration, started, checked and ended."""
import contextlib, http.client, os, re, shlex, shutil, socket, ssl, time
from pathlib import Path

import processes

PEERS = Path(__file__).resolve().parent / "peers"

# The cases of a peer whose entry in peers.toml names none.
COMMON = ("verify", "small", "small-wrk", "latency", "large64k", "large1m", "connect", "tls", "handshake", "h2",
          "mem", "mem-tls", "syscalls", "profile")


class Peer:
    def __init__(self, name: str, spec: dict, port: int, run, cpus: str | None = None, workers: int | None = None):
        self.name, self.spec, self.run = name, spec, run
        self.port, self.tls_port = port, port + 1
        self.cpus = cpus or run.args.proxy_cpu
        self.pair = spec.get("pair")
        self.fronts = spec.get("fronts", ["plain", "tls", "h2"])
        self.cases = {*spec.get("cases", COMMON), *spec.get("more", [])}
        self.work = run.out / "work" / name.replace(" ", "-")
        self.proc = None
        u1, u2, u3 = run.upstream
        tls = run.cache / "tls"
        values = {
            "port": port, "tls_port": self.tls_port, "u1": u1, "u2": u2, "u3": u3,
            "workers": workers or run.args.workers, "work": self.work, "peers": PEERS, "cache": run.cache,
            "staunch": run.args.staunch, "nginx_modules": run.nginx_modules,
            "cert": tls / "cert.pem", "key": tls / "key.pem", "pem": tls / "both.pem",
        }
        values.update(spec.get("vars", {}))
        self.values = {k: str(v) for k, v in values.items()}
        self.missing = [n for n in map(self.fill, spec.get("needs", [])) if not shutil.which(n) and not Path(n).exists()]

    def fill(self, text: str) -> str:
        """Fills in the placeholders that peers.toml explains."""
        def one(m):
            if m[1].startswith("conf:"):
                path = Path(self.fill(m[1][5:]))
                path = path if path.is_absolute() or path.exists() else PEERS / path
                self.work.mkdir(parents=True, exist_ok=True)
                (self.work / path.name).write_text(self.fill(path.read_text()))
                return str(self.work / path.name)
            return self.fill(self.values.get(m[1], ""))
        return re.sub(r"@([a-z][a-z0-9_]*|conf:[^@\s]+)@", one, text)

    def spawn(self, env: dict[str, str] | None = None) -> None:
        """Starts it, and waits for nothing."""
        self.work.mkdir(parents=True, exist_ok=True)
        env = {**os.environ, **(env or {})}
        for k in ("port", "tls_port", "u1", "u2", "u3", "cert", "key", "work", "workers"):
            env["BENCH_" + k.upper()] = self.values[k]
        argv = shlex.split(self.fill(self.command))
        with open(self.work / "log", "w") as log:
            self.proc = processes.start(argv, self.cpus, env, log)

    def start(self) -> "Peer":
        """Starts it, and waits until it answers."""
        self.spawn()
        for _ in range(150):
            time.sleep(0.1)
            if self.proc.poll() is not None:
                break
            with contextlib.suppress(OSError, http.client.HTTPException):
                if get(self.port, "/b/1")[0] == 200:
                    return self
        self.stop()
        raise RuntimeError(f"{self.name} did not come up:\n{self.log()}")

    def stop(self) -> None:
        if self.proc:
            processes.stop(self.proc)
            self.proc = None

    @property
    def command(self) -> str:
        return self.spec["command"]

    def log(self) -> str:
        return (self.work / "log").read_text()[-2000:]

    def serves(self, front: str) -> bool:
        """Whether it offers `front` (plain, tls, h2), now that it runs."""
        if front not in self.fronts:
            return False
        if front == "plain":
            return True
        want = "h2" if front == "h2" else "http/1.1"
        try:
            ctx = ssl._create_unverified_context()
            ctx.set_alpn_protocols([want])
            with socket.create_connection(("127.0.0.1", self.tls_port), 3) as s, ctx.wrap_socket(s, server_hostname="localhost") as t:
                return t.version() == "TLSv1.3" and (front == "tls" or t.selected_alpn_protocol() == "h2")
        except OSError:
            return False


def get(port: int, path: str, host: str = "bench.test") -> tuple[int, bytes]:
    c = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        c.request("GET", path, headers={"Host": host})
        r = c.getresponse()
        return r.status, r.read()
    finally:
        c.close()
