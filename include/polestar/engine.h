/* engine.h - the process-wide object: allocator, log sink, devices, threads and the on-disk cache.
 *
 * Create one engine, load models with it, free it last. All functions may be called from any thread. */
#ifndef POLESTAR_ENGINE_H
#define POLESTAR_ENGINE_H

#include "polestar/error.h"
#include "polestar/tensor.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Where the library's memory comes from. alloc returns NULL on failure; align is a power of two, at least 16.
 * Both may be called from any thread at once. */
typedef struct ps_allocator {
    void *(*alloc)(void *ctx, size_t size, size_t align);
    void (*free)(void *ctx, void *ptr, size_t size);
    void *ctx;
} ps_allocator;

typedef enum ps_log_level { PS_LOG_ERROR, PS_LOG_WARN, PS_LOG_INFO, PS_LOG_DEBUG } ps_log_level;

/* One finished line without newline: "key=value key=value". Called from any thread. */
typedef void (*ps_log_fn)(void *ctx, ps_log_level level, const char *line);

typedef struct ps_engine_options {
    size_t size;                   /* sizeof(ps_engine_options), set by PS_ENGINE_OPTIONS_INIT */
    const ps_allocator *allocator; /* NULL: malloc. Copied. */
    ps_log_fn log;                 /* NULL: silent */
    void *log_ctx;
    int threads;           /* threads one run may use; 0: cgroup quota and affinity mask */
    const char *cache_dir; /* NULL: $XDG_CACHE_HOME/polestar or ~/.cache/polestar; "": no cache on disk */
    uint64_t cache_bytes; /* what may lie there; 0: 1 GiB. Oldest first, what is more goes with the next thing stored */
} ps_engine_options;

#define PS_ENGINE_OPTIONS_INIT                                                                                         \
    { sizeof(ps_engine_options), 0, 0, 0, 0, 0, 0 }

/* options may be NULL. */
PS_API ps_status ps_engine_create(const ps_engine_options *options, ps_engine **ret_engine, ps_error *reterr);
/* Every model and tensor of the engine must have been released before. NULL is allowed. */
PS_API void ps_engine_free(ps_engine *engine);
/* Threads one run may use by default. */
PS_API int ps_engine_threads(const ps_engine *engine);
/* Bytes now held through the engine's allocator, all models and sessions together, and the highest so far. */
PS_API size_t ps_engine_memory(const ps_engine *engine, size_t *ret_peak);

typedef struct ps_device_info {
    size_t size;          /* sizeof(ps_device_info) */
    const char *name;     /* "cpu", "opencl:0"; owned by the engine, like the other strings */
    const char *hardware; /* "AMD EPYC", "Radeon RX 580" */
    const char *driver;   /* "oneDNN 2.6.3 (AVX512_CORE_VNNI)" */
    uint64_t memory;      /* bytes usable, 0 if unknown */
    int units;            /* threads or compute units */
    const char *defaults; /* of OpenCL devices: the family whose tables of kernels are used, "GCN"; else NULL */
} ps_device_info;

/* Of a device with memory of its own ("gpu": the first such): what models and sessions hold there, and the most that
 * they may (all that the device has, unless ps_engine_limit_device set less). 0 and 0 for devices that work in the
 * host's memory. Any thread. */
PS_API ps_status ps_engine_device_memory(ps_engine *engine, const char *device, size_t *ret_held, size_t *ret_limit,
                                         ps_error *reterr);
/* From now on what would go beyond is PS_NO_MEMORY; what is held stays. bytes 0: all that the device has. A device
 * without memory of its own is PS_INVALID. */
PS_API ps_status ps_engine_limit_device(ps_engine *engine, const char *device, size_t bytes, ps_error *reterr);

/* What a device with memory of its own reaches, a second: f32 operations (two a multiply-add), and bytes read and
 * written by a copy within its memory. Takes some tens of milliseconds on a graphics card, and 128 MiB of
 * its memory. PS_UNSUPPORTED for devices that work in the host's memory. Any thread. */
PS_API ps_status ps_engine_measure_device(ps_engine *engine, const char *device, double *ret_flops,
                                          double *ret_bytes, ps_error *reterr);

/* "cpu" and "ref" are always there. The others are looked for when they are first asked for (here, or by a model that
 * names one), because that loads drivers. PS_INVALID: ret_info->size is not this library's; PS_NOT_FOUND: there are not
 * so many. */
PS_API size_t ps_engine_device_count(ps_engine *engine);
PS_API ps_status ps_engine_device_info(ps_engine *engine, size_t index, ps_device_info *ret_info);
/* Of the device that a model with this ps_model_options.device would be on: NULL, "auto" and "gpu" too, no list. */
PS_API ps_status ps_engine_find_device(ps_engine *engine, const char *device, ps_device_info *ret_info,
                                       ps_error *reterr);
/* What keeps a graphics card of this machine from being used and the command that mends it, a sentence each: index 0 …
 * until PS_NOT_FOUND. Truncated to size. */
PS_API ps_status ps_engine_device_advice(ps_engine *engine, size_t index, char *text, size_t size);

/* One entry of the cache on disk; strings live during the call. */
typedef struct ps_cache_info {
    size_t size;
    const char *kind, *version, *target; /* what it is, of which version of the library, for which device */
    uint64_t bytes;
    int64_t last_used_ns; /* since 1970 */
} ps_cache_info;

/* Calls fn for every entry, most recently used first, and writes the cache's folder to folder ("" if there is none; may
 * be NULL). Fails if the folder is not safe to use: another user's, or writable by others. */
PS_API ps_status ps_engine_cache_list(ps_engine *engine, void (*fn)(void *ctx, const ps_cache_info *info), void *ctx,
                                      char *folder, size_t folder_size, ps_error *reterr);
/* Deletes all entries; nothing in the cache is ever needed. ret_removed may be NULL. */
PS_API ps_status ps_engine_cache_clear(ps_engine *engine, size_t *ret_removed, ps_error *reterr);

/* "1.2.3" of the library; static storage. */
PS_API const char *ps_version(void);
/* One line naming the libraries polestar was built with; static storage. */
PS_API const char *ps_build_info(void);

#ifdef __cplusplus
}
#endif
#endif
