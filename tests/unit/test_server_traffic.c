/* Labels, splits, rollouts and their analysis, with a clock of the test's own. Shares are compared with the weights
 * themselves; the evidence with its definition summed term by term in another way, and with what it promises: how often
 * a good version is taken back in simulated rollouts, and that bad ones are. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "server/traffic.h"

#define S INT64_C(1000000000)

static ps_alloc_state alloc;

/* Versions 1 to 3 are there, those of the mask ready. */
static unsigned ready_mask = 0xe;

static bool is_there(void *ctx, int64_t version) {
    return version >= 1 && version <= 3;
}

static bool is_ready(void *ctx, int64_t version) {
    return is_there(ctx, version) && (ready_mask >> version & 1);
}

static ps_traffic_model model = { .name = "m", .there = is_there, .ready = is_ready, .latest = 3 };
static ps_error err;

static ps_status change_at(ps_traffic *t, const char *json, int64_t now) {
    ps_traffic_change c;
    err = (ps_error)PS_ERROR_INIT;
    ps_status status = ps_traffic_read(json, strlen(json), false, &alloc, &c, &err);
    return status == PS_OK ? ps_traffic_apply(t, &c, &model, now, &err) : status;
}

static void change(ps_traffic *t, const char *json) {
    if (change_at(t, json, 0) != PS_OK) fail_msg("%s: %s", json, err.msg);
}

static void refused(ps_traffic *t, const char *json, ps_status status, const char *why) {
    ps_traffic before = *t;
    ps_status got = change_at(t, json, 0);
    if (got != status || !strstr(err.msg, why)) fail_msg("%s: %d '%s'", json, got, err.msg);
    assert_memory_equal(&before, t, sizeof before); /* all or nothing */
}

static uint64_t state;

