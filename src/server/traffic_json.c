/* traffic_json.c - what traffic is to do as JSON: of the API, of a model's configuration, of the file that outlives the
 * server. */
#include <inttypes.h>
#include <string.h>

#include "server/json_number.h"
#include "server/json_reader.h"
#include "server/json_text.h"
#include "server/traffic.h"

#define DEFAULT_REQUESTS 100
#define DEFAULT_ERROR_RATE 0.01
#define DEFAULT_LATENCY_RATIO 2
#define DEFAULT_DISAGREEMENT 0.01
#define DEFAULT_SECONDS 60
#define DEFAULT_RTOL 1e-3 /* those of `polestar verify` */
#define DEFAULT_ATOL 1e-5
#define MAX_REQUESTS INT64_C(1000000000000)
#define NS 1000000000.0

typedef struct reader {
    ps_traffic_change *to;
    bool restoring;
    double seconds; /* of steps that do not say */
} reader;

/* ---- values ---- */

static ps_status read_number(ps_json *r, const char *name, double min, double max, double *ret, ps_error *err) {
    (void)ps_json_peek(r);
    const char *end = ps_number_read_f64(r->p, r->end, ret);
    PS_FAIL_IF(!end, err, FORMAT, "JSON byte %zu: %s is not a number", ps_json_offset(r), name);
    PS_FAIL_IF(!(*ret >= min && *ret <= max), err, INVALID, "%s is %g, not between %g and %g", name, *ret, min, max);
    r->p = end;
    return PS_OK;
}

static ps_status read_int(ps_json *r, const char *name, int64_t min, int64_t max, int64_t *ret, ps_error *err) {
    PS_TRY(ps_json_int(r, ret, err));
    PS_FAIL_IF(*ret < min || *ret > max, err, INVALID, "%s is %" PRId64 ", not between %" PRId64 " and %" PRId64, name,
               *ret, min, max);
    return PS_OK;
}

static bool is_null(ps_json *r) {
    return ps_json_peek(r) == 'n';
}

static ps_status unknown(const ps_string *key, const char *where, const char *there_are, ps_error *err) {
    return PS_FAIL(err, INVALID, "%s has no member '%.*s': there are %s", where, (int)(key->size < 64 ? key->size : 64),
                   key->data, there_are);
}

/* A number, its digits as a text, or a label. */
static ps_status read_ref(ps_json *r, const char *what, ps_traffic_ref *ret, ps_error *err) {
    ps_string text;
    ps_number n;
    *ret = (ps_traffic_ref) { .label = "" };
    if (ps_json_peek(r) != '"') return read_int(r, what, 1, INT64_MAX, &ret->version, err);
    PS_TRY(ps_json_string(r, &text, err));
    const char *end = text.data + text.size;
    if (text.size && ps_number_scan(text.data, end, &n) == end && ps_number_i64(&n, &ret->version) && ret->version > 0)
        return PS_OK;
    ret->version = 0;
    PS_FAIL_IF(!ps_label_valid(text.data, text.size), err, INVALID,
               "%s is '%.*s', which is neither a version nor a label: a label is 1 to %d letters, digits, '.', '_' and "
               "'-', the first a letter",
               what, (int)(text.size < 64 ? text.size : 64), text.data, PS_LABEL_MAX);
    memcpy(ret->label, text.data, text.size);
    return PS_OK;
}

/* ---- labels ---- */

static ps_status read_label(ps_json *r, const ps_string *key, void *ctx, ps_error *err) {
    ps_traffic_change *c = ((reader *)ctx)->to;
    PS_FAIL_IF(!ps_label_valid(key->data, key->size), err, INVALID,
               "'%.*s' is no label: a label is 1 to %d letters, digits, '.', '_' and '-', the first a letter",
               (int)(key->size < 64 ? key->size : 64), key->data, PS_LABEL_MAX);
    PS_FAIL_IF(c->n_moves == PS_TRAFFIC_MAX_LABELS, err, INVALID, "there are more than %d labels",
               PS_TRAFFIC_MAX_LABELS);
    ps_traffic_move *move = &c->moves[c->n_moves];
    *move = (ps_traffic_move) { .name = "" };
    memcpy(move->name, key->data, key->size);
    for (size_t i = 0; i < c->n_moves; i++)
        PS_FAIL_IF(strcmp(c->moves[i].name, move->name) == 0, err, FORMAT, "the label '%s' is there twice", move->name);
    c->n_moves++;
    return is_null(r) ? ps_json_skip(r, err) : read_ref(r, "the version of a label", &move->to, err);
}

