// load: an HTTP/1.1 load generator for the bench. One thread, one epoll.
//
//   load --port P [--path /b/200] [--host bench.test] [--conns 64] [--seconds 3]
//        [--warmup 0.5]
//        [--rate R]      open loop: Poisson arrivals at R/s, latency counted from
//                        the moment a request was due (no coordinated omission)
//        [--tls]         TLS 1.3, no resumption
//        [--new-conn]    a fresh connection (and full handshake) per request
//        [--idle N]      instead: open N connections, one request each, print
//                        "ready", hold them all until stdin closes
//
// Prints one JSON object: requests, errors, bytes, seconds, rps and the latency
// percentiles in microseconds, all of them about answers with 200. Answers with 503
// or 429 are "refused", with percentiles of their own. "all" counts the warmup too,
// so that CPU time read around the whole process can be divided by it. Of an open
// loop, "due" is how many requests should have been sent, "unanswered" how many of
// these had no answer at the end, "late" the 99th percentile of how late the
// generator itself was to notice that one was due.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define RBUF (256 * 1024)
enum { CLOSED, CONNECTING, HANDSHAKE, IDLE, SENDING, READING };

struct conn {
    int fd, state, body;        // body: the head has been read
    int refused, last;          // the answer is 503 or 429; the server closes after it
    SSL *ssl;
    uint64_t due;               // when this request was due, ns
    size_t sent, head_len;
    size_t left;                // response body bytes to come
    char head[2048];
};

static int port, conns = 64, tls, new_conn, idle_n, ep;
static double seconds = 3, warmup = 0.5, rate;
static const char *path = "/b/200", *host = "bench.test";
static char req[1024], *rbuf;
static size_t req_len;
static SSL_CTX *ctx;
static struct conn **free_list; static int n_free;      // idle connections (open loop)
static uint64_t *queue; static size_t q_head, q_tail, q_cap;  // due times waiting for one
struct times { uint32_t *at; size_t n, cap; };          // in 0.1 us
static struct times answered, refused, late;
static uint64_t n_all, n_refused, n_err, n_due, n_bytes, t_measure, t_end;
static int stopping;

static uint64_t now(void) {
    struct timespec t; clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000ull + t.tv_nsec;
}
static void record(struct times *t, uint64_t ns) {
    uint64_t v = ns / 100;
    if (t->n < t->cap) t->at[t->n++] = v < UINT32_MAX ? v : UINT32_MAX;
}
static void fail(struct conn *c);
static void start(struct conn *c, uint64_t due);

static void shut(struct conn *c) {
    if (c->ssl) { SSL_free(c->ssl); c->ssl = NULL; }
    if (c->fd >= 0) {
        // RST rather than FIN: thousands of connections a second must not
        // fill the port range with TIME_WAIT
        struct linger l = {1, 0};
        setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &l, sizeof l);
        close(c->fd);
    }
    c->fd = -1; c->state = CLOSED;
}
static void open_conn(struct conn *c) {
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port),
                            .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    c->state = CONNECTING;
    if (connect(c->fd, (void *)&a, sizeof a) && errno != EINPROGRESS) { fail(c); return; }
    if (tls) { c->ssl = SSL_new(ctx); SSL_set_fd(c->ssl, c->fd); SSL_set_connect_state(c->ssl); }
    epoll_ctl(ep, EPOLL_CTL_ADD, c->fd,
              &(struct epoll_event){EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, {.ptr = c}});
}
// read/write that look alike with and without TLS: >0, 0 = would block, -1 = over
static ssize_t xread(struct conn *c, void *b, size_t n) {
    ssize_t k;
    if (!c->ssl) {
        k = read(c->fd, b, n);
        return k > 0 ? k : k < 0 && errno == EAGAIN ? 0 : -1;
    }
    k = SSL_read(c->ssl, b, n);
    if (k > 0) return k;
    int e = SSL_get_error(c->ssl, k);
    return e == SSL_ERROR_WANT_READ || e == SSL_ERROR_WANT_WRITE ? 0 : -1;
}
static ssize_t xwrite(struct conn *c, const void *b, size_t n) {
    ssize_t k;
    if (!c->ssl) {
        k = write(c->fd, b, n);
        return k > 0 ? k : k < 0 && errno == EAGAIN ? 0 : -1;
    }
    k = SSL_write(c->ssl, b, n);
    if (k > 0) return k;
    int e = SSL_get_error(c->ssl, k);
    return e == SSL_ERROR_WANT_READ || e == SSL_ERROR_WANT_WRITE ? 0 : -1;
}

