/* The contract staunch:plugin@0.1.0 for plugins in C: what wit/ says, in C's words.
 *
 * Copy this file beside your source. In one source file say what the plugin is, include this, and write the functions
 * that the section "exports" declares for it:
 *
 *     #define STAUNCH_BALANCER
 *     #include "staunch.h"
 *
 *     void staunch_configure(void) { … }
 *
 * STAUNCH_BALANCER, STAUNCH_FEEDBACK, STAUNCH_RETRY, STAUNCH_REQUEST_REWRITER, STAUNCH_RESPONSE_REWRITER,
 * STAUNCH_REQUEST_BODY_REWRITER, STAUNCH_RESPONSE_BODY_REWRITER, STAUNCH_HANDOVER: as many as it is.
 *
 * Memory: what the proxy passes, what an imported function answers and what comes from staunch_alloc lives until the
 * call that it belongs to ends, and is freed then. Copy what has to live longer (malloc, static arrays). Times are
 * nanoseconds. A plugin imports the functions that it calls and no others. */

#ifndef STAUNCH_H
#define STAUNCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* ---- values; their layout is the component model's ---- */

/* Text (UTF-8) or bytes, without a zero at the end. */
typedef struct {
    const char *data;
    size_t length;
} staunch_text;

typedef struct {
    const staunch_text *items;
    size_t length;
} staunch_texts;

typedef struct {
    bool is_some;
    staunch_text value;
} staunch_maybe_text;

/* A header, or a label of an endpoint. */
typedef struct {
    staunch_text name;
    staunch_text value;
} staunch_field;

typedef struct {
    const staunch_field *items;
    size_t length;
} staunch_fields;

typedef struct {
    const uint32_t *items;
    size_t length;
} staunch_u32s;

typedef struct {
    const uint64_t *items;
    size_t length;
} staunch_u64s;

/* A value in `shared` with its version. */
typedef struct {
    bool is_some;
    _Alignas(8) staunch_text value;
    uint64_t version;
} staunch_stored;

/* What became of a write to `shared`: the new version, or an error. */
typedef struct {
    bool failed;
    union {
        uint64_t version;
        uint8_t error; /* STAUNCH_FULL, STAUNCH_CONFLICT */
    };
} staunch_written;

enum { STAUNCH_FULL, STAUNCH_CONFLICT };

/* What a pick comes to: staunch_picked(id) or staunch_refused(why). */
typedef struct {
    bool is_refused;
    uint32_t value; /* the endpoint, or STAUNCH_UNAVAILABLE, STAUNCH_OVERLOADED */
} staunch_pick_result;

enum { STAUNCH_UNAVAILABLE, STAUNCH_OVERLOADED };

static inline staunch_pick_result staunch_picked(uint32_t endpoint) {
    return (staunch_pick_result){false, endpoint};
}

static inline staunch_pick_result staunch_refused(uint32_t why) {
    return (staunch_pick_result){true, why};
}

/* The text of a string that ends with a zero; of a literal this costs nothing. */
static inline staunch_text staunch_text_of(const char *string) {
    return (staunch_text){string, strlen(string)};
}

#define STAUNCH_EMPTY ((staunch_text){NULL, 0})

static inline bool staunch_equal(staunch_text a, staunch_text b) {
    return a.length == b.length && (a.length == 0 || memcmp(a.data, b.data, a.length) == 0);
}

/* Memory until the end of the call, aligned to 8; never NULL. */
void *staunch_alloc(size_t size);

/* A copy that stays until it is freed. */
static inline staunch_text staunch_keep(staunch_text text) {
    char *copy = malloc(text.length ? text.length : 1);
    if (!copy) __builtin_trap();
    if (text.length) memcpy(copy, text.data, text.length);
    return (staunch_text){copy, text.length};
}

/* ---- imports: what the proxy does for a plugin; wit/host.wit says more of each ---- */

#define STAUNCH_IMPORT(interface, function) \
    __attribute__((import_module("staunch:plugin/" interface "@0.1.0"), import_name(function))) extern

/* registration: for use within staunch_configure. */

