"""What is asked of the peers: each case is a function of the run and the case's name."""
from cases import growth, inside, memory, overload, rounds, scaling, start, verify

CASES = {
    "verify": verify.verify,
    **{name: rounds.compare for name in rounds.LOADS},
    **{name: memory.memory for name in memory.HELD},
    "growth": growth.growth,
    "start": start.start,
    "overload": overload.overload,
    "scaling": scaling.scaling,
    "syscalls": inside.syscalls,
    "profile": inside.profile,
}
# What README's table is made of.
DEFAULT = ("verify", "small", "latency", "large64k", "large1m", "connect", "tls", "handshake", "h2", "mem", "mem-tls",
           "growth", "start", "overload", "scaling")
