/* config_model.c - a model's entry in the configuration: where it lies, and the states that the server keeps for it. */
#include <stdlib.h>
#include <string.h>

#include "cli.h"

enum { SHOWN = 64, MAX_STATES = 256 };

static const char *const model_keys[] = { "name", "path", "states", "idle_seconds", "max_sequences", NULL };
static const char *const state_keys[] = { "input", "output", "shape", NULL };

static const char *next_key(const void *ctx, size_t i) {
    return ((const char *const *)ctx)[i];
}

static bool unknown_key(const char *where, const char *key, const char *const *keys, ps_error *err) {
    const char *near = cli_nearest(key, next_key, keys);
    char all[96] = "";
    if (near) return cli_config_fail(err, "%s: no key '%.*s'; did you mean '%s'?", where, SHOWN, key, near);
    for (size_t i = 0, at = 0; keys[i] && at < sizeof all; i++)
        at += (size_t)snprintf(all + at, sizeof all - at, "%s%s", i ? ", " : "", keys[i]);
    return cli_config_fail(err, "%s: no key '%.*s'; there are %s", where, SHOWN, key, all);
}

/* ---- states: the form only. Which inputs and outputs there are, the server sees when it loads the model ---- */

static bool check_shape(const json_t *v, const char *where, ps_error *err) {
    bool ok = json_is_array(v) && json_array_size(v) <= PS_MAX_RANK;
    for (size_t d = 0; ok && d < json_array_size(v); d++) {
        const json_t *dim = json_array_get(v, d);
        ok = json_is_integer(dim) && json_integer_value(dim) >= 0;
    }
    return ok || cli_config_fail(err, "%s: 'shape' is not a list of at most %d dims, whole numbers from 0 on", where,
                                 PS_MAX_RANK);
}

static bool check_state(json_t *state, const char *where, ps_error *err) {
    const char *key;
    json_t *v;
    if (!json_is_object(state)) return cli_config_fail(err, "%s is not an object", where);
    json_object_foreach(state, key, v) {
        const bool shape = strcmp(key, "shape") == 0;
        if (!shape && strcmp(key, "input") != 0 && strcmp(key, "output") != 0)
            return unknown_key(where, key, state_keys, err);
        if (shape && !check_shape(v, where, err)) return false;
        if (!shape && !json_is_string(v)) return cli_config_fail(err, "%s: '%s' is not a string", where, key);
    }
    for (size_t i = 0; i < 2; i++)
        if (!json_object_get(state, state_keys[i])) return cli_config_fail(err, "%s has no '%s'", where, state_keys[i]);
    return true;
}

static bool check_states(const json_t *list, const char *where, ps_error *err) {
    const size_t n = json_array_size(list);
    char item[64];
    if (n < 1 || n > MAX_STATES)
        return cli_config_fail(err, "%s: 'states' is not a list of 1 to %d states", where, MAX_STATES);
    for (size_t i = 0; i < n; i++) {
        snprintf(item, sizeof item, "%s.states[%zu]", where, i);
        if (!check_state(json_array_get(list, i), item, err)) return false;
    }
    return true;
}

static bool check_limit(const json_t *v, const char *where, const char *key, json_int_t max, ps_error *err) {
    if (json_is_integer(v) && json_integer_value(v) >= 1 && json_integer_value(v) <= max) return true;
    return cli_config_fail(err, "%s: '%s' is not a whole number from 1 to %" JSON_INTEGER_FORMAT, where, key, max);
}

/* ---- the entry ---- */

static bool read_text(const json_t *v, const char *where, const char *key, char **ret, ps_error *err) {
    if (!json_is_string(v)) return cli_config_fail(err, "%s: '%s' is not a string", where, key);
    *ret = cli_format("%s", json_string_value(v));
    return true;
}

static bool read_member(json_t *v, const char *where, const char *key, cli_config_model *ret, ps_error *err) {
    if (strcmp(key, "name") == 0) return read_text(v, where, key, &ret->name, err);
    if (strcmp(key, "path") == 0) return read_text(v, where, key, &ret->path, err);
    if (strcmp(key, "states") == 0) return check_states(v, where, err);
    if (strcmp(key, "idle_seconds") == 0) return check_limit(v, where, key, 366 * 86400, err);
    if (strcmp(key, "max_sequences") == 0) return check_limit(v, where, key, 1000000, err);
    return unknown_key(where, key, model_keys, err);
}

bool cli_config_model_read(json_t *object, const char *where, cli_config_model *ret, ps_error *err) {
    const char *key;
    json_t *v, *states = json_object();
    bool ok = true;
    json_object_foreach(object, key, v) {
        if (!read_member(v, where, key, ret, err)) {
            ok = false;
            break;
        }
        if (strcmp(key, "name") != 0 && strcmp(key, "path") != 0) json_object_set(states, key, v);
    }
    if (ok && json_object_size(states) && !json_object_get(states, "states"))
        ok = cli_config_fail(err, "%s says how long sequences live, but has no 'states'", where);
    if (ok && json_object_size(states)) {
        ret->states = json_dumps(states, JSON_COMPACT);
        if (!ret->states) ok = cli_config_fail(err, "%s: out of memory", where);
    }
    json_decref(states);
    return ok;
}