enum {
    STAUNCH_CLIENT_ADDRESS,
    STAUNCH_HOST,
    STAUNCH_PATH,
    STAUNCH_PATH_AND_QUERY,
    STAUNCH_HEADER, /* this and the next two take a name */
    STAUNCH_COOKIE,
    STAUNCH_QUERY,
};

enum { STAUNCH_EVERY_ATTEMPT, STAUNCH_FAILURES };

STAUNCH_IMPORT("registration", "want-key") void staunch_raw_want_key(uint32_t, const char *, size_t);
static inline void staunch_want_key(uint32_t source, staunch_text name) {
    staunch_raw_want_key(source, name.data, name.length);
}

STAUNCH_IMPORT("registration", "want-feedback")
void staunch_want_feedback(uint32_t kind, uint32_t batch, uint64_t max_age);

STAUNCH_IMPORT("registration", "want-status") void staunch_want_status(uint32_t first, uint32_t last);
STAUNCH_IMPORT("registration", "want-non-idempotent") void staunch_want_non_idempotent(void);

STAUNCH_IMPORT("registration", "want-request-field") uint32_t staunch_raw_want_request_field(const char *, size_t);
static inline uint32_t staunch_want_request_field(staunch_text name) {
    return staunch_raw_want_request_field(name.data, name.length);
}

STAUNCH_IMPORT("registration", "want-response-field") uint32_t staunch_raw_want_response_field(const char *, size_t);
static inline uint32_t staunch_want_response_field(staunch_text name) {
    return staunch_raw_want_response_field(name.data, name.length);
}

STAUNCH_IMPORT("registration", "skip-requests") void staunch_skip_requests(void);
STAUNCH_IMPORT("registration", "skip-responses") void staunch_skip_responses(void);

/* config */

STAUNCH_IMPORT("config", "get") void staunch_raw_config_get(const char *, size_t, staunch_maybe_text *);
static inline staunch_maybe_text staunch_config(staunch_text path) {
    staunch_maybe_text answer;
    staunch_raw_config_get(path.data, path.length, &answer);
    return answer;
}

STAUNCH_IMPORT("config", "keys") void staunch_raw_config_keys(const char *, size_t, staunch_texts *);
static inline staunch_texts staunch_config_keys(staunch_text path) {
    staunch_texts answer;
    staunch_raw_config_keys(path.data, path.length, &answer);
    return answer;
}

/* log */

enum { STAUNCH_DEBUG, STAUNCH_INFO, STAUNCH_WARN, STAUNCH_ERROR };

STAUNCH_IMPORT("log", "enabled") bool staunch_log_enabled(uint32_t level);

STAUNCH_IMPORT("log", "write") void staunch_raw_log_write(uint32_t, const char *, size_t);
static inline void staunch_log(uint32_t level, staunch_text message) {
    staunch_raw_log_write(level, message.data, message.length);
}

/* metrics */

STAUNCH_IMPORT("metrics", "counter") uint32_t staunch_raw_counter(const char *, size_t);
static inline uint32_t staunch_counter(staunch_text name) {
    return staunch_raw_counter(name.data, name.length);
}

STAUNCH_IMPORT("metrics", "gauge") uint32_t staunch_raw_gauge(const char *, size_t);
static inline uint32_t staunch_gauge(staunch_text name) {
    return staunch_raw_gauge(name.data, name.length);
}

STAUNCH_IMPORT("metrics", "histogram") uint32_t staunch_raw_histogram(const char *, size_t, const double *, size_t);
static inline uint32_t staunch_histogram(staunch_text name, const double *bounds, size_t count) {
    return staunch_raw_histogram(name.data, name.length, bounds, count);
}

STAUNCH_IMPORT("metrics", "add") void staunch_metric_add(uint32_t metric, uint64_t amount);
STAUNCH_IMPORT("metrics", "set") void staunch_metric_set(uint32_t metric, double value);
STAUNCH_IMPORT("metrics", "record-value") void staunch_metric_record(uint32_t metric, double value);

/* shared */

STAUNCH_IMPORT("shared", "cell") uint32_t staunch_raw_cell(const char *, size_t);
static inline uint32_t staunch_cell(staunch_text name) {
    return staunch_raw_cell(name.data, name.length);
}

