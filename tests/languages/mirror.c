/* Every part of the contract once, with examples/plugins/cheapest/staunch.h. What it has to do: README.md. */

#define STAUNCH_BALANCER
#define STAUNCH_FEEDBACK
#define STAUNCH_RETRY
#define STAUNCH_REQUEST_REWRITER
#define STAUNCH_RESPONSE_REWRITER
#define STAUNCH_REQUEST_BODY_REWRITER
#define STAUNCH_RESPONSE_BODY_REWRITER
#define STAUNCH_HANDOVER
#include "staunch.h"

#include <stdio.h>

#define T(literal) staunch_text_of(literal)

static uint32_t picks, gauge, histogram, cell, observed;
static uint32_t position_a, position_b;
static staunch_text *names;
static size_t name_count;
static uint32_t group;

static staunch_text joined(const staunch_text *parts, size_t count) {
    size_t length = count - 1, at = 0;
    for (size_t i = 0; i < count; i++) length += parts[i].length;
    char *data = staunch_alloc(length);
    for (size_t i = 0; i < count; i++) {
        if (i) data[at++] = ' ';
        memcpy(data + at, parts[i].data, parts[i].length);
        at += parts[i].length;
    }
    return (staunch_text){data, length};
}
#define JOINED(...) joined((staunch_text[]){__VA_ARGS__}, sizeof((staunch_text[]){__VA_ARGS__}) / sizeof(staunch_text))

static staunch_text number(uint64_t value) {
    char *data = staunch_alloc(24);
    return (staunch_text){data, (size_t)snprintf(data, 24, "%llu", (unsigned long long)value)};
}

void staunch_configure(void) {
    staunch_maybe_text refused = staunch_config(T("refuse"));
    if (refused.is_some) staunch_refuse(T("refuse"), refused.value);
    staunch_texts list = staunch_config_keys(T("list"));
    if (list.length && !staunch_equal(staunch_config(T("list.1")).value, T("b"))) staunch_refuse(T("list"), T("not b"));
    staunch_want_key(STAUNCH_HEADER, T("x-key"));
    staunch_want_key(STAUNCH_CLIENT_ADDRESS, STAUNCH_EMPTY);
    staunch_want_feedback(STAUNCH_EVERY_ATTEMPT, 1, 1000000);
    staunch_want_status(500, 599);
    staunch_want_non_idempotent();
    position_a = staunch_want_request_field(T("x-a"));
    position_b = staunch_want_response_field(T("x-b"));
    if (staunch_config(T("skip")).is_some) {
        staunch_skip_requests();
        staunch_skip_responses();
    }
    picks = staunch_counter(T("picks"));
    gauge = staunch_gauge(T("last"));
    double bounds[] = {1, 10};
    histogram = staunch_histogram(T("sizes"), bounds, 2);
    cell = staunch_cell(T("requests"));
    if (staunch_log_enabled(STAUNCH_INFO)) staunch_log(STAUNCH_INFO, T("configured"));
    staunch_has_upstream(T("nowhere"));
}

void staunch_update(uint64_t version, const staunch_endpoint *endpoints, size_t count) {
    (void)version;
    names = calloc(count, sizeof *names);
    name_count = count;
    uint32_t *ids = staunch_alloc(count * sizeof *ids);
    for (size_t i = 0; i < count; i++) {
        ids[i] = endpoints[i].id;
        staunch_text zone = endpoints[i].zone.is_some ? endpoints[i].zone.value : T("-");
        staunch_text label = endpoints[i].labels.length ? endpoints[i].labels.items[0].value : T("-");
        names[endpoints[i].id] = staunch_keep(JOINED(label, zone, number(endpoints[i].weight)));
    }
    group = staunch_delegate_group(ids, count);
}

void staunch_changed(const staunch_change *changes, size_t count) {
    for (size_t i = 0; i < count; i++) staunch_metric_set(gauge, changes[i].weight);
}

staunch_pick_result staunch_pick(const staunch_pick_context *cx) {
    staunch_metric_add(picks, 1);
    staunch_maybe_text key = staunch_selection_key();
    staunch_text seen = JOINED(key.value, number(cx->key & 0xff), number(cx->attempt), number(staunch_active(0)),
                               number(staunch_active_all().length), number(staunch_latency_all().length),
                               number(staunch_selection_tried().length), number(observed));
    staunch_append_response_field(T("x-seen"), seen);
    if (staunch_equal(key.value, T("busy"))) return staunch_refused(STAUNCH_OVERLOADED);
    for (uint32_t id = 0; id < name_count; id++) {
        size_t length = key.value.length;
        if (names[id].length > length && memcmp(names[id].data, key.value.data, length) == 0 && cx->attempt == 0) {
            staunch_append_response_field(T("x-name"), names[id]);
            return staunch_picked(id);
        }
    }
    return staunch_delegate_pick(group);
}

