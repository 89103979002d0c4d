/* config.c - options from a JSON file: one key for each option of a command, and "models". */
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"

enum { MAX_NAME = 255, SHOWN = 64 };

/* Options that make no sense in a file: which file it is, and what to do instead of the command. */
static bool is_flag_only(const char *name) {
    return strcmp(name, "config") == 0 || strcmp(name, "check-config") == 0;
}

bool cli_config_fail(ps_error *err, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(err->msg, sizeof err->msg, fmt, ap);
    va_end(ap);
    err->status = PS_FORMAT;
    return false;
}

/* ---- keys ---- */

static const char models_key[] = "models";

/* "models", then the options that a file may hold. */
static const char *next_key(const void *ctx, size_t i) {
    const cli_option *o = ctx;
    if (i == 0) return models_key;
    for (i--; o->name; o++)
        if (!is_flag_only(o->name) && i-- == 0) return o->name;
    return NULL;
}

static bool unknown_key(const cli_command *command, const char *key, ps_error *err) {
    const char *near = cli_nearest(key, next_key, command->options);
    if (is_flag_only(key)) return cli_config_fail(err, "'%s' is for the command line only", key);
    if (near) return cli_config_fail(err, "no key '%.*s'; did you mean '%s'?", SHOWN, key, near);
    return cli_config_fail(err, "no key '%.*s'; the keys are the options of 'polestar %s' and '%s'", SHOWN, key,
                           command->name, models_key);
}

static const cli_option *find_key(const cli_command *command, const char *key) {
    for (const cli_option *o = command->options; o->name; o++)
        if (strcmp(o->name, key) == 0 && !is_flag_only(key)) return o;
    return NULL;
}

/* ---- values ---- */

/* The value as it would stand on the command line; NULL for a flag that is off. */
static bool read_value(const cli_option *o, const json_t *v, char **ret, ps_error *err) {
    *ret = NULL;
    if (o->kind == CLI_FLAG) {
        if (!json_is_boolean(v)) return cli_config_fail(err, "'%s' is neither true nor false", o->name);
        if (json_is_true(v)) *ret = cli_format("%s", "");
        return true;
    }
    if (json_is_integer(v))
        *ret = cli_format("%" JSON_INTEGER_FORMAT, json_integer_value(v));
    else if (json_is_string(v))
        *ret = cli_format("%s", json_string_value(v));
    else
        return cli_config_fail(err, "'%s' is neither a string nor an integer", o->name);
    if (o->kind != CLI_WORDS || cli_is_word(o->arg, *ret)) return true;
    cli_config_fail(err, "'%s' is one of %s, not '%.*s'", o->name, o->arg, SHOWN, *ret);
    free(*ret);
    return false;
}

static bool add_option(const cli_option *o, const json_t *v, cli_config *config, ps_error *err) {
    char *text;
    if (!read_value(o, v, &text, err)) return false;
    if (!text) return true;
    config->values = cli_realloc(config->values, config->n_values + 1, sizeof *config->values);
    config->values[config->n_values++] = (cli_value) { o, text };
    return true;
}

/* ---- models ---- */

static bool valid_name(const char *name) {
    return name[0] && strlen(name) <= MAX_NAME && !strpbrk(name, "/=");
}

/* "PATH" and "NAME=PATH" as on the command line; a '=' after a '/' belongs to the path. */
void cli_config_model_split(const char *text, cli_config_model *ret) {
    const size_t n = cli_name_length(text);
    const bool named = n && !memchr(text, '/', n);
    ret->name = named ? cli_format("%.*s", (int)n, text) : NULL;
    ret->path = cli_format("%s", named ? text + n + 1 : text);
    ret->states = NULL;
}

static bool check_model(const cli_config_model *m, size_t i, ps_error *err) {
    if (!m->path || !m->path[0]) return cli_config_fail(err, "%s[%zu] has no 'path'", models_key, i);
    if (m->name && !valid_name(m->name))
        return cli_config_fail(err, "%s[%zu]: a name has 1 to %d bytes without '/' and '='", models_key, i, MAX_NAME);
    return true;
}