STAUNCH_IMPORT("shared", "load") uint64_t staunch_cell_load(uint32_t cell);
STAUNCH_IMPORT("shared", "fetch-add") uint64_t staunch_cell_fetch_add(uint32_t cell, uint64_t amount);
STAUNCH_IMPORT("shared", "compare-exchange")
uint64_t staunch_cell_compare_exchange(uint32_t cell, uint64_t current, uint64_t new_value);

STAUNCH_IMPORT("shared", "get") void staunch_raw_shared_get(const char *, size_t, staunch_stored *);
static inline staunch_stored staunch_shared_get(staunch_text key) {
    staunch_stored answer;
    staunch_raw_shared_get(key.data, key.length, &answer);
    return answer;
}

/* `version` is the one that is to be replaced; NULL: the key must be absent. */
STAUNCH_IMPORT("shared", "put")
void staunch_raw_shared_put(const char *, size_t, const char *, size_t, uint32_t, uint64_t, staunch_written *);
static inline staunch_written staunch_shared_put(staunch_text key, staunch_text value, const uint64_t *version) {
    staunch_written answer;
    staunch_raw_shared_put(key.data, key.length, value.data, value.length, version != NULL, version ? *version : 0,
                           &answer);
    return answer;
}

STAUNCH_IMPORT("shared", "remember")
void staunch_raw_shared_remember(const char *, size_t, const char *, size_t, uint32_t, uint64_t, uint64_t,
                                 staunch_written *);
static inline staunch_written staunch_shared_remember(staunch_text key, staunch_text value, const uint64_t *version,
                                                      uint64_t max_age) {
    staunch_written answer;
    staunch_raw_shared_remember(key.data, key.length, value.data, value.length, version != NULL,
                                version ? *version : 0, max_age, &answer);
    return answer;
}

STAUNCH_IMPORT("shared", "delete") void staunch_raw_shared_delete(const char *, size_t);
static inline void staunch_shared_delete(staunch_text key) {
    staunch_raw_shared_delete(key.data, key.length);
}

/* clock, random */

STAUNCH_IMPORT("clock", "monotonic") uint64_t staunch_monotonic(void);
STAUNCH_IMPORT("clock", "wall") uint64_t staunch_wall(void);
STAUNCH_IMPORT("random", "next") uint64_t staunch_random(void);

/* loads: for balancers. */

STAUNCH_IMPORT("loads", "active") uint32_t staunch_active(uint32_t endpoint);

/* By slot, that is by the id of an endpoint. */
STAUNCH_IMPORT("loads", "active-all") void staunch_raw_active_all(staunch_u32s *);
static inline staunch_u32s staunch_active_all(void) {
    staunch_u32s answer;
    staunch_raw_active_all(&answer);
    return answer;
}

STAUNCH_IMPORT("loads", "latency") uint64_t staunch_latency(uint32_t endpoint);

STAUNCH_IMPORT("loads", "latency-all") void staunch_raw_latency_all(staunch_u64s *);
static inline staunch_u64s staunch_latency_all(void) {
    staunch_u64s answer;
    staunch_raw_latency_all(&answer);
    return answer;
}

/* selection: for use within staunch_pick. */

STAUNCH_IMPORT("selection", "key") void staunch_raw_selection_key(staunch_maybe_text *);
static inline staunch_maybe_text staunch_selection_key(void) {
    staunch_maybe_text answer;
    staunch_raw_selection_key(&answer);
    return answer;
}

STAUNCH_IMPORT("selection", "tried") void staunch_raw_selection_tried(staunch_u32s *);
static inline staunch_u32s staunch_selection_tried(void) {
    staunch_u32s answer;
    staunch_raw_selection_tried(&answer);
    return answer;
}

STAUNCH_IMPORT("selection", "append-response-field")
void staunch_raw_append_response_field(const char *, size_t, const char *, size_t);
static inline void staunch_append_response_field(staunch_text name, staunch_text value) {
    staunch_raw_append_response_field(name.data, name.length, value.data, value.length);
}

/* delegate: the balancer behind this one. A group is made within staunch_update. */

