/* Latency profiles: predictions against tables that are known, outliers, drift, and their text. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "sched/profile.h"
#include "sched/sched.h"
#include "test_alloc_fail.h"

static ps_alloc_state alloc;

static int setup(void **state) {
    ps_alloc_state_init(&alloc, NULL);
    return 0;
}

static int teardown(void **state) {
    return atomic_load(&alloc.bytes) != 0;
}

static void assert_near(int64_t value, double expected, double share) {
    double off = (double)value / expected - 1;
    if (off > share || off < -share) fail_msg("%lld is not within %g of %g", (long long)value, share, expected);
}

/* Runs a size three times: the first is discarded. */
static void run_thrice(ps_profile *p, uint32_t size, double ns) {
    for (int i = 0; i < 3; i++)
        ps_profile_add(p, size, (int64_t)ns);
}

static double affine(uint32_t size) {
    return 4e6 + 3e5 * size;
}

/* Point and size are inverse, sizes ascend, and nothing between two points is left out. */
static void test_points(void **state) {
    for (uint32_t i = 0; i < PS_PROFILE_MAX_POINTS; i++) {
        assert_int_equal(ps_profile_point_of(ps_profile_size_of(i)), i);
        if (i > 0) assert_int_equal(ps_profile_point_of(ps_profile_size_of(i - 1) + 1), i);
    }
    assert_int_equal(ps_profile_size_of(PS_PROFILE_MAX_POINTS - 1), PS_PROFILE_MAX_BATCH);
}

static void test_unknown(void **state) {
    ps_profile p;
    assert_true(ps_profile_init(&p, &alloc, 32));
    assert_int_equal(ps_profile_mean(&p, 8), 0);
    assert_int_equal(ps_profile_fits(&p, 1, 8), 8);
    assert_false(ps_profile_add(&p, 1, 1000)); /* the first of a size */
    assert_false(p.known);
    assert_true(ps_profile_add(&p, 1, 1000));
    assert_true(p.known);
    assert_false(ps_profile_add(&p, 0, 1000));
    assert_false(ps_profile_add(&p, 33, 1000));
    assert_false(ps_profile_add(&p, 1, 0));
    ps_profile_clear(&p, &alloc);
}

/* One size alone: a larger batch is taken to gain nothing, a smaller one to cost as much. */
static void test_one_size(void **state) {
    ps_profile p;
    assert_true(ps_profile_init(&p, &alloc, 32));
    run_thrice(&p, 4, 8e6);
    assert_near(ps_profile_mean(&p, 4), 8e6, 1e-6);
    assert_near(ps_profile_mean(&p, 16), 32e6, 1e-6);
    assert_near(ps_profile_mean(&p, 1), 8e6, 1e-6);
    ps_profile_clear(&p, &alloc);
}

/* Exact on an affine table from two sizes on: the fit and the straight lines are the table. f32: 1e-5. */
static void test_affine(void **state) {
    ps_profile p;
    assert_true(ps_profile_init(&p, &alloc, 512));
    run_thrice(&p, 2, affine(2));
    run_thrice(&p, 8, affine(8));
    for (uint32_t b = 1; b <= 512; b += b < 64 ? 1 : 37)
        assert_near(ps_profile_mean(&p, b), affine(b), 1e-5);
    for (uint32_t b = 1; b <= 512; b += 7)
        assert_true(ps_profile_high(&p, b) >= ps_profile_mean(&p, b));
    ps_profile_clear(&p, &alloc);
}

static void test_fits(void **state) {
    ps_profile p;
    assert_true(ps_profile_init(&p, &alloc, 32));
    for (uint32_t b = 1; b <= 32; b++)
        for (int i = 0; i < 6; i++)
            ps_profile_add(&p, b, (int64_t)affine(b));
    for (uint32_t b = 1; b <= 32; b++) {
        assert_int_equal(ps_profile_fits(&p, (int64_t)affine(b) + 1000, 32), b);
        assert_int_equal(ps_profile_fits(&p, (int64_t)affine(b) + 1000, 5), b < 5 ? b : 5);
    }
    assert_int_equal(ps_profile_fits(&p, (int64_t)affine(1) - 1000, 32), 0);
    assert_int_equal(ps_profile_best(&p, 20), 20);
    assert_int_equal(ps_profile_lean(&p, 1), 1);
    ps_profile_clear(&p, &alloc);
}

/* A device with steps: 8 run in the time of 5, and 9 need as much as 16. In turns: one size alone for long cannot be
 * told from another pace of the machine. */