static uint64_t next_random(void) { /* splitmix64 */
    uint64_t v = state += UINT64_C(0x9e3779b97f4a7c15);
    v = (v ^ v >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    v = (v ^ v >> 27) * UINT64_C(0x94d049bb133111eb);
    return v ^ v >> 31;
}

static double uniform(void) {
    return (double)(next_random() >> 11) * 0x1p-53;
}

/* ---- labels ---- */

static void test_label_names(void **s) {
    static const char *const good[] = { "stable", "canary", "A", "blue-2", "v1.2_x" }, *const bad[] = {
        "", "1", "2x", "-a", "a b", "a/b", "\xc3\xa4"
    };
    char longest[PS_LABEL_MAX + 2];
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        assert_true(ps_label_valid(good[i], strlen(good[i])));
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_false(ps_label_valid(bad[i], strlen(bad[i])));
    memset(longest, 'a', sizeof longest);
    assert_true(ps_label_valid(longest, PS_LABEL_MAX));
    assert_false(ps_label_valid(longest, PS_LABEL_MAX + 1));
}

static void test_labels_move_only_to_ready_versions(void **s) {
    ps_traffic t = { 0 };
    assert_false(ps_traffic_decides(&t));
    change(&t, "{\"labels\":{\"stable\":1,\"canary\":\"2\"}}");
    assert_int_equal(ps_traffic_label_version(&t, "stable"), 1);
    assert_int_equal(ps_traffic_label_version(&t, "canary"), 2);
    assert_int_equal(ps_traffic_label_version(&t, "other"), 0);
    assert_int_equal(ps_traffic_choose(&t, false, 0), 1);
    ready_mask = 1 << 1 | 1 << 3;
    refused(&t, "{\"labels\":{\"stable\":2}}", PS_UNAVAILABLE,
            "version 2 is not ready, which the label 'stable' needs");
    refused(&t, "{\"labels\":{\"new\":2}}", PS_UNAVAILABLE, "is not ready");
    change(&t, "{\"labels\":{\"canary\":2}}"); /* where it is */
    refused(&t, "{\"labels\":{\"x\":1,\"stable\":4}}", PS_NOT_FOUND, "no version 4");
    refused(&t, "{\"labels\":{\"x\":\"nobody\"}}", PS_NOT_FOUND, "no label 'nobody'");
    ready_mask = 0xe;
    change(&t, "{\"labels\":{\"stable\":\"canary\",\"canary\":null}}");
    assert_int_equal(ps_traffic_label_version(&t, "stable"), 2);
    assert_int_equal(ps_traffic_label_version(&t, "canary"), 0);
    assert_true(ps_traffic_names(&t, 2));
    assert_false(ps_traffic_names(&t, 1));
}

static void test_what_a_file_names_first_need_not_be_ready(void **s) {
    ps_traffic t = { 0 };
    ready_mask = 0;
    model.waits = true;
    change(&t, "{\"labels\":{\"stable\":1},\"split\":[{\"version\":\"stable\",\"weight\":1}]}");
    refused(&t, "{\"labels\":{\"stable\":2}}", PS_UNAVAILABLE, "is not ready");
    model.waits = false;
    ready_mask = 0xe;
}

static void test_texts_that_are_refused(void **s) {
    static const struct {
        const char *json, *why;
    } cases[] = {
        { "", "JSON byte 0" },
        { "[]", "JSON byte" },
        { "{\"label\":{}}", "no member 'label'" },
        { "{\"labels\":{\"7\":1}}", "'7' is no label" },
        { "{\"labels\":{\"a\":0}}", "not between 1" },
        { "{\"labels\":{\"a\":\"-1\"}}", "neither a version nor a label" },
        { "{\"labels\":{\"a\":1,\"a\":2}}", "twice" },
        { "{\"split\":[{\"version\":1,\"weight\":0}]}", "all 0" },
        { "{\"split\":[{\"weight\":1}]}", "names no version" },
        { "{\"split\":[{\"version\":1,\"weight\":-1}]}", "not between 0" },
        { "{\"split\":[{\"version\":1,\"percent\":1}]}", "no member 'percent'" },
        { "{\"rollout\":\"go\"}", "'go'" },
        { "{\"rollout\":{}}", "names no version" },
        { "{\"rollout\":{\"version\":2,\"steps\":[]}}", "no steps" },
        { "{\"rollout\":{\"version\":2,\"steps\":[50,10]}}", "go down" },
        { "{\"rollout\":{\"version\":2,\"steps\":[101]}}", "not between 0 and 100" },
        { "{\"rollout\":{\"version\":2,\"steps\":[{\"seconds\":1}]}}", "no percent" },
        { "{\"rollout\":{\"version\":2,\"phase\":\"paused\"}}", "no member 'phase'" },
        { "{\"rollout\":{\"version\":2,\"analysis\":{\"error_rate\":2}}}", "not between 0 and 1" },
        { "{\"shadow\":{\"percent\":10}}", "names no version" },
        { "{\"shadow\":{\"version\":1,\"percent\":1e3}}", "not between 0 and 100" },
        { "{\"shadow\":{\"version\":1,\"compare\":\"eyes\"}}", "not tolerance or argmax" },
        { "{\"labels\":{}} x", "JSON byte" },
    };
    ps_traffic_change c;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        err = (ps_error)PS_ERROR_INIT;
        if (ps_traffic_read(cases[i].json, strlen(cases[i].json), false, &alloc, &c, &err) == PS_OK ||
            !strstr(err.msg, cases[i].why))
            fail_msg("%s: '%s'", cases[i].json, err.msg);
    }
}

/* ---- the split ---- */

static void test_shares_are_the_weights(void **s) {
    ps_traffic t = { 0 };
    unsigned got[4] = { 0 };
    change(&t, "{\"labels\":{\"stable\":1,\"canary\":2},\"split\":[{\"version\":\"stable\",\"weight\":90},"
               "{\"version\":\"canary\",\"weight\":9},{\"version\":3,\"weight\":1}]}");
    for (unsigned n = 1; n <= 10000; n++) {
        got[ps_traffic_choose(&t, false, 0)]++;
        /* the golden ratio's multiples leave no arc more than a few points behind its share */
        assert_true(fabs(got[1] - 0.9 * n) < 4 && fabs(got[2] - 0.09 * n) < 4 && fabs(got[3] - 0.01 * n) < 4);
    }
    assert_int_equal(ps_traffic_main(&t), 1);
    change(&t, "{\"labels\":{\"canary\":1}}"); /* the split follows */
    assert_int_equal(t.split[1].to.version, 1);
    refused(&t, "{\"labels\":{\"canary\":null}}", PS_INVALID, "the split names the label 'canary'");
    change(&t, "{\"split\":null}");
    assert_int_equal(ps_traffic_choose(&t, false, 0), 1);
}