/* ---- the split ---- */

static ps_status read_target_member(ps_json *r, const ps_string *key, void *ctx, ps_error *err) {
    ps_traffic_target *t = ctx;
    int64_t weight;
    if (ps_json_key_is(key, "version")) return read_ref(r, "the version of a split", &t->to, err);
    if (!ps_json_key_is(key, "weight")) return unknown(key, "an item of the split", "version, weight", err);
    PS_TRY(read_int(r, "a weight", 0, PS_TRAFFIC_MAX_WEIGHT, &weight, err));
    t->weight = (uint32_t)weight;
    return PS_OK;
}

static ps_status read_split(ps_json *r, ps_traffic_change *c, ps_error *err) {
    ps_json_iter it;
    ps_string key;
    bool more;
    uint64_t total = 0;
    c->set_split = true;
    if (is_null(r)) return ps_json_skip(r, err);
    PS_TRY(ps_json_enter(r, '[', &it, err));
    for (;;) {
        PS_TRY(ps_json_next(r, &it, &key, &more, err));
        if (!more) break;
        PS_FAIL_IF(c->n_split == PS_TRAFFIC_MAX_TARGETS, err, INVALID, "the split has more than %d items",
                   PS_TRAFFIC_MAX_TARGETS);
        ps_traffic_target *t = &c->split[c->n_split++];
        *t = (ps_traffic_target) { .weight = 0 };
        PS_TRY(ps_json_object(r, read_target_member, t, err));
        PS_FAIL_IF(!*t->to.label && !t->to.version, err, INVALID, "item %zu of the split names no version",
                   c->n_split - 1);
        total += t->weight;
    }
    PS_FAIL_IF(c->n_split && !total, err, INVALID, "the weights of the split are all 0");
    return PS_OK;
}

/* ---- the rollout ---- */

static ps_status read_limit(ps_json *r, const char *name, double max, double *ret, ps_error *err) {
    if (!is_null(r)) return read_number(r, name, 0, max, ret, err);
    *ret = -1;
    return ps_json_skip(r, err);
}

static ps_status read_limits_member(ps_json *r, const ps_string *key, void *ctx, ps_error *err) {
    ps_traffic_limits *l = ctx;
    int64_t n;
    if (ps_json_key_is(key, "error_rate")) return read_limit(r, "error_rate", 1, &l->error_rate, err);
    if (ps_json_key_is(key, "latency_ratio")) return read_limit(r, "latency_ratio", 1e6, &l->latency_ratio, err);
    if (ps_json_key_is(key, "latency_ms")) return read_limit(r, "latency_ms", 1e9, &l->latency_ms, err);
    if (ps_json_key_is(key, "disagreement")) return read_limit(r, "disagreement", 1, &l->disagreement, err);
    if (!ps_json_key_is(key, "min_requests"))
        return unknown(key, "the analysis", "min_requests, error_rate, latency_ratio, latency_ms, disagreement", err);
    PS_TRY(read_int(r, "min_requests", 0, MAX_REQUESTS, &n, err));
    l->min_requests = (uint64_t)n;
    return PS_OK;
}

static ps_status read_limits(ps_json *r, ps_traffic_limits *l, ps_error *err) {
    if (!is_null(r)) return ps_json_object(r, read_limits_member, l, err);
    *l = (ps_traffic_limits) { 0, -1, -1, -1, -1 };
    return ps_json_skip(r, err);
}

static ps_status read_seconds(ps_json *r, double *ret, ps_error *err) {
    return read_number(r, "the seconds of a step", 0, PS_TRAFFIC_MAX_SECONDS, ret, err);
}

/* To the millisecond, so that what is written reads back the same. */
static int64_t ns_of(double seconds) {
    return (int64_t)(seconds * 1000 + 0.5) * 1000000;
}