static void test_steps(void **state) {
    ps_profile p;
    assert_true(ps_profile_init(&p, &alloc, 16));
    for (int i = 0; i < 40; i++)
        for (uint32_t b = 1; b <= 16; b++)
            ps_profile_add(&p, b, b <= 8 ? 8000000 : 17000000);
    assert_int_equal(ps_profile_best(&p, 7), 7);
    assert_int_equal(ps_profile_best(&p, 16), 8);
    assert_int_equal(ps_profile_best(&p, 12), 8);
    assert_int_equal(ps_profile_fits(&p, 10000000, 16), 8);
    assert_near((int64_t)p.unit, 1e6, 1e-5);
    ps_profile_clear(&p, &alloc);
}

/* Where a run of n takes n times as long as one of 1, what passes between two runs still makes the largest the best. */
static void test_turn(void **state) {
    ps_profile p;
    assert_true(ps_profile_init(&p, &alloc, 32));
    p.turn = 1e6;
    for (int i = 0; i < 40; i++)
        for (uint32_t b = 1; b <= 32; b++)
            ps_profile_add(&p, b, b * 1000000);
    assert_int_equal(ps_profile_best(&p, 32), 32);
    assert_int_equal(ps_profile_best(&p, 6), 6);
    assert_near(ps_profile_mean(&p, 32), 32e6, 1e-5);
    assert_near((int64_t)ps_profile_occupied(&p, 32), 33e6, 1e-5);
    assert_near((int64_t)p.unit, 33e6 / 32, 1e-5);
    ps_profile_clear(&p, &alloc);
}

/* A larger batch that takes less time than a smaller one is found. */
static void test_dip(void **state) {
    ps_profile p;
    assert_true(ps_profile_init(&p, &alloc, 8));
    for (int i = 0; i < 200; i++) /* until no margin is left of the first ones' surprise */
        for (uint32_t b = 1; b <= 8; b++)
            ps_profile_add(&p, b, b == 7 ? 9000000 : (int64_t)b * 1000000);
    assert_int_equal(ps_profile_fits(&p, 8100000, 8), 8);
    assert_int_equal(ps_profile_fits(&p, 8100000, 7), 6);
    ps_profile_clear(&p, &alloc);
}

/* Lone outliers change nothing; the same again and again is the truth. */
static void test_outliers(void **state) {
    ps_profile p;
    assert_true(ps_profile_init(&p, &alloc, 8));
    for (int i = 0; i < 40; i++)
        ps_profile_add(&p, 4, 10000000 + i % 3 * 100000);
    int64_t before = ps_profile_mean(&p, 4);
    for (int i = 0; i < 20; i++) {
        assert_false(ps_profile_add(&p, 4, 90000000));
        assert_true(ps_profile_add(&p, 4, 10100000));
    }
    assert_near(ps_profile_mean(&p, 4), (double)before, 0.02);
    assert_int_equal(p.rejected, 20);
    for (int i = 0; i < 12; i++)
        ps_profile_add(&p, 4, 30000000);
    assert_near(ps_profile_mean(&p, 4), 30e6, 0.01);
    for (int i = 0; i < 12; i++)
        ps_profile_add(&p, 4, 5000000);
    assert_near(ps_profile_mean(&p, 4), 5e6, 0.01);
    ps_profile_clear(&p, &alloc);
}

/* ---- a machine that changes its pace ---- */

static uint32_t random_state;

/* Within +-10 % of it. */
static int64_t noisy(double ns) {
    random_state = random_state * 1664525 + 1013904223;
    return (int64_t)(ns * (0.9 + 0.2 * (random_state >> 8) / 16777216.0));
}

static void run_noisy(ps_profile *p, uint32_t size, int times, double pace) {
    for (int i = 0; i < times; i++)
        ps_profile_add(p, size, noisy(pace * affine(size)));
}

/* Within +-2 % of it. */
static void run_even(ps_profile *p, uint32_t size, int times, double pace) {
    for (int i = 0; i < times; i++)
        ps_profile_add(p, size, (int64_t)(0.8 * pace * affine(size)) + noisy(0.2 * pace * affine(size)));
}

/* While a neighbour has the machine everything takes 1.4 times as long, and all sizes are run; then one of them alone
 * is, and what it shows is true of the others. If it were not learnt by them, that one would be run for ever, here a
 * size that costs 1.3 times the best one's time an item. */