void staunch_observe(const staunch_sample *samples, size_t count) {
    for (size_t i = 0; i < count; i++) {
        observed = samples[i].status;
        staunch_metric_record(histogram, (double)(staunch_latency(samples[i].endpoint) > 0));
    }
}

bool staunch_decide(const staunch_attempt *cx, staunch_plan *plan) {
    plan->delay = 1000000;
    plan->elsewhere = true;
    return !cx->is_failure && cx->detail == 503 && cx->attempt == 0 && cx->method == STAUNCH_OTHER && cx->sent &&
           cx->budget > 0 && cx->has_retry_after && cx->retry_after == 0 && staunch_response_field(T("x-try")).is_some;
}

static staunch_text shared(void) {
    staunch_text key = T("key");
    staunch_shared_delete(key);
    staunch_written first = staunch_shared_put(key, T("one"), NULL);
    staunch_written second = staunch_shared_put(key, T("two"), NULL);
    staunch_written third = staunch_shared_remember(key, T("three"), &first.version, 60000000000);
    staunch_stored stored = staunch_shared_get(key);
    bool good = !first.failed && second.failed && second.error == STAUNCH_CONFLICT && !third.failed &&
                stored.version == third.version;
    uint64_t before = staunch_cell_fetch_add(cell, 1);
    good = good && staunch_cell_compare_exchange(cell, before + 1, before + 1) == staunch_cell_load(cell);
    return good ? stored.value : T("bad");
}

void staunch_on_request(const staunch_maybe_text *wanted, size_t count) {
    if (staunch_equal(staunch_path_and_query(), T("/respond"))) {
        static const staunch_field fields[] = {{{"x-made", 6}, {"here", 4}}};
        staunch_respond(418, fields, 1, T("made"));
        return;
    }
    bool clocks = staunch_wall() > 1700000000000000000 && staunch_monotonic() > 0 && staunch_random() != staunch_random();
    staunch_delay(1000000);
    staunch_set_note(T("from"), staunch_path_and_query());
    staunch_set_field(T("x-request"), JOINED(staunch_method(), staunch_scheme(), staunch_authority(),
                                             staunch_client_address(), staunch_route(), staunch_upstream(), shared()));
    staunch_set_field(T("x-counts"), JOINED(number(staunch_request_id().length), number(count),
                                            number(staunch_request_fields().length > 3), number(clocks),
                                            number(staunch_request_field_values(T("x-d")).length),
                                            number(staunch_send_to(T("nowhere")))));
    staunch_text a = wanted[position_a].is_some ? wanted[position_a].value : T("absent");
    staunch_append_field(T("x-a"), a);
    if (staunch_request_field(T("x-d")).is_some) staunch_remove_field(T("x-d"));
    staunch_set_path_and_query(T("/mirrored"));
    staunch_set_method(T("PATCH"));
    staunch_set_authority(T("mirror.test"));
}

void staunch_on_response(const staunch_maybe_text *wanted, size_t count) {
    staunch_text b = wanted[position_b].is_some ? wanted[position_b].value : T("absent");
    staunch_maybe_text from = staunch_note(T("from"));
    bool known = staunch_response_endpoint().length > 0 && staunch_response_fields().length > 0;
    staunch_set_field(T("x-response"), JOINED(b, number(count), from.is_some ? from.value : T("-"), number(known),
                                              number(staunch_response_field_values(T("x-b")).length)));
    if (staunch_response_status() == 200) staunch_set_status(203);
    if (staunch_response_status() == 404) staunch_respond(410, NULL, 0, T("gone"));
}

static staunch_text shouted(staunch_text piece, bool last) {
    char *data = staunch_alloc(piece.length + 1);
    for (size_t i = 0; i < piece.length; i++) {
        char c = piece.data[i];
        data[i] = c >= 'a' && c <= 'z' ? c - 'a' + 'A' : c;
    }
    data[piece.length] = '!';
    return (staunch_text){data, piece.length + last};
}

bool staunch_request_body_begin(uint32_t body) {
    (void)body;
    return true;
}
staunch_text staunch_request_body_rewrite(uint32_t body, staunch_text piece, bool last) {
    (void)body;
    return shouted(piece, last);
}
void staunch_request_body_abandon(uint32_t body) { (void)body; }
bool staunch_response_body_begin(uint32_t body) {
    (void)body;
    return !staunch_response_field(T("x-plain")).is_some;
}
staunch_text staunch_response_body_rewrite(uint32_t body, staunch_text piece, bool last) {
    (void)body;
    return shouted(piece, last);
}
void staunch_response_body_abandon(uint32_t body) { (void)body; }

staunch_text staunch_save(void) { return number(observed); }
void staunch_restore(staunch_text state) { observed = state.length; }
