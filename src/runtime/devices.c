/* devices.c - a model on several devices: one model for each, made of the same file, and again after a loss.
 *
 * What the caller has is the model of the first device, the face of the others: it names inputs and outputs, its memory
 * counts theirs, and it holds them. A session has a reference to the face and to the model of its device. When that
 * device is lost, another model takes the place of that one, which stays for as long as it has sessions. */
#include "runtime/runtime_int.h"

bool ps_model_lost(const ps_model *m) {
    const ps_memory_ops *memory = m->device->ops->memory;
    return memory && memory->lost(m->device);
}

/* ---- names ---- */

static ps_status push_name(const char *text, size_t size, ps_arena *arena, const char **ret, size_t *n, ps_error *err) {
    PS_FAIL_IF(!size, err, INVALID, "a name in the list of devices is empty");
    PS_FAIL_IF(*n == PS_MAX_DEVICES, err, LIMIT, "the list of devices has more than %d names", PS_MAX_DEVICES);
    ret[*n] = ps_arena_text(arena, text, size);
    if (!ret[*n]) return PS_FAIL_NOMEM(err, "the names of devices");
    for (size_t i = 0; i < *n; i++)
        PS_FAIL_IF(strcmp(ret[i], ret[*n]) == 0, err, INVALID, "device '%.64s' stands twice in the list", ret[i]);
    ++*n;
    return PS_OK;
}

ps_status ps_model_split_devices(const char *list, ps_arena *arena, const char **ret, size_t *ret_n, ps_error *err) {
    *ret_n = list ? 0 : 1;
    if (!list) *ret = NULL;
    while (list) {
        const size_t size = strcspn(list, ",");
        PS_TRY(push_name(list, size, arena, ret, ret_n, err));
        list = list[size] ? list + size + 1 : NULL;
    }
    return PS_OK;
}

/* With the lock held. */
static bool is_named(const ps_model *m, size_t i, const char *device) {
    return strcmp(m->names[i], device) == 0 || strcmp(m->on[i]->device->name, device) == 0;
}

static ps_status refuse(ps_model *m, const char *device, ps_error *err) {
    ps_str names;
    ps_str_init(&names, m->alloc);
    for (size_t i = 0; i < m->n_on; i++)
        ps_str_printf(&names, "%s%s", i ? ", " : "", m->names[i]);
    ps_status status = PS_FAIL(err, NOT_FOUND, "the model is not on device '%.64s': it is on %s", device, names.data);
    ps_str_release(&names);
    return status;
}

ps_status ps_model_take_on(ps_model *m, const char *device, ps_model **ret, ps_error *err) {
    *ret = NULL;
    ps_mutex_lock(&m->lock);
    for (size_t i = 0; !*ret && i < m->n_on; i++)
        if (!device || is_named(m, i, device)) *ret = ps_model_retain(m->on[i]);
    ps_mutex_unlock(&m->lock);
    return *ret ? PS_OK : refuse(m, device, err);
}

ps_status ps_model_device(ps_model *m, size_t index, ps_model_device_info *ret) {
    if (!m || !ret || ret->size != sizeof *ret) return PS_INVALID;
    if (index >= m->n_on) return PS_NOT_FOUND;
    ps_mutex_lock(&m->lock);
    ps_model *on = ps_model_retain(m->on[index]);
    ps_mutex_unlock(&m->lock);
    *ret = (ps_model_device_info) { sizeof *ret, on->device->name, ps_model_lost(on),
                                    ps_weights_device_bytes(on->weights) + atomic_load(&on->device_bytes) };
    ps_model_release(on);
    return PS_OK;
}

/* ---- loading it on the others ----
 *
 * Each reads the file for itself, at the same time: what passes make of it depends on the device, and so does which
 * weights the host gives up. */

typedef struct spreading {
    ps_model *face, *made;
    const char *device;
    ps_model_source from;
    ps_status status;
    ps_error err;
    ps_thread thread;
    bool started;
} spreading;

static void make_one(void *ctx) {
    spreading *s = ctx;
    ps_model_options o = s->face->options;
    o.device = s->device;
    s->status = ps_model_make(s->face->engine, &s->from, &o, s->face, &s->made, &s->err);
}

