/* program.c - OpenCL programs: compiled once a device, and kept on disk for the next start.
 *
 * The key on disk is everything the binary depends on: the whole source with its options, device and driver. A binary
 * that the driver does not take any more is compiled anew. */
#include "backend/opencl/opencl_int.h"
#include "backend/opencl/source.h"

/* a*b+c may be one instruction; nothing is assumed about NaN and infinities, which masks need. */
#define OPTIONS "-cl-std=CL1.2 -cl-mad-enable -cl-denorms-are-zero -w "

static const char *source_of(const char *name) {
    const ocl_source *s = ocl_sources;
    while (s->name && strcmp(s->name, name) != 0)
        s++;
    return s->text;
}

/* "" until something is wrong; the log is the driver's and may be long. */
static void build_log(ocl_device *d, cl_program program, char *buf, size_t size) {
    char text[2048] = "";
    size_t n = 0;
    d->api.clGetProgramBuildInfo(program, d->id, CL_PROGRAM_BUILD_LOG, sizeof text - 1, text, &n);
    text[sizeof text - 1] = 0;
    for (char *c = text; *c; c++)
        if ((unsigned char)*c < ' ') *c = ' ';
    ps_snprintf(buf, size, "%.300s", text);
}

static ps_status build(ocl_device *d, cl_program program, const char *name, const char *options, ps_error *err) {
    char log[320];
    cl_int code = d->api.clBuildProgram(program, 1, &d->id, options, NULL, NULL);
    if (code == CL_SUCCESS) return PS_OK;
    if (code != CL_BUILD_PROGRAM_FAILURE) return ocl_fail(d, "clBuildProgram", code, err);
    build_log(d, program, log, sizeof log);
    return PS_FAIL(err, UNSUPPORTED, "device '%s' cannot compile the kernel '%s' (%s): %s", d->base.name, name,
                   ocl_code_name(code), log);
}

/* ---- on disk ---- */

typedef struct disk_key {
    uint64_t digest[2];
    ps_cache_key key;
} disk_key;

static void make_disk_key(const ocl_device *d, const char *source, const char *options, disk_key *ret) {
    ret->digest[0] = ps_hash_bytes(source, strlen(source), 1);
    ret->digest[1] = ps_hash_bytes(options, strlen(options), ps_hash_bytes(source, strlen(source), 2));
    ret->key = (ps_cache_key) { "opencl-program", ret->digest, sizeof ret->digest, PS_VERSION, d->target };
}

static cl_program from_disk(ocl_device *d, const disk_key *k, const char *name, const char *options) {
    void *data = NULL;
    size_t size = 0;
    cl_int code, binary_code;
    if (ps_cache_get(d->cache, &k->key, &data, &size, NULL) != PS_OK) return NULL;
    const unsigned char *bytes = data;
    cl_program p = d->api.clCreateProgramWithBinary(d->context, 1, &d->id, &size, &bytes, &binary_code, &code);
    if (p && (code != CL_SUCCESS || build(d, p, name, options, NULL) != PS_OK)) {
        d->api.clReleaseProgram(p);
        p = NULL;
    }
    ps_free(d->base.alloc, data);
    return p;
}

/* Whether it works or not: the next start then compiles again. */
static void to_disk(ocl_device *d, const disk_key *k, cl_program p) {
    size_t size = 0;
    if (!d->cache) return;
    if (d->api.clGetProgramInfo(p, CL_PROGRAM_BINARY_SIZES, sizeof size, &size, NULL) != CL_SUCCESS || !size) return;
    unsigned char *bytes = ps_alloc(d->base.alloc, size);
    if (bytes && d->api.clGetProgramInfo(p, CL_PROGRAM_BINARIES, sizeof bytes, &bytes, NULL) == CL_SUCCESS)
        ps_cache_put(d->cache, &k->key, bytes, size, NULL);
    ps_free(d->base.alloc, bytes);
}

/* ---- getting one ---- */

static ps_status compile(ocl_device *d, const char *name, const char *source, const char *options, cl_program *ret,
                         ps_error *err) {
    disk_key key;
    cl_int code;
    make_disk_key(d, source, options, &key);
    *ret = from_disk(d, &key, name, options);
    if (*ret) return PS_OK;
    *ret = d->api.clCreateProgramWithSource(d->context, 1, &source, NULL, &code);
    if (!*ret) return ocl_fail(d, "clCreateProgramWithSource", code, err);
    ps_status status = build(d, *ret, name, options, err);
    if (status != PS_OK) {
        d->api.clReleaseProgram(*ret);
        *ret = NULL;
        return status;
    }
    to_disk(d, &key, *ret);
    return PS_OK;
}

static ps_status make(ocl_device *d, const char *key, const char *name, const char *options, const char *text,
                      ocl_program **ret, ps_error *err) {
    ps_str source, all;
    ocl_program *p = ps_alloc_zero(d->base.alloc, sizeof *p);
    ps_status status = PS_OK;
    ps_str_init(&source, d->base.alloc);
    ps_str_init(&all, d->base.alloc);
    ps_str_printf(&source, "%s\n%s\n%s", source_of("common"), text, source_of(name));
    ps_str_printf(&all, "%s%s", OPTIONS, options);
    if (p) p->key = ps_strdup(d->base.alloc, key);
    if (!p || !p->key || source.failed || all.failed) status = PS_FAIL_NOMEM(err, "a program");
    if (status == PS_OK) status = compile(d, name, source.data, all.data, &p->handle, err);
    if (status == PS_OK && !ps_map_put(&d->programs, p->key, p)) status = PS_FAIL_NOMEM(err, "a program");
    ps_str_release(&source);
    ps_str_release(&all);
    if (status != PS_OK) {
        if (p && p->handle) d->api.clReleaseProgram(p->handle);
        if (p) ps_free(d->base.alloc, p->key);
        ps_free(d->base.alloc, p);
        return status;
    }
    *ret = p;
    return PS_OK;
}

ps_status ocl_program_get(ocl_device *d, const char *name, const char *options, const char *text, ocl_program **ret,
                          ps_error *err) {
    ps_str key;
    PS_FAIL_IF(!source_of(name), err, INTERNAL, "there is no kernel file '%s'", name);
    ps_str_init(&key, d->base.alloc);
    ps_str_printf(&key, "%s\n%s\n%s", name, options, text);
    if (key.failed) {
        ps_str_release(&key);
        return PS_FAIL_NOMEM(err, "a program");
    }
    ps_status status = PS_OK;
    ps_mutex_lock(&d->lock);
    *ret = ps_map_get(&d->programs, key.data);
    if (!*ret) status = make(d, key.data, name, options, text, ret, err);
    ps_mutex_unlock(&d->lock);
    ps_str_release(&key);
    return status;
}

uint64_t ocl_program_version(const char *name) {
    const char *common = source_of("common"), *text = source_of(name);
    return ps_hash_bytes(text, strlen(text), ps_hash_bytes(common, strlen(common), 0));
}

void ocl_programs_free(ocl_device *d) {
    for (size_t i = 0; i < d->programs.room; i++) {
        ocl_program *p = d->programs.slots[i].value;
        if (!p) continue;
        d->api.clReleaseProgram(p->handle);
        ps_free(d->base.alloc, p->key);
        ps_free(d->base.alloc, p);
    }
    ps_map_release(&d->programs);
}