static void test_pace(void **state) {
    for (uint32_t seed = 1; seed <= 20; seed++) {
        ps_profile p;
        assert_true(ps_profile_init(&p, &alloc, 32));
        random_state = seed;
        for (int round = 0; round < 6; round++)
            for (uint32_t size = 2; size <= 32; size += 6)
                run_noisy(&p, size, 2, 1.4);
        run_noisy(&p, 20, 40, 1);
        for (uint32_t size = 14; size <= 32; size += 6)
            assert_near(ps_profile_mean(&p, size), affine(size), 0.15); /* two sizes' noise, of 12 runs each: 6 % */
        assert_true(ps_profile_mean(&p, 2) < 1.33 * affine(2));         /* less is known of what is far from it */
        assert_true(ps_profile_best(&p, 32) >= 26);
        ps_profile_clear(&p, &alloc);
    }
}

/* It stands still for others than outliers: twice as slow, twice in a row and of different sizes. */
static void test_jump(void **state) {
    ps_profile p;
    assert_true(ps_profile_init(&p, &alloc, 32));
    random_state = 7;
    for (uint32_t size = 2; size <= 32; size += 6)
        run_noisy(&p, size, 30, 1);
    for (uint32_t size = 8; size <= 20; size += 6)
        run_noisy(&p, size, 1, 2);
    assert_int_equal(p.rejected, 1);
    for (uint32_t size = 8; size <= 32; size += 6)
        assert_near(ps_profile_mean(&p, size), 2 * affine(size), 0.12);
    assert_true(ps_profile_mean(&p, 2) > 1.4 * affine(2) && ps_profile_mean(&p, 2) < 1.8 * affine(2));
    ps_profile_clear(&p, &alloc);
}

/* One size that became twice as slow, between others that did not: nothing is true of them. */
static void test_size_alone(void **state) {
    ps_profile p;
    assert_true(ps_profile_init(&p, &alloc, 32));
    random_state = 7;
    for (uint32_t size = 2; size <= 32; size += 6)
        run_noisy(&p, size, 30, 1);
    for (int i = 0; i < 40; i++) {
        run_noisy(&p, 8, 1, 2);
        for (uint32_t size = 14; size <= 32; size += 6)
            run_noisy(&p, size, 1, 1);
    }
    assert_near(ps_profile_mean(&p, 8), 2 * affine(8), 0.08);
    for (uint32_t size = 14; size <= 32; size += 6)
        assert_near(ps_profile_mean(&p, size), affine(size), 0.08);
    ps_profile_clear(&p, &alloc);
}

/* A size that looks slow, because it was run twice and by chance was slow, is run again; one that was run often enough
 * to know is not. */
static void test_bad_luck(void **state) {
    ps_profile p;
    assert_true(ps_profile_init(&p, &alloc, 32));
    random_state = 3;
    run_noisy(&p, 16, 60, 1);
    run_thrice(&p, 32, 32 * 1.03 * affine(16) / 16); /* truly 0.77 of the time an item */
    assert_int_equal(ps_profile_best(&p, 32), 32);
    run_noisy(&p, 32, 20, 32 * 1.1 * affine(16) / 16 / affine(32));
    assert_int_equal(ps_profile_best(&p, 32), 16);
    ps_profile_clear(&p, &alloc);
}

static void assert_on_line(const ps_profile *p, uint32_t left, uint32_t size, uint32_t right, double share) {
    double w = (double)(size - left) / (right - left);
    assert_near(ps_profile_mean(p, size),
                (1 - w) * (double)ps_profile_mean(p, left) + w * (double)ps_profile_mean(p, right), share);
}

/* A size that was never run, between two that were, begins with what these say. That its first run is a slow one may be
 * the machine, and is no reason to think less of this size than of them. If it was the size, that is found out. */
static void test_between(void **state) {
    for (uint32_t seed = 1; seed <= 20; seed++) {
        ps_profile p;
        assert_true(ps_profile_init(&p, &alloc, 32));
        random_state = seed;
        run_noisy(&p, 8, 40, 1);
        run_noisy(&p, 32, 40, 1);
        run_noisy(&p, 20, 1, 1);
        ps_profile_add(&p, 20, (int64_t)(1.25 * affine(20)));
        assert_on_line(&p, 8, 20, 32, 0.1);
        run_noisy(&p, 8, 6, 1);
        run_noisy(&p, 32, 6, 1);
        assert_on_line(&p, 8, 20, 32, 0.1);
        for (int i = 0; i < 100; i++) {
            run_noisy(&p, 20, 1, 1.25);
            run_noisy(&p, i % 2 ? 8 : 32, 1, 1);
        }
        assert_near(ps_profile_mean(&p, 20), 1.25 * affine(20), 0.08); /* the others' noise comes along: 6 % */
        ps_profile_clear(&p, &alloc);
    }
}