static ps_status read_step_member(ps_json *r, const ps_string *key, void *ctx, ps_error *err) {
    ps_traffic_step *step = ctx;
    double seconds;
    if (ps_json_key_is(key, "percent")) return read_number(r, "percent", 0, 100, &step->percent, err);
    if (!ps_json_key_is(key, "seconds")) return unknown(key, "a step", "percent, seconds", err);
    PS_TRY(read_seconds(r, &seconds, err));
    step->ns = ns_of(seconds);
    return PS_OK;
}

/* A step is {"percent":10,"seconds":60}, or the per cent alone. */
static ps_status read_step(ps_json *r, ps_traffic_step *step, ps_error *err) {
    *step = (ps_traffic_step) { -1, -1 };
    if (ps_json_peek(r) == '{')
        PS_TRY(ps_json_object(r, read_step_member, step, err));
    else
        PS_TRY(read_number(r, "percent", 0, 100, &step->percent, err));
    PS_FAIL_IF(step->percent < 0, err, INVALID, "a step of the rollout has no percent");
    return PS_OK;
}

static ps_status read_steps(ps_json *r, ps_rollout *rollout, ps_error *err) {
    ps_json_iter it;
    ps_string key;
    bool more;
    rollout->n_steps = 0;
    PS_TRY(ps_json_enter(r, '[', &it, err));
    for (;;) {
        PS_TRY(ps_json_next(r, &it, &key, &more, err));
        if (!more) break;
        PS_FAIL_IF(rollout->n_steps == PS_TRAFFIC_MAX_STEPS, err, INVALID, "the rollout has more than %d steps",
                   PS_TRAFFIC_MAX_STEPS);
        ps_traffic_step *step = &rollout->steps[rollout->n_steps++];
        PS_TRY(read_step(r, step, err));
        PS_FAIL_IF(rollout->n_steps > 1 && step->percent < step[-1].percent, err, INVALID,
                   "the steps of the rollout go down from %g to %g per cent", step[-1].percent, step->percent);
    }
    PS_FAIL_IF(!rollout->n_steps, err, INVALID, "the rollout has no steps");
    return PS_OK;
}

static ps_status read_phase(ps_json *r, ps_rollout_phase *ret, ps_error *err) {
    const char *word;
    PS_TRY(ps_json_cstring(r, &word, err));
    for (int i = PS_ROLLOUT_PROGRESSING; i <= PS_ROLLOUT_ABORTED; i++)
        if (strcmp(word, ps_rollout_phase_name((ps_rollout_phase)i)) == 0) *ret = (ps_rollout_phase)i;
    PS_FAIL_IF(*ret == PS_ROLLOUT_NONE, err, INVALID, "'%.32s' is no phase of a rollout", word);
    return PS_OK;
}

/* *ret_known: it is one of an earlier server's. */
static ps_status read_state(ps_json *r, const ps_string *key, ps_rollout *rollout, bool *ret_known, ps_error *err) {
    const char *reason;
    int64_t step;
    *ret_known = true;
    if (ps_json_key_is(key, "phase")) return read_phase(r, &rollout->phase, err);
    if (ps_json_key_is(key, "reason")) {
        PS_TRY(ps_json_cstring(r, &reason, err));
        PS_FAIL_IF(strlen(reason) >= sizeof rollout->reason, err, LIMIT,
                   "the reason of a rollout has %zu bytes, at most %zu", strlen(reason), sizeof rollout->reason - 1);
        ps_snprintf(rollout->reason, sizeof rollout->reason, "%s", reason);
        return PS_OK;
    }
    *ret_known = ps_json_key_is(key, "step");
    if (!*ret_known) return PS_OK;
    PS_TRY(read_int(r, "step", 0, PS_TRAFFIC_MAX_STEPS - 1, &step, err));
    rollout->step = (size_t)step;
    return PS_OK;
}