STAUNCH_IMPORT("delegate", "group") uint32_t staunch_delegate_group(const uint32_t *endpoints, size_t count);

STAUNCH_IMPORT("delegate", "pick") void staunch_raw_delegate_pick(uint32_t, staunch_pick_result *);
static inline staunch_pick_result staunch_delegate_pick(uint32_t group) {
    staunch_pick_result answer = {true, 0};
    staunch_raw_delegate_pick(group, &answer);
    return answer;
}

/* pace: for rewriters of requests. */

STAUNCH_IMPORT("pace", "delay") void staunch_delay(uint64_t duration);

/* routing: for rewriters of requests. */

STAUNCH_IMPORT("routing", "has-upstream") bool staunch_raw_has_upstream(const char *, size_t);
static inline bool staunch_has_upstream(staunch_text name) {
    return staunch_raw_has_upstream(name.data, name.length);
}

STAUNCH_IMPORT("routing", "send-to") bool staunch_raw_send_to(const char *, size_t);
static inline bool staunch_send_to(staunch_text name) {
    return staunch_raw_send_to(name.data, name.length);
}

/* request and response: of the exchange under way. */

#define STAUNCH_READ(type, name, interface, function)                            \
    STAUNCH_IMPORT(interface, function) void staunch_raw_##name(type *);         \
    static inline type staunch_##name(void) {                                    \
        type answer;                                                             \
        staunch_raw_##name(&answer);                                             \
        return answer;                                                           \
    }

#define STAUNCH_READ_NAMED(type, name, interface, function)                          \
    STAUNCH_IMPORT(interface, function) void staunch_raw_##name(const char *, size_t, type *); \
    static inline type staunch_##name(staunch_text of) {                             \
        type answer;                                                                 \
        staunch_raw_##name(of.data, of.length, &answer);                             \
        return answer;                                                               \
    }

STAUNCH_READ(staunch_text, method, "request", "method")
STAUNCH_READ(staunch_text, scheme, "request", "scheme")
STAUNCH_READ(staunch_text, authority, "request", "authority")
STAUNCH_READ(staunch_text, path_and_query, "request", "path-and-query")
STAUNCH_READ(staunch_text, client_address, "request", "client-address")
STAUNCH_READ(staunch_text, request_id, "request", "id")
STAUNCH_READ(staunch_text, route, "request", "route")
STAUNCH_READ(staunch_text, upstream, "request", "upstream")
STAUNCH_READ_NAMED(staunch_maybe_text, request_field, "request", "field")
STAUNCH_READ_NAMED(staunch_texts, request_field_values, "request", "field-values")
STAUNCH_READ(staunch_fields, request_fields, "request", "fields")
STAUNCH_READ_NAMED(staunch_maybe_text, note, "request", "note")

STAUNCH_IMPORT("request", "set-note") void staunch_raw_set_note(const char *, size_t, const char *, size_t);
static inline void staunch_set_note(staunch_text name, staunch_text value) {
    staunch_raw_set_note(name.data, name.length, value.data, value.length);
}

STAUNCH_IMPORT("response", "status") uint32_t staunch_response_status(void);
STAUNCH_READ(staunch_text, response_endpoint, "response", "endpoint")
STAUNCH_READ_NAMED(staunch_maybe_text, response_field, "response", "field")
STAUNCH_READ_NAMED(staunch_texts, response_field_values, "response", "field-values")
STAUNCH_READ(staunch_fields, response_fields, "response", "fields")

/* ---- exports: the functions that you write; wit/plugin.wit says more of each ---- */

/* Every plugin: reads its settings, asks for what it needs, and calls staunch_refuse for each mistake. */
void staunch_configure(void);
void staunch_refuse(staunch_text path, staunch_text message);

/* STAUNCH_BALANCER */

typedef struct {
    uint32_t id;
    staunch_text address;
    uint32_t weight;
    uint32_t priority;
    staunch_maybe_text zone;
    bool ready;
    staunch_fields labels;
} staunch_endpoint;

typedef struct {
    uint32_t id;
    uint32_t weight;
    bool ready;
} staunch_change;

