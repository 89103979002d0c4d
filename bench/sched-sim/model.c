/* model.c - latency tables, and what they allow at most. */
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "sim.h"

double sim_time_ns(const sim_model *m, double size) {
    uint32_t i = 0;
    while (i + 2 < m->n && (double)m->size[i + 1] < size)
        i++;
    if (m->n == 1) return m->ns[0] * size / m->size[0];
    double x0 = m->size[i], x1 = m->size[i + 1];
    double t = m->ns[i] + (m->ns[i + 1] - m->ns[i]) * (size - x0) / (x1 - x0);
    return t > 1 ? t : 1;
}

double sim_unit_ns(const sim_model *m, double longest_ns) {
    double least = sim_time_ns(m, 1);
    for (uint32_t b = 1; b <= m->max_batch; b++) {
        double t = sim_time_ns(m, b);
        if (t <= longest_ns && t / b < least) least = t / b;
    }
    return least;
}

double sim_capacity(const sim_model *m) {
    return 1e9 / sim_unit_ns(m, m->target_ns / 2);
}

static sim_model affine(const char *name, double offset_ms, double each_ms, double target_ms) {
    sim_model m = { .n = 2, .size = { 1, 2048 }, .max_batch = 32, .noise = 0.03, .weight = 1 };
    ps_snprintf(m.name, sizeof m.name, "%s", name);
    m.ns[0] = (offset_ms + each_ms) * 1e6;
    m.ns[1] = (offset_ms + 2048 * each_ms) * 1e6;
    double automatic = m.ns[0] * 2e-6;
    m.target_ns = (target_ms > 0 ? target_ms : automatic > 100 ? automatic : 100) * 1e6;
    return m;
}

/* Shapes of measured tables: the MLP's gain is 9.7 at 32 on two CPU cores, a plain CNN has none there, and a device
 * with wide vectors has steps. */
int sim_models_builtin(sim_model *ret) {
    static const uint32_t sizes[] = { 1, 2, 4, 8, 16, 32 };
    static const double steps[] = { 6, 6.2, 6.5, 7.5, 14.5, 28 };
    ret[0] = affine("mlp", 3.93, 0.326, 0);
    ret[1] = affine("lstm", 12, 0.9, 0);
    ret[2] = affine("minilm", 8, 2.2, 0);
    ret[3] = affine("cnn", 0.4, 17.6, 0);
    ret[4] = affine("tiny", 0.35, 0.012, 20);
    ret[5] = affine("steps", 0, 1, 60);
    ret[5].n = 6;
    for (int i = 0; i < 6; i++) {
        ret[5].size[i] = sizes[i];
        ret[5].ns[i] = steps[i] * 1e6;
    }
    return 6;
}

static bool add_point(sim_model *m, double size, double ms) {
    if (m->n >= SIM_MAX_SIZES || !(size >= 1 && size <= PS_PROFILE_MAX_BATCH) || !(ms > 0 && ms < 1e6)) return false;
    if (m->n && (uint32_t)size <= m->size[m->n - 1]) return false;
    m->size[m->n] = (uint32_t)size;
    m->ns[m->n++] = ms * 1e6;
    return true;
}

static double number(const json_t *object, const char *key, double otherwise) {
    const json_t *v = json_object_get(object, key);
    return json_is_number(v) ? json_number_value(v) : otherwise;
}

/* Rows [size, ms], or objects of `polestar bench --json` with "batch" and "ms". */
static bool read_table(const json_t *rows, sim_model *m) {
    for (size_t i = 0; i < json_array_size(rows); i++) {
        const json_t *row = json_array_get(rows, i);
        double size, ms;
        if (json_is_array(row)) {
            size = json_number_value(json_array_get(row, 0));
            ms = json_number_value(json_array_get(row, 1));
        } else {
            size = number(row, "batch", 0);
            ms = number(row, "median_ms", number(row, "ms", 0));
        }
        if (!add_point(m, size, ms)) return false;
    }
    return m->n > 0;
}

static bool read_model(const json_t *object, sim_model *m) {
    const json_t *rows = json_object_get(object, "table"), *name = json_object_get(object, "name");
    if (!rows) rows = json_object_get(object, "results");
    if (!name) name = json_object_get(object, "model");
    *m = (sim_model) { .noise = number(object, "noise", 0.03), .weight = number(object, "weight", 1) };
    ps_snprintf(m->name, sizeof m->name, "%s", json_is_string(name) ? json_string_value(name) : "model");
    if (!read_table(rows, m)) return false;
    double automatic = fmax(100e6, 2 * m->ns[0]);
    m->target_ns = number(object, "target_ms", automatic * 1e-6) * 1e6;
    m->max_batch = (uint32_t)number(object, "max_batch", m->size[m->n - 1]);
    return m->target_ns > 0 && m->weight > 0 && m->max_batch >= 1 && m->max_batch <= PS_PROFILE_MAX_BATCH;
}

ps_status sim_models_read(const char *path, sim_model *ret, int *ret_n, ps_error *err) {
    json_error_t problem;
    json_t *file = json_load_file(path, 0, &problem);
    PS_FAIL_IF(!file, err, FORMAT, "%s, line %d: %s", path, problem.line, problem.text);
    bool many = json_is_array(file), valid = true;
    size_t n = many ? json_array_size(file) : 1;
    valid = n >= 1 && n <= SIM_MAX_MODELS;
    for (size_t i = 0; i < n && valid; i++)
        valid = read_model(many ? json_array_get(file, i) : file, &ret[i]);
    json_decref(file);
    PS_FAIL_IF(!valid, err, FORMAT, "%s holds no latency tables: sizes must ascend and times be above 0", path);
    *ret_n = (int)n;
    return PS_OK;
}
