/* mix.c - several models at once: a JSON list of what the options of one model say. */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "open_loop.h"

static double number(const json_t *v, const char *key, double low) {
    double value = json_number_value(v);
    if (!json_is_number(v) || !(value >= low)) ol_die("mix: '%s' is not a number of at least %g", key, low);
    return value;
}

static char *text(const json_t *v, const char *key) {
    if (!json_is_string(v)) ol_die("mix: '%s' is not a string", key);
    return ol_format("%s", json_string_value(v));
}

/* {"INPUT": "1x4"} or {"INPUT": "FILE.npy"} */
static void read_inputs(ol_model *m, const char *key, json_t *object, bool files) {
    const char *name;
    json_t *v;
    if (!json_is_object(object)) ol_die("mix: '%s' is not an object", key);
    json_object_foreach(object, name, v) {
        m->inputs = ol_realloc(m->inputs, m->n_inputs + 1, sizeof *m->inputs);
        m->inputs[m->n_inputs++] = (ol_input) { .name = ol_format("%s", name),
                                                .file = files ? text(v, name) : NULL,
                                                .shape = files ? NULL : text(v, name) };
    }
}

static void read_member(ol_model *m, const char *key, json_t *v) {
    if (strcmp(key, "model") == 0)
        m->name = text(v, key);
    else if (strcmp(key, "rate") == 0)
        m->rate = number(v, key, 1e-6);
    else if (strcmp(key, "target_ms") == 0)
        m->target_ms = number(v, key, 0);
    else if (strcmp(key, "timeout_us") == 0)
        m->timeout_us = (int64_t)number(v, key, 0);
    else if (strcmp(key, "priority") == 0)
        m->priority = (int64_t)number(v, key, 0);
    else if (strcmp(key, "samples") == 0)
        m->samples = (int64_t)number(v, key, 1);
    else if (strcmp(key, "shapes") == 0 || strcmp(key, "inputs") == 0)
        read_inputs(m, key, v, *key == 'i');
    else
        ol_die("mix: no key '%s': there are model, rate, target_ms, timeout_us, priority, samples, shapes, inputs",
               key);
}

size_t ol_mix_read(const char *path, const ol_model *defaults, ol_model models[OL_MAX_MODELS]) {
    json_error_t where;
    json_t *root = json_load_file(path, JSON_REJECT_DUPLICATES, &where), *v;
    const char *key;
    if (!root) ol_die("%s: line %d: %s", path, where.line, where.text);
    const size_t n = json_array_size(root);
    if (n < 1 || n > OL_MAX_MODELS) ol_die("%s: not a list of 1 to %d models", path, OL_MAX_MODELS);
    for (size_t i = 0; i < n; i++) {
        models[i] = *defaults;
        models[i].name = NULL;
        json_t *item = json_array_get(root, i);
        json_object_foreach(item, key, v) read_member(&models[i], key, v);
        if (!models[i].name) ol_die("%s: entry %zu names no model", path, i);
        if (models[i].samples > OL_MAX_BODIES) ol_die("%s: more than %d samples", path, OL_MAX_BODIES);
    }
    json_decref(root);
    return n;
}
