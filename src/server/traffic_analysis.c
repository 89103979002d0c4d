/* traffic_analysis.c - when a new version is worse than it may be, and chance is no explanation. */
#include <math.h>
#include <string.h>

#include "server/traffic.h"

#define ALTERNATIVES 12             /* shares that evidence is collected for: odds of 2, 4, … times the limit's */
#define LEAST_LIMIT 1e-4            /* a limit of 0 means this */
#define LEAST_REQUESTS 20           /* of the new version before anything is said of it */
#define LEAST_LATENCIES 50          /* of the stable version before others are beside it */
#define MOST_LATENCIES 8192u        /* then all weigh half as much: the quantile is of recent requests */
#define SLOW_SHARE 0.05             /* beyond p95 */
#define SLOW_SHARE_OF_ESTIMATE 0.10 /* where p95 is an estimate, from LEAST_LATENCIES or more: two sigma above */

double ps_traffic_evidence(ps_share share, double limit) {
    double p = limit < LEAST_LIMIT ? LEAST_LIMIT : limit, logs[ALTERNATIVES], most = -INFINITY, sum = 0;
    double k = (double)share.k, rest = (double)(share.n - share.k);
    if (p >= 1) return 0;
    for (int i = 0; i < ALTERNATIVES; i++) {
        double odds = ldexp(p / (1 - p), i + 1), q = odds / (1 + odds);
        logs[i] = k * log(q / p) + rest * log((1 - q) / (1 - p));
        if (logs[i] > most) most = logs[i];
    }
    for (int i = 0; i < ALTERNATIVES; i++)
        sum += exp(logs[i] - most);
    return most + log(sum / ALTERNATIVES);
}

/* ---- latencies ---- */

static int bucket_of(int64_t ns) {
    int i = ns > 1 ? (int)(log2((double)ns) * 4) : 0;
    return i < PS_TRAFFIC_LATENCIES ? i : PS_TRAFFIC_LATENCIES - 1;
}

void ps_latencies_age(ps_latencies *l) {
    l->n = 0;
    for (int i = 0; i < PS_TRAFFIC_LATENCIES; i++)
        l->n += l->counts[i] /= 2;
}

void ps_latencies_add(ps_latencies *l, int64_t ns) {
    if (l->n >= MOST_LATENCIES) ps_latencies_age(l);
    l->counts[bucket_of(ns)]++;
    l->n++;
}

int64_t ps_latencies_p95(const ps_latencies *l) {
    uint64_t above = 0;
    int i = PS_TRAFFIC_LATENCIES - 1;
    if (l->n < LEAST_LATENCIES) return 0;
    for (; i > 0; i--) { /* the highest bucket that has a twentieth in it and above; its upper end */
        above += l->counts[i];
        if (above * 20 > l->n) break;
    }
    return (int64_t)exp2((i + 1) / 4.0);
}

/* ---- limits ---- */

static double rate(ps_share s) {
    return s.n ? (double)s.k / (double)s.n : 0;
}

/* What the stable version shows, and two standard errors: it is an estimate. */
static double error_limit(const ps_rollout *r) {
    double p = rate(r->errors_from), n = (double)r->errors_from.n;
    return r->limits.error_rate + p + (n > 0 ? 2 * sqrt(p * (1 - p) / n) : 0);
}

static bool is_broken(ps_share share, double limit) {
    return share.n >= LEAST_REQUESTS && rate(share) > limit && ps_traffic_evidence(share, limit) >= PS_TRAFFIC_BROKEN;
}

bool ps_rollout_broken(const ps_rollout *r, char *reason, size_t size) {
    const ps_traffic_limits *l = &r->limits;
    if (l->error_rate >= 0 && is_broken(r->errors, error_limit(r)))
        ps_snprintf(reason, size, "errors: %llu of %llu requests to version %lld failed, of version %lld %llu of %llu",
                    (unsigned long long)r->errors.k, (unsigned long long)r->errors.n, (long long)r->to,
                    (long long)r->from, (unsigned long long)r->errors_from.k, (unsigned long long)r->errors_from.n);
    else if (l->latency_ms >= 0 && is_broken(r->too_slow, SLOW_SHARE))
        ps_snprintf(reason, size, "latency: %llu of %llu requests to version %lld took longer than %g ms",
                    (unsigned long long)r->too_slow.k, (unsigned long long)r->too_slow.n, (long long)r->to,
                    l->latency_ms);
    else if (l->latency_ratio >= 0 && is_broken(r->slower, SLOW_SHARE_OF_ESTIMATE))
        ps_snprintf(reason, size,
                    "latency: %llu of %llu requests to version %lld took longer than %g times the p95 of version %lld",
                    (unsigned long long)r->slower.k, (unsigned long long)r->slower.n, (long long)r->to,
                    l->latency_ratio, (long long)r->from);
    else if (l->disagreement >= 0 && is_broken(r->disagreed, l->disagreement))
        ps_snprintf(reason, size, "disagreement: %llu of %llu answers of version %lld are not those of version %lld",
                    (unsigned long long)r->disagreed.k, (unsigned long long)r->disagreed.n, (long long)r->to,
                    (long long)r->from);
    else
        return false;
    return true;
}