static bool read_models(const json_t *list, cli_config *config, ps_error *err) {
    if (!json_is_array(list)) return cli_config_fail(err, "'%s' is not a list", models_key);
    const size_t n = json_array_size(list);
    config->models = cli_alloc(n, sizeof *config->models);
    for (size_t i = 0; i < n; i++) {
        json_t *v = json_array_get(list, i);
        char where[32];
        snprintf(where, sizeof where, "%s[%zu]", models_key, i);
        cli_config_model *m = &config->models[config->n_models++];
        if (json_is_object(v)) {
            if (!cli_config_model_read(v, where, m, err)) return false;
        } else if (json_is_string(v) && json_string_length(v)) {
            cli_config_model_split(json_string_value(v), m);
        } else {
            return cli_config_fail(err, "%s[%zu] is neither a path nor an object", models_key, i);
        }
        if (!check_model(m, i, err)) return false;
    }
    return true;
}

/* ---- the document ---- */

static bool read_document(const cli_command *command, const json_t *root, cli_config *config, ps_error *err) {
    const char *key;
    json_t *v;
    if (!json_is_object(root)) return cli_config_fail(err, "the configuration is not a JSON object");
    json_object_foreach((json_t *)(uintptr_t)root, key, v) {
        const cli_option *o = find_key(command, key);
        if (strcmp(key, models_key) == 0) {
            if (!read_models(v, config, err)) return false;
        } else if (!o) {
            return unknown_key(command, key, err);
        } else if (!add_option(o, v, config, err)) {
            return false;
        }
    }
    return true;
}

bool cli_config_parse(const cli_command *command, const char *text, size_t size, cli_config *ret, ps_error *err) {
    json_error_t where;
    *ret = (cli_config) { 0 };
    json_t *root = json_loadb(text, size, JSON_REJECT_DUPLICATES, &where);
    if (!root) return cli_config_fail(err, "line %d: %s", where.line, where.text);
    const bool ok = read_document(command, root, ret, err);
    json_decref(root);
    if (!ok) cli_config_release(ret);
    return ok;
}

void cli_config_model_release(cli_config_model *model) {
    free(model->name);
    free(model->path);
    free(model->states);
    *model = (cli_config_model) { 0 };
}

void cli_config_release(cli_config *config) {
    for (size_t i = 0; i < config->n_values; i++)
        free((char *)(uintptr_t)config->values[i].text);
    for (size_t i = 0; i < config->n_models; i++)
        cli_config_model_release(&config->models[i]);
    free(config->values);
    free(config->models);
    *config = (cli_config) { 0 };
}

/* ---- the file ---- */

static bool read_file(const char *path, char **ret_text, size_t *ret_size, ps_error *err) {
    FILE *file = fopen(path, "rb");
    if (!file) return cli_config_fail(err, "cannot be opened");
    char *text = cli_alloc(CLI_CONFIG_MAX + 1, 1);
    *ret_size = fread(text, 1, CLI_CONFIG_MAX + 1, file);
    const bool bad = ferror(file) != 0;
    fclose(file);
    *ret_text = text;
    if (!bad && *ret_size <= CLI_CONFIG_MAX) return true;
    free(text);
    *ret_text = NULL;
    return cli_config_fail(err, bad ? "cannot be read" : "is larger than a configuration may be (1 MiB)");
}

/* The file's values first: the last one of a name counts, so the command line wins. */
static void merge(const cli_args *args, const cli_config *config, cli_args *ret) {
    const size_t n = config->n_values + args->n_values;
    *ret = *args;
    ret->values = cli_alloc(n, sizeof *ret->values);
    if (config->n_values) memcpy(ret->values, config->values, config->n_values * sizeof *ret->values);
    if (args->n_values) memcpy(ret->values + config->n_values, args->values, args->n_values * sizeof *ret->values);
    ret->n_values = n;
}

int cli_config_apply(const cli_args *args, cli_args *ret, cli_config *ret_config) {
    const char *path = cli_get(args, "config");
    ps_error err = PS_ERROR_INIT;
    char *text = NULL;
    size_t size = 0;
    *ret_config = (cli_config) { 0 };
    if (path) {
        const bool ok =
            read_file(path, &text, &size, &err) && cli_config_parse(args->command, text, size, ret_config, &err);
        free(text);
        if (!ok) return cli_usage(args, "configuration '%s': %s", path, err.msg);
    }
    merge(args, ret_config, ret);
    return CLI_OK;
}
