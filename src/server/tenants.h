/* tenants.h - who the requests come from, as the operator names them: shares of the device by weight. */
#ifndef PS_SERVER_TENANTS_H
#define PS_SERVER_TENANTS_H

#include "sched/sched.h"

#define PS_TENANTS_MAX 64
#define PS_TENANT_NAME_MAX 64

typedef struct ps_tenants ps_tenants;

/* 1 to 1000 in decimal digits, up to `end` (NULL: the text's end). */
bool ps_weight_read(const char *text, const char *end, int *ret);

/* text: "NAME=WEIGHT,..."; NULL or "": there are none. PS_INVALID says what is wrong with it. The scheduler outlives
 * them. */
ps_status ps_tenants_create(ps_alloc_state *alloc, ps_sched *sched, const char *text, ps_tenants **ret, ps_error *err);
/* No request of one is in the scheduler. NULL is allowed. */
void ps_tenants_free(ps_tenants *tenants);
bool ps_tenants_any(const ps_tenants *tenants); /* does the operator name any? Any thread. */
/* Of that name (NULL: none is given); NULL: those without a name that is known share what one of weight 1 gets. Any
 * thread. */
ps_sched_tenant *ps_tenants_find(const ps_tenants *tenants, const char *name);

#endif
