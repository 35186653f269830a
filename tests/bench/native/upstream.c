// upstream: the cheapest HTTP/1.1 origin we could write, so that the proxy in
// front of it stays the bottleneck. One thread, one epoll, keepalive.
//
//   upstream PORT[*N] [PORT[*N]...]
//
// PORT listens on 127.0.0.1, PORT*N on N addresses: 127.1.0.1 to 127.1.0.250, then
// 127.1.1.1 and so on. All of them are loopback.
//
// GET /b/N   -> 200 with an N-byte body (N <= 8 MiB) and "X-Upstream: PORT"
// GET /stats -> JSON: connections accepted and requests served, per port
// Any request body with a Content-Length is read and thrown away.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <stddef.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#define MAX_BODY (8u << 20)
#define BUF 16384
#define MAX_PORTS 16
#define MAX_LISTENERS 4096

struct port { int port; long conns, requests; };
struct listener { int fd; struct port *port; };
struct conn {
    int fd;
    struct port *port;
    size_t have;              // request bytes in buf
    size_t skip;              // request body bytes still to discard
    size_t head_len, head_off, body_left;  // response in progress
    int close_after;
    char head[512];
    char buf[BUF];
};

static struct port ports[MAX_PORTS];
static int n_ports, ep;
static struct listener listeners[MAX_LISTENERS];
static int n_listeners;
static char *body;

static void conn_free(struct conn *c) { close(c->fd); free(c); }

// Writes what is pending. 1: done, 0: would block, -1: broken.
static int flush(struct conn *c) {
    while (c->head_off < c->head_len || c->body_left) {
        struct iovec v[2] = {
            {c->head + c->head_off, c->head_len - c->head_off},
            {body, c->body_left},
        };
        ssize_t n = writev(c->fd, v, 2);
        if (n < 0) return errno == EAGAIN ? 0 : -1;
        size_t h = c->head_len - c->head_off;
        if ((size_t)n < h) { c->head_off += n; continue; }
        c->head_off = c->head_len;
        c->body_left -= n - h;
    }
    return 1;
}

static void respond(struct conn *c, char *req, size_t len) {
    c->port->requests++;
    c->close_after = memmem(req, len, "\r\nConnection: close", 19) ||
                     memmem(req, len, "\r\nconnection: close", 19);
    size_t n = 200;
    c->head_off = 0;
    if (len > 10 && !memcmp(req, "GET /stats", 10)) {
        char js[400]; int k = 0;
        for (int i = 0; i < n_ports; i++)
            k += snprintf(js + k, sizeof js - k, "%s\"%d\":{\"conns\":%ld,\"requests\":%ld}",
                          i ? "," : "{", ports[i].port, ports[i].conns, ports[i].requests);
        k += snprintf(js + k, sizeof js - k, "}");
        c->head_len = snprintf(c->head, sizeof c->head,
            "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", k, js);
        c->body_left = 0;
        return;
    }
    char *b = memmem(req, len > 64 ? 64 : len, " /b/", 4);
    if (b) { n = strtoul(b + 4, NULL, 10); if (n > MAX_BODY) n = MAX_BODY; }
    c->head_len = snprintf(c->head, sizeof c->head,
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nX-Upstream: %d\r\nContent-Length: %zu\r\n\r\n",
        c->port->port, n);
    c->body_left = n;
}

// Answers every whole request in the buffer. Returns like flush().
static int serve(struct conn *c) {
    for (;;) {
        int r = flush(c);
        if (r <= 0) return r;
        if (c->close_after) return -1;
        size_t k = c->skip < c->have ? c->skip : c->have;
        if (k) { memmove(c->buf, c->buf + k, c->have -= k); c->skip -= k; }
        char *end = c->have ? memmem(c->buf, c->have, "\r\n\r\n", 4) : NULL;
        if (!end) return c->have == BUF ? -1 : 1;
        size_t len = end + 4 - c->buf;
        end[2] = 0;
        for (char *l = c->buf; l && l < end; l = strchr(l, '\n'), l = l ? l + 1 : l)
            if (!strncasecmp(l, "content-length:", 15)) c->skip = strtoul(l + 15, NULL, 10);
        respond(c, c->buf, len);
        memmove(c->buf, c->buf + len, c->have -= len);
    }
}

static void listen_on(struct port *p, in_addr_t address) {
    if (n_listeners == MAX_LISTENERS) { fprintf(stderr, "upstream: too many addresses\n"); exit(1); }
    struct listener *l = &listeners[n_listeners++];
    l->port = p;
    l->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    setsockopt(l->fd, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int));
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(p->port), .sin_addr.s_addr = htonl(address)};
    if (bind(l->fd, (void *)&a, sizeof a) || listen(l->fd, 4096)) { perror("listen"); exit(1); }
    epoll_ctl(ep, EPOLL_CTL_ADD, l->fd, &(struct epoll_event){EPOLLIN, {.ptr = l}});
}

int main(int argc, char **argv) {
    signal(SIGPIPE, SIG_IGN);
    struct rlimit rl = {200000, 200000};
    if (setrlimit(RLIMIT_NOFILE, &rl)) { getrlimit(RLIMIT_NOFILE, &rl); rl.rlim_cur = rl.rlim_max; setrlimit(RLIMIT_NOFILE, &rl); }
    body = malloc(MAX_BODY);
    memset(body, 'x', MAX_BODY);
    ep = epoll_create1(EPOLL_CLOEXEC);
    for (int i = 1; i < argc && n_ports < MAX_PORTS; i++, n_ports++) {
        struct port *p = &ports[n_ports];
        char *star = strchr(argv[i], '*');
        p->port = atoi(argv[i]);
        if (!star) listen_on(p, INADDR_LOOPBACK);
        for (int k = 0; star && k < atoi(star + 1); k++)
            listen_on(p, (127u << 24) + (1u << 16) + ((unsigned)k / 250 << 8) + (unsigned)k % 250 + 1);
    }
    struct epoll_event ev[256];
    for (;;) {
        int n = epoll_wait(ep, ev, 256, -1);
        for (int i = 0; i < n; i++) {
            struct listener *l = ev[i].data.ptr;
            if (l >= listeners && l < listeners + MAX_LISTENERS) {
                int fd;
                while ((fd = accept4(l->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
                    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
                    struct conn *c = malloc(sizeof *c);
                    memset(c, 0, offsetof(struct conn, head));
                    c->fd = fd; c->port = l->port; c->port->conns++;
                    epoll_ctl(ep, EPOLL_CTL_ADD, fd,
                        &(struct epoll_event){EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, {.ptr = c}});
                }
                continue;
            }
            struct conn *c = ev[i].data.ptr;
            int r = flush(c);          // something may have been waiting for room
            if (r == 1 && (ev[i].events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR))) {
                for (;;) {             // edge-triggered: a short read means drained
                    size_t room = BUF - c->have;
                    ssize_t k = read(c->fd, c->buf + c->have, room);
                    if (k == 0 || (k < 0 && errno != EAGAIN)) { r = -1; break; }
                    if (k < 0) break;
                    c->have += k;
                    r = serve(c);
                    if (r < 0 || (size_t)k < room) break;
                }
                if (r >= 0 && (ev[i].events & EPOLLRDHUP)) r = -1;
            } else if (r == 1) {
                r = serve(c);
            }
            if (r < 0) conn_free(c);
        }
    }
}