typedef struct {
    bool has_key;
    uint64_t key;
    uint64_t random;
    uint64_t now;
    uint32_t attempt;
    bool has_previous;
    uint32_t previous;
} staunch_pick_context;

void staunch_update(uint64_t version, const staunch_endpoint *endpoints, size_t count);
void staunch_changed(const staunch_change *changes, size_t count);
staunch_pick_result staunch_pick(const staunch_pick_context *cx);

/* STAUNCH_FEEDBACK */

typedef struct {
    uint64_t latency;
    uint32_t endpoint;
    uint32_t status; /* 0: no response */
    uint32_t penalty;
} staunch_sample;

void staunch_observe(const staunch_sample *samples, size_t count);

/* STAUNCH_RETRY */

enum { STAUNCH_SAFE, STAUNCH_IDEMPOTENT, STAUNCH_OTHER };

enum {
    STAUNCH_FAILED_CONNECT,
    STAUNCH_FAILED_CONNECT_TIMEOUT,
    STAUNCH_FAILED_TLS,
    STAUNCH_FAILED_RESET,
    STAUNCH_FAILED_RESPONSE_TIMEOUT,
    STAUNCH_FAILED_PROTOCOL,
    STAUNCH_FAILED_OVERLOAD,
};

typedef struct {
    bool is_failure;  /* no response head came: `detail` is a STAUNCH_FAILED_… */
    uint32_t detail;  /* else it is the status */
    uint32_t endpoint;
    uint32_t attempt;
    uint32_t method;  /* STAUNCH_SAFE, … */
    bool sent;
    uint64_t elapsed;
    bool has_remaining;
    uint64_t remaining;
    uint32_t budget;
    bool has_retry_after;
    uint64_t retry_after;
    uint64_t random;
} staunch_attempt;

typedef struct {
    uint64_t delay;
    bool elsewhere;
} staunch_plan;

/* True: try again, as `plan` says (at once and anywhere, when it is left alone). */
bool staunch_decide(const staunch_attempt *cx, staunch_plan *plan);

/* STAUNCH_REQUEST_REWRITER, STAUNCH_RESPONSE_REWRITER: changes are made by calling the functions below. Texts given
 * to them must live until the call ends: literals, static arrays, what staunch_alloc and the imports answer. */

void staunch_on_request(const staunch_maybe_text *wanted, size_t count);
void staunch_on_response(const staunch_maybe_text *wanted, size_t count);

void staunch_set_field(staunch_text name, staunch_text value);
void staunch_append_field(staunch_text name, staunch_text value);
void staunch_remove_field(staunch_text name);
void staunch_set_path_and_query(staunch_text value);
void staunch_set_authority(staunch_text value);
void staunch_set_method(staunch_text value);
void staunch_set_status(uint16_t status);
/* Answers in the place of the endpoint: all other changes are void. */
void staunch_respond(uint16_t status, const staunch_field *fields, size_t count, staunch_text body);

/* STAUNCH_REQUEST_BODY_REWRITER, STAUNCH_RESPONSE_BODY_REWRITER */

bool staunch_request_body_begin(uint32_t body);
staunch_text staunch_request_body_rewrite(uint32_t body, staunch_text piece, bool last);
void staunch_request_body_abandon(uint32_t body);
bool staunch_response_body_begin(uint32_t body);
staunch_text staunch_response_body_rewrite(uint32_t body, staunch_text piece, bool last);
void staunch_response_body_abandon(uint32_t body);

/* STAUNCH_HANDOVER */

staunch_text staunch_save(void);
void staunch_restore(staunch_text state);

/* ---- what stands between: the canonical ABI ---- */

#if defined(STAUNCH_BALANCER) || defined(STAUNCH_RETRY) || defined(STAUNCH_REQUEST_REWRITER) || \
    defined(STAUNCH_RESPONSE_REWRITER)

#define STAUNCH_EXPORT(interface, function) \
    __attribute__((export_name("staunch:plugin/" interface "@0.1.0#" function)))
/* Called when the proxy has read a result. */
#define STAUNCH_POST(interface, function) \
    __attribute__((export_name("cabi_post_staunch:plugin/" interface "@0.1.0#" function)))

