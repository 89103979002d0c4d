#include "server/traffic.h"

#include <math.h>
#include <string.h>

/* ---- labels ---- */

bool ps_label_valid(const char *name, size_t size) {
    if (size < 1 || size > PS_LABEL_MAX) return false;
    for (size_t i = 0; i < size; i++) {
        char c = name[i];
        bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
        if (!letter && (i == 0 || !((c >= '0' && c <= '9') || c == '.' || c == '_' || c == '-'))) return false;
    }
    return true;
}

static ps_traffic_label *find_label(ps_traffic *t, const char *name) {
    for (size_t i = 0; i < t->n_labels; i++)
        if (strcmp(t->labels[i].name, name) == 0) return &t->labels[i];
    return NULL;
}

int64_t ps_traffic_label_version(const ps_traffic *t, const char *label) {
    const ps_traffic_label *l = find_label((ps_traffic *)t, label);
    return l ? l->version : 0;
}

static void refresh(const ps_traffic *t, ps_traffic_ref *ref) {
    if (*ref->label) ref->version = ps_traffic_label_version(t, ref->label);
}

/* After labels have moved. */
static void refresh_all(ps_traffic *t) {
    for (size_t i = 0; i < t->n_split; i++)
        refresh(t, &t->split[i].to);
    refresh(t, &t->shadow.to);
}

static void set_label(ps_traffic *t, const char *name, int64_t version) {
    ps_traffic_label *l = find_label(t, name);
    if (!l && t->n_labels < PS_TRAFFIC_MAX_LABELS) {
        l = &t->labels[t->n_labels++];
        ps_snprintf(l->name, sizeof l->name, "%s", name);
    }
    if (l) l->version = version;
    refresh_all(t);
}

/* ---- changes ---- */

static ps_status check_version(const ps_traffic_model *m, int64_t version, bool must_be_ready, const char *what,
                               ps_error *err) {
    PS_FAIL_IF(!m->there(m->ctx, version), err, NOT_FOUND, "model '%s' has no version %lld for %s", m->name,
               (long long)version, what);
    PS_FAIL_IF(must_be_ready && !m->ready(m->ctx, version), err, UNAVAILABLE,
               "model '%s': version %lld is not ready, which %s needs", m->name, (long long)version, what);
    return PS_OK;
}

static ps_status resolve(const ps_traffic *t, ps_traffic_ref *ref, const ps_traffic_model *m, bool must_be_ready,
                         const char *what, ps_error *err) {
    refresh(t, ref);
    PS_FAIL_IF(!ref->version, err, NOT_FOUND, "model '%s' has no label '%s' for %s", m->name, ref->label, what);
    return check_version(m, ref->version, must_be_ready, what, err);
}

static bool is_active(const ps_rollout *r) {
    return r->phase == PS_ROLLOUT_PROGRESSING || r->phase == PS_ROLLOUT_PAUSED;
}

/* A label that is already where it is to go may stay there, ready or not. */
static ps_status apply_move(ps_traffic *t, const ps_traffic_move *move, const ps_traffic_model *m, ps_error *err) {
    ps_traffic_label *old = find_label(t, move->name);
    ps_traffic_ref to = move->to;
    char what[PS_LABEL_MAX + 16];
    if (!*to.label && !to.version) {
        if (old) *old = t->labels[--t->n_labels];
        return PS_OK;
    }
    ps_snprintf(what, sizeof what, "the label '%s'", move->name);
    refresh(t, &to);
    if (old && old->version == to.version) return PS_OK;
    PS_FAIL_IF(is_active(&t->rollout) && strcmp(move->name, PS_LABEL_STABLE) == 0, err, INVALID,
               "model '%s': a rollout is in progress, which the label 'stable' belongs to", m->name);
    PS_FAIL_IF(!old && t->n_labels == PS_TRAFFIC_MAX_LABELS, err, INVALID,
               "model '%s' has %d labels, which is the most", m->name, PS_TRAFFIC_MAX_LABELS);
    PS_TRY(resolve(t, &to, m, old || !m->waits, what, err));
    set_label(t, move->name, to.version);
    return PS_OK;
}

