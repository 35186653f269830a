/* Sends each request where it costs least: the endpoint with the lowest `cost × (requests in flight + 1) / weight`.
 *
 * An idle cheap endpoint gets everything; the busier it is, the sooner the next dearer one has a turn. The cost is a
 * label of the endpoint (`labels = { cost = "3" }`), 1 where there is none. */

#define STAUNCH_BALANCER
#include "staunch.h"

typedef struct {
    uint32_t id;
    uint32_t weight;
    uint32_t priority;
    bool ready;
    double cost;
} candidate;

static staunch_text label = {"cost", 4};
static candidate *candidates;
static size_t candidate_count;
/* By slot: where a candidate stands, counted from 1; 0: nowhere. */
static uint32_t *positions;
static size_t slot_count;

/* A positive decimal number such as `2` or `0.25`; 0 when it is none. */
static double number(staunch_text text) {
    double value = 0, unit = 1;
    bool fraction = false, digits = false;
    for (size_t i = 0; i < text.length; i++) {
        char c = text.data[i];
        if (c == '.' && !fraction) {
            fraction = true;
        } else if (c >= '0' && c <= '9') {
            digits = true;
            value = value * 10 + (c - '0');
            if (fraction) unit *= 10;
        } else {
            return 0;
        }
    }
    return digits ? value / unit : 0;
}

void staunch_configure(void) {
    staunch_texts settings = staunch_config_keys(STAUNCH_EMPTY);
    for (size_t i = 0; i < settings.length; i++) {
        if (!staunch_equal(settings.items[i], staunch_text_of("label"))) {
            staunch_refuse(settings.items[i], staunch_text_of("there is no such setting; there is only `label`"));
        }
    }
    staunch_maybe_text name = staunch_config(staunch_text_of("label"));
    if (name.is_some) label = staunch_keep(name.value);
}

static double cost_of(const staunch_endpoint *endpoint) {
    for (size_t i = 0; i < endpoint->labels.length; i++) {
        if (!staunch_equal(endpoint->labels.items[i].name, label)) continue;
        double cost = number(endpoint->labels.items[i].value);
        if (cost > 0) return cost;
        staunch_log(STAUNCH_WARN, staunch_text_of("a cost is no positive number, and counts as 1"));
    }
    return 1;
}

static void *renewed(void *old, size_t count, size_t size) {
    free(old);
    void *memory = calloc(count ? count : 1, size);
    if (!memory) abort();
    return memory;
}

void staunch_update(uint64_t version, const staunch_endpoint *endpoints, size_t count) {
    (void)version;
    slot_count = 0;
    for (size_t i = 0; i < count; i++) {
        if (endpoints[i].id >= slot_count) slot_count = endpoints[i].id + 1;
    }
    candidates = renewed(candidates, count, sizeof *candidates);
    positions = renewed(positions, slot_count, sizeof *positions);
    candidate_count = count;
    for (size_t i = 0; i < count; i++) {
        const staunch_endpoint *from = &endpoints[i];
        candidates[i] = (candidate){from->id, from->weight, from->priority, from->ready, cost_of(from)};
        positions[from->id] = i + 1;
    }
}

void staunch_changed(const staunch_change *changes, size_t count) {
    for (size_t i = 0; i < count; i++) {
        const staunch_change *to = &changes[i];
        if (to->id >= slot_count || positions[to->id] == 0) continue;
        candidate *changed = &candidates[positions[to->id] - 1];
        changed->weight = to->weight;
        changed->ready = to->ready;
    }
}

static bool was_tried(uint32_t id, staunch_u32s tried) {
    for (size_t i = 0; i < tried.length; i++) {
        if (tried.items[i] == id) return true;
    }
    return false;
}

/* What goes before every cost: an endpoint that was not tried yet, then the lower priority group. */
static uint64_t rank(const candidate *of, bool tried) { return (uint64_t)tried << 32 | of->priority; }

staunch_pick_result staunch_pick(const staunch_pick_context *cx) {
    staunch_u32s active = staunch_active_all();
    staunch_u32s tried = {0};
    if (cx->attempt > 0) tried = staunch_selection_tried();

    const candidate *best = NULL;
    uint64_t best_rank = 0;
    double best_price = 0;
    for (size_t i = 0; i < candidate_count; i++) {
        const candidate *next = &candidates[i];
        if (!next->ready) continue;
        uint32_t in_flight = next->id < active.length ? active.items[next->id] : 0;
        uint64_t next_rank = rank(next, was_tried(next->id, tried));
        double price = next->cost * (in_flight + 1.0) / next->weight;
        if (!best || next_rank < best_rank || (next_rank == best_rank && price < best_price)) {
            best = next;
            best_rank = next_rank;
            best_price = price;
        }
    }
    return best ? staunch_picked(best->id) : staunch_refused(STAUNCH_UNAVAILABLE);
}