static struct staunch_chunk {
    struct staunch_chunk *next;
    size_t used, size;
    _Alignas(8) char data[];
} *staunch_chunks;

void *staunch_alloc(size_t size) {
    struct staunch_chunk *chunk = staunch_chunks;
    if (size > SIZE_MAX / 2) __builtin_trap();
    size = (size + 7) & ~(size_t)7;
    if (!chunk || chunk->size - chunk->used < size) {
        size_t room = size > 4096 ? size : 4096;
        chunk = malloc(sizeof *chunk + room);
        if (!chunk) __builtin_trap();
        *chunk = (struct staunch_chunk){.next = staunch_chunks, .size = room};
        staunch_chunks = chunk;
    }
    void *memory = chunk->data + chunk->used;
    chunk->used += size;
    return memory;
}

/* Ends a call: all but the first chunk goes. */
static void staunch_release(void) {
    while (staunch_chunks && staunch_chunks->next) {
        struct staunch_chunk *rest = staunch_chunks->next;
        free(staunch_chunks);
        staunch_chunks = rest;
    }
    if (staunch_chunks) staunch_chunks->used = 0;
}

/* How the proxy gets memory in which to pass something. */
__attribute__((export_name("cabi_realloc"))) void *staunch_realloc(void *old, size_t old_size, size_t align,
                                                                   size_t size) {
    if (size == 0) return (void *)align;
    void *memory = staunch_alloc(size);
    if (old_size) memcpy(memory, old, old_size < size ? old_size : size);
    return memory;
}

/* A result on its way out; one at a time. */
static union {
    struct {
        uint8_t tag;
        staunch_fields issues;
    } configured;
    staunch_pick_result pick;
    struct {
        uint8_t tag;
        staunch_plan plan;
    } decision;
    staunch_text bytes;
} staunch_result;

enum { STAUNCH_MAX_ISSUES = 64 };
static staunch_field staunch_issues[STAUNCH_MAX_ISSUES];
static size_t staunch_issue_count;

void staunch_refuse(staunch_text path, staunch_text message) {
    if (staunch_issue_count < STAUNCH_MAX_ISSUES) {
        staunch_issues[staunch_issue_count++] = (staunch_field){path, message};
    }
}

STAUNCH_EXPORT("lifecycle", "configure") void *staunch_export_configure(void) {
    staunch_configure();
    staunch_result.configured.tag = staunch_issue_count > 0;
    staunch_result.configured.issues = (staunch_fields){staunch_issues, staunch_issue_count};
    return &staunch_result;
}
STAUNCH_POST("lifecycle", "configure") void staunch_post_configure(void *result) {
    (void)result;
    staunch_release();
}

#endif

#ifdef STAUNCH_BALANCER
STAUNCH_EXPORT("balancer", "update")
void staunch_export_update(uint64_t version, const staunch_endpoint *endpoints, size_t count) {
    staunch_update(version, endpoints, count);
    staunch_release();
}

STAUNCH_EXPORT("balancer", "change") void staunch_export_change(const staunch_change *changes, size_t count) {
    staunch_changed(changes, count);
    staunch_release();
}

STAUNCH_EXPORT("balancer", "pick")
void *staunch_export_pick(uint32_t has_key, uint64_t key, uint64_t random, uint64_t now, uint32_t attempt,
                          uint32_t has_previous, uint32_t previous) {
    staunch_pick_context cx = {has_key, key, random, now, attempt, has_previous, previous};
    staunch_result.pick = staunch_pick(&cx);
    return &staunch_result;
}
STAUNCH_POST("balancer", "pick") void staunch_post_pick(void *result) {
    (void)result;
    staunch_release();
}
#endif

#ifdef STAUNCH_FEEDBACK
STAUNCH_EXPORT("feedback", "observe") void staunch_export_observe(const staunch_sample *samples, size_t count) {
    staunch_observe(samples, count);
    staunch_release();
}
#endif