static void learn_up_to_14(ps_profile *p, uint32_t seed) {
    assert_true(ps_profile_init(p, &alloc, 32));
    random_state = seed;
    for (uint32_t size = 2; size <= 14; size += 4)
        run_even(p, size, 40, 1);
}

/* A size larger than all that were measured is tried just while a neighbour has the machine. Then that is over: the
 * others tell. If they did not, it would look a third slower than it is, not be run, and so stay like that. */
static void test_beyond(void **state) {
    for (uint32_t seed = 1; seed <= 20; seed++) {
        ps_profile p;
        learn_up_to_14(&p, seed);
        run_even(&p, 18, 2, 1.35);
        run_even(&p, 14, 10, 1);
        assert_near(ps_profile_mean(&p, 18), affine(18), 0.15); /* batching may gain no more: 12 % here */
        ps_profile_clear(&p, &alloc);
    }
}

/* The same with a pace that is no longer near: it could as well be the size. Then it is in doubt, and so run again. */
static void test_far_beyond(void **state) {
    for (uint32_t seed = 1; seed <= 20; seed++) {
        ps_profile p;
        learn_up_to_14(&p, seed);
        run_even(&p, 28, 3, 1.7);
        run_even(&p, 14, 10, 1);
        assert_int_equal(ps_profile_best(&p, 28), 28);
        run_even(&p, 28, 10, 1);
        assert_near(ps_profile_mean(&p, 28), affine(28), 0.05);
        ps_profile_clear(&p, &alloc);
    }
}

/* Small batches take as long as one request, larger ones longer the larger they are: what the first of those tells is
 * news of it, not of the machine. */
static void test_bend(void **state) {
    static const double ms[] = { 7, 7, 7, 7, 7.5, 9, 10.5, 12 };
    for (uint32_t seed = 1; seed <= 20; seed++) {
        ps_profile p;
        assert_true(ps_profile_init(&p, &alloc, 32));
        random_state = seed;
        for (uint32_t i = 0; i < 160; i++)
            ps_profile_add(&p, 1 + i % 8, noisy(1e6 * ms[i % 8]));
        ps_profile_add(&p, 11, noisy(16.5e6));
        ps_profile_add(&p, 11, 16500000);
        assert_near(ps_profile_mean(&p, 11), 16.5e6, 0.15);
        assert_near(ps_profile_mean(&p, 8), 12e6, 0.15);
        ps_profile_clear(&p, &alloc);
    }
}

/* The first run that tells of a size takes twice as long as its neighbours let expect: that is believed once the next
 * one does, too. */
static void test_first_surprise(void **state) {
    ps_profile p;
    assert_true(ps_profile_init(&p, &alloc, 32));
    random_state = 6;
    run_noisy(&p, 8, 40, 1);
    run_noisy(&p, 32, 40, 1);
    run_noisy(&p, 16, 1, 1); /* is discarded */
    assert_false(ps_profile_add(&p, 16, (int64_t)(2 * affine(16))));
    assert_near(ps_profile_mean(&p, 16), affine(16), 0.05);
    assert_true(ps_profile_add(&p, 16, (int64_t)(2 * affine(16))));
    assert_near(ps_profile_mean(&p, 16), 2 * affine(16), 0.05);
    ps_profile_clear(&p, &alloc);
}

/* The machine becomes fast again while a size runs of which little is known. It would explain that: a size that was
 * thought to be slow. But then the others would be taken to be slow as before, and not be run. */
static void test_pace_of_unknown(void **state) {
    ps_profile p;
    assert_true(ps_profile_init(&p, &alloc, 32));
    random_state = 7;
    run_noisy(&p, 16, 60, 1.35);
    run_thrice(&p, 8, 1.35 * affine(8));
    assert_int_equal(ps_profile_best(&p, 16), 16);
    for (int i = 0; i < 4; i++) /* while requests have little time */
        run_noisy(&p, 8, 1, 1);
    assert_near(ps_profile_mean(&p, 16), affine(16), 0.15);
    assert_int_equal(ps_profile_best(&p, 16), 16);
    ps_profile_clear(&p, &alloc);
}

