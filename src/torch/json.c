#include <math.h>

#include "torch/program.h"

ps_status ps_member_object(const json_t *in, const char *key, const char *what, json_t **ret, ps_error *err) {
    *ret = json_object_get(in, key);
    PS_FAIL_IF(!json_is_object(*ret), err, FORMAT, "%s has no object '%s'", what, key);
    return PS_OK;
}

ps_status ps_member_array(const json_t *in, const char *key, const char *what, json_t **ret, ps_error *err) {
    *ret = json_object_get(in, key);
    PS_FAIL_IF(!json_is_array(*ret), err, FORMAT, "%s has no list '%s'", what, key);
    return PS_OK;
}

ps_status ps_member_text(const json_t *in, const char *key, const char *what, const char **ret, ps_error *err) {
    *ret = json_string_value(json_object_get(in, key));
    PS_FAIL_IF(!*ret, err, FORMAT, "%s has no text '%s'", what, key);
    return PS_OK;
}

ps_status ps_member_int(const json_t *in, const char *key, const char *what, int64_t *ret, ps_error *err) {
    const json_t *v = json_object_get(in, key);
    PS_FAIL_IF(!json_is_integer(v), err, FORMAT, "%s has no integer '%s'", what, key);
    *ret = json_integer_value(v);
    return PS_OK;
}

ps_status ps_json_entry(ps_archive *archive, const char *name, json_t **ret, ps_error *err) {
    const ps_archive_entry *e = ps_archive_find(archive, name);
    const uint8_t *data;
    json_error_t problem;
    PS_FAIL_IF(!e, err, FORMAT, "the archive holds no '%s'", name);
    PS_FAIL_IF(e->size > PS_TORCH_MAX_JSON, err, LIMIT, "entry '%s' has %zu bytes, at most %zu are read", name, e->size,
               PS_TORCH_MAX_JSON);
    PS_TRY(ps_archive_bytes(archive, e, true, &data, err));
    *ret = json_loadb((const char *)data, e->size, JSON_REJECT_DUPLICATES, &problem);
    if (!*ret) {
        if (json_error_code(&problem) == json_error_out_of_memory) return PS_FAIL_NOMEM(err, "the program's JSON");
        return PS_FAIL(err, FORMAT, "entry '%s' is no JSON: line %d, column %d: %s", name, problem.line, problem.column,
                       problem.text);
    }
    if (json_is_object(*ret)) return PS_OK;
    json_decref(*ret);
    *ret = NULL;
    return PS_FAIL(err, FORMAT, "entry '%s' holds no JSON object", name);
}

bool ps_json_double(const json_t *v, double *ret) {
    static const struct {
        const char *text;
        double value;
    } words[] = { { "Infinity", (double)INFINITY }, { "-Infinity", -(double)INFINITY }, { "NaN", (double)NAN } };
    if (json_is_number(v)) {
        *ret = json_number_value(v);
        return true;
    }
    for (size_t i = 0; json_is_string(v) && i < sizeof words / sizeof *words; i++) {
        if (strcmp(json_string_value(v), words[i].text) != 0) continue;
        *ret = words[i].value;
        return true;
    }
    return false;
}

json_t *ps_json_union(const json_t *v, const char **ret_kind) {
    void *at = json_is_object(v) && json_object_size(v) == 1 ? json_object_iter((json_t *)v) : NULL;
    if (!at) return NULL;
    *ret_kind = json_object_iter_key(at);
    return json_object_iter_value(at);
}

ps_status ps_torch_check_name(const char *what, const char *name, ps_error *err) {
    PS_FAIL_IF(!*name, err, FORMAT, "a %s is empty", what);
    for (const unsigned char *p = (const unsigned char *)name; *p; p++)
        PS_FAIL_IF(*p < 0x20 || *p == 0x7f, err, FORMAT, "a %s contains the control character 0x%02x", what, *p);
    return PS_OK;
}