static ps_status read_rollout_member(ps_json *r, const ps_string *key, void *ctx, ps_error *err) {
    reader *rd = ctx;
    ps_rollout *rollout = &rd->to->rollout;
    bool known = false;
    if (ps_json_key_is(key, "version")) return read_ref(r, "the version of the rollout", &rollout->wanted, err);
    if (ps_json_key_is(key, "from"))
        return read_int(r, "the version to roll out from", 1, INT64_MAX, &rollout->from, err);
    if (ps_json_key_is(key, "steps")) return read_steps(r, rollout, err);
    if (ps_json_key_is(key, "step_seconds")) return read_seconds(r, &rd->seconds, err);
    if (ps_json_key_is(key, "analysis")) return read_limits(r, &rollout->limits, err);
    if (rd->restoring) PS_TRY(read_state(r, key, rollout, &known, err));
    return known ? PS_OK : unknown(key, "the rollout", "version, from, steps, step_seconds, analysis", err);
}

static void default_steps(ps_rollout *r) {
    static const double percents[] = { 1, 10, 50, 100 };
    for (r->n_steps = 0; r->n_steps < sizeof percents / sizeof *percents; r->n_steps++)
        r->steps[r->n_steps] = (ps_traffic_step) { percents[r->n_steps], -1 };
}

static ps_status read_action(ps_json *r, ps_traffic_change *c, ps_error *err) {
    static const struct {
        const char *word;
        ps_rollout_action action;
    } actions[] = { { "pause", PS_ROLLOUT_PAUSE },
                    { "resume", PS_ROLLOUT_RESUME },
                    { "promote", PS_ROLLOUT_PROMOTE },
                    { "abort", PS_ROLLOUT_ABORT } };
    const char *word;
    PS_TRY(ps_json_cstring(r, &word, err));
    for (size_t i = 0; i < sizeof actions / sizeof *actions; i++)
        if (strcmp(actions[i].word, word) == 0) c->action = actions[i].action;
    PS_FAIL_IF(c->action == PS_ROLLOUT_KEEP, err, INVALID,
               "rollout is '%.32s', not pause, resume, promote, abort or an object", word);
    return PS_OK;
}

static ps_status read_rollout(ps_json *r, reader *rd, ps_error *err) {
    ps_traffic_change *c = rd->to;
    ps_rollout *rollout = &c->rollout;
    if (ps_json_peek(r) == '"') return read_action(r, c, err);
    c->action = is_null(r) ? PS_ROLLOUT_FORGET : PS_ROLLOUT_START;
    if (is_null(r)) return ps_json_skip(r, err);
    *rollout = (ps_rollout) { .limits = { DEFAULT_REQUESTS, DEFAULT_ERROR_RATE, DEFAULT_LATENCY_RATIO, -1,
                                          DEFAULT_DISAGREEMENT } };
    default_steps(rollout);
    rd->seconds = DEFAULT_SECONDS;
    PS_TRY(ps_json_object(r, read_rollout_member, rd, err));
    PS_FAIL_IF(!*rollout->wanted.label && !rollout->wanted.version, err, INVALID, "the rollout names no version");
    PS_FAIL_IF(rollout->step >= rollout->n_steps, err, INVALID, "the rollout has no step %zu", rollout->step);
    for (size_t i = 0; i < rollout->n_steps; i++)
        if (rollout->steps[i].ns < 0) rollout->steps[i].ns = ns_of(rd->seconds);
    return PS_OK;
}

/* ---- the shadow ---- */

static ps_status read_compare(ps_json *r, bool *ret_by_argmax, ps_error *err) {
    const char *word;
    PS_TRY(ps_json_cstring(r, &word, err));
    *ret_by_argmax = strcmp(word, "argmax") == 0;
    PS_FAIL_IF(!*ret_by_argmax && strcmp(word, "tolerance") != 0, err, INVALID,
               "compare is '%.32s', not tolerance or argmax", word);
    return PS_OK;
}

static ps_status read_shadow_member(ps_json *r, const ps_string *key, void *ctx, ps_error *err) {
    ps_traffic_shadow *s = ctx;
    if (ps_json_key_is(key, "version")) return read_ref(r, "the version of the shadow", &s->to, err);
    if (ps_json_key_is(key, "percent")) return read_number(r, "percent", 0, 100, &s->percent, err);
    if (ps_json_key_is(key, "rtol")) return read_number(r, "rtol", 0, 1e9, &s->rtol, err);
    if (ps_json_key_is(key, "atol")) return read_number(r, "atol", 0, 1e9, &s->atol, err);
    if (ps_json_key_is(key, "compare")) return read_compare(r, &s->by_argmax, err);
    return unknown(key, "the shadow", "version, percent, rtol, atol, compare", err);
}