static ps_status check_distinct(const ps_model *m, size_t i, ps_error *err) {
    for (size_t k = 0; k < i; k++)
        PS_FAIL_IF(m->on[k]->device == m->on[i]->device, err, INVALID, "devices '%.64s' and '%.64s' are the same one",
                   m->names[k], m->names[i]);
    return PS_OK;
}

/* Graphs of the caller's share their constants, which passes may read only one after the other. */
static ps_status spread(ps_model *m, spreading *all, bool at_once, ps_error *err) {
    ps_status status = PS_OK;
    for (size_t i = 1; i < m->n_on; i++) {
        if (at_once) all[i].started = ps_thread_start(&all[i].thread, "load", make_one, &all[i]);
        if (!all[i].started) make_one(&all[i]);
    }
    for (size_t i = 1; i < m->n_on; i++) {
        if (all[i].started) ps_thread_join(all[i].thread);
        if (all[i].made) m->on[i] = all[i].made;
    }
    for (size_t i = 1; i < m->n_on && status == PS_OK; i++) {
        status = all[i].status;
        if (status != PS_OK && err) *err = all[i].err;
        if (status == PS_OK) status = check_distinct(m, i, err);
    }
    return status;
}

ps_status ps_model_spread(ps_model *m, const ps_model_source *from, ps_graph **clones, ps_error *err) {
    spreading *all = ps_alloc_array(m->alloc, m->n_on, sizeof *all);
    if (!all) return PS_FAIL_NOMEM(err, "the model");
    for (size_t i = 1; i < m->n_on; i++) {
        all[i] = (spreading) { .face = m, .device = m->names[i], .from = *from, .err = PS_ERROR_INIT };
        all[i].from.graph = clones[i - 1];
    }
    const ps_status status = spread(m, all, !clones[0], err);
    for (size_t i = 1; i < m->n_on; i++)
        clones[i - 1] = all[i].from.graph;
    ps_free(m->alloc, all);
    return status;
}

/* ---- after a loss ---- */

/* Of a model that came from no file: the graph as it was optimised, whose constants are all still there. */
static ps_status make_of_graph(ps_model *m, ps_model *lost, const ps_model_options *o, ps_model **ret, ps_error *err) {
    ps_model_source from = { 0 };
    ps_mutex_lock(m->compile_lock); /* nobody else reads these constants meanwhile */
    ps_status status = ps_graph_clone(lost->graph, &from.graph, NULL, err);
    if (status == PS_OK) status = ps_model_make(m->engine, &from, o, m, ret, err);
    ps_mutex_unlock(m->compile_lock);
    ps_graph_free(from.graph);
    return status;
}

static ps_status make_again(ps_model *m, ps_model *lost, ps_model **ret, ps_error *err) {
    ps_model_options o = m->options;
    ps_model_source from = { .path = m->path };
    o.device = lost->device->name;
    return m->path ? ps_model_make(m->engine, &from, &o, m, ret, err) : make_of_graph(m, lost, &o, ret, err);
}

/* Puts `fresh` in the place of `lost`, unless somebody else was faster; takes it. */
static void put_on(ps_model *m, size_t i, ps_model *lost, ps_model *fresh) {
    ps_mutex_lock(&m->lock);
    const bool mine = m->on[i] == lost;
    if (mine) m->on[i] = fresh;
    ps_mutex_unlock(&m->lock);
    if (!mine) ps_model_release(fresh);
    if (mine && lost != m) ps_model_release(lost);
}

static ps_status reopen(ps_model *m, size_t i, ps_error *err) {
    ps_model *fresh = NULL;
    ps_mutex_lock(&m->lock);
    ps_model *lost = ps_model_retain(m->on[i]);
    ps_mutex_unlock(&m->lock);
    ps_status status = ps_model_lost(lost) ? make_again(m, lost, &fresh, err) : PS_OK;
    if (fresh) put_on(m, i, lost, fresh);
    ps_model_release(lost);
    return status;
}

ps_status ps_model_reopen(ps_model *m, const char *device, ps_error *err) {
    bool found = false;
    PS_FAIL_IF(!m, err, INVALID, "ps_model_reopen: model is NULL");
    for (size_t i = 0; i < m->n_on; i++) {
        ps_mutex_lock(&m->lock);
        const bool meant = !device || is_named(m, i, device);
        ps_mutex_unlock(&m->lock);
        found |= meant;
        if (meant) PS_TRY(reopen(m, i, err));
    }
    return found ? PS_OK : refuse(m, device, err);
}
