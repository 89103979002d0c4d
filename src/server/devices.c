#include "server/devices.h"

#include <string.h>

#define FULL_PART 4 / 5 /* of a device's memory */
#define RUNS_A_CARD 2

_Static_assert(PS_USED_DEVICES_MAX * sizeof((ps_used_device *)0)->name < PS_USED_DEVICES_LIST, "all names, commas too");

/* ---- making the list ---- */

static ps_status add(ps_used_devices *d, const char *name, ps_error *err) {
    ps_device_info info = { .size = sizeof info };
    size_t held, has;
    PS_FAIL_IF(!*name, err, INVALID, "a name in the list of devices is empty");
    PS_FAIL_IF(d->n == PS_USED_DEVICES_MAX, err, LIMIT, "the list of devices has more than %d names",
               PS_USED_DEVICES_MAX);
    PS_TRY(ps_engine_find_device(d->engine, name, &info, err));
    PS_FAIL_IF(ps_used_devices_find(d, info.name), err, INVALID, "device '%.64s' stands twice in the list of devices",
               info.name);
    PS_TRY(ps_engine_device_memory(d->engine, info.name, &held, &has, err));
    ps_used_device *to = &d->all[d->n++];
    ps_snprintf(to->name, sizeof to->name, "%s", info.name);
    ps_snprintf(d->list + strlen(d->list), sizeof d->list - strlen(d->list), "%s%s", d->n > 1 ? "," : "", to->name);
    to->own_memory = has != 0;
    atomic_init(&to->running, 0);
    atomic_init(&to->runs, 0);
    atomic_init(&to->busy_ns, 0);
    return PS_OK;
}

static ps_status add_all(ps_used_devices *d, const char *list, ps_error *err) {
    while (list) {
        char name[64];
        const size_t size = strcspn(list, ",");
        ps_snprintf(name, sizeof name, "%.*s", (int)(size < sizeof name ? size : sizeof name - 1), list);
        PS_TRY(add(d, name, err));
        list = list[size] ? list + size + 1 : NULL;
    }
    return PS_OK;
}

/* ---- limits ---- */

static ps_status limit(ps_used_devices *d, ps_used_device *to, uint64_t bytes, ps_error *err) {
    PS_TRY(ps_engine_limit_device(d->engine, to->name, bytes > SIZE_MAX ? SIZE_MAX : (size_t)bytes, err));
    to->limited = true;
    return PS_OK;
}

/* What a card's driver takes for itself, and what other programs show, is beyond the limit as well. */
static ps_status limit_all(ps_used_devices *d, const ps_server_options *o, ps_error *err) {
    for (size_t i = 0; i < d->n; i++) {
        size_t held, has;
        if (!d->all[i].own_memory) continue;
        PS_TRY(ps_engine_device_memory(d->engine, d->all[i].name, &held, &has, err));
        PS_TRY(limit(d, &d->all[i], o->device_memory_limit ? o->device_memory_limit : has / 4 * 3, err));
    }
    for (size_t i = 0; i < o->device_limit_count; i++) {
        const ps_server_device_limit *l = &o->device_limits[i];
        ps_device_info info = { .size = sizeof info };
        PS_FAIL_IF(!l->device, err, INVALID, "a limit of a device's memory names no device");
        PS_TRY(ps_engine_find_device(d->engine, l->device, &info, err));
        ps_used_device *to = ps_used_devices_find(d, info.name);
        PS_FAIL_IF(!to, err, INVALID, "the memory of device '%.64s' has a limit, and no model runs there", l->device);
        PS_FAIL_IF(!l->bytes, err, INVALID, "the limit of the memory of device '%.64s' is 0", l->device);
        PS_TRY(limit(d, to, l->bytes, err));
    }
    return PS_OK;
}

ps_status ps_used_devices_create(ps_engine *engine, const ps_server_options *o, ps_used_devices **ret, ps_error *err) {
    ps_alloc_state *alloc = ps_engine_alloc(engine);
    ps_used_devices *d = ps_alloc_zero(alloc, sizeof *d);
    if (!d) return PS_FAIL_NOMEM(err, "the list of devices");
    d->alloc = alloc;
    d->engine = engine;
    ps_status status = add_all(d, o->device ? o->device : "cpu", err);
    if (status == PS_OK) status = limit_all(d, o, err);
    if (status != PS_OK) {
        ps_used_devices_free(d);
        return status;
    }
    *ret = d;
    return PS_OK;
}

void ps_used_devices_free(ps_used_devices *d) {
    if (!d) return;
    for (size_t i = 0; i < d->n; i++)
        if (d->all[i].limited) (void)ps_engine_limit_device(d->engine, d->all[i].name, 0, NULL);
    ps_free(d->alloc, d);
}

/* ---- asking ---- */

ps_used_device *ps_used_devices_find(ps_used_devices *d, const char *name) {
    for (size_t i = 0; i < d->n; i++)
        if (strcmp(d->all[i].name, name) == 0) return &d->all[i];
    return NULL;
}

void ps_used_device_memory(const ps_used_devices *d, size_t i, size_t *ret_held, size_t *ret_limit) {
    *ret_held = *ret_limit = 0;
    if (d->all[i].own_memory && ps_engine_device_memory(d->engine, d->all[i].name, ret_held, ret_limit, NULL) != PS_OK)
        *ret_held = *ret_limit = 0; /* the models' loads say why */
}

int ps_used_devices_runs(const ps_used_devices *d) {
    int runs = 0;
    for (size_t i = 0; i < d->n; i++) {
        if (!d->all[i].own_memory) return 0;
        runs += RUNS_A_CARD;
    }
    return runs;
}

bool ps_used_devices_have_memory(const ps_used_devices *d) {
    for (size_t i = 0; i < d->n; i++)
        if (d->all[i].own_memory) return true;
    return false;
}

bool ps_used_devices_full(const ps_used_devices *d) {
    for (size_t i = 0; i < d->n; i++) {
        size_t held, most;
        ps_used_device_memory(d, i, &held, &most);
        if (most && held >= most * FULL_PART) return true;
    }
    return false;
}

/* ---- of a model ---- */

static bool is_wanted(const ps_used_device *d, const ps_config_devices *w) {
    char name[32];
    if (strcmp(d->name, "cpu") == 0) return w->cpu;
    if (w->gpu && d->own_memory) return true;
    for (int i = 0; i < PS_CONFIG_MAX_GPUS; i++) {
        ps_snprintf(name, sizeof name, "opencl:%d", i);
        if (w->gpus >> i & 1 && strcmp(d->name, name) == 0) return true;
    }
    return false;
}

ps_status ps_used_devices_choose(const ps_used_devices *d, const ps_config_devices *w, ps_arena *arena,
                                 const char **ret, bool *ret_none, ps_error *err) {
    char list[PS_USED_DEVICES_LIST] = "";
    bool any = false, asks = w->cpu || w->gpu || w->gpus;
    for (size_t i = 0; i < d->n; i++)
        any |= is_wanted(&d->all[i], w);
    for (size_t i = 0, used = 0; i < d->n; i++) {
        if (any && !is_wanted(&d->all[i], w)) continue;
        ps_snprintf(list + used, sizeof list - used, "%s%s", used ? "," : "", d->all[i].name);
        used = strlen(list);
    }
    *ret_none = asks && !any;
    *ret = ps_arena_strdup(arena, list);
    return *ret ? PS_OK : PS_FAIL_NOMEM(err, "the names of devices");
}