static ps_status read_shadow(ps_json *r, ps_traffic_change *c, ps_error *err) {
    c->set_shadow = true;
    c->shadow = (ps_traffic_shadow) { .percent = 100, .rtol = DEFAULT_RTOL, .atol = DEFAULT_ATOL };
    if (is_null(r)) return ps_json_skip(r, err);
    c->shadow.on = true;
    PS_TRY(ps_json_object(r, read_shadow_member, &c->shadow, err));
    PS_FAIL_IF(!*c->shadow.to.label && !c->shadow.to.version, err, INVALID, "the shadow names no version");
    return PS_OK;
}

/* ---- the document ---- */

static ps_status read_member(ps_json *r, const ps_string *key, void *ctx, ps_error *err) {
    reader *rd = ctx;
    if (ps_json_key_is(key, "labels")) return ps_json_object(r, read_label, rd, err);
    if (ps_json_key_is(key, "split")) return read_split(r, rd->to, err);
    if (ps_json_key_is(key, "rollout")) return read_rollout(r, rd, err);
    if (ps_json_key_is(key, "shadow")) return read_shadow(r, rd->to, err);
    if (rd->restoring && ps_json_key_is(key, "source")) return ps_json_uint(r, &rd->to->source, err);
    if (rd->restoring) return ps_json_skip(r, err);
    return unknown(key, "the traffic of a model", "labels, split, rollout, shadow", err);
}

ps_status ps_traffic_read(const char *text, size_t size, bool restoring, ps_alloc_state *alloc, ps_traffic_change *ret,
                          ps_error *err) {
    ps_json r;
    ps_arena arena;
    reader rd = { .to = ret, .restoring = restoring };
    *ret = (ps_traffic_change) { .n_moves = 0 };
    ps_arena_init(&arena, alloc);
    ps_json_init(&r, text, size, &arena);
    ps_status status = ps_json_object(&r, read_member, &rd, err);
    if (status == PS_OK) status = ps_json_finish(&r, err);
    ps_arena_release(&arena);
    return status;
}

/* ---- writing ---- */

static void write_ref(const ps_traffic_ref *ref, ps_str *out) {
    if (*ref->label)
        ps_str_printf(out, "\"version\":\"%s\"", ref->label);
    else
        ps_str_printf(out, "\"version\":%" PRId64, ref->version);
}

static void write_number(ps_str *out, const char *before, double value) {
    char text[PS_NUMBER_TEXT];
    ps_str_append(out, before);
    ps_str_append_n(out, text, ps_number_write_f64(text, value));
}

static void write_limit(ps_str *out, const char *before, double value) {
    if (value >= 0)
        write_number(out, before, value);
    else
        ps_str_printf(out, "%snull", before);
}

static void write_share(ps_str *out, const char *name, ps_share s) {
    ps_str_printf(out, ",\"%s\":{\"requests\":%" PRIu64 ",\"count\":%" PRIu64 "}", name, s.n, s.k);
}

static void write_seen(const ps_traffic *t, int64_t now, ps_str *out) {
    const ps_rollout *r = &t->rollout;
    double seconds = r->phase == PS_ROLLOUT_PAUSED        ? (double)r->since_ns / NS
                     : r->phase == PS_ROLLOUT_PROGRESSING ? (double)(now - r->since_ns) / NS
                                                          : 0;
    write_number(out, ",\"percent\":", ps_traffic_percent(t));
    write_number(out, ",\"step_elapsed_seconds\":", seconds);
    ps_str_printf(out, ",\"step_requests\":%" PRIu64 ",\"seen\":{\"p95_ms\":", r->answered);
    write_number(out, "", (double)ps_latencies_p95(&r->latencies_from) / 1e6);
    write_share(out, "errors", r->errors);
    write_share(out, "errors_from", r->errors_from);
    write_share(out, "slower", r->slower);
    write_share(out, "too_slow", r->too_slow);
    write_share(out, "disagreed", r->disagreed);
    ps_str_char(out, '}');
}

