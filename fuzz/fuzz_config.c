/* fuzz_config.c - any bytes as MODEL.preprocess.json, the one file of settings: read, or refused with a sentence. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/os.h"
#include "io/io.h"
#include "polestar/engine.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char path[64];

static void forget(void) {
    unlink(path);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static ps_engine *engine;
    ps_preprocess p;
    ps_error err = PS_ERROR_INIT;
    if (!engine) {
        ps_engine_options o = PS_ENGINE_OPTIONS_INIT;
        o.threads = 1;
        o.cache_dir = "";
        if (ps_engine_create(&o, &engine, NULL) != PS_OK) abort();
        snprintf(path, sizeof path, "/tmp/polestar-fuzz-%ld.json", (long)getpid());
        atexit(forget);
    }
    FILE *f = fopen(path, "wb");
    if (!f) return 0;
    size_t n = fwrite(data, 1, size, f);
    if (fclose(f) != 0 || n != size) return 0;
    size_t before = ps_engine_memory(engine, NULL);
    ps_preprocess_init(&p);
    ps_status status = ps_preprocess_load(engine, path, &p, &err);
    if (status == PS_OK ? ps_preprocess_check(&p, "what was read", &err) != PS_OK : !err.msg[0]) abort();
    if (ps_engine_memory(engine, NULL) != before) abort(); /* a leak */
    return 0;
}
