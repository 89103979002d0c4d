/* discover.c - platforms and devices of OpenCL, graphics cards first. */
#include "backend/opencl/opencl_int.h"

#define MAX_PLATFORMS 16
#define MAX_IDS 16

typedef struct found {
    cl_platform_id platform;
    cl_device_id id;
    cl_device_type type;
} found;

typedef struct search {
    ps_alloc_state *alloc;
    ocl_api api;
    found list[MAX_PLATFORMS * MAX_IDS];
    size_t n, n_gpus;
    ps_str platforms; /* names, a line each */
    ps_str *advice;
} search;

/* ---- facts about a device ---- */

static void text_of(const ocl_api *api, cl_device_id id, cl_device_info what, char *buf, size_t size) {
    buf[0] = 0;
    if (api->clGetDeviceInfo(id, what, size, buf, NULL) != CL_SUCCESS) buf[0] = 0;
    buf[size - 1] = 0;
    size_t n = strlen(buf);
    while (n && buf[n - 1] == ' ')
        buf[--n] = 0;
}

static uint64_t number_of(const ocl_api *api, cl_device_id id, cl_device_info what) {
    uint64_t v = 0; /* little-endian, as every device that is taken: shorter answers fill the low bytes */
    return api->clGetDeviceInfo(id, what, sizeof v, &v, NULL) == CL_SUCCESS ? v : 0;
}

/* "OpenCL 1.2 …" → 12 */
static int version_of(const ocl_api *api, cl_device_id id) {
    char text[128];
    text_of(api, id, CL_DEVICE_VERSION, text, sizeof text);
    if (strncmp(text, "OpenCL ", 7) != 0 || text[7] < '0' || text[7] > '9' || text[8] != '.') return 0;
    return (text[7] - '0') * 10 + (text[9] >= '0' && text[9] <= '9' ? text[9] - '0' : 0);
}

/* NULL: it can be used. */
static const char *unfit(const ocl_api *api, cl_device_id id) {
    if (!number_of(api, id, CL_DEVICE_AVAILABLE)) return "it is not available";
    if (!number_of(api, id, CL_DEVICE_COMPILER_AVAILABLE)) return "its driver has no compiler";
    if (version_of(api, id) < 12) return "its driver ends below OpenCL 1.2";
    if (!number_of(api, id, CL_DEVICE_ENDIAN_LITTLE)) return "it is big-endian";
    if (number_of(api, id, CL_DEVICE_MAX_WORK_GROUP_SIZE) < 64) return "its work-groups have less than 64 items";
    if (number_of(api, id, CL_DEVICE_LOCAL_MEM_SIZE) < 16384) return "it has less than 16 KiB of local memory";
    return NULL;
}

/* ---- finding ---- */

static void add_device(search *s, cl_platform_id platform, cl_device_id id) {
    char name[96];
    const char *why = unfit(&s->api, id);
    text_of(&s->api, id, CL_DEVICE_NAME, name, sizeof name);
    if (why) {
        ps_str_printf(s->advice, "OpenCL device '%s' is not used: %s\n", name, why);
        return;
    }
    if (s->n == sizeof s->list / sizeof *s->list) return;
    s->list[s->n++] = (found) { platform, id, number_of(&s->api, id, CL_DEVICE_TYPE) };
}

static void search_platform(search *s, cl_platform_id platform) {
    cl_device_id ids[MAX_IDS];
    cl_uint n = 0;
    char name[128] = "";
    s->api.clGetPlatformInfo(platform, CL_PLATFORM_NAME, sizeof name - 1, name, NULL);
    ps_str_printf(&s->platforms, "%s\n", name);
    if (s->api.clGetDeviceIDs(platform, CL_DEVICE_TYPE_ALL, MAX_IDS, ids, &n) != CL_SUCCESS) return;
    for (cl_uint i = 0; i < n && i < MAX_IDS; i++)
        add_device(s, platform, ids[i]);
}