static ps_status apply_split(ps_traffic *t, const ps_traffic_change *c, const ps_traffic_model *m, ps_error *err) {
    PS_FAIL_IF(c->n_split && is_active(&t->rollout), err, INVALID,
               "model '%s': a rollout is in progress, which divides the traffic: abort or promote it first", m->name);
    t->n_split = c->n_split;
    for (size_t i = 0; i < c->n_split; i++) {
        t->split[i] = c->split[i];
        PS_TRY(resolve(t, &t->split[i].to, m, false, "the split", err));
    }
    return PS_OK;
}

static ps_status start_rollout(ps_traffic *t, const ps_rollout *wanted, const ps_traffic_model *m, int64_t now,
                               ps_error *err) {
    ps_rollout *r = &t->rollout;
    PS_FAIL_IF(is_active(r), err, INVALID,
               "model '%s': a rollout of version %lld is in progress: abort or promote it first", m->name,
               (long long)r->to);
    ps_rollout fresh = *wanted;
    PS_TRY(resolve(t, &fresh.wanted, m, !m->waits, "the rollout", err));
    fresh.to = fresh.wanted.version;
    if (!fresh.from) fresh.from = ps_traffic_stable(t);
    if (!fresh.from) fresh.from = m->latest;
    PS_FAIL_IF(!fresh.from, err, UNAVAILABLE, "model '%s' has no version that serves to roll out from", m->name);
    PS_FAIL_IF(fresh.from == fresh.to, err, INVALID,
               "model '%s': version %lld is the stable one already: set the label 'stable' before a new version is "
               "loaded, or name another to roll out",
               m->name, (long long)fresh.to);
    PS_FAIL_IF(!m->there(m->ctx, fresh.from), err, NOT_FOUND, "model '%s' has no version %lld to roll out from",
               m->name, (long long)fresh.from);
    *r = fresh;
    if (r->phase == PS_ROLLOUT_NONE) r->phase = PS_ROLLOUT_PROGRESSING;
    r->since_ns = r->phase == PS_ROLLOUT_PAUSED ? 0 : now;
    if (!is_active(r)) return PS_OK; /* of an earlier server */
    t->n_split = 0;
    set_label(t, PS_LABEL_STABLE, r->from);
    return PS_OK;
}

static void succeed(ps_traffic *t) {
    t->rollout.phase = PS_ROLLOUT_SUCCEEDED;
    t->rollout.step = t->rollout.n_steps - 1;
    set_label(t, PS_LABEL_STABLE, t->rollout.to);
}

static ps_status act(ps_traffic *t, ps_rollout_action action, const ps_traffic_model *m, int64_t now, ps_error *err) {
    ps_rollout *r = &t->rollout;
    if (action == PS_ROLLOUT_FORGET) {
        *r = (ps_rollout) { 0 };
        return PS_OK;
    }
    PS_FAIL_IF(!is_active(r), err, INVALID, "model '%s' has no rollout in progress", m->name);
    switch (action) {
    case PS_ROLLOUT_PAUSE:
        if (r->phase == PS_ROLLOUT_PROGRESSING) r->since_ns = now - r->since_ns;
        r->phase = PS_ROLLOUT_PAUSED;
        return PS_OK;
    case PS_ROLLOUT_RESUME:
        if (r->phase == PS_ROLLOUT_PAUSED) r->since_ns = now - r->since_ns;
        r->phase = PS_ROLLOUT_PROGRESSING;
        return PS_OK;
    case PS_ROLLOUT_PROMOTE:
        PS_TRY(check_version(m, r->to, true, "the label 'stable'", err));
        succeed(t);
        return PS_OK;
    default:
        r->phase = PS_ROLLOUT_ABORTED;
        ps_snprintf(r->reason, sizeof r->reason, "by hand");
        return PS_OK;
    }
}

