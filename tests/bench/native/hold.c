// hold: takes a share of the core it is pinned to, in each millisecond, so that what
// else runs there has the rest.
//
//   hold PERCENT
//
// It runs at a real-time priority, which needs root. Prints "ready" when it does.
#define _GNU_SOURCE
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define SLICE 1000000ull  // ns

static uint64_t now(void) {
    struct timespec t; clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000ull + t.tv_nsec;
}

int main(int argc, char **argv) {
    uint64_t share = argc > 1 ? strtoul(argv[1], NULL, 10) : 0;
    if (!share || share > 90) { fprintf(stderr, "usage: hold PERCENT, from 1 to 90\n"); return 2; }
    if (sched_setscheduler(0, SCHED_FIFO, &(struct sched_param){.sched_priority = 2})) { perror("hold"); return 1; }
    printf("ready\n"); fflush(stdout);
    for (uint64_t slice = now() / SLICE;; slice++) {
        uint64_t until = slice * SLICE + SLICE / 100 * share;
        while (now() < until) {}
        uint64_t next = (slice + 1) * SLICE;
        struct timespec t = {(time_t)(next / 1000000000), (long)(next % 1000000000)};
        clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL);
    }
}
