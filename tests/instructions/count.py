#!/usr/bin/env python3
"""Counts the instructions that the proxy executes for a request, and compares them with those that were accepted.

    count.py [CASE ...]            tells the figures
    count.py --check               fails when one is too far above the accepted one
    count.py --accept              makes them the accepted ones
    count.py --profile CASE ...    tells in which functions the instructions are

Callgrind executes the proxy, with one worker and what a configuration has by default. Only the worker's thread is
counted, and only while it serves requests that come one after the other.
"""

import argparse
import collections
import datetime
import glob
import os
import pathlib
import platform
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import tomllib

import peers

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
TARGET = ROOT / os.environ.get("CARGO_TARGET_DIR", "target")
ACCEPTED = HERE / "accepted.toml"
# Where callgrind's own files stay, for whoever wants to know more.
KEPT = TARGET / "instructions"

# How far from the accepted figure is far: many times what two runs differ by.
TOLERANCE = 0.03
# Before anything is counted: all pools, caches and buffers have their size.
WARM = 100
# Of 1024 calls of a plugin one is timed.
COUNTED = 2048
# Seconds in which the worker has nothing to do but its timers.
IDLE = 3
# Functions of a profile.
SHOWN = 40

HOW_TO_ACCEPT = "run `tests/instructions/count.py --accept` and commit accepted.toml."

REWRITE = """
[[routes.rewrite]]
plugin = "set-headers"
config = { request = { set = { x-request-id = "$request_id" } }, response = { set = { x-upstream = "$upstream" } } }
"""
TLS = """
[listeners.tls]
certificates = [{ cert = "cert.pem", key = "key.pem" }]
"""


class Case:
    """What is counted: requests of one kind through a proxy of their own."""

    def __init__(self, says, client=peers.Client, length=200, listener="", route=""):
        self.says = says
        self.client = client
        self.length = length
        self.listener = listener
        self.route = route


CASES = {
    "http1": Case("GET of 200 bytes"),
    "http1-rewriter": Case("the same with a rewriter that sets a field on either side", route=REWRITE),
    "http1-64k": Case("GET of 64 KiB", length=65536),
    "tls": Case("GET of 200 bytes, TLS in front", lambda port: peers.Client(port, secure=True), listener=TLS),
    "http2": Case("GET of 200 bytes, HTTP/2 in front", peers.Http2Client),
}


class Proxy:
    """A proxy under callgrind."""

    def __init__(self, binary, case, folder, options=()):
        self.folder = folder
        endpoints = ", ".join(f'"{address}"' for address in peers.Origin(case.length).addresses)
        (folder / "staunch.toml").write_text(f"""
[server]
workers = 1

[[listeners]]
address = "127.0.0.1:0"
{case.listener}
[[routes]]
upstream = "origin"
{case.route}
[upstreams.origin]
endpoints = [{endpoints}]
""")
        if case.listener:
            make_certificate(folder)
        command = ["valgrind", "--tool=callgrind", "--instr-atstart=no", "--separate-threads=yes", *options]
        # The proxy looks for commands itself, often enough for one that is idle: for vgdb to attach to it and make it look
        # takes rights that not every container has, and now and then it fails.
        command += [f"--callgrind-out-file={folder}/counts", f"--vgdb-prefix={folder}/vgdb", "--vgdb-poll=500"]
        self.log = open(folder / "log", "wb")
        self.process = subprocess.Popen(
            [*command, binary, "run", "-c", folder / "staunch.toml"],
            stdout=self.log,
            stderr=subprocess.STDOUT,
            env=os.environ | {"STAUNCH_LOG": "info", "STAUNCH_LOG_FORMAT": "json"},
        )

    def port(self):
        """Where it listens, once it does: it says so."""
        deadline = time.monotonic() + peers.PATIENCE
        while self.process.poll() is None and time.monotonic() < deadline:
            said = (self.folder / "log").read_text(errors="replace")
            if place := re.search(r'"listening","address":"127\.0\.0\.1:(\d+)"', said):
                return int(place[1])
            time.sleep(0.1)
        raise ConnectionError("the proxy does not listen")

    def tell(self, *command):
        """Gives callgrind a command of its monitor."""
        vgdb = ["vgdb", f"--vgdb-prefix={self.folder}/vgdb", f"--pid={self.process.pid}", "--max-invoke-ms=0"]
        subprocess.run([*vgdb, *command], check=True, stdout=self.log, stderr=self.log, timeout=peers.PATIENCE)

    def end(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.log.close()


def main():
    parser = argparse.ArgumentParser(description="Counts the instructions that the proxy executes for a request.")
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"all, or some of {', '.join(CASES)}")
    parser.add_argument("--binary", type=pathlib.Path, help="of another build than that of the profile `bench`")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--check", action="store_true", help="compare with the accepted figures")
    what.add_argument("--accept", action="store_true", help="make these figures the accepted ones")
    what.add_argument("--profile", action="store_true", help="tell in which functions the instructions are")
    what.add_argument("--atomics", action="store_true", help="tell in which functions those are that lock the bus")
    arguments = parser.parse_args()
    if unknown := set(arguments.cases) - set(CASES):
        parser.error(f"no such case: {', '.join(sorted(unknown))}")
    binary = arguments.binary or build()

    figures = {}
    for name in arguments.cases or CASES:
        if arguments.atomics:
            by_function = atomics(binary, name)
            print(f"{name:16}{sum(by_function.values()):>9.1f}  locked instructions for each request")
            print_profile(by_function)
            continue
        by_function = count(binary, name)
        figures[name] = round(sum(by_function.values()))
        print(f"{name:16}{figures[name]:>9,}  {CASES[name].says}", flush=True)
        if arguments.profile:
            print_profile(by_function)
            print(f"Callers and lines: callgrind_annotate --tree=caller --auto=yes {os.path.relpath(KEPT / name)}")
    if arguments.accept:
        accept(figures)
    if arguments.check:
        sys.exit(check(figures))