static void fail(struct conn *c) {
    if (!stopping) n_err++;
    if (n_err > 10000 && !rate) { fprintf(stderr, "load: too many errors\n"); exit(1); }
    uint64_t due = c->due;
    int busy = c->state == SENDING || c->state == READING;
    shut(c);
    open_conn(c);
    c->due = busy ? due : 0;
}

// The connection is ready for its next request.
static void ready(struct conn *c) {
    c->state = IDLE;
    if (idle_n) return;
    if (!rate) { start(c, now()); return; }
    if (c->due) { start(c, c->due); return; }       // retry after an error
    if (q_head != q_tail) { uint64_t d = queue[q_head]; q_head = (q_head + 1) % q_cap; start(c, d); return; }
    free_list[n_free++] = c;
}
static void pump(struct conn *c) {
    ssize_t k;
    if (c->state == SENDING) {
        while (c->sent < req_len) {
            k = xwrite(c, req + c->sent, req_len - c->sent);
            if (k < 0) { fail(c); return; }
            if (k == 0) return;
            c->sent += k;
        }
        c->state = READING; c->head_len = 0; c->body = 0;
        return;                                      // the answer cannot be there yet
    }
    while (c->state == READING) {
        k = xread(c, rbuf, RBUF);
        if (k < 0) { fail(c); return; }
        if (k == 0) return;
        n_bytes += k;
        size_t got = k, used = 0;
        if (!c->body) {
            size_t room = sizeof c->head - 1 - c->head_len, take = got < room ? got : room;
            size_t before = c->head_len;
            memcpy(c->head + before, rbuf, take);
            c->head_len += take; c->head[c->head_len] = 0;
            char *end = memmem(c->head, c->head_len, "\r\n\r\n", 4);
            if (!end) { if (take < got || c->head_len == sizeof c->head - 1) { fail(c); return; } continue; }
            char *cl = strcasestr(c->head, "\ncontent-length:");
            c->refused = !strncmp(c->head + 8, " 503", 4) || !strncmp(c->head + 8, " 429", 4);
            if ((strncmp(c->head + 8, " 200", 4) && !c->refused) || !cl || cl > end) { fail(c); return; }
            char *close_it = strcasestr(c->head, "\nconnection: close");
            c->last = close_it && close_it < end;
            c->left = strtoul(cl + 16, NULL, 10);
            c->body = 1;
            used = (end + 4 - c->head) - before;
        }
        size_t rest = got - used;
        if (rest > c->left) { fail(c); return; }
        c->left -= rest;
        if (c->left == 0) {
            uint64_t t = now();
            if (c->refused) n_refused++; else n_all++;
            if (t >= t_measure && t < t_end && c->due >= t_measure)
                record(c->refused ? &refused : &answered, t - c->due);
            c->due = 0;
            if (new_conn || c->last) { shut(c); if (!stopping) open_conn(c); return; }
            ready(c);
            return;
        }
        if (got < RBUF && !c->ssl) return;           // edge-triggered: drained
    }
}
static void start(struct conn *c, uint64_t due) {
    if (stopping) return;
    c->due = due; c->sent = 0; c->state = SENDING;
    pump(c);
}
static void event(struct conn *c, uint32_t e) {
    if (c->state == CONNECTING) {
        if (new_conn && !c->due) c->due = now();
        if (e & (EPOLLERR | EPOLLHUP)) { fail(c); return; }
        if (!(e & EPOLLOUT)) return;
        c->state = c->ssl ? HANDSHAKE : IDLE;
        if (c->state == IDLE) { ready(c); return; }
    }
    if (c->state == HANDSHAKE) {
        int r = SSL_do_handshake(c->ssl);
        if (r != 1) {
            int g = SSL_get_error(c->ssl, r);
            if (g != SSL_ERROR_WANT_READ && g != SSL_ERROR_WANT_WRITE) fail(c);
            return;
        }
        ready(c);
        return;
    }
    if (c->state == IDLE) {
        if (c->ssl && !(e & EPOLLRDHUP)) {           // session tickets
            char b[1]; ssize_t k = xread(c, b, 1);
            if (k == 0) return;
        }
        if (e & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) {
            for (int i = 0; i < n_free; i++) if (free_list[i] == c) { free_list[i] = free_list[--n_free]; break; }
            fail(c);
        }
        return;
    }
    if (c->state == SENDING || c->state == READING) pump(c);
}
static int cmp(const void *a, const void *b) {
    uint32_t x = *(uint32_t *)a, y = *(uint32_t *)b; return x < y ? -1 : x > y;
}
static void sort(struct times *t) { qsort(t->at, t->n, sizeof *t->at, cmp); }
static double pct(struct times *t, double p) { return t->n ? t->at[(size_t)(p * (t->n - 1))] / 10.0 : 0; }

