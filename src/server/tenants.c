#include "server/tenants.h"

#include <string.h>

typedef struct tenant {
    char name[PS_TENANT_NAME_MAX + 1];
    ps_sched_tenant *share;
} tenant;

struct ps_tenants {
    ps_alloc_state *alloc;
    ps_sched *sched;
    tenant all[PS_TENANTS_MAX];
    size_t n;
};

bool ps_weight_read(const char *text, const char *end, int *ret) {
    int weight = 0;
    if (!end) end = text + strlen(text);
    if (end == text || end - text > 4) return false;
    for (; text < end; text++) {
        if (*text < '0' || *text > '9') return false;
        weight = 10 * weight + (*text - '0');
    }
    *ret = weight;
    return weight >= 1 && weight <= 1000;
}

/* One NAME=WEIGHT of `size` bytes. */
static ps_status add(ps_tenants *t, const char *text, size_t size, ps_error *err) {
    const char *equals = memchr(text, '=', size);
    const size_t n = equals ? (size_t)(equals - text) : 0;
    int weight;
    PS_FAIL_IF(n == 0 || n > PS_TENANT_NAME_MAX || !ps_weight_read(equals + 1, text + size, &weight), err, INVALID,
               "'%.*s' is no tenant: NAME=WEIGHT is, with a name of up to %d bytes and a weight from 1 to 1000",
               (int)(size < 80 ? size : 80), text, PS_TENANT_NAME_MAX);
    PS_FAIL_IF(t->n == PS_TENANTS_MAX, err, INVALID, "there are more than %d tenants", PS_TENANTS_MAX);
    tenant *one = &t->all[t->n];
    memcpy(one->name, text, n);
    PS_FAIL_IF(ps_tenants_find(t, one->name), err, INVALID, "the tenant '%s' is named twice", one->name);
    PS_TRY(ps_sched_add_tenant(t->sched, weight, &one->share, err));
    t->n++;
    return PS_OK;
}

ps_status ps_tenants_create(ps_alloc_state *alloc, ps_sched *sched, const char *text, ps_tenants **ret, ps_error *err) {
    ps_tenants *t = ps_alloc_zero(alloc, sizeof *t);
    if (!t) return PS_FAIL_NOMEM(err, "the tenants");
    t->alloc = alloc;
    t->sched = sched;
    while (text && *text) {
        const size_t size = strcspn(text, ",");
        const ps_status status = add(t, text, size, err);
        if (status != PS_OK) {
            ps_tenants_free(t);
            return status;
        }
        text += size + (text[size] == ',');
    }
    *ret = t;
    return PS_OK;
}

void ps_tenants_free(ps_tenants *t) {
    for (size_t i = 0; t && i < t->n; i++)
        ps_sched_remove_tenant(t->sched, t->all[i].share);
    if (t) ps_free(t->alloc, t);
}

bool ps_tenants_any(const ps_tenants *t) {
    return t->n > 0;
}

ps_sched_tenant *ps_tenants_find(const ps_tenants *t, const char *name) {
    for (size_t i = 0; name && i < t->n; i++)
        if (strcmp(t->all[i].name, name) == 0) return t->all[i].share;
    return NULL;
}
