"""Processes on chosen cores: started, ended, and what they take of the machine."""
import contextlib, os, signal, subprocess
from pathlib import Path


def cores(text: str) -> list[int]:
    """The cores that `text` names as taskset takes them: "0", "0,2", "1-3"."""
    out = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        out += range(int(first), int(last or first) + 1)
    return out


def allowed() -> set[int]:
    """The cores that this process may use."""
    return os.sched_getaffinity(0)


def tree(pid: int) -> list[int]:
    """pid and all its descendants."""
    kids: dict[int, list[int]] = {}
    for d in os.listdir("/proc"):
        if d.isdigit():
            with contextlib.suppress(OSError):
                stat = Path(f"/proc/{d}/stat").read_text()
                kids.setdefault(int(stat.rsplit(")", 1)[1].split()[1]), []).append(int(d))
    out, todo = [], [pid]
    while todo:
        p = todo.pop()
        out.append(p)
        todo += kids.get(p, [])
    return out


def cpu(pid: int) -> tuple[int, int, int]:
    """(run time ns, user ticks, system ticks) of the process tree so far."""
    run = user = system = 0
    for p in tree(pid):
        with contextlib.suppress(OSError):
            f = Path(f"/proc/{p}/stat").read_text().rsplit(")", 1)[1].split()
            user += int(f[11])
            system += int(f[12])
            for t in os.listdir(f"/proc/{p}/task"):
                with contextlib.suppress(OSError):
                    run += int(Path(f"/proc/{p}/task/{t}/schedstat").read_text().split()[0])
    return run, user, system


def rss(pid: int) -> tuple[int, int]:
    """(RSS KiB, PSS KiB) of the process tree."""
    total = {"Rss": 0, "Pss": 0}
    for p in tree(pid):
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{p}/smaps_rollup").read_text().splitlines():
                key = line.split(":")[0]
                if key in total:
                    total[key] += int(line.split()[1])
    return total["Rss"], total["Pss"]


def core_times(which: str) -> tuple[int, int]:
    """(all, idle) ticks of these cores so far."""
    names, everything, idle = {f"cpu{c}" for c in cores(which)}, 0, 0
    for line in Path("/proc/stat").read_text().splitlines():
        name, *ticks = line.split()
        if name in names:
            v = [int(x) for x in ticks]
            everything += sum(v[:8])
            idle += v[3] + v[4]
    return everything, idle


def busy(before: tuple[int, int], after: tuple[int, int]) -> float:
    """Percent of the time between two core_times() that the cores were not idle."""
    return 100 * (1 - (after[1] - before[1]) / max(1, after[0] - before[0]))


def start(argv: list[str], on: str, env: dict[str, str] | None = None, log=None) -> subprocess.Popen:
    """Starts a process group on these cores."""
    return subprocess.Popen(["taskset", "-c", on, *argv], env=env, start_new_session=True,
                            stdin=subprocess.DEVNULL, stdout=log or subprocess.DEVNULL,
                            stderr=subprocess.STDOUT if log else subprocess.DEVNULL)


def stop(proc: subprocess.Popen) -> None:
    """Ends a process group that start() made."""
    for sig, wait in ((signal.SIGTERM, 3), (signal.SIGKILL, 3)):
        if proc.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(proc.pid, sig)
            with contextlib.suppress(subprocess.TimeoutExpired):
                proc.wait(wait)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(proc.pid, signal.SIGKILL)  # workers a master left behind
