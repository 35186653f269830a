/* Picks the ready endpoint with the fewest requests in flight for its weight, and among equals by chance. */

#define STAUNCH_BALANCER
#include "staunch.h"

typedef struct {
    uint32_t id;
    uint32_t weight;
    uint32_t priority;
    bool ready;
} candidate;

static candidate *candidates;
static size_t candidate_count;

void staunch_configure(void) {
    staunch_texts settings = staunch_config_keys(STAUNCH_EMPTY);
    for (size_t i = 0; i < settings.length; i++) {
        staunch_refuse(settings.items[i], staunch_text_of("is unknown; there are no settings"));
    }
}

void staunch_update(uint64_t version, const staunch_endpoint *endpoints, size_t count) {
    (void)version;
    free(candidates);
    candidates = calloc(count ? count : 1, sizeof *candidates);
    if (!candidates) abort();
    candidate_count = count;
    for (size_t i = 0; i < count; i++) {
        const staunch_endpoint *from = &endpoints[i];
        candidates[i] = (candidate){from->id, from->weight, from->priority, from->ready};
    }
}

void staunch_changed(const staunch_change *changes, size_t count) {
    for (size_t i = 0; i < candidate_count; i++) {
        for (size_t j = 0; j < count; j++) {
            if (candidates[i].id != changes[j].id) continue;
            candidates[i].weight = changes[j].weight;
            candidates[i].ready = changes[j].ready;
        }
    }
}

static bool was_tried(uint32_t id, staunch_u32s tried) {
    for (size_t i = 0; i < tried.length; i++) {
        if (tried.items[i] == id) return true;
    }
    return false;
}

staunch_pick_result staunch_pick(const staunch_pick_context *cx) {
    staunch_u32s active = staunch_active_all();
    staunch_u32s tried = {0};
    if (cx->attempt > 0) tried = staunch_selection_tried();

    const candidate *best = NULL;
    uint64_t best_rank = 0, best_load = 0;
    for (size_t i = 0; i < candidate_count; i++) {
        /* Chance says where to begin, so that equals have equal parts. */
        const candidate *next = &candidates[(i + cx->random % candidate_count) % candidate_count];
        if (!next->ready) continue;
        /* What was not tried goes before what was, and then the lower priority group before the other. */
        uint64_t rank = (uint64_t)was_tried(next->id, tried) << 32 | next->priority;
        uint64_t in_flight = next->id < active.length ? active.items[next->id] : 0;
        uint64_t load = in_flight * 1000000 / (next->weight ? next->weight : 1);
        if (!best || rank < best_rank || (rank == best_rank && load < best_load)) {
            best = next;
            best_rank = rank;
            best_load = load;
        }
    }
    return best ? staunch_picked(best->id) : staunch_refused(STAUNCH_UNAVAILABLE);
}
