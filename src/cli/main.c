/* main.c - the command table and its dispatch. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli.h"

extern const cli_command cli_bench, cli_cache, cli_completion, cli_compress, cli_devices, cli_doctor, cli_help,
    cli_inspect, cli_man, cli_run, cli_tune, cli_verify, cli_version;
#ifdef PS_WITH_SERVER
extern const cli_command cli_demo, cli_serve;
#endif

const cli_command *const cli_commands[] = {
    &cli_inspect, &cli_run,     &cli_verify, &cli_bench, &cli_compress,
#ifdef PS_WITH_SERVER
    &cli_serve,   &cli_demo,
#endif
    &cli_tune,    &cli_devices, &cli_doctor, &cli_cache, &cli_completion, &cli_man, &cli_version, &cli_help, NULL,
};

const cli_command *cli_command_find(const char *name) {
    for (size_t i = 0; cli_commands[i]; i++)
        if (strcmp(cli_commands[i]->name, name) == 0) return cli_commands[i];
    return NULL;
}

static const char *next_command(const void *ctx, size_t i) {
    return cli_commands[i] ? cli_commands[i]->name : NULL;
}

int cli_unknown_command(const char *name) {
    const char *near = cli_nearest(name, next_command, NULL);
    if (near)
        fprintf(stderr, "polestar: no command '%s'; did you mean '%s'?\n", name, near);
    else
        fprintf(stderr, "polestar: no command '%s'; 'polestar help' lists them\n", name);
    return CLI_USAGE;
}

static int run_command(const cli_command *command, int argc, char **argv) {
    cli_args args;
    bool help = false;
    int code = cli_args_parse(command, argc, argv, &args, &help);
    if (help)
        cli_print_help(command, stdout);
    else if (code == CLI_OK)
        code = command->run(&args);
    cli_args_release(&args);
    return code;
}

/* libgomp's threads spin for milliseconds at every barrier before they sleep. When anything else runs on the machine, a
 * spinning thread keeps the very thread it waits for from running: measured on two busy cores, runs took 20 times as
 * long. A short spin costs nothing on an idle machine. libgomp reads this once, before main: so start again with it. */
static void spin_briefly(const cli_command *command, char **argv) {
    const cli_command *const running[] = {
        &cli_run,   &cli_verify, &cli_bench, &cli_inspect, &cli_compress,
#ifdef PS_WITH_SERVER
        &cli_serve, &cli_demo,
#endif
    };
    if (getenv("GOMP_SPINCOUNT") || getenv("OMP_WAIT_POLICY")) return;
    for (size_t i = 0; i < sizeof running / sizeof *running; i++) {
        if (running[i] != command) continue;
        if (setenv("GOMP_SPINCOUNT", "2000", 0) == 0) execv("/proc/self/exe", argv); /* if that fails: go on as it is */
        return;
    }
}

int main(int argc, char **argv) {
    if (argc < 2) {
        cli_print_overview(stderr);
        return CLI_USAGE;
    }
    const char *name = argv[1];
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0) name = "help";
    if (strcmp(name, "--version") == 0 || strcmp(name, "-V") == 0) name = "version";
    const cli_command *command = cli_command_find(name);
    if (!command) return cli_unknown_command(name);
    spin_briefly(command, argv);
    int code = run_command(command, argc - 2, argv + 2);
    if (fflush(stdout) != 0 && code == CLI_OK) {
        fprintf(stderr, "polestar: standard output could not be written\n");
        code = CLI_FAILED;
    }
    return code;
}