#ifdef STAUNCH_RETRY
STAUNCH_EXPORT("retry", "decide")
void *staunch_export_decide(uint32_t is_failure, uint32_t detail, uint32_t endpoint, uint32_t attempt, uint32_t method,
                            uint32_t sent, uint64_t elapsed, uint32_t has_remaining, uint64_t remaining,
                            uint32_t budget, uint32_t has_retry_after, uint64_t retry_after, uint64_t random) {
    staunch_attempt cx = {is_failure,    detail,    endpoint, attempt,         method,      sent,  elapsed,
                          has_remaining, remaining, budget,   has_retry_after, retry_after, random};
    staunch_plan plan = {0, false};
    staunch_result.decision.tag = staunch_decide(&cx, &plan);
    staunch_result.decision.plan = plan;
    return &staunch_result;
}
STAUNCH_POST("retry", "decide") void staunch_post_decide(void *result) {
    (void)result;
    staunch_release();
}
#endif

#if defined(STAUNCH_REQUEST_REWRITER) || defined(STAUNCH_RESPONSE_REWRITER)

typedef struct {
    uint8_t kind; /* set, append, remove */
    staunch_text name;
    staunch_text value;
} staunch_edit;

typedef struct {
    uint8_t kind; /* path-and-query, authority, method */
    staunch_text value;
} staunch_target;

/* The changes of the call under way. */
static struct {
    staunch_edit *edits;
    size_t edit_count, edit_room;
    staunch_target targets[3];
    size_t target_count;
    uint16_t status; /* 0: as it is */
    bool responds;
    struct {
        uint16_t status;
        staunch_fields fields;
        staunch_text body;
    } response;
} staunch_changes;

/* request-action and response-action. */
static struct {
    uint8_t tag;
    union {
        struct {
            const staunch_edit *edits;
            size_t count;
        } fields;
        struct {
            const staunch_target *targets;
            size_t target_count;
            const staunch_edit *edits;
            size_t count;
        } request;
        struct {
            uint16_t status;
            const staunch_edit *edits;
            size_t count;
        } response;
        struct {
            uint16_t status;
            staunch_fields fields;
            staunch_text body;
        } local;
    };
} staunch_action;

static void staunch_edit_field(uint8_t kind, staunch_text name, staunch_text value) {
    if (staunch_changes.edit_count == staunch_changes.edit_room) {
        size_t room = staunch_changes.edit_room ? 2 * staunch_changes.edit_room : 8;
        staunch_edit *edits = staunch_alloc(room * sizeof *edits);
        if (staunch_changes.edit_count) {
            memcpy(edits, staunch_changes.edits, staunch_changes.edit_count * sizeof *edits);
        }
        staunch_changes.edits = edits;
        staunch_changes.edit_room = room;
    }
    staunch_changes.edits[staunch_changes.edit_count++] = (staunch_edit){kind, name, value};
}

static void staunch_edit_target(uint8_t kind, staunch_text value) {
    size_t i = 0;
    while (i < staunch_changes.target_count && staunch_changes.targets[i].kind != kind) i++;
    staunch_changes.targets[i] = (staunch_target){kind, value};
    if (i == staunch_changes.target_count) staunch_changes.target_count++;
}

void staunch_set_field(staunch_text name, staunch_text value) { staunch_edit_field(0, name, value); }
void staunch_append_field(staunch_text name, staunch_text value) { staunch_edit_field(1, name, value); }
void staunch_remove_field(staunch_text name) { staunch_edit_field(2, name, (staunch_text){NULL, 0}); }
void staunch_set_path_and_query(staunch_text value) { staunch_edit_target(0, value); }
void staunch_set_authority(staunch_text value) { staunch_edit_target(1, value); }
void staunch_set_method(staunch_text value) { staunch_edit_target(2, value); }
void staunch_set_status(uint16_t status) { staunch_changes.status = status; }

void staunch_respond(uint16_t status, const staunch_field *fields, size_t count, staunch_text body) {
    staunch_changes.responds = true;
    staunch_changes.response.status = status;
    staunch_changes.response.fields = (staunch_fields){fields, count};
    staunch_changes.response.body = body;
}