/* Whatever is measured, the covariance stays one: no variance below 0, no correlation beyond 1. */
static void test_covariance(void **state) {
    for (uint32_t seed = 1; seed <= 2; seed++) { /* ten take minutes with a sanitizer */
        ps_profile p;
        assert_true(ps_profile_init(&p, &alloc, 512));
        random_state = seed;
        for (int i = 0; i < 20000; i++) {
            random_state = random_state * 1664525 + 1013904223;
            uint32_t size = 1 + (random_state >> 8) % 512;
            ps_profile_add(&p, size, noisy(affine(size) * (i % 5000 < 2500 ? 1 : 3)));
        }
        for (uint32_t i = 0; i < p.n_points; i++) {
            const float *row = p.covariance + (size_t)i * p.n_points;
            assert_true(row[i] >= 0 && row[i] < 1);
            for (uint32_t j = 0; j < p.n_points; j++)
                assert_true(row[j] * row[j] <= 1.01f * row[i] * p.covariance[j * (p.n_points + 1)] + 1e-12f);
        }
        for (uint32_t size = 1; size <= 512; size += 73)
            assert_near(ps_profile_mean(&p, size), 3 * affine(size), 0.15);
        ps_profile_clear(&p, &alloc);
    }
}

/* The margin covers the noise: of samples drawn within +-10 % nearly all are below `high`. */
static void test_margin(void **state) {
    ps_profile p;
    uint32_t random = 1, above = 0;
    assert_true(ps_profile_init(&p, &alloc, 8));
    for (int i = 0; i < 1000; i++) {
        random = random * 1664525 + 1013904223;
        int64_t ns = 9000000 + random % 2000001;
        above += i > 100 && ns > ps_profile_high(&p, 2);
        ps_profile_add(&p, 2, ns);
    }
    assert_true(above < 30);
    assert_true(ps_profile_high(&p, 2) < 12000000);
    ps_profile_clear(&p, &alloc);
}

/* ---- a model's profiles ---- */

static ps_sched_model *add_model(ps_sched **ret_sched, ps_alloc_state *a) {
    ps_sched_options options = { 0 };
    ps_sched_model_options model = { .max_batch = 16 };
    ps_sched_model *m;
    assert_int_equal(ps_sched_create(a, &options, ret_sched, NULL), PS_OK);
    assert_int_equal(ps_sched_add_model(*ret_sched, &model, &m, NULL), PS_OK);
    return m;
}

static void test_text_round_trip(void **state) {
    ps_sched *s[2];
    ps_sched_model *m[2] = { add_model(&s[0], &alloc), add_model(&s[1], &alloc) };
    ps_str text;
    ps_str_init(&text, &alloc);
    for (uint64_t shape = 1; shape <= 3; shape++)
        for (uint32_t size = 1; size <= 16; size *= 4)
            assert_int_equal(
                ps_sched_seed(s[0], m[0], shape << 60, 7, size, 9, (int64_t)(shape * size * 1000000), 5000, NULL),
                PS_OK);
    ps_sched_write_profiles(m[0], &text);
    assert_int_equal(ps_sched_read_profiles(s[1], m[1], text.data, text.size, NULL), PS_OK);
    for (uint64_t shape = 1; shape <= 3; shape++) {
        for (uint32_t size = 1; size <= 16; size++) {
            int64_t mean[2], high[2];
            ps_sched_predict(m[0], shape << 60, size, &mean[0], &high[0]);
            ps_sched_predict(m[1], shape << 60, size, &mean[1], &high[1]);
            assert_true(mean[0] > 0);
            assert_near(mean[1], (double)mean[0], 1e-5);
        }
    }
    ps_str_release(&text);
    ps_sched_free(s[0]);
    ps_sched_free(s[1]);
}

