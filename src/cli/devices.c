/* devices.c - `polestar devices`. */
#include <string.h>

#include "cli.h"

static json_t *device_json(const ps_device_info *d) {
    return json_pack("{s:o, s:o, s:o, s:I, s:i, s:s?}", "name", cli_json_text(d->name), "hardware",
                     cli_json_text(d->hardware), "driver", cli_json_text(d->driver), "memory", (json_int_t)d->memory,
                     "units", d->units, "defaults", d->defaults);
}

/* Of devices that can be measured: "cpu" and "ref" cannot. What fails is said, and is no failure of the list. */
static void measure(const cli_args *args, ps_engine *engine, const char *name, json_t *row) {
    double flops, bytes;
    ps_error err = PS_ERROR_INIT;
    const ps_status status = ps_engine_measure_device(engine, name, &flops, &bytes, &err);
    if (status == PS_UNSUPPORTED) return;
    if (status != PS_OK) {
        json_object_set_new(row, "error", cli_json_text(err.msg));
        if (!args->json) printf("%-10s not measured: %s\n", "", err.msg);
        return;
    }
    json_object_set_new(row, "flops", json_real(flops));
    json_object_set_new(row, "bytes_per_second", json_real(bytes));
    if (!args->json)
        printf("%-10s %.2f TFLOP/s by multiply-adds, copies at %.0f GB/s\n", "", flops / 1e12, bytes / 1e9);
}

/* What keeps a card from being used, a line each. */
static json_t *print_advice(const cli_args *args, ps_engine *engine) {
    json_t *list = json_array();
    char text[512];
    for (size_t i = 0; ps_engine_device_advice(engine, i, text, sizeof text) == PS_OK; i++) {
        json_array_append_new(list, cli_json_text(text));
        if (!args->json) printf("%-10s %s\n", i ? "" : "note", text);
    }
    return list;
}

static int run_devices(const cli_args *args) {
    ps_engine *engine;
    const int code = cli_engine_open(args, NULL, NULL, &engine);
    if (code != CLI_OK) return code;
    json_t *list = json_array();
    char memory[32];
    for (size_t i = 0; i < ps_engine_device_count(engine); i++) {
        ps_device_info d = { .size = sizeof d };
        ps_engine_device_info(engine, i, &d);
        json_t *row = device_json(&d);
        if (!args->json)
            printf("%-10s %s, %d %s, %s, %s%s%s\n", d.name, d.hardware, d.units,
                   strcmp(d.name, "cpu") == 0 || strcmp(d.name, "ref") == 0 ? "threads" : "units",
                   d.memory ? cli_bytes_text((double)d.memory, memory, sizeof memory) : "memory unknown", d.driver,
                   d.defaults ? ", defaults for " : "", d.defaults ? d.defaults : "");
        if (cli_has(args, "measure")) measure(args, engine, d.name, row);
        json_array_append_new(list, row);
    }
    json_t *advice = print_advice(args, engine);
    ps_engine_free(engine);
    if (args->json) return cli_json_print(json_pack("{s:o, s:o}", "devices", list, "advice", advice));
    json_decref(list);
    json_decref(advice);
    return CLI_OK;
}

static const cli_option options[] = {
    { "measure", CLI_FLAG, NULL, "also what each OpenCL device reaches: multiply-adds and bytes copied a second",
      NULL },
    CLI_OPT_JSON,
    CLI_OPT_END,
};

const cli_command cli_devices = {
    "devices",
    "",
    CLI_FLAG,
    "list the devices models can run on",
    "OpenCL devices are looked for, graphics cards first; a note says what keeps a card from being used, and the "
    "command "
    "that mends it.",
    options,
    0,
    0,
    run_devices,
};