static ps_status apply(ps_traffic *t, const ps_traffic_change *c, const ps_traffic_model *m, int64_t now,
                       ps_error *err) {
    for (size_t i = 0; i < c->n_moves; i++)
        PS_TRY(apply_move(t, &c->moves[i], m, err));
    refresh_all(t);
    if (c->set_split) PS_TRY(apply_split(t, c, m, err));
    if (c->set_shadow) {
        t->shadow = c->shadow;
        t->shadow_count = (ps_shadow_count) { 0 };
        if (c->shadow.on) PS_TRY(resolve(t, &t->shadow.to, m, false, "the shadow", err));
    }
    if (c->action == PS_ROLLOUT_START) PS_TRY(start_rollout(t, &c->rollout, m, now, err));
    if (c->action > PS_ROLLOUT_START) PS_TRY(act(t, c->action, m, now, err));
    for (size_t i = 0; i < t->n_split; i++)
        PS_FAIL_IF(!t->split[i].to.version, err, INVALID, "model '%s': the split names the label '%s'", m->name,
                   t->split[i].to.label);
    PS_FAIL_IF(t->shadow.on && !t->shadow.to.version, err, INVALID, "model '%s': the shadow is the label '%s'", m->name,
               t->shadow.to.label);
    return PS_OK;
}

ps_status ps_traffic_apply(ps_traffic *t, const ps_traffic_change *change, const ps_traffic_model *model, int64_t now,
                           ps_error *err) {
    ps_traffic next = *t;
    PS_TRY(apply(&next, change, model, now, err));
    *t = next;
    return PS_OK;
}

bool ps_traffic_decides(const ps_traffic *t) {
    return t->n_labels || t->n_split || t->shadow.on || is_active(&t->rollout);
}

bool ps_traffic_names(const ps_traffic *t, int64_t version) {
    for (size_t i = 0; i < t->n_labels; i++)
        if (t->labels[i].version == version) return true;
    for (size_t i = 0; i < t->n_split; i++)
        if (t->split[i].to.version == version) return true;
    if (t->shadow.on && t->shadow.to.version == version) return true;
    return is_active(&t->rollout) && (t->rollout.from == version || t->rollout.to == version);
}

/* ---- choosing ---- */

double ps_traffic_percent(const ps_traffic *t) {
    const ps_rollout *r = &t->rollout;
    return is_active(r) ? r->steps[r->step].percent : r->phase == PS_ROLLOUT_SUCCEEDED ? 100 : 0;
}

int64_t ps_traffic_stable(const ps_traffic *t) {
    return is_active(&t->rollout) ? t->rollout.from : ps_traffic_label_version(t, PS_LABEL_STABLE);
}

/* [0, 1). Multiples of the golden ratio fill the circle evenly: of n consecutive ones each arc gets its share but for a
 * few (the three-distance theorem). */
static double next_point(uint64_t *turn) {
    return (double)(++*turn * UINT64_C(0x9e3779b97f4a7c15) >> 11) * 0x1p-53;
}

static int64_t by_weight(const ps_traffic *t, double point) {
    double total = 0, at = 0;
    int64_t last = 0;
    for (size_t i = 0; i < t->n_split; i++)
        total += t->split[i].weight;
    for (size_t i = 0; i < t->n_split; i++) {
        if (!t->split[i].weight) continue;
        last = t->split[i].to.version;
        at += t->split[i].weight;
        if (point * total < at) break;
    }
    return last;
}

int64_t ps_traffic_choose(ps_traffic *t, bool hashed, uint64_t hash) {
    bool rolls = is_active(&t->rollout);
    if (!rolls && !t->n_split) return ps_traffic_stable(t);
    double point = hashed ? (double)(hash >> 11) * 0x1p-53 : next_point(&t->turn);
    if (rolls) return point * 100 < ps_traffic_percent(t) ? t->rollout.to : t->rollout.from;
    return by_weight(t, point);
}

int64_t ps_traffic_main(const ps_traffic *t) {
    const ps_traffic_target *best = NULL;
    if (is_active(&t->rollout)) return ps_traffic_percent(t) > 50 ? t->rollout.to : t->rollout.from;
    for (size_t i = 0; i < t->n_split; i++)
        if (!best || t->split[i].weight > best->weight) best = &t->split[i];
    return best ? best->to.version : ps_traffic_stable(t);
}