static void test_keys_stay_and_shares_only_grow(void **s) {
    ps_traffic t = { 0 };
    enum { KEYS = 20000 };
    static bool moved[KEYS];
    static const unsigned percents[] = { 1, 10, 50, 100 };
    state = 1;
    for (size_t p = 0; p < 4; p++) {
        char json[200];
        unsigned n = 0;
        t = (ps_traffic) { 0 };
        snprintf(json, sizeof json, "{\"labels\":{\"stable\":1},\"rollout\":{\"version\":2,\"steps\":[%u]}}",
                 percents[p]);
        change(&t, json);
        state = 1;
        for (size_t i = 0; i < KEYS; i++) {
            uint64_t hash = next_random();
            bool to_new = ps_traffic_choose(&t, true, hash) == 2;
            assert_int_equal(ps_traffic_choose(&t, true, hash), to_new ? 2 : 1);
            assert_false(moved[i] && !to_new);
            moved[i] = to_new;
            n += to_new;
        }
        double share = percents[p] / 100.0; /* 4 sigma of a binomial */
        assert_true(fabs(n - share * KEYS) <= 4 * sqrt(KEYS * share * (1 - share)));
    }
}

/* ---- the rollout ---- */

#define STEPS "\"steps\":[1,10,50,100],\"step_seconds\":60"

static void answer(ps_traffic *t, int64_t version, unsigned n, int64_t now) {
    for (unsigned i = 0; i < n; i++)
        ps_traffic_answered(t, version, false, 1000000, now);
}

static void test_a_rollout_goes_its_steps(void **s) {
    ps_traffic t = { 0 };
    static const double percents[] = { 1, 10, 50, 100 };
    change(&t, "{\"labels\":{\"stable\":1},\"split\":[{\"version\":1,\"weight\":1}]}");
    change(&t, "{\"rollout\":{\"version\":2," STEPS "}}");
    assert_int_equal(t.n_split, 0);
    refused(&t, "{\"split\":[{\"version\":1,\"weight\":1}]}", PS_INVALID, "a rollout is in progress");
    refused(&t, "{\"labels\":{\"stable\":3}}", PS_INVALID, "a rollout is in progress");
    refused(&t, "{\"rollout\":{\"version\":3}}", PS_INVALID, "of version 2 is in progress");
    int64_t now = 0;
    for (int i = 0; i < 4; i++) {
        assert_true(ps_traffic_percent(&t) == percents[i]);
        answer(&t, 2, 100, now);
        assert_false(ps_traffic_advance(&t, now + 60 * S - 1)); /* too early */
        t.rollout.answered = 99;
        assert_false(ps_traffic_advance(&t, now + 1000 * S)); /* too few have been seen */
        answer(&t, 2, 1, now);
        assert_true(ps_traffic_advance(&t, now += 60 * S));
    }
    assert_int_equal(t.rollout.phase, PS_ROLLOUT_SUCCEEDED);
    assert_int_equal(ps_traffic_label_version(&t, "stable"), 2);
    assert_int_equal(ps_traffic_choose(&t, false, 0), 2);
    assert_false(ps_traffic_advance(&t, now + 1000 * S));
}

