/* fuzz_traffic.c - any bytes as the traffic of a model: what is taken keeps within its limits, sends each request to a
 * version that is there, and is the same when it is written and read back; else there is a sentence. */
#include <stdlib.h>
#include <string.h>

#include "server/traffic.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool is_there(void *ctx, int64_t version) {
    return version >= 1 && version <= 4;
}

static void check(ps_traffic *t) {
    if (t->n_labels > PS_TRAFFIC_MAX_LABELS || t->n_split > PS_TRAFFIC_MAX_TARGETS) abort();
    if (t->rollout.phase != PS_ROLLOUT_NONE && t->rollout.step >= t->rollout.n_steps) abort();
    for (int i = 0; i < 8; i++) {
        int64_t v = ps_traffic_choose(t, i % 2, (uint64_t)i << 61), s = ps_traffic_shadow_choose(t, v);
        if ((v && !is_there(NULL, v)) || (s && (!is_there(NULL, s) || s == v))) abort();
        ps_traffic_routed(t, v, v ? v : 1, i);
        ps_traffic_answered(t, v ? v : 1, i % 3 == 0, i * INT64_C(1000000), i);
        ps_traffic_compared(t, 2, &(ps_shadow_result) { .close = i % 2 });
        (void)ps_traffic_advance(t, INT64_MAX / 8 * i);
    }
}

static void write(const ps_traffic *t, ps_str *out) {
    ps_str_clear(out);
    ps_str_char(out, '{');
    ps_traffic_write(t, false, 0, out);
    ps_str_char(out, '}');
}

static void check_round_trip(const ps_traffic *t, const ps_traffic_model *model, ps_alloc_state *alloc) {
    ps_str first, second;
    ps_traffic again = { 0 };
    ps_traffic_change c;
    ps_str_init(&first, alloc);
    ps_str_init(&second, alloc);
    write(t, &first);
    if (ps_traffic_read(first.data, first.size, true, alloc, &c, NULL) != PS_OK) abort();
    if (ps_traffic_apply(&again, &c, model, 0, NULL) == PS_OK) {
        again.source = c.source;
        write(&again, &second);
        if (strcmp(first.data, second.data) != 0) abort();
    } else if (t->rollout.phase < PS_ROLLOUT_SUCCEEDED) { /* what a rollout that is over named may be its own start */
        abort();
    }
    ps_str_release(&first);
    ps_str_release(&second);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    ps_alloc_state alloc;
    ps_traffic t = { 0 };
    ps_traffic_change c;
    ps_error err = PS_ERROR_INIT;
    bool restoring = size && data[size - 1] == '\n'; /* as the files that outlive a server end */
    ps_traffic_model model = { .name = "m", .there = is_there, .ready = is_there, .latest = 4, .waits = restoring };
    ps_alloc_state_init(&alloc, NULL);
    ps_status status = ps_traffic_read((const char *)data, size, restoring, &alloc, &c, &err);
    if (status == PS_OK) status = ps_traffic_apply(&t, &c, &model, 0, &err);
    if (status != PS_OK && !err.msg[0]) abort();
    if (status == PS_OK) {
        t.source = c.source;
        model.waits = true;
        check_round_trip(&t, &model, &alloc);
        check(&t);
    }
    if (alloc.bytes) abort(); /* a leak */
    return 0;
}
