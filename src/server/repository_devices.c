/* repository_devices.c - devices that are lost under the server: their models are loaded there again by themselves.
 *
 * A run meets the loss and says so; the loader's thread opens the device anew and loads what was on it, at once, and
 * after each failure again after a pause that grows. A model keeps serving from its other devices meanwhile. */
#include <string.h>

#include "base/error.h"
#include "server/repository_int.h"

#define LONGEST_PAUSE_S 60
/* After so long without a try a device has all of them again: it was well, or was given up. */
#define WELL_NS (60 * INT64_C(1000000000))

/* None before the first try, then 1 s, 2 s, 4 s … */
static int64_t pause_ns(int tries) {
    if (!tries) return 0;
    const int64_t s = tries > 6 ? LONGEST_PAUSE_S : INT64_C(1) << (tries - 1);
    return (s < LONGEST_PAUSE_S ? s : LONGEST_PAUSE_S) * INT64_C(1000000000);
}

/* ---- the lock is held ---- */

static void plan(const ps_repository *repo, ps_model_version *v, int64_t now) {
    if (!v->served || v->reopen_ns || !ps_served_lost(v->served, &v->all_lost)) return;
    if (now - v->tried_ns > WELL_NS) v->reopen_tries = 0;
    if (v->reopen_tries < repo->options.device_tries) v->reopen_ns = now + pause_ns(v->reopen_tries);
}

static void plan_all(ps_repository *repo, int64_t now) {
    for (size_t i = 0; i < repo->sorted.size; i++)
        for (size_t k = 0; k < repo->sorted.data[i]->versions.size; k++)
            plan(repo, repo->sorted.data[i]->versions.data[k], now);
}

/* The earliest try that is planned; 0: none is. */
static int64_t next_try(const ps_repository *repo) {
    int64_t first = 0;
    for (size_t i = 0; i < repo->sorted.size; i++)
        for (size_t k = 0; k < repo->sorted.data[i]->versions.size; k++) {
            const ps_model_version *v = repo->sorted.data[i]->versions.data[k];
            if (v->served && v->reopen_ns && (!first || v->reopen_ns < first)) first = v->reopen_ns;
        }
    return first;
}

bool ps_version_reopen_due(const ps_model_version *v, int64_t now) {
    return v->served && v->reopen_ns && v->reopen_ns <= now;
}

void ps_version_forget_loss(ps_model_version *v) {
    v->reopen_ns = 0;
    v->reopen_tries = 0;
    v->all_lost = false;
}

/* ---- told by runs ---- */

void ps_repository_lost(void *ctx) {
    ps_repository *repo = ctx;
    ps_mutex_lock(&repo->lock);
    plan_all(repo, ps_clock_ns());
    if (next_try(repo)) (void)ps_repository_wake_loader(repo);
    ps_mutex_unlock(&repo->lock);
}

/* ---- trying; load_lock is held ---- */

static void say(const ps_repository *repo, const ps_served *s, ps_log_level level, const char *event, int tries,
                double ms, const char *rest, const ps_error *reason) {
    char name[2 * PS_MODEL_NAME_MAX], why[sizeof reason->msg + 16];
    ps_log_line(&repo->log, level, "event=%s model=%s version=%s device=%s try=%d ms=%.1f%s%s%s", event,
                ps_log_quote(s->name, name, sizeof name), s->version, s->device, tries, ms, rest,
                reason->msg[0] ? " reason=" : "", reason->msg[0] ? ps_log_quote(reason->msg, why, sizeof why) : "");
}

/* What is left of the model serves on; nothing is left: it is a model that could not be loaded. */
static ps_served *give_up(ps_model_version *v, const ps_error *reason) {
    ps_served *gone = NULL;
    v->reason = *reason;
    if (v->all_lost) {
        gone = v->served;
        v->served = NULL;
        v->state = PS_MODEL_FAILED;
        ps_version_forget_loss(v);
    }
    return gone;
}

/* What became of a try. Returns the served model if it goes. */
static ps_served *settle(ps_repository *repo, ps_model_version *v, ps_served *s, ps_status status,
                         const ps_error *reason) {
    ps_served *gone = NULL;
    const int64_t now = ps_clock_ns();
    ps_mutex_lock(&repo->lock);
    if (v->served == s) { /* else it was unloaded or replaced meanwhile */
        const bool last = v->reopen_tries >= repo->options.device_tries;
        v->tried_ns = now;
        (void)ps_served_lost(s, &v->all_lost);
        if (status == PS_OK)
            v->reason = (ps_error)PS_ERROR_INIT;
        else if (!last)
            v->reason = *reason;
        else
            gone = give_up(v, reason);
        plan(repo, v, now); /* after a failure, and where it was lost again */
    }
    ps_mutex_unlock(&repo->lock);
    return gone;
}

void ps_repository_reopen(ps_repository *repo, ps_entry *e, ps_model_version *v) {
    ps_error reason = PS_ERROR_INIT;
    char next[48] = "";
    const int64_t start = ps_clock_ns();
    ps_mutex_lock(&repo->lock);
    ps_served *s = v->served && ps_served_lost(v->served, &v->all_lost) ? ps_served_retain(v->served) : NULL;
    v->reopen_ns = 0;
    v->tried_ns = start;
    if (s) v->reopen_tries++;
    const int tries = v->reopen_tries, most = repo->options.device_tries;
    ps_mutex_unlock(&repo->lock);
    if (!s) return; /* told while a try was under way */
    if (tries == 1) say(repo, s, PS_LOG_WARN, "device_lost", tries, 0, "", &reason);
    const ps_status status = ps_served_reopen(s, &reason);
    ps_served *gone = settle(repo, v, s, status, &reason);
    const double ms = (double)(ps_clock_ns() - start) / 1e6;
    if (status != PS_OK && tries < most)
        ps_snprintf(next, sizeof next, " next_s=%d", (int)(pause_ns(tries) / 1000000000));
    say(repo, s, status == PS_OK ? PS_LOG_INFO : PS_LOG_ERROR,
        status == PS_OK ? "reopen"
        : tries < most  ? "reopen_failed"
                        : "reopen_given_up",
        tries, ms, next, &reason);
    ps_served_release(s);
    if (gone) ps_served_retire(gone);
    ps_served_release(gone);
    ps_waits_end(repo->waits, e);
}

/* ---- the time of the next try ---- */

static void wake(ps_wait *w) {
    ps_repository *repo = (ps_repository *)((char *)w - offsetof(ps_repository, reopen_timer));
    ps_mutex_lock(&repo->lock);
    repo->timer_runs = false;
    (void)ps_repository_wake_loader(repo);
    ps_mutex_unlock(&repo->lock);
}

void ps_repository_set_reopen_timer(ps_repository *repo) {
    ps_mutex_lock(&repo->lock);
    const int64_t at = next_try(repo);
    const bool runs = repo->timer_runs;
    ps_mutex_unlock(&repo->lock);
    if (runs && !ps_waits_remove(repo->waits, &repo->reopen_timer))
        return; /* it ends just now: the loader again */
    ps_mutex_lock(&repo->lock);
    repo->timer_runs = at != 0;
    ps_mutex_unlock(&repo->lock);
    if (!at) return;
    repo->reopen_timer.over = wake;
    repo->reopen_timer.until_ns = at;
    ps_waits_add(repo->waits, &repo->reopen_timer, &repo->reopen_timer);
}