static void test_pause_resume_promote_abort(void **s) {
    ps_traffic t = { 0 };
    ready_mask = 0xe;
    refused(&t, "{\"rollout\":\"pause\"}", PS_INVALID, "no rollout in progress");
    refused(&t, "{\"rollout\":{\"version\":3}}", PS_INVALID, "is the stable one already"); /* the latest */
    change(&t, "{\"rollout\":{\"version\":2," STEPS ",\"analysis\":{\"min_requests\":0}}}");
    assert_int_equal(ps_traffic_label_version(&t, "stable"), 3);
    assert_int_equal(change_at(&t, "{\"rollout\":\"pause\"}", 40 * S), PS_OK);
    assert_false(ps_traffic_advance(&t, 1000 * S));
    assert_int_equal(change_at(&t, "{\"rollout\":\"resume\"}", 1000 * S), PS_OK);
    assert_false(ps_traffic_advance(&t, 1020 * S - 1));
    assert_true(ps_traffic_advance(&t, 1020 * S));
    assert_int_equal(t.rollout.step, 1);
    change(&t, "{\"rollout\":\"abort\"}");
    assert_int_equal(t.rollout.phase, PS_ROLLOUT_ABORTED);
    for (int i = 0; i < 1000; i++)
        assert_int_equal(ps_traffic_choose(&t, i % 2, next_random()), 3);
    change(&t, "{\"rollout\":{\"version\":2,\"steps\":[0,50]}}");
    ready_mask = 1 << 3;
    refused(&t, "{\"rollout\":\"promote\"}", PS_UNAVAILABLE, "not ready");
    ready_mask = 0xe;
    change(&t, "{\"rollout\":\"promote\"}");
    assert_int_equal(ps_traffic_label_version(&t, "stable"), 2);
    change(&t, "{\"rollout\":null}");
    assert_int_equal(t.rollout.phase, PS_ROLLOUT_NONE);
}

static void test_state_is_written_and_read_back(void **s) {
    ps_traffic t = { 0 }, u = { 0 };
    ps_traffic_change c;
    ps_str a, b;
    ps_str_init(&a, &alloc);
    ps_str_init(&b, &alloc);
    change(&t, "{\"labels\":{\"stable\":1,\"canary\":2},\"shadow\":{\"version\":\"canary\",\"percent\":12.5}}");
    change(&t,
           "{\"rollout\":{\"version\":\"canary\"," STEPS ",\"analysis\":{\"latency_ms\":20,\"disagreement\":null}}}");
    answer(&t, 2, 100, 0);
    assert_true(ps_traffic_advance(&t, 60 * S));
    ps_str_char(&a, '{');
    ps_traffic_write(&t, false, 0, &a);
    ps_str_char(&a, '}');
    assert_int_equal(ps_traffic_read(a.data, a.size, true, &alloc, &c, &err), PS_OK);
    model.waits = true;
    ready_mask = 0;
    assert_int_equal(ps_traffic_apply(&u, &c, &model, 5 * S, &err), PS_OK);
    model.waits = false;
    ready_mask = 0xe;
    ps_str_char(&b, '{');
    ps_traffic_write(&u, false, 0, &b);
    ps_str_char(&b, '}');
    assert_string_equal(a.data, b.data);
    assert_int_equal(u.rollout.step, 1);
    assert_false(ps_traffic_advance(&u, 64 * S)); /* the step begins anew */
    ps_str_release(&a);
    ps_str_release(&b);
}

/* ---- the analysis ---- */

static double evidence_by_terms(unsigned n, unsigned k, double p) {
    long double sum = 0;
    for (int i = 1; i <= 12; i++) {
        long double odds = (long double)p / (1 - (long double)p) * (1 << i), q = odds / (1 + odds);
        sum += powl(q / p, k) * powl((1 - q) / (1 - (long double)p), n - k);
    }
    return (double)logl(sum / 12);
}

static void test_evidence_is_the_mixture_of_ratios(void **s) {
    static const double limits[] = { 1e-4, 0.01, 0.05, 0.5 };
    for (size_t l = 0; l < 4; l++)
        for (unsigned n = 0; n <= 200; n += 20)
            for (unsigned k = 0; k <= n; k += 7) {
                double want = evidence_by_terms(n, k, limits[l]);
                double got = ps_traffic_evidence((ps_share) { n, k }, limits[l]);
                assert_true(fabs(got - want) <= 1e-9 * (1 + fabs(want))); /* double beside long double */
            }
    assert_true(ps_traffic_evidence((ps_share) { 100, 100 }, 1) == 0);
}

