/* Products of codes cut into items for threads: every row meets every panel once, and no thread has much more to do
 * than the others. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "backend/cpu/qsplit.h"

typedef struct layer {
    const char *name;
    q_load load;
} layer;

/* Shapes of ResNet-50's layers, and such as are hard to share out: codes of 1 byte, panels of 32 columns, tiles of
 * 12. */
static const layer layers[] = {
    { "first 7x7", { 12544, 1, 2, 12, 148, 32 * 148, true } },
    { "1x1 at 56", { 3136, 1, 8, 12, 64, 32 * 64, false } },
    { "3x3 at 28", { 784, 1, 4, 12, 1152, 32 * 1152, true } },
    { "3x3 at 14", { 196, 1, 8, 12, 2304, 32 * 2304, true } },
    { "1x1 at 14", { 196, 1, 8, 12, 1024, 32 * 1024, false } },
    { "1x1 at 14, wide", { 196, 1, 32, 12, 256, 32 * 256, false } },
    { "3x3 at 7", { 49, 1, 16, 12, 4608, 32 * 4608, true } },
    { "1x1 at 7", { 49, 1, 64, 12, 512, 32 * 512, false } },
    { "a row", { 1, 1, 32, 12, 2048, 32 * 2048, false } },
    { "one panel", { 1000, 1, 1, 6, 300, 16 * 300, true } },
    { "nine panels", { 25, 1, 9, 12, 400, 32 * 400, false } },
    { "groups", { 169, 4, 3, 12, 1728, 32 * 1728, true } },
    { "three rows", { 3, 1, 1, 12, 9, 32 * 9, true } },
};
enum { LAYERS = sizeof layers / sizeof *layers };

static void meets_all_once(const layer *l, int threads) {
    const q_split s = q_split_of(&l->load, threads);
    const int64_t all = l->load.groups * l->load.panels * l->load.m;
    unsigned char *met = calloc((size_t)all, 1);
    assert_non_null(met);
    for (int64_t i = 0; i < s.items; i++) {
        const q_item item = q_split_item(&s, i);
        const int64_t from = q_split_row(&s, item.chunk), to = q_split_row(&s, item.chunk + 1);
        assert_in_range(item.group, 0, l->load.groups - 1);
        assert_true(from >= 0 && from < to && to <= l->load.m && to - from <= s.most);
        if (item.panel >= l->load.panels) continue;
        for (int64_t row = from; row < to; row++)
            met[(item.group * l->load.panels + item.panel) * l->load.m + row]++;
    }
    for (int64_t i = 0; i < all; i++)
        assert_int_equal(met[i], 1);
    free(met);
}

static void test_every_row_meets_every_panel_once(void **state) {
    for (int i = 0; i < LAYERS; i++) {
        for (int threads = 1; threads <= 9; threads++)
            meets_all_once(&layers[i], threads);
    }
}

/* Rows times panels of the thread with most, against an equal share. Threads take equal ranges of the items. */
static double longest_share(const q_load *load, int threads) {
    const q_split s = q_split_of(load, threads);
    int64_t longest = 0;
    for (int64_t t = 0; t < threads; t++) {
        int64_t rows = 0, from = t * (s.items / threads) + (t < s.items % threads ? t : s.items % threads);
        for (int64_t i = from; i < from + s.items / threads + (t < s.items % threads); i++) {
            const q_item item = q_split_item(&s, i);
            if (item.panel < load->panels) rows += q_split_row(&s, item.chunk + 1) - q_split_row(&s, item.chunk);
        }
        longest = rows > longest ? rows : longest;
    }
    return (double)longest * threads / (double)(load->groups * load->panels * load->m);
}

/* Chunks of whole tiles with one of a single row behind them once gave a thread 1.6 times its share at 7 x 7 and at
 * 14 x 14 pixels. 1.04: 49 or 25 rows in equal tiles. */
static void test_two_threads_have_equal_shares(void **state) {
    for (int i = 0; i < LAYERS; i++) {
        const q_load *load = &layers[i].load;
        const double share = longest_share(load, 2);
        if (load->m == 3) continue;
        if (share > (load->panels == 9 ? 10.0 / 9 : 1.04)) fail_msg("%s: %.3f of a share", layers[i].name, share);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_row_meets_every_panel_once),
        cmocka_unit_test(test_two_threads_have_equal_shares),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