static void find_all(search *s) {
    cl_platform_id ids[MAX_PLATFORMS];
    cl_uint n = 0;
    if (s->api.clGetPlatformIDs(MAX_PLATFORMS, ids, &n) != CL_SUCCESS) return;
    for (cl_uint i = 0; i < n && i < MAX_PLATFORMS; i++)
        search_platform(s, ids[i]);
}

/* ---- devices ---- */

const ps_caps ps_devices_found_caps = { true, true, true, true, PS_MAX_POSTS, true, false, true, true };

#define SIMDS_OF_UNIT_AMD 0x4040 /* CL_DEVICE_SIMD_PER_COMPUTE_UNIT_AMD */
#define WAVE_WIDTH_AMD 0x4043    /* CL_DEVICE_WAVEFRONT_WIDTH_AMD */
#define INTEL_UNITS 8            /* that a work-group is spread over: a subslice's */

#define MOST_GROUPS_NVIDIA 65535 /* of a CUDA grid in y and z, which the driver's OpenCL does not say */

/* Family, and units with what fills them. AMD's drivers count RDNA's units in pairs, with four SIMDs each, Mesa one by
 * one, and does not say. */
static void find_family(ocl_device *d) {
    const ocl_api *api = &d->api;
    char maker[128];
    text_of(api, d->id, CL_DEVICE_VENDOR, maker, sizeof maker);
    const uint32_t vendor = (uint32_t)number_of(api, d->id, CL_DEVICE_VENDOR_ID);
    const ocl_facts facts = { d->gpu, vendor, (uint32_t)number_of(api, d->id, WAVE_WIDTH_AMD), d->base.hardware,
                              maker };
    d->family = ocl_family_of(&facts);
    d->filled = ocl_table_of(d->family)->filled;
    d->most_groups = d->family == OCL_NVIDIA ? MOST_GROUPS_NVIDIA : SIZE_MAX;
    d->units = (int64_t)(number_of(api, d->id, CL_DEVICE_MAX_COMPUTE_UNITS) & 0xffff);
    const uint64_t simds = d->family == OCL_RDNA ? number_of(api, d->id, SIMDS_OF_UNIT_AMD) & 0xff : 0;
    if (simds) d->filled = 32 * (int)simds;
    if (d->family == OCL_INTEL) d->units /= INTEL_UNITS;
    if (d->units < 1) d->units = 1;
}

static void describe(ocl_device *d) {
    const ocl_api *api = &d->api;
    char platform[128] = "", driver[64];
    ps_device *base = &d->base;
    api->clGetPlatformInfo(d->platform, CL_PLATFORM_VERSION, sizeof platform - 1, platform, NULL);
    text_of(api, d->id, CL_DEVICE_NAME, base->hardware, sizeof base->hardware);
    text_of(api, d->id, CL_DRIVER_VERSION, driver, sizeof driver);
    ps_snprintf(base->name, sizeof base->name, "opencl:%zu", d->index);
    ps_snprintf(base->driver, sizeof base->driver, "%.48s, driver %.32s", platform, driver);
    ps_snprintf(d->target, sizeof d->target, "%s, %s, %s", base->hardware, platform, driver);
    d->largest = (size_t)number_of(api, d->id, CL_DEVICE_MAX_MEM_ALLOC_SIZE);
    d->most_items = (size_t)number_of(api, d->id, CL_DEVICE_MAX_WORK_GROUP_SIZE);
    d->base.shares_memory = number_of(api, d->id, CL_DEVICE_HOST_UNIFIED_MEMORY) != 0;
    find_family(d);
    base->info = (ps_device_info) { sizeof base->info,
                                    base->name,
                                    base->hardware,
                                    base->driver,
                                    number_of(api, d->id, CL_DEVICE_GLOBAL_MEM_SIZE),
                                    (int)number_of(api, d->id, CL_DEVICE_MAX_COMPUTE_UNITS),
                                    ocl_table_of(d->family)->name };
    base->caps = ps_devices_found_caps;
    d->dot = ocl_find_dot(d);
    base->caps.int8 = d->dot != OCL_DOT_NONE;
}

