/* preprocess.c - how photos become a model's input: --preset, --image-*, MODEL.preprocess.json. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"

/* One number for all channels, or three. */
static bool parse_channels(const cli_args *args, const char *name, float ret[3]) {
    const char *text = cli_get(args, name);
    if (!text) return true;
    size_t n = 0;
    for (const char *at = text; n < 3; n++) {
        char *end;
        ret[n] = strtof(at, &end);
        if (end == at || !isfinite(ret[n]) || (*end && *end != ',')) break;
        if (!*end) {
            if (n == 0) ret[1] = ret[2] = ret[0];
            if (n != 1) return true;
            break;
        }
        at = end + 1;
    }
    cli_usage(args, "--%s is one number or three (123.7,116.3,103.5), not '%s'", name, text);
    return false;
}

/* MODEL.preprocess.json beside MODEL.onnx, if it is there. free() it. */
static char *preprocess_path(const char *model) {
    size_t n = strlen(model);
    if (n > 4 && strcmp(model + n - 4, ".zst") == 0) n -= 4;
    if (n > 5 && memcmp(model + n - 5, ".onnx", 5) == 0) n -= 5;
    if (n > 4 && memcmp(model + n - 4, ".pt2", 4) == 0) n -= 4;
    return cli_format("%.*s.preprocess.json", (int)n, model);
}

/* Preset or file, then flags. */
int cli_preprocess(const cli_args *args, ps_engine *engine, const char *model, ps_preprocess *ret) {
    ps_error err = PS_ERROR_INIT;
    const char *preset = cli_get(args, "preset");
    char *beside = preprocess_path(model);
    ps_status status = PS_OK;
    ret->size_of = sizeof *ret;
    ps_preprocess_init(ret);
    if (preset)
        status = ps_preprocess_preset(preset, ret, &err);
    else if (cli_is_file(beside))
        status = ps_preprocess_load(engine, beside, ret, &err);
    free(beside);
    if (status != PS_OK) return preset ? cli_usage(args, "%s", err.msg) : cli_fail_error(args, &err);
    if (!cli_get_int(args, "image-size", 1, 16384, &ret->size)) return CLI_USAGE;
    if (!cli_get_int(args, "image-resize", 0, 16384, &ret->resize)) return CLI_USAGE;
    if (!parse_channels(args, "image-mean", ret->mean)) return CLI_USAGE;
    if (!parse_channels(args, "image-std", ret->std)) return CLI_USAGE;
    return CLI_OK;
}
