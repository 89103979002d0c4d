/* version.c - `polestar version`. */
#include "cli.h"

static int run_version(const cli_args *args) {
    if (args->json) return cli_json_print(json_pack("{s:s, s:s}", "version", ps_version(), "build", ps_build_info()));
    printf("polestar %s\n%s\n", ps_version(), ps_build_info());
    return CLI_OK;
}

static const cli_option options[] = { CLI_OPT_JSON, CLI_OPT_END };

const cli_command cli_version = {
    "version", "", CLI_FLAG, "print version and build", NULL, options, 0, 0, run_version,
};