static ps_status open_device(ocl_device *d, ps_error *err) {
    const cl_context_properties properties[] = { CL_CONTEXT_PLATFORM, (cl_context_properties)d->platform, 0 };
    cl_int code;
    d->context = d->api.clCreateContext(properties, 1, &d->id, NULL, NULL, &code);
    if (!d->context) return ocl_fail(d, "clCreateContext", code, err);
    d->queue = d->api.clCreateCommandQueue(d->context, d->id, 0, &code);
    if (!d->queue) return ocl_fail(d, "clCreateCommandQueue", code, err);
    d->probe = d->api.clCreateBuffer(d->context, CL_MEM_READ_WRITE, sizeof(cl_int), NULL, &code);
    return d->probe ? PS_OK : ocl_fail(d, "clCreateBuffer", code, err);
}

/* Taken over from `known`: api, platform, id, type, index and cache. */
static ps_status new_device(ps_alloc_state *alloc, const ocl_device *known, ps_device **ret, ps_error *err) {
    ocl_device *d = ps_alloc_zero(alloc, sizeof *d);
    if (!d) return PS_FAIL_NOMEM(err, "a device");
    d->base.ops = &ocl_device_ops;
    d->base.alloc = alloc;
    d->api = known->api;
    d->platform = known->platform;
    d->id = known->id;
    d->type = known->type;
    d->index = known->index;
    d->gpu = (d->type & CL_DEVICE_TYPE_GPU) != 0;
    atomic_init(&d->base.held, 0);
    atomic_init(&d->base.limit, 0);
    atomic_init(&d->lost, false);
    ps_map_init(&d->programs, alloc);
    if (!ps_mutex_init(&d->lock)) {
        ps_free(alloc, d);
        return PS_FAIL_NOMEM(err, "a lock");
    }
    describe(d);
    ps_status status = open_device(d, err);
    if (status != PS_OK) {
        ps_device_free(&d->base);
        return status;
    }
    d->cache = known->cache;
    *ret = &d->base;
    return PS_OK;
}

ps_status ocl_reopen(ps_device *device, ps_device **ret, ps_error *err) {
    return new_device(device->alloc, ocl_of(device), ret, err);
}

/* One driver that fails must not hide the others. */
static void add_devices(search *s, bool gpus, ps_cache *cache, ps_device **ret, size_t max, size_t *ret_n,
                        size_t *index) {
    for (size_t i = 0; i < s->n && *ret_n < max; i++) {
        ps_error err = PS_ERROR_INIT;
        const found *f = &s->list[i];
        if (((f->type & CL_DEVICE_TYPE_GPU) != 0) != gpus) continue;
        const ocl_device known = {
            .api = s->api, .platform = f->platform, .id = f->id, .type = f->type, .index = *index, .cache = cache
        };
        if (new_device(s->alloc, &known, &ret[*ret_n], &err) != PS_OK) {
            ps_str_printf(s->advice, "%s\n", err.msg);
            continue;
        }
        ++*ret_n;
        ++*index;
        s->n_gpus += gpus;
    }
}

void ps_devices_prepare(void) {
    ocl_prepare_environment("");
}

ps_status ps_devices_discover(ps_alloc_state *alloc, ps_cache *cache, ps_device **ret, size_t max, size_t *ret_n,
                              ps_str *advice, ps_error *err) {
    search *s = ps_alloc_zero(alloc, sizeof *s);
    size_t index = 0;
    if (!s) return PS_FAIL_NOMEM(err, "the search for devices");
    s->alloc = alloc;
    s->advice = advice;
    ps_str_init(&s->platforms, alloc);
    const bool loader = ocl_api_open(&s->api, NULL) == PS_OK;
    if (loader) {
        find_all(s);
        add_devices(s, true, cache, ret, max, ret_n, &index);
        add_devices(s, false, cache, ret, max, ret_n, &index);
    }
    ps_status status = ocl_advise(alloc, "", loader, s->platforms.data, s->n_gpus, advice, err);
    ps_str_release(&s->platforms);
    ps_free(alloc, s);
    return status;
}
