/* Batches of which nothing is left to run: every request was given up, or is too late, before the run began. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/os.h"
#include "polestar/polestar.h"
#include "server/batch.h"

enum { N = 3 };

static void test_nothing_left(void **state) {
    ps_engine *engine;
    ps_engine_options options = PS_ENGINE_OPTIONS_INIT;
    ps_served served = { .name = "m", .max_batch = 8 };
    ps_infer infers[N], *list[N];
    int cancel = 0;
    options.cache_dir = "";
    assert_int_equal(ps_engine_create(&options, &engine, NULL), PS_OK);
    for (int late = 0; late < 2; late++) {
        ps_batch_room room = { 0 };
        ps_batch_run run = { .cancel = &cancel, .room = &room, .measured_ns = 1 };
        for (int i = 0; i < N; i++) {
            list[i] = &infers[i];
            ps_infer_init(list[i], engine);
            infers[i].served = &served;
            if (late)
                infers[i].deadline_ns = ps_clock_ns();
            else
                atomic_store(&infers[i].abandoned, true);
        }
        for (size_t n = 1; n <= N; n++)
            ps_batch_run_all(&run, list, n);
        assert_int_equal(run.measured_ns, 0); /* it teaches nothing */
        for (int i = 0; i < N; i++) {
            assert_int_equal(infers[i].status, late ? PS_DEADLINE : PS_CANCELLED);
            infers[i].served = NULL;
            ps_infer_release(list[i]);
        }
        ps_batch_room_release(ps_engine_alloc(engine), &room);
    }
    ps_engine_free(engine);
}

int main(void) {
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_nothing_left) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