int main(int argc, char **argv) {
    static struct option o[] = {
        {"port", 1, 0, 'p'}, {"path", 1, 0, 'u'}, {"conns", 1, 0, 'c'}, {"seconds", 1, 0, 's'},
        {"warmup", 1, 0, 'w'}, {"rate", 1, 0, 'r'}, {"tls", 0, 0, 't'}, {"new-conn", 0, 0, 'n'},
        {"idle", 1, 0, 'i'}, {"host", 1, 0, 'h'}, {0, 0, 0, 0}};
    for (int k; (k = getopt_long(argc, argv, "", o, NULL)) != -1;)
        switch (k) {
        case 'p': port = atoi(optarg); break;
        case 'u': path = optarg; break;
        case 'c': conns = atoi(optarg); break;
        case 's': seconds = atof(optarg); break;
        case 'w': warmup = atof(optarg); break;
        case 'r': rate = atof(optarg); break;
        case 't': tls = 1; break;
        case 'n': new_conn = 1; break;
        case 'h': host = optarg; break;
        case 'i': idle_n = atoi(optarg); break;
        default: return 2;
        }
    signal(SIGPIPE, SIG_IGN);
    prctl(PR_SET_TIMERSLACK, 1);
    struct rlimit rl = {200000, 200000};
    if (setrlimit(RLIMIT_NOFILE, &rl)) { getrlimit(RLIMIT_NOFILE, &rl); rl.rlim_cur = rl.rlim_max; setrlimit(RLIMIT_NOFILE, &rl); }
    if (tls) {
        ctx = SSL_CTX_new(TLS_client_method());
        SSL_CTX_set_min_proto_version(ctx, TLS1_3_VERSION);
        SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
        SSL_CTX_set_verify(ctx, SSL_VERIFY_NONE, NULL);
        SSL_CTX_set_mode(ctx, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    }
    req_len = snprintf(req, sizeof req, "GET %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: bench\r\nAccept: */*\r\n%s\r\n",
                       path, host, new_conn ? "Connection: close\r\n" : "");
    rbuf = malloc(RBUF);
    ep = epoll_create1(EPOLL_CLOEXEC);

    if (idle_n) {                                    // hold idle connections
        struct conn *cs = calloc(idle_n, sizeof *cs);
        struct epoll_event ev[64];
        seconds = 1e9; t_end = UINT64_MAX;
        for (int i = 0; i < idle_n; i++) {
            struct conn *c = &cs[i];
            open_conn(c);
            int asked = 0;
            uint64_t deadline = now() + 5000000000ull;
            while (!(asked && c->state == IDLE)) {
                if (now() > deadline || n_err) { fprintf(stderr, "load: idle connection %d failed\n", i); return 1; }
                int n = epoll_wait(ep, ev, 64, 100);
                for (int j = 0; j < n; j++) event(ev[j].data.ptr, ev[j].events);
                if (!asked && c->state == IDLE) { asked = 1; start(c, now()); }
            }
        }
        printf("ready\n"); fflush(stdout);
        char b; while (read(0, &b, 1) > 0) {}
        return 0;
    }

    free_list = calloc(conns, sizeof *free_list);
    q_cap = rate ? (size_t)(rate * (seconds + warmup) * 2) + 16 : 16;
    queue = calloc(q_cap, sizeof *queue);
    for (int i = 0; i < 3; i++) {
        struct times *t = (struct times *[]){&answered, &refused, &late}[i];
        t->cap = (size_t)((rate ? rate * 2 : 300000) * seconds) + 1000;
        t->at = malloc(t->cap * sizeof *t->at);
    }
    struct conn *cs = calloc(conns, sizeof *cs);
    uint64_t t0 = now();
    t_measure = t0 + warmup * 1e9; t_end = t_measure + seconds * 1e9;
    srand48(42);
    double next = rate ? t0 + 50e6 + conns * 20e3 : 0;  // let the connections come up
    for (int i = 0; i < conns; i++) open_conn(&cs[i]);
    struct epoll_event ev[256];
    uint64_t at_start = 0, refused_start = 0, bytes_start = 0; int started = 0;
    for (;;) {
        uint64_t t = now();
        if (!started && t >= t_measure) { started = 1; at_start = n_all; refused_start = n_refused; bytes_start = n_bytes; }
        if (t >= t_end) break;
        while (rate && next <= t) {
            if (next >= t_measure) { n_due++; record(&late, t - (uint64_t)next); }
            if (n_free) start(free_list[--n_free], (uint64_t)next);
            else { queue[q_tail] = (uint64_t)next; q_tail = (q_tail + 1) % q_cap; }
            next += -log(1 - drand48()) / rate * 1e9;
        }
        double until = rate && next < t_end ? next : (double)t_end;
        double wait = until - now();
        if (wait < 0) wait = 0;
        struct timespec ts = {(time_t)(wait / 1e9), (long)fmod(wait, 1e9)};
        int n = epoll_pwait2(ep, ev, 256, &ts, NULL);
        for (int i = 0; i < n; i++) event(ev[i].data.ptr, ev[i].events);
    }
    stopping = 1;
    uint64_t done = n_all - at_start, turned = n_refused - refused_start, bytes = n_bytes - bytes_start;
    double el = (now() - t_measure) / 1e9;
    sort(&answered); sort(&refused); sort(&late);
    size_t unanswered = n_due > answered.n + refused.n ? n_due - answered.n - refused.n : 0;
    printf("{\"all\":%lu,\"all_bytes\":%lu,\"requests\":%lu,\"errors\":%lu,\"bytes\":%lu,\"seconds\":%.4f,\"rps\":%.1f,"
           "\"p50\":%.1f,\"p90\":%.1f,\"p99\":%.1f,\"p999\":%.1f,\"max\":%.1f,\"samples\":%zu,"
           "\"refused\":%lu,\"refused_samples\":%zu,\"refused_p50\":%.1f,\"refused_p99\":%.1f,"
           "\"due\":%lu,\"unanswered\":%zu,\"late\":%.1f}\n",
           n_all, n_bytes, done, n_err, bytes, el, done / el,
           pct(&answered, .5), pct(&answered, .9), pct(&answered, .99), pct(&answered, .999), pct(&answered, 1), answered.n,
           turned, refused.n, pct(&refused, .5), pct(&refused, .99), n_due, unanswered, pct(&late, .99));
    return 0;
}