static void write_rollout(const ps_traffic *t, bool counters, int64_t now, ps_str *out) {
    const ps_rollout *r = &t->rollout;
    ps_str_printf(out, ",\"rollout\":{\"version\":%" PRId64 ",\"from\":%" PRId64 ",\"phase\":\"%s\",\"step\":%zu",
                  r->to, r->from, ps_rollout_phase_name(r->phase), r->step);
    if (*r->reason) {
        ps_str_append(out, ",\"reason\":");
        ps_json_write_string(out, r->reason);
    }
    for (size_t i = 0; i < r->n_steps; i++) {
        write_number(out, i ? ",{\"percent\":" : ",\"steps\":[{\"percent\":", r->steps[i].percent);
        write_number(out, ",\"seconds\":", (double)r->steps[i].ns / NS);
        ps_str_char(out, '}');
    }
    ps_str_printf(out, "],\"analysis\":{\"min_requests\":%" PRIu64, r->limits.min_requests);
    write_limit(out, ",\"error_rate\":", r->limits.error_rate);
    write_limit(out, ",\"latency_ratio\":", r->limits.latency_ratio);
    write_limit(out, ",\"latency_ms\":", r->limits.latency_ms);
    write_limit(out, ",\"disagreement\":", r->limits.disagreement);
    ps_str_char(out, '}');
    if (counters) write_seen(t, now, out);
    ps_str_char(out, '}');
}

static void write_shadow(const ps_traffic *t, bool counters, ps_str *out) {
    const ps_shadow_count *c = &t->shadow_count;
    ps_str_append(out, ",\"shadow\":{");
    write_ref(&t->shadow.to, out);
    write_number(out, ",\"percent\":", t->shadow.percent);
    write_number(out, ",\"rtol\":", t->shadow.rtol);
    write_number(out, ",\"atol\":", t->shadow.atol);
    ps_str_printf(out, ",\"compare\":\"%s\"", t->shadow.by_argmax ? "argmax" : "tolerance");
    if (counters) {
        ps_str_printf(out,
                      ",\"copied\":%" PRIu64 ",\"dropped\":%" PRIu64 ",\"failed\":%" PRIu64 ",\"compared\":%" PRIu64
                      ",\"agreed\":%" PRIu64 ",\"argmax_compared\":%" PRIu64 ",\"argmax_agreed\":%" PRIu64,
                      c->copied, c->dropped, c->failed, c->compared, c->agreed, c->argmax_compared, c->argmax_agreed);
        write_number(out, ",\"largest_difference\":", c->largest);
    }
    ps_str_char(out, '}');
}

static void write_counts(const ps_traffic *t, ps_str *out) {
    ps_str_append(out, ",\"versions\":[");
    for (size_t i = 0; i < PS_TRAFFIC_VERSIONS && t->counts[i].version; i++) {
        const ps_traffic_count *c = &t->counts[i];
        ps_str_printf(out,
                      "%s{\"version\":%" PRId64 ",\"requests\":%" PRIu64 ",\"errors\":%" PRIu64
                      ",\"fallbacks\":%" PRIu64 "}",
                      i ? "," : "", c->version, c->requests, c->errors, c->fallbacks);
    }
    ps_str_char(out, ']');
}

void ps_traffic_write(const ps_traffic *t, bool counters, int64_t now, ps_str *out) {
    ps_str_append(out, "\"labels\":{");
    for (size_t i = 0; i < t->n_labels; i++)
        ps_str_printf(out, "%s\"%s\":%" PRId64, i ? "," : "", t->labels[i].name, t->labels[i].version);
    ps_str_char(out, '}');
    for (size_t i = 0; i < t->n_split; i++) {
        ps_str_append(out, i ? ",{" : ",\"split\":[{");
        write_ref(&t->split[i].to, out);
        ps_str_printf(out, ",\"weight\":%u}%s", t->split[i].weight, i + 1 == t->n_split ? "]" : "");
    }
    if (t->rollout.phase != PS_ROLLOUT_NONE) write_rollout(t, counters, now, out);
    if (t->shadow.on) write_shadow(t, counters, out);
    if (counters)
        write_counts(t, out);
    else
        ps_str_printf(out, ",\"source\":%" PRIu64, t->source);
}
