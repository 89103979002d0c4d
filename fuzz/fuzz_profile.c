/* fuzz_profile.c - any bytes as the text of latency profiles: what is read predicts sane times and is written as text
 * that is read again. */
#include <stdlib.h>

#include "sched/sched.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_model(ps_sched *s, ps_sched_model *m, ps_alloc_state *alloc) {
    ps_str text;
    ps_str_init(&text, alloc);
    for (uint32_t size = 1; size <= 64; size++) {
        int64_t mean, high;
        ps_sched_predict(m, 1, size, &mean, &high);
        if (mean < 0 || high < mean) abort();
    }
    ps_sched_write_profiles(m, &text);
    if (text.failed || ps_sched_read_profiles(s, m, text.data, text.size, NULL) != PS_OK) abort();
    ps_str_release(&text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    ps_alloc_state alloc;
    ps_sched *s;
    ps_sched_model *m;
    ps_sched_options options = { 0 };
    ps_sched_model_options model = { .max_batch = 64, .max_shapes = 8 };
    ps_error err = PS_ERROR_INIT;
    ps_alloc_state_init(&alloc, NULL);
    if (ps_sched_create(&alloc, &options, &s, &err) != PS_OK) abort();
    if (ps_sched_add_model(s, &model, &m, &err) != PS_OK) abort();
    if (ps_sched_read_profiles(s, m, (const char *)data, size, &err) == PS_OK)
        check_model(s, m, &alloc);
    else if (!err.msg[0])
        abort();
    ps_sched_free(s);
    if (alloc.bytes) abort(); /* a leak */
    return 0;
}
