/* schedule.h - between requests and the scheduler: what the runner tells it of a request and of a model, and what its
 * refusals mean to a client. */
#ifndef PS_SERVER_SCHEDULE_H
#define PS_SERVER_SCHEDULE_H

#include "server/runner.h"
#include "server/tenants.h"

/* Fills the caller's part of infer->request. target_ns: a deadline for requests that bring none; 0: none. */
void ps_schedule_fill(ps_infer *infer, int64_t target_ns, const ps_tenants *tenants);
/* Reads what an earlier server learnt of the model's times from its cache into s->profiles; at load, without a lock. */
void ps_schedule_recall(ps_served *s);
/* Makes s->schedule if it is not there, with what was recalled. Under the runner's lock, from then on given back by
 * ps_runner_forget. target_ns: of ps_runner_options. */
ps_status ps_schedule_model(ps_sched *sched, int64_t target_ns, ps_runner *runner, ps_served *s, ps_error *err);
void ps_runner_forget(ps_runner *runner, ps_served *s);
/* Keeps what was learnt, in the cache. Takes the lock, but not while it writes. */
void ps_schedule_keep(ps_served *s, ps_mutex *lock);

ps_status ps_schedule_refused(ps_infer *infer, const ps_sched_verdict *verdict, ps_error *err);
ps_status ps_schedule_dropped(ps_infer *infer, ps_error *err);
ps_status ps_schedule_given_up(const ps_infer *infer, ps_error *err);
void ps_schedule_write_stats(const ps_sched_stats *stats, ps_str *out);

#endif
