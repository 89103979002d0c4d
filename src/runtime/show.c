/* show.c - values inside of a run, shown to whoever asked for them while they lie in the cache, as they lie. */
#include "runtime/runtime_int.h"

void ps_session_show(ps_session *s, ps_show_fn show, void *ctx) {
    s->show = show;
    s->show_ctx = ctx;
}

ps_status ps_plan_show_step(ps_session *s, const ps_plan_state *st, int32_t step, size_t *next, ps_error *err) {
    const ps_plan *p = st->plan;
    for (; *next < p->n_shows && p->shows[*next].step <= step; ++*next) {
        const ps_plan_show *w = &p->shows[*next];
        ps_tensor view = { .dtype = w->dtype, .shape = w->shape, .data = st->ptrs[w->storage] };
        view.bytes = p->storages[w->storage].bytes;
        if (w->layout != PS_LAYOUT_PLAIN && !ps_layout_same(&w->shape)) {
            ps_layout_strides(&w->shape, w->layout, view.own_strides);
            view.strides = view.own_strides;
        }
        if (s->show) PS_TRY(s->show(s->show_ctx, w->output, &view, err));
    }
    return PS_OK;
}

/* A plan that shows them leaves their slots empty. */
void ps_session_forget_shown(ps_session *s) {
    for (size_t i = s->model->shown_from; i < s->model->n_outputs; i++)
        s->ends[s->model->n_inputs + i].data = NULL;
}

ps_status ps_session_show_rest(ps_session *s, ps_error *err) {
    for (size_t i = s->model->shown_from; i < s->model->n_outputs; i++) {
        const ps_slot *slot = &s->ends[s->model->n_inputs + i];
        ps_tensor view;
        if (!slot->data || slot->object || !s->show) continue;
        ps_slot_view(slot, &view);
        PS_TRY(s->show(s->show_ctx, i, &view, err));
    }
    return PS_OK;
}

bool ps_session_one_plan(const ps_session *s) {
    const ps_state *st = s->states.newest;
    return st && !s->stream && st->program->n_items == 1 && st->program->items[0].kind == PS_ITEM_PLAN;
}
