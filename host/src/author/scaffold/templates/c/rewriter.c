/* Sets a header of every request: `name` and `value` say which. */

#define STAUNCH_REQUEST_REWRITER
#include "staunch.h"

static staunch_text name = {"x-hello", 7};
static staunch_text value = {"world", 5};

static void read_setting(const char *path, staunch_text *into) {
    staunch_maybe_text text = staunch_config(staunch_text_of(path));
    if (text.is_some) *into = staunch_keep(text.value);
}

void staunch_configure(void) {
    staunch_texts settings = staunch_config_keys(STAUNCH_EMPTY);
    for (size_t i = 0; i < settings.length; i++) {
        staunch_text setting = settings.items[i];
        if (!staunch_equal(setting, staunch_text_of("name")) && !staunch_equal(setting, staunch_text_of("value"))) {
            staunch_refuse(setting, staunch_text_of("is unknown; there are `name` and `value`"));
        }
    }
    read_setting("name", &name);
    read_setting("value", &value);
}

void staunch_on_request(const staunch_maybe_text *wanted, size_t count) {
    (void)wanted;
    (void)count;
    staunch_set_field(name, value);
}