static void test_text_hostile(void **state) {
    static const char *const bad[] = {
        "",
        "polestar-profiles 2\n",
        "polestar-profiles 1",
        "polestar-profiles 1\nsize 1 samples 1 mean 1 deviation 1\n", /* of no shape */
        "polestar-profiles 1\nshape 1 work\n",
        "polestar-profiles 1\nshape 18446744073709551616 work 1\n",
        "polestar-profiles 1\nshape -1 work 1\n",
        "polestar-profiles 1\nshape 1 work 1\nsize 0 samples 1 mean 1 deviation 1\n",
        "polestar-profiles 1\nshape 1 work 1\nsize 2049 samples 1 mean 1 deviation 1\n",
        "polestar-profiles 1\nshape 1 work 1\nsize 1 samples 0 mean 1 deviation 1\n",
        "polestar-profiles 1\nshape 1 work 1\nsize 1 samples 1 mean 0 deviation 1\n",
        "polestar-profiles 1\nshape 1 work 1\nsize 1 samples 1 mean 1e9 deviation 1\n",
        "polestar-profiles 1\nshape 1 work 1\nsize 1 samples 1 mean 1 deviation 1", /* cut */
        "polestar-profiles 1\nshape 1 work 1\nsize 2 samples 1 mean 1 deviation 1\nsize 2 samples 1 mean 1 deviation "
        "1\n",
        "polestar-profiles 1\nshape 1 work 1\n\n",
        "polestar-profiles 1\nshape 1 work 1\nsize 1 samples 1 mean 99999999999999999999 deviation 1\n",
    };
    ps_sched *s;
    ps_sched_model *m = add_model(&s, &alloc);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        ps_error err = PS_ERROR_INIT;
        char *copy = ps_alloc(&alloc, strlen(bad[i]) + 1); /* without the NUL: a read beyond the end is seen */
        memcpy(copy, bad[i], strlen(bad[i]));
        if (ps_sched_read_profiles(s, m, copy, strlen(bad[i]), &err) != PS_FORMAT) fail_msg("text %zu was read", i);
        assert_non_null(strstr(err.msg, "line"));
        ps_free(&alloc, copy);
        int64_t mean, high;
        ps_sched_predict(m, 1, 1, &mean, &high);
        assert_int_equal(mean, 0);
    }
    ps_sched_free(s);
}

static ps_status read_scenario(ps_alloc_state *a, void *ctx) {
    static const char text[] = "polestar-profiles 1\nshape 1 work 4\nsize 1 samples 5 mean 1000000 deviation 10\n"
                               "size 4 samples 5 mean 2000000 deviation 10\nshape 2 work 8\n";
    ps_sched *s = NULL;
    ps_sched_model *m;
    ps_sched_options options = { 0 };
    ps_sched_model_options model = { 0 };
    ps_status status = ps_sched_create(a, &options, &s, NULL);
    if (status == PS_OK) status = ps_sched_add_model(s, &model, &m, NULL);
    if (status == PS_OK) status = ps_sched_read_profiles(s, m, text, sizeof text - 1, NULL);
    ps_str out;
    ps_str_init(&out, a);
    if (status == PS_OK) {
        ps_sched_write_profiles(m, &out);
        if (out.failed) status = PS_NO_MEMORY;
    }
    ps_str_release(&out);
    ps_sched_free(s);
    return status;
}

static void test_failing_allocations(void **state) {
    assert_true(ps_test_sweep(read_scenario, NULL) > 5);
}

/* A shape that nobody ran takes what the nearest one taught, by its work. */
static void test_guess(void **state) {
    ps_sched *s;
    ps_sched_model *m = add_model(&s, &alloc);
    int64_t mean, high;
    for (uint32_t size = 1; size <= 16; size *= 2)
        assert_int_equal(ps_sched_seed(s, m, 1, 100, size, 9, (int64_t)affine(size), 1000, NULL), PS_OK);
    ps_sched_request r = { .arrival_ns = 1, .shape = 2, .work = 200, .items = 1 };
    assert_int_equal(ps_sched_admit(s, m, &r, 1).reason, PS_SCHED_OK);
    ps_sched_predict(m, 2, 4, &mean, &high);
    assert_near(mean, 2 * affine(4), 1e-4);
    assert_true(high > mean);
    assert_true(ps_sched_cancel(s, &r));
    ps_sched_free(s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_points),       cmocka_unit_test(test_unknown),
        cmocka_unit_test(test_one_size),     cmocka_unit_test(test_affine),
        cmocka_unit_test(test_fits),         cmocka_unit_test(test_steps),
        cmocka_unit_test(test_dip),          cmocka_unit_test(test_outliers),
        cmocka_unit_test(test_margin),       cmocka_unit_test(test_text_round_trip),
        cmocka_unit_test(test_text_hostile), cmocka_unit_test(test_failing_allocations),
        cmocka_unit_test(test_guess),        cmocka_unit_test(test_pace),
        cmocka_unit_test(test_jump),         cmocka_unit_test(test_size_alone),
        cmocka_unit_test(test_bad_luck),     cmocka_unit_test(test_between),
        cmocka_unit_test(test_covariance),   cmocka_unit_test(test_first_surprise),
        cmocka_unit_test(test_pace_of_unknown), cmocka_unit_test(test_beyond),
        cmocka_unit_test(test_bend),         cmocka_unit_test(test_far_beyond),
        cmocka_unit_test(test_turn),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
