/* doctor.c - looks at the machine and says what to do about what it finds. Linux. */
#include <arpa/inet.h>
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "cli.h"

typedef struct examination {
    json_t *checks;
    bool text;
    size_t to_fix;
} examination;

/* One line: "ok" or "fix", the subject, what was found and what to do. */
static void note(examination *e, bool ok, const char *subject, const char *fmt, ...) PS_PRINTF(4, 5);

static void note(examination *e, bool ok, const char *subject, const char *fmt, ...) {
    char text[512];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    if (!ok) e->to_fix++;
    if (e->text) printf("%-4s %-8s %s\n", ok ? "ok" : "fix", subject, text);
    json_array_append_new(e->checks,
                          json_pack("{s:b, s:s, s:o}", "ok", ok, "check", subject, "message", cli_json_text(text)));
}

/* First line of a small file, without the newline; false if it cannot be read. */
static bool read_line(const char *path, char *buf, size_t size) {
    FILE *f = fopen(path, "r");
    const bool ok = f && fgets(buf, (int)size, f);
    if (f) fclose(f);
    if (ok) buf[strcspn(buf, "\n")] = 0;
    return ok;
}

/* ---- processor ---- */

static void check_isa(examination *e) {
#if defined(__x86_64__) && defined(__GNUC__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512vnni"))
        note(e, true, "cpu", "AVX-512 with VNNI: the fastest kernels");
    else if (__builtin_cpu_supports("avx512bw"))
        note(e, true, "cpu", "AVX-512: the fastest kernels for f32");
    else if (__builtin_cpu_supports("avx2"))
        note(e, true, "cpu", "AVX2: fast kernels; AVX-512 would be up to twice as fast");
    else if (__builtin_cpu_supports("sse4.2"))
        note(e, true, "cpu",
             "SSE4.2 only: everything works, several times slower than with AVX2 (a virtual machine may "
             "hide it: look at its CPU model)");
    else
        note(e, false, "cpu", "no SSE4.2: this build needs x86-64-v2");
#else
    note(e, true, "cpu", "no x86-64: kernels of the compiler's choice");
#endif
}

/* CPUs the cgroup's quota pays for; 0: no quota. */
static double cgroup_quota(void) {
    char line[128];
    long long quota = 0, period = 0;
    if (read_line("/sys/fs/cgroup/cpu.max", line, sizeof line) && sscanf(line, "%lld %lld", &quota, &period) == 2 &&
        period > 0)
        return (double)quota / (double)period;
    if (read_line("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", line, sizeof line) && sscanf(line, "%lld", &quota) == 1 &&
        quota > 0 && read_line("/sys/fs/cgroup/cpu/cpu.cfs_period_us", line, sizeof line) &&
        sscanf(line, "%lld", &period) == 1 && period > 0)
        return (double)quota / (double)period;
    return 0;
}

static void check_threads(examination *e, const ps_engine *engine) {
    const long cores = sysconf(_SC_NPROCESSORS_ONLN);
    const double quota = cgroup_quota();
    if (quota > 0 && quota < 1)
        note(e, false, "threads", "the container's quota is %.2f of one CPU: give it at least one", quota);
    else if (quota > 0)
        note(e, true, "threads", "%d threads a run: a quota of %.1f CPUs on %ld cores", ps_engine_threads(engine),
             quota, cores);
    else
        note(e, true, "threads", "%d threads a run on %ld cores, no quota", ps_engine_threads(engine), cores);
}

static void check_memory(examination *e) {
    char line[128], total[32], available[32];
    unsigned long long kib = 0, all = 0;
    FILE *f = fopen("/proc/meminfo", "r");
    while (f && fgets(line, sizeof line, f)) {
        sscanf(line, "MemTotal: %llu kB", &all);
        sscanf(line, "MemAvailable: %llu kB", &kib);
    }
    if (f) fclose(f);
    unsigned long long limit = 0;
    if (read_line("/sys/fs/cgroup/memory.max", line, sizeof line)) sscanf(line, "%llu", &limit);
    if (limit && limit / 1024 < kib) kib = limit / 1024;
    if (!all) {
        note(e, true, "memory", "unknown: /proc/meminfo cannot be read");
        return;
    }
    cli_bytes_text((double)all * 1024, total, sizeof total);
    cli_bytes_text((double)kib * 1024, available, sizeof available);
    if (kib < 256 * 1024)
        note(e, false, "memory", "%s of %s available: less than small models need, end other programs or add memory",
             available, total);
    else
        note(e, true, "memory", "%s of %s available", available, total);
}