int64_t ps_traffic_shadow_choose(ps_traffic *t, int64_t answering) {
    const ps_traffic_shadow *s = &t->shadow;
    if (!s->on || s->to.version == answering) return 0;
    return next_point(&t->shadow_turn) * 100 < s->percent ? s->to.version : 0;
}

/* ---- counting ---- */

static ps_traffic_count *count_of(ps_traffic *t, int64_t version, int64_t now) {
    ps_traffic_count *oldest = &t->counts[0];
    for (size_t i = 0; i < PS_TRAFFIC_VERSIONS; i++) { /* in use from the first on */
        ps_traffic_count *c = &t->counts[i];
        if (c->version == version) return c;
        if (!c->version || c->seen_ns < oldest->seen_ns) oldest = c;
        if (!c->version) break;
    }
    *oldest = (ps_traffic_count) { .version = version, .seen_ns = now };
    return oldest;
}

void ps_traffic_routed(ps_traffic *t, int64_t chosen, int64_t version, int64_t now) {
    ps_traffic_count *c = count_of(t, version, now);
    c->requests++;
    c->seen_ns = now;
    if (chosen && chosen != version) count_of(t, chosen, now)->fallbacks++;
}

static void add(ps_share *s, bool counts) {
    s->n++;
    s->k += counts;
}

void ps_traffic_answered(ps_traffic *t, int64_t version, bool failed, int64_t latency_ns, int64_t now) {
    ps_rollout *r = &t->rollout;
    count_of(t, version, now)->errors += failed;
    if (!is_active(r)) return;
    if (version == r->from) {
        add(&r->errors_from, failed);
        if (!failed && latency_ns >= 0) ps_latencies_add(&r->latencies_from, latency_ns);
    }
    if (version != r->to) return;
    r->answered++;
    add(&r->errors, failed);
    if (failed || latency_ns < 0) return;
    int64_t p95 = ps_latencies_p95(&r->latencies_from);
    if (p95 && r->limits.latency_ratio >= 0)
        add(&r->slower, (double)latency_ns > r->limits.latency_ratio * (double)p95);
    if (r->limits.latency_ms >= 0) add(&r->too_slow, (double)latency_ns > r->limits.latency_ms * 1e6);
}

void ps_traffic_copied(ps_traffic *t, bool copied) {
    t->shadow_count.copied += copied;
    t->shadow_count.dropped += !copied;
}

void ps_traffic_compared(ps_traffic *t, int64_t version, const ps_shadow_result *result) {
    ps_shadow_count *c = &t->shadow_count;
    bool by_argmax = t->shadow.by_argmax && result->has_argmax;
    bool agreed = !result->failed && (by_argmax ? result->argmax_same : result->close);
    c->failed += result->failed;
    c->compared++;
    c->agreed += agreed;
    c->argmax_compared += !result->failed && result->has_argmax;
    c->argmax_agreed += !result->failed && result->has_argmax && result->argmax_same;
    if (result->largest > c->largest) c->largest = result->largest;
    if (!is_active(&t->rollout) || version != t->rollout.to) return;
    add(&t->rollout.disagreed, !agreed);
    if (ps_traffic_percent(t) <= 0) t->rollout.answered++; /* a step in the shadow only */
}

bool ps_traffic_advance(ps_traffic *t, int64_t now) {
    ps_rollout *r = &t->rollout;
    if (!is_active(r)) return false;
    if (ps_rollout_broken(r, r->reason, sizeof r->reason)) {
        r->phase = PS_ROLLOUT_ABORTED;
        return true;
    }
    if (r->phase == PS_ROLLOUT_PAUSED || now - r->since_ns < r->steps[r->step].ns ||
        r->answered < r->limits.min_requests)
        return false;
    if (r->step + 1 == r->n_steps) {
        succeed(t);
        return true;
    }
    r->step++;
    r->since_ns = now;
    r->answered = 0;
    ps_latencies_age(&r->latencies_from);
    return true;
}

const char *ps_rollout_phase_name(ps_rollout_phase phase) {
    static const char *const names[] = { "none", "progressing", "paused", "succeeded", "aborted" };
    return names[phase];
}
