/* ends.c - inputs and outputs that a device reads and writes where they lie.
 *
 * A device that shares the host's memory need not copy them. Which of its storages are an input or an output as it is,
 * is found when the plan is made; whether the memory that the caller has this time can be used so, when it runs. What
 * cannot is copied into the arena or out of it, as on any other device.
 */
#include "runtime/runtime_int.h"

#define MOST_ENDS 16 /* of a plan: the first ones */

static bool is_read(const ps_plan *p, uint32_t storage) {
    for (size_t i = 0; i < p->n_steps; i++) {
        for (uint32_t k = 0; k < p->steps[i].n_in; k++)
            if (p->steps[i].args[k] == storage) return true;
    }
    return false;
}

/* The device's storage that this transfer fills from an input or empties into an output, and nothing else; the input or
 * output as *ret_end. What the host reads of an output has to be there before the run ends. */
static uint32_t storage_of(const ps_plan *p, const ps_step *s, uint32_t *ret_end) {
    if (s->transfer == PS_TRANSFER_NONE) return PS_NONE;
    const bool up = s->transfer == PS_TRANSFER_UPLOAD;
    const uint32_t host = s->args[up ? 0 : 1], device = s->args[up ? 1 : 0];
    const ps_storage *h = &p->storages[host], *d = &p->storages[device];
    if (h->kind != (up ? PS_ST_INPUT : PS_ST_OUTPUT) || d->kind != PS_ST_ARENA || d->end != PS_NONE) return PS_NONE;
    if (!up && is_read(p, host)) return PS_NONE;
    *ret_end = up ? h->index : (uint32_t)p->n_inputs + h->index;
    return device;
}

ps_status ps_plan_ends(ps_plan *p, ps_error *err) {
    if (!p->model->device->shares_memory || !p->n_transfers) return PS_OK;
    p->ends = ps_arena_array(&p->arena, MOST_ENDS, sizeof *p->ends);
    if (!p->ends) return PS_FAIL_NOMEM(err, "a plan");
    for (size_t i = 0; i < p->n_steps && p->n_ends < MOST_ENDS; i++) {
        uint32_t end, storage = storage_of(p, &p->steps[i], &end);
        if (storage == PS_NONE) continue;
        p->storages[storage].end = end;
        p->ends[p->n_ends++] = storage;
    }
    return PS_OK;
}

/* Two buffers over one memory would be the device's affair to keep alike. */
static bool is_another_one(const ps_plan_state *st, size_t n, const char *data, size_t bytes) {
    const ps_plan *p = st->plan;
    for (size_t i = 0; i < n; i++) {
        const ps_storage *s = &p->storages[p->ends[i]];
        const char *other = st->resolved_ends[s->end];
        if (data < other + s->bytes && other < data + bytes) return false;
    }
    return true;
}

ps_status ps_ends_aim(ps_session *session, ps_plan_state *st, ps_error *err) {
    const ps_plan *p = st->plan;
    ps_device *device = session->model->device;
    if (!p->n_ends || p->slices > 1) return PS_OK;
    if (!st->aimed) st->aimed = ps_alloc_zero(session->alloc, p->n_ends * sizeof *st->aimed);
    if (!st->aimed) return PS_FAIL_NOMEM(err, "a plan's state");
    for (size_t i = 0; i < p->n_ends; i++) {
        const ps_storage *s = &p->storages[p->ends[i]];
        char *data = st->resolved_ends[s->end];
        const bool there = is_another_one(st, i, data, s->bytes) &&
                           device->ops->memory->buffer_aim(device, &st->aimed[i], data, s->bytes);
        st->regions[p->ends[i]] = there ? (ps_region) { st->aimed[i], 0 }
                                        : (ps_region) { session->device_arena.data, s->offset };
    }
    return PS_OK;
}

void ps_ends_let_go(ps_session *session, ps_plan_state *st) {
    ps_device *device = session->model->device;
    for (size_t i = 0; st->aimed && i < st->plan->n_ends; i++)
        if (st->aimed[i]) device->ops->memory->buffer_aim(device, &st->aimed[i], NULL, 0);
}

void ps_ends_free(ps_session *session, ps_plan_state *st) {
    ps_device *device = session->model->device;
    for (size_t i = 0; st->aimed && i < st->plan->n_ends; i++)
        device->ops->memory->buffer_free(device, st->aimed[i]);
    ps_free(session->alloc, st->aimed);
}