static void test_p95(void **s) {
    ps_latencies l = { 0 };
    state = 7;
    assert_int_equal(ps_latencies_p95(&l), 0);
    for (int i = 0; i < 5000; i++)
        ps_latencies_add(&l, (int64_t)(uniform() * 1e7)); /* p95 is 9.5 ms */
    int64_t p95 = ps_latencies_p95(&l);
    assert_true(p95 >= 9400000 && p95 <= (int64_t)(9.5e6 * 1.19 * 1.01)); /* never low, at most a bucket (2^1/4) high */
    ps_latencies_add(&l, 0);
    ps_latencies_add(&l, INT64_MAX);
}

/* One rollout at `percent`; the numbers are per request. Returns after how many requests to the new version it was
 * aborted; 0: it was not, in n requests of both. */
typedef struct behaviour {
    double errors, mean_ms, disagreement;
} behaviour;

static double latency_of(double mean_ms) { /* exponential: a long tail */
    return -log(1 - uniform()) * mean_ms * 1e6;
}

static void compared(ps_traffic *t, bool close) {
    ps_traffic_compared(t, 2, &(ps_shadow_result) { .close = close });
}

static unsigned simulate(double percent, behaviour old, behaviour new, unsigned n) {
    ps_traffic t = { 0 };
    char json[200];
    unsigned seen = 0;
    snprintf(json, sizeof json,
             "{\"labels\":{\"stable\":1},\"rollout\":{\"version\":2,\"steps\":[%g],\"step_seconds\":3600}}", percent);
    change(&t, json);
    for (unsigned i = 0; i < n; i++) {
        int64_t v = ps_traffic_choose(&t, false, 0);
        const behaviour *b = v == 2 ? &new : &old;
        ps_traffic_answered(&t, v, uniform() < b->errors, (int64_t)latency_of(b->mean_ms), 0);
        if (v == 1) compared(&t, uniform() >= new.disagreement);
        seen += v == 2;
        if (ps_traffic_advance(&t, 0)) return seen;
    }
    return 0;
}

static void test_a_good_version_is_not_taken_back(void **s) {
    static const struct {
        double percent;
        behaviour both;
    } cases[] = { { 10, { 0, 5, 0 } }, { 50, { 0.05, 5, 0.005 } }, { 1, { 0.2, 50, 0 } }, { 90, { 0.01, 5, 0.01 } } };
    unsigned aborted = 0, rollouts = 0;
    state = 42;
    for (size_t c = 0; c < 4; c++)
        for (int i = 0; i < 250; i++, rollouts++)
            aborted += simulate(cases[c].percent, cases[c].both, cases[c].both, 10000) != 0;
    /* promised is one in 1000 where the limits are known; those beside the stable version are estimates */
    if (aborted > 4) fail_msg("%u of %u rollouts of a version that is as good were aborted", aborted, rollouts);
}

static void test_bad_versions_are_taken_back(void **s) {
    static const struct {
        behaviour bad;
        unsigned within;                    /* requests to it, of 100,000 at 10 per cent */
    } cases[] = { { { 1, 5, 0 }, 20 },      /* nothing works: as soon as anything is said at all */
                  { { 0.5, 5, 0 }, 40 },    /* every second one fails */
                  { { 0.05, 5, 0 }, 2000 }, /* 1 in 20, where 1 in 100 is allowed */
                  { { 0, 50, 0 }, 200 },    /* ten times slower */
                  { { 0, 5, 0.2 }, 60 } };  /* every fifth answer is another */
    behaviour good = { 0.001, 5, 0 };
    state = 43;
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++)
        for (int i = 0; i < 50; i++) {
            unsigned n = simulate(10, good, cases[c].bad, 100000);
            if (!n || n > cases[c].within) fail_msg("case %zu: %u requests", c, n);
        }
}

static void test_an_absolute_latency(void **s) {
    ps_traffic t = { 0 };
    change(&t, "{\"labels\":{\"stable\":1},\"rollout\":{\"version\":2,\"analysis\":{\"latency_ms\":10}}}");
    for (int i = 0; i < 100 && !ps_traffic_advance(&t, 0); i++)
        ps_traffic_answered(&t, 2, false, 11000000, 0);
    assert_int_equal(t.rollout.phase, PS_ROLLOUT_ABORTED);
    assert_non_null(strstr(t.rollout.reason, "took longer than 10 ms"));
    assert_int_equal(t.rollout.too_slow.n, 20); /* the least */
}

