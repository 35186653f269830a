/* Tries again elsewhere what failed or was answered with 503, as often as the setting `retries` says. */

#define STAUNCH_RETRY
#include "staunch.h"

static uint32_t retries = 1;

void staunch_configure(void) {
    staunch_texts settings = staunch_config_keys(STAUNCH_EMPTY);
    for (size_t i = 0; i < settings.length; i++) {
        if (!staunch_equal(settings.items[i], staunch_text_of("retries"))) {
            staunch_refuse(settings.items[i], staunch_text_of("is unknown; there is only `retries`"));
        }
    }
    staunch_maybe_text text = staunch_config(staunch_text_of("retries"));
    if (text.is_some) {
        retries = 0;
        for (size_t i = 0; i < text.value.length; i++) {
            char digit = text.value.data[i];
            if (digit < '0' || digit > '9' || i > 3) {
                staunch_refuse(staunch_text_of("retries"), staunch_text_of("must be a whole number below 10000"));
                return;
            }
            retries = retries * 10 + (uint32_t)(digit - '0');
        }
    }
    staunch_want_status(503, 503);
}

bool staunch_decide(const staunch_attempt *cx, staunch_plan *plan) {
    plan->elsewhere = true;
    return (cx->is_failure || cx->detail == 503) && cx->attempt < retries;
}