def build():
    """The proxy as figures are compared: a release that is not optimised across crates."""
    subprocess.run(["cargo", "build", "--quiet", "--profile", "bench", "-p", "staunch"], cwd=ROOT, check=True)
    return TARGET / "release" / "staunch"


def count(binary, name):
    """Instructions for each request of a case, by function."""
    return run(binary, name, by_function)


def atomics(binary, name):
    """Locked instructions for each request of a case, by function."""
    places = {}

    def is_locked(binary, address):
        if binary not in places:
            places[binary] = locked_places(binary) if binary.startswith("/") else set()
        return int(address, 16) in places[binary]

    def locked(file):
        counts = collections.Counter()
        for binary, function, address, instructions in costs(file):
            if is_locked(binary, address):
                counts[function] += instructions
        return counts

    return run(binary, name, locked, ["--dump-instr=yes", "--dump-line=no", "--compress-pos=no"])


def run(binary, name, read, options=()):
    """What `read` makes of callgrind's files, for each request of a case."""
    case = CASES[name]
    with tempfile.TemporaryDirectory(prefix="staunch-instructions-") as folder:
        proxy = Proxy(binary, case, pathlib.Path(folder), options)
        try:
            client = case.client(proxy.port())
            client.ask(WARM)
            proxy.tell("instrumentation", "on")
            client.ask(WARM)
            proxy.tell("zero")
            zeroed = time.monotonic()
            client.ask(COUNTED)
            proxy.tell("dump")
            served = time.monotonic()
            time.sleep(IDLE)
            proxy.tell("dump")
            idled = time.monotonic()
        except (OSError, subprocess.SubprocessError):
            print((pathlib.Path(folder) / "log").read_text(errors="replace"), file=sys.stderr)
            raise
        finally:
            proxy.end()
        # The worker is the thread that did most.
        threads = {file[-2:]: by_function(file).total() for file in glob.glob(f"{folder}/counts.1-*")}
        worker = max(threads, key=threads.get)
        busy, idle = (read(f"{folder}/counts.{n}-{worker}") for n in (1, 2))
        KEPT.mkdir(parents=True, exist_ok=True)
        shutil.copy(f"{folder}/counts.1-{worker}", KEPT / name)
    # How often timers run out depends on how fast the machine is: what they take is not counted.
    timers = (served - zeroed) / (idled - served)
    return {name: (count - idle[name] * timers) / COUNTED for name, count in busy.items()}


def by_function(file):
    """Instructions by function, of a file of callgrind's."""
    counts = collections.Counter()
    for binary, function, _, instructions in costs(file):
        counts["(compiled plugins)" if binary == "???" else function] += instructions
    return counts


