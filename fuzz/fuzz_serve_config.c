/* fuzz_serve_config.c - any bytes as the configuration file of `polestar serve`. What is read is written again as JSON
 * and must read back as the same. */
#include <stdlib.h>
#include <string.h>

#include "cli.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* One of every kind. */
static const cli_option options[] = {
    { "host", CLI_TEXT, "ADDRESS", "", NULL },    { "http-port", CLI_TEXT, "PORT", "", NULL },
    { "config", CLI_FILE, "FILE", "", NULL },     { "quiet", CLI_FLAG, NULL, "", NULL },
    { "mode", CLI_WORDS, "auto|fp32", "", NULL }, CLI_OPT_END,
};

static const cli_command command = { "serve", "", CLI_FILE, "", "", options, 0, -1, NULL };

static json_t *write_again(const cli_config *c) {
    json_t *root = json_object(), *models = json_array();
    for (size_t i = 0; i < c->n_values; i++)
        json_object_set_new(root, c->values[i].option->name,
                            c->values[i].option->kind == CLI_FLAG ? json_true() : json_string(c->values[i].text));
    for (size_t i = 0; i < c->n_models; i++) {
        json_t *m = json_object();
        if (c->models[i].name) json_object_set_new(m, "name", json_string(c->models[i].name));
        json_object_set_new(m, "path", json_string(c->models[i].path));
        json_t *states = c->models[i].states ? json_loads(c->models[i].states, 0, NULL) : NULL;
        if (c->models[i].states && (!states || json_object_update(m, states) != 0)) abort();
        json_decref(states);
        json_array_append_new(models, m);
    }
    json_object_set_new(root, "models", models);
    return root;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    cli_config first, again;
    ps_error err = PS_ERROR_INIT;
    if (!cli_config_parse(&command, (const char *)data, size, &first, &err)) {
        if (!err.msg[0]) abort();
        return 0;
    }
    json_t *root = write_again(&first);
    char *text = json_dumps(root, 0);
    if (!text) abort();
    if (!cli_config_parse(&command, text, strlen(text), &again, &err)) abort();
    if (again.n_values != first.n_values || again.n_models != first.n_models) abort();
    for (size_t i = 0; i < first.n_models; i++) {
        const char *a = first.models[i].states, *b = again.models[i].states;
        if (strcmp(first.models[i].path, again.models[i].path) != 0) abort();
        if (!a != !b || (a && strcmp(a, b) != 0)) abort();
    }
    free(text);
    json_decref(root);
    cli_config_release(&first);
    cli_config_release(&again);
    return 0;
}