/* ---- GPU ---- */

/* OpenCL devices; without a card that is nothing to mend. */
static void check_gpu(examination *e, ps_engine *engine) {
    char text[512];
    bool told = false;
    for (size_t i = 0; i < ps_engine_device_count(engine); i++) {
        ps_device_info d = { .size = sizeof d };
        if (ps_engine_device_info(engine, i, &d) != PS_OK || strncmp(d.name, "opencl:", 7) != 0) continue;
        note(e, true, "gpu", "%s %s, %s", d.name, d.hardware, d.driver);
        told = true;
    }
    for (size_t i = 0; ps_engine_device_advice(engine, i, text, sizeof text) == PS_OK; i++) {
        const bool no_card = strncmp(text, "no graphics card", 16) == 0;
        note(e, no_card, "gpu", "%s%s", text, no_card ? ": models run on the CPU" : "");
        told = true;
    }
    if (!told) note(e, true, "gpu", "none: models run on the CPU");
}

/* ---- ports and cache ---- */

static bool port_free(int port) {
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };
    const int fd = socket(AF_INET, SOCK_STREAM, 0), on = 1;
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (fd < 0) return true; /* no network to be taken */
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    const bool ok = bind(fd, (struct sockaddr *)&a, sizeof a) == 0 || errno != EADDRINUSE;
    close(fd);
    return ok;
}

static void check_ports(examination *e) {
    char taken[64] = "";
    for (int port = 8000; port <= 8002; port++) {
        const size_t n = strlen(taken);
        if (!port_free(port)) snprintf(taken + n, sizeof taken - n, "%s%d", n ? ", " : "", port);
    }
    if (taken[0])
        note(e, false, "ports",
             "%s in use: 'polestar serve' needs another --http-port and --grpc-port, or end the program there", taken);
    else
        note(e, true, "ports", "8000, 8001 and 8002 are free");
}

static void ignore_entry(void *ctx, const ps_cache_info *info) {}

static void check_cache(examination *e, ps_engine *engine) {
    char folder[512] = "";
    ps_error err = PS_ERROR_INIT;
    if (ps_engine_cache_list(engine, ignore_entry, NULL, folder, sizeof folder, &err) != PS_OK)
        note(e, false, "cache", "%s", err.msg);
    else
        note(e, true, "cache", "%s", folder[0] ? folder : "off");
}

static int run_doctor(const cli_args *args) {
    examination e = { json_array(), !args->json, 0 };
    ps_engine *engine = NULL;
    int code = cli_engine_open(args, NULL, NULL, &engine);
    if (code == CLI_OK) {
        check_isa(&e);
        check_threads(&e, engine);
        check_memory(&e);
        check_gpu(&e, engine);
        check_ports(&e);
        check_cache(&e, engine);
    }
    ps_engine_free(engine);
    if (code == CLI_OK && args->json)
        code = cli_json_print(json_pack("{s:b, s:O}", "ok", e.to_fix == 0, "checks", e.checks));
    json_decref(e.checks);
    if (code == CLI_OK && e.to_fix) code = cli_fail(args, "%zu thing%s to fix", e.to_fix, e.to_fix == 1 ? "" : "s");
    return code;
}

static const cli_option options[] = { CLI_OPT_JSON, CLI_OPT_END };

const cli_command cli_doctor = {
    "doctor",
    "",
    CLI_FLAG,
    "look at this machine and say what to fix",
    "Checks processor, CPU quota, memory, GPU and its driver, ports and cache; exit code 1 if there is something to "
    "fix.",
    options,
    0,
    0,
    run_doctor,
};