static void test_counters(void **s) {
    ps_traffic t = { 0 };
    for (int64_t v = 1; v <= PS_TRAFFIC_VERSIONS + 1; v++)
        ps_traffic_routed(&t, v, v, v);
    assert_int_equal(t.counts[0].version, PS_TRAFFIC_VERSIONS + 1); /* in place of the one not seen for longest */
    assert_int_equal(t.counts[0].requests, 1);
    ps_traffic_routed(&t, 2, 3, 100);
    assert_int_equal(t.counts[1].fallbacks, 1);
    assert_int_equal(t.counts[2].requests, 2);
    ps_traffic_answered(&t, 3, true, -1, 100);
    assert_int_equal(t.counts[2].errors, 1);
}

static void test_what_agrees(void **s) {
    ps_traffic t = { 0 };
    ps_shadow_result close = { .close = true, .has_argmax = true }, same = { .has_argmax = true, .argmax_same = true },
                     number = { .close = true, .largest = 0.5 }, failed = { .failed = true, .close = true };
    ps_shadow_result all[] = { close, same, number, failed };
    change(&t, "{\"labels\":{\"stable\":1},\"shadow\":{\"version\":2}}");
    change(&t, "{\"rollout\":{\"version\":2,\"steps\":[0,10],\"step_seconds\":0,"
               "\"analysis\":{\"min_requests\":8,\"disagreement\":null}}}");
    for (size_t i = 0; i < 4; i++)
        ps_traffic_compared(&t, 2, &all[i]);
    assert_int_equal(t.shadow_count.agreed, 2);
    assert_int_equal(t.shadow_count.failed, 1);
    assert_int_equal(t.shadow_count.argmax_compared, 2);
    assert_int_equal(t.shadow_count.argmax_agreed, 1);
    assert_true(t.shadow_count.largest == 0.5);
    t.shadow.by_argmax = true;
    for (size_t i = 0; i < 4; i++)
        ps_traffic_compared(&t, 2, &all[i]);
    assert_int_equal(t.shadow_count.agreed, 4); /* `same` instead of `close`; what has no argmax goes by numbers */
    assert_int_equal(t.rollout.disagreed.k, 4);
    assert_true(ps_traffic_advance(&t, 0)); /* a step of 0 per cent is answered by the shadow */
    assert_true(ps_traffic_percent(&t) == 10);
}

static void test_shadow_share(void **s) {
    ps_traffic t = { 0 };
    unsigned n = 0;
    change(&t, "{\"shadow\":{\"version\":2,\"percent\":25}}");
    for (int i = 0; i < 1000; i++)
        n += ps_traffic_shadow_choose(&t, 1) == 2;
    assert_in_range(n, 247, 253);
    assert_int_equal(ps_traffic_shadow_choose(&t, 2), 0); /* beside itself */
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_label_names),
        cmocka_unit_test(test_labels_move_only_to_ready_versions),
        cmocka_unit_test(test_what_a_file_names_first_need_not_be_ready),
        cmocka_unit_test(test_texts_that_are_refused),
        cmocka_unit_test(test_shares_are_the_weights),
        cmocka_unit_test(test_keys_stay_and_shares_only_grow),
        cmocka_unit_test(test_a_rollout_goes_its_steps),
        cmocka_unit_test(test_pause_resume_promote_abort),
        cmocka_unit_test(test_state_is_written_and_read_back),
        cmocka_unit_test(test_evidence_is_the_mixture_of_ratios),
        cmocka_unit_test(test_p95),
        cmocka_unit_test(test_a_good_version_is_not_taken_back),
        cmocka_unit_test(test_bad_versions_are_taken_back),
        cmocka_unit_test(test_an_absolute_latency),
        cmocka_unit_test(test_counters),
        cmocka_unit_test(test_what_agrees),
        cmocka_unit_test(test_shadow_share),
    };
    ps_alloc_state_init(&alloc, NULL);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