/* What both actions have in common: whether that was all. */
static bool staunch_act(void) {
    staunch_action.tag = 0;
    if (staunch_changes.responds) {
        staunch_action.tag = 3;
        staunch_action.local.status = staunch_changes.response.status;
        staunch_action.local.fields = staunch_changes.response.fields;
        staunch_action.local.body = staunch_changes.response.body;
        return true;
    }
    if (staunch_changes.target_count || staunch_changes.status) return false;
    if (staunch_changes.edit_count) {
        staunch_action.tag = 1;
        staunch_action.fields.edits = staunch_changes.edits;
        staunch_action.fields.count = staunch_changes.edit_count;
    }
    return true;
}

static void staunch_acted(void) {
    memset(&staunch_changes, 0, sizeof staunch_changes);
    staunch_release();
}
#endif

#ifdef STAUNCH_REQUEST_REWRITER
STAUNCH_EXPORT("request-rewriter", "on-request")
void *staunch_export_on_request(const staunch_maybe_text *wanted, size_t count) {
    staunch_on_request(wanted, count);
    if (!staunch_act()) {
        staunch_action.tag = 2;
        staunch_action.request.targets = staunch_changes.targets;
        staunch_action.request.target_count = staunch_changes.target_count;
        staunch_action.request.edits = staunch_changes.edits;
        staunch_action.request.count = staunch_changes.edit_count;
    }
    return &staunch_action;
}
STAUNCH_POST("request-rewriter", "on-request") void staunch_post_on_request(void *result) {
    (void)result;
    staunch_acted();
}
#endif

#ifdef STAUNCH_RESPONSE_REWRITER
STAUNCH_EXPORT("response-rewriter", "on-response")
void *staunch_export_on_response(const staunch_maybe_text *wanted, size_t count) {
    staunch_on_response(wanted, count);
    if (!staunch_act()) {
        staunch_action.tag = 2;
        staunch_action.response.status = staunch_changes.status;
        staunch_action.response.edits = staunch_changes.edits;
        staunch_action.response.count = staunch_changes.edit_count;
    }
    return &staunch_action;
}
STAUNCH_POST("response-rewriter", "on-response") void staunch_post_on_response(void *result) {
    (void)result;
    staunch_acted();
}
#endif

#define STAUNCH_BODY(side)                                                                                        \
    STAUNCH_EXPORT(#side "-body-rewriter", "begin") bool staunch_export_##side##_begin(uint32_t body) {           \
        bool wanted = staunch_##side##_body_begin(body);                                                          \
        staunch_release();                                                                                        \
        return wanted;                                                                                            \
    }                                                                                                             \
    STAUNCH_EXPORT(#side "-body-rewriter", "rewrite")                                                             \
    void *staunch_export_##side##_rewrite(uint32_t body, const char *piece, size_t length, uint32_t last) {       \
        staunch_result.bytes = staunch_##side##_body_rewrite(body, (staunch_text){piece, length}, last);          \
        return &staunch_result;                                                                                   \
    }                                                                                                             \
    STAUNCH_POST(#side "-body-rewriter", "rewrite") void staunch_post_##side##_rewrite(void *result) {            \
        (void)result;                                                                                             \
        staunch_release();                                                                                        \
    }                                                                                                             \
    STAUNCH_EXPORT(#side "-body-rewriter", "abandon") void staunch_export_##side##_abandon(uint32_t body) {       \
        staunch_##side##_body_abandon(body);                                                                      \
        staunch_release();                                                                                        \
    }

#ifdef STAUNCH_REQUEST_BODY_REWRITER
STAUNCH_BODY(request)
#endif
#ifdef STAUNCH_RESPONSE_BODY_REWRITER
STAUNCH_BODY(response)
#endif

#ifdef STAUNCH_HANDOVER
STAUNCH_EXPORT("handover", "save") void *staunch_export_save(void) {
    staunch_result.bytes = staunch_save();
    return &staunch_result;
}
STAUNCH_POST("handover", "save") void staunch_post_save(void *result) {
    (void)result;
    staunch_release();
}
STAUNCH_EXPORT("handover", "restore") void staunch_export_restore(const char *state, size_t length) {
    staunch_restore((staunch_text){state, length});
    staunch_release();
}
#endif

#endif