def costs(file):
    """Binary, function, place and instructions, of a file of callgrind's (the format is in valgrind's manual)."""
    names = {"ob": {}, "fn": {}}
    now = {}
    lines = iter(pathlib.Path(file).read_text(errors="replace").splitlines())
    for line in lines:
        key, _, value = line.partition("=")
        if key in ("ob", "cob", "fn", "cfn"):
            number, _, name = value.partition(" ")
            known = names[key.removeprefix("c")]
            if name:
                known[number] = name
            now[key] = known[number]
        elif key == "calls":
            # The next line is what the called function took.
            next(lines)
        elif line[:1].isdigit() or line[:1] in ("+", "-", "*"):
            place, instructions = line.split()[:2]
            yield now["ob"], now["fn"], place, int(instructions)


def locked_places(binary):
    """Where instructions stand in a binary that have a cache line to themselves while they change it."""
    locked = re.compile(r" *([0-9a-f]+):\s+(?:lock |xchg .*\()")
    with subprocess.Popen(["objdump", "-d", "--no-show-raw-insn", binary], stdout=subprocess.PIPE, text=True) as listing:
        return {int(found[1], 16) for line in listing.stdout if (found := locked.match(line))}


def print_profile(by_function):
    total = sum(by_function.values())
    most = sorted(by_function.items(), key=lambda item: -item[1])
    for function, instructions in most[:SHOWN]:
        print(f"{instructions:>12,.{0 if total > 1000 else 1}f} {instructions / total:>6.1%}  {function}")


def check(figures):
    """Says how the figures differ from the accepted ones; answers the exit code."""
    accepted = tomllib.loads(ACCEPTED.read_text())
    if accepted["machine"] != platform.machine():
        print(f"The accepted figures are those of {accepted['machine']}: there is nothing to compare with here.")
        return 0
    known = accepted["instructions"]
    changes = {name: figure / known[name] - 1 for name, figure in figures.items() if name in known}
    unknown = set(figures) - set(known)
    worse = {name: change for name, change in changes.items() if change > TOLERANCE}
    better = {name: change for name, change in changes.items() if change < -TOLERANCE}
    print(f"Accepted on {accepted['date']}:")
    for name, change in changes.items():
        print(f"{name:16}{known[name]:>9,}  {change:+.1%}")
    if better:
        print(f"Fewer instructions than accepted: {', '.join(better)}. Well done! Keep it: {HOW_TO_ACCEPT}")
    if worse or unknown:
        if worse:
            print(f"More than {TOLERANCE:.0%} above what was accepted: {', '.join(worse)}.")
            print(f"See where they are (`tests/instructions/count.py --profile {' '.join(worse)}`) and win them back; or, if")
            print(f"what they are spent on is worth it, {HOW_TO_ACCEPT}")
            print("Then say in CHANGELOG.md what it costs and why.")
        if unknown:
            print(f"Not accepted yet: {', '.join(sorted(unknown))}; {HOW_TO_ACCEPT}")
        others = [f"{name} {accepted[name]}, not {now}" for name, now in versions().items() if accepted[name] != now]
        if others:
            print(f"The accepted figures are with {'; '.join(others)}.")
        return 1
    return 0


def accept(figures):
    known = tomllib.loads(ACCEPTED.read_text())["instructions"] if ACCEPTED.exists() else {}
    known = {name: figures.get(name, known.get(name)) for name in CASES if name in figures or name in known}
    text = "# Instructions for a request as they were last accepted, by `count.py --accept`; see README.md.\n"
    text += f"date = {datetime.date.today()}\n"
    text += f'machine = "{platform.machine()}"\n'
    text += "".join(f'{name} = "{now}"\n' for name, now in versions().items())
    text += "\n[instructions]\n" + "".join(f"{name} = {figure}\n" for name, figure in known.items())
    ACCEPTED.write_text(text)


def versions():
    """Of what figures depend on beside the proxy itself."""
    said = {name: subprocess.check_output([name, "--version"], text=True, cwd=ROOT) for name in ("rustc", "valgrind")}
    return {name: text.replace("-", " ").split()[1] for name, text in said.items()} | {"glibc": platform.libc_ver()[1]}


def make_certificate(folder):
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj /CN=shop.test"
    command += " -addext subjectAltName=DNS:shop.test -keyout key.pem -out cert.pem"
    subprocess.run(command.split(), cwd=folder, check=True, capture_output=True)


if __name__ == "__main__":
    main()
