/* testset.c - the folders of test data that ONNX models come with. */
#include <dirent.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"

static const char prefix[] = "test_data_set_";

/* test_data_set_2 before test_data_set_10. */
static int by_number(const void *a, const void *b) {
    const char *x = *(char *const *)a, *y = *(char *const *)b;
    const size_t n = strlen(x), m = strlen(y);
    return n != m ? (n > m) - (n < m) : strcmp(x, y);
}

char **cli_test_sets(const char *dir, size_t *ret_n) {
    char **names = cli_alloc(1, sizeof *names);
    size_t n = 0;
    DIR *d = opendir(dir);
    for (struct dirent *e; d && (e = readdir(d));) {
        if (strncmp(e->d_name, prefix, sizeof prefix - 1) != 0) continue;
        names = cli_realloc(names, n + 1, sizeof *names);
        names[n++] = cli_format("%s", e->d_name);
    }
    if (d) closedir(d);
    qsort(names, n, sizeof *names, by_number);
    *ret_n = n;
    return names;
}

void cli_names_free(char **names, size_t n) {
    for (size_t i = 0; i < n; i++)
        free(names[i]);
    free(names);
}

typedef ps_status (*describe_fn)(const ps_model *model, size_t index, ps_value_info *ret);

/* KIND_0.pb, KIND_1.pb … as long as there are files. */
static ps_status load_all(ps_engine *engine, const ps_model *model, describe_fn describe, const char *dir,
                          const char *kind, ps_tensor ***ret, size_t *ret_n, ps_error *err) {
    ps_status status = PS_OK;
    for (size_t i = 0; status == PS_OK; i++) {
        char *path = cli_format("%s/%s_%zu.pb", dir, kind, i);
        const bool there = cli_is_file(path);
        ps_value_info info = { .size = sizeof info };
        describe(model, i, &info); /* beyond the last value: a tensor */
        if (there) {
            *ret = cli_realloc(*ret, i + 1, sizeof **ret);
            (*ret)[i] = NULL;
            *ret_n = i + 1;
            status = ps_tensor_load_as(engine, path, info.dtype, &(*ret)[i], err);
        }
        free(path);
        if (!there) break;
    }
    return status;
}

ps_status cli_test_set_load(ps_engine *engine, const ps_model *model, const char *path, cli_test_set *ret,
                            ps_error *err) {
    *ret = (cli_test_set) { .path = cli_format("%s", path) };
    ps_status status = load_all(engine, model, ps_model_input, path, "input", &ret->inputs, &ret->n_inputs, err);
    if (status == PS_OK)
        status = load_all(engine, model, ps_model_output, path, "output", &ret->outputs, &ret->n_outputs, err);
    return status;
}

void cli_test_set_release(cli_test_set *set) {
    cli_tensors_release(set->inputs, set->n_inputs);
    cli_tensors_release(set->outputs, set->n_outputs);
    free(set->inputs);
    free(set->outputs);
    free(set->path);
    *set = (cli_test_set) { 0 };
}
