/* model_config_check.c - a configuration beside the model that it is for. */
#include <inttypes.h>
#include <string.h>

#include "base/str.h"
#include "server/json_text.h"
#include "server/model_config.h"

static const char *type_name(ps_dtype dtype) {
    return dtype == PS_DTYPE_STRING ? "STRING" : ps_dtype_v2_name(dtype);
}

static ps_status find(const char *what, const ps_config_tensor *t, const ps_value_info *values, size_t n,
                      const ps_value_info **ret, ps_error *err) {
    *ret = NULL;
    for (size_t i = 0; i < n; i++)
        if (strcmp(values[i].name, t->name) == 0) *ret = &values[i];
    PS_FAIL_IF(!*ret, err, INVALID, "the model has no %s '%.128s'", what, t->name);
    PS_FAIL_IF(t->dtype && t->dtype != (*ret)->dtype, err, TYPE, "%s '%.128s' is TYPE_%s, the model's is TYPE_%s", what,
               t->name, type_name(t->dtype), type_name((*ret)->dtype));
    return PS_OK;
}

/* A dim -1 on either side is any. */
static ps_status check_shape(const ps_config_tensor *t, const ps_value_info *v, bool batched, ps_error *err) {
    const ps_shape *s = &v->shape;
    int first = batched ? 1 : 0;
    if (t->shape.rank < 0 || s->rank < 0) return PS_OK;
    PS_FAIL_IF(t->shape.rank + first != s->rank, err, SHAPE, "input '%.128s' has %d dims%s, the model's has %d",
               t->name, t->shape.rank, batched ? " and the batch's (max_batch_size is not 0)" : "", s->rank);
    for (int d = 0; d < t->shape.rank; d++) {
        int64_t want = t->shape.dims[d], has = s->dims[d + first];
        PS_FAIL_IF(want >= 0 && has >= 0 && want != has, err, SHAPE,
                   "input '%.128s' has %" PRId64 " in dim %d, the model's has %" PRId64, t->name, want, d, has);
    }
    return PS_OK;
}

/* What a model file says of its outputs' shapes is what its exporter believed. */
ps_status ps_model_config_check(const ps_model_config *config, const ps_value_info *inputs, size_t n_inputs,
                                const ps_value_info *outputs, size_t n_outputs, ps_error *err) {
    const ps_value_info *found;
    for (size_t i = 0; i < config->n_inputs; i++) {
        PS_TRY(find("input", &config->inputs[i], inputs, n_inputs, &found, err));
        PS_TRY(check_shape(&config->inputs[i], found, config->max_batch > 0, err));
    }
    for (size_t i = 0; i < config->n_outputs; i++)
        PS_TRY(find("output", &config->outputs[i], outputs, n_outputs, &found, err));
    return PS_OK;
}

static void write_state(const ps_config_state *state, ps_str *out) {
    ps_str_append(out, "{\"input\":");
    ps_json_write_string(out, state->input);
    ps_str_append(out, ",\"output\":");
    ps_json_write_string(out, state->output);
    for (int d = 0; d < state->shape.rank; d++)
        ps_str_printf(out, "%s%" PRId64, d ? "," : ",\"shape\":[", state->shape.dims[d]);
    if (state->shape.rank == 0) ps_str_append(out, ",\"shape\":[");
    ps_str_append(out, state->shape.rank >= 0 ? "]}" : "}");
}

ps_status ps_model_config_states(const ps_model_config *config, ps_arena *arena, const char **ret, ps_error *err) {
    ps_str text;
    *ret = NULL;
    if (!config->n_states) return PS_OK;
    ps_str_init(&text, arena->alloc);
    ps_str_append(&text, "{\"states\":[");
    for (size_t i = 0; i < config->n_states; i++) {
        if (i) ps_str_char(&text, ',');
        write_state(&config->states[i], &text);
    }
    ps_str_char(&text, ']');
    if (config->idle_us) ps_str_printf(&text, ",\"idle_seconds\":%" PRId64, (config->idle_us + 999999) / 1000000);
    ps_str_char(&text, '}');
    *ret = text.failed ? NULL : ps_arena_strndup(arena, text.data, text.size);
    ps_str_release(&text);
    return *ret ? PS_OK : PS_FAIL_NOMEM(err, "the states of a model");
}
