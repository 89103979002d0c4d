/* os_machine.c - what this process may use of the machine: CPUs, memory (Linux).
 * Sources: cgroup v1 (Documentation/admin-guide/cgroup-v1), cgroup v2 (cgroup-v2.rst), proc(5) for mountinfo. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* sched_getaffinity */
#endif
#include "base/os_machine.h"

#include <ctype.h>
#include <dlfcn.h>
#include <limits.h>
#include <malloc.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "base/os.h"
#include "base/str.h"

enum { LINE_SIZE = 8192 };

/* Reads the next line without its newline; the rest of one longer than size is skipped. */
static bool next_line(FILE *f, char *line, size_t size) {
    if (!fgets(line, (int)size, f)) return false;
    size_t n = strlen(line);
    if (n && line[n - 1] == '\n') {
        line[n - 1] = 0;
        return true;
    }
    for (int c = fgetc(f); c != EOF && c != '\n'; c = fgetc(f)) {
    }
    return true;
}

static bool read_first_line(const char *path, char *line, size_t size) {
    FILE *f = fopen(path, "re");
    if (!f) return false;
    bool ok = next_line(f, line, size);
    fclose(f);
    return ok;
}

/* Is `word` an element of the comma-separated list? */
static bool list_has(const char *list, const char *word) {
    size_t n = strlen(word);
    for (const char *p = list; (p = strstr(p, word)); p += n) {
        if ((p == list || p[-1] == ',') && (p[n] == 0 || p[n] == ',')) return true;
    }
    return false;
}

/* Path of this process in the hierarchy of a v1 controller, or of v2 when controller is NULL. */
static bool own_path(const char *root, const char *controller, char *ret, size_t size) {
    char file[PATH_MAX], line[LINE_SIZE];
    ps_snprintf(file, sizeof file, "%s/proc/self/cgroup", root);
    FILE *f = fopen(file, "re");
    if (!f) return false;
    bool found = false;
    while (!found && next_line(f, line, sizeof line)) { /* ID:LIST:PATH */
        char *list = strchr(line, ':');
        char *path = list ? strchr(list + 1, ':') : NULL;
        if (!path) continue;
        *path++ = 0;
        list++;
        found = controller ? list_has(list, controller) : *list == 0;
        if (found) ps_snprintf(ret, size, "%s", path);
    }
    fclose(f);
    return found;
}

/* Where that hierarchy is mounted: mount point and the group that shows as its root. */
static bool find_mount(const char *root, const char *controller, char *ret_point, char *ret_root, size_t size) {
    char file[PATH_MAX], line[LINE_SIZE];
    ps_snprintf(file, sizeof file, "%s/proc/self/mountinfo", root);
    FILE *f = fopen(file, "re");
    if (!f) return false;
    bool found = false;
    while (!found &&
           next_line(f, line, sizeof line)) { /* ID PARENT DEV ROOT POINT OPTIONS [TAGS] - TYPE SOURCE SUPER */
        char *tail = strstr(line, " - ");
        if (!tail) continue;
        *tail = 0;
        char type[32], super[512], point[PATH_MAX], top[PATH_MAX];
        if (sscanf(tail + 3, "%31s %*s %511s", type, super) != 2) continue;
        if (sscanf(line, "%*s %*s %*s %4095s %4095s", top, point) != 2) continue;
        found = controller ? strcmp(type, "cgroup") == 0 && list_has(super, controller) : strcmp(type, "cgroup2") == 0;
        if (found) {
            ps_snprintf(ret_point, size, "%s", point);
            ps_snprintf(ret_root, size, "%s", top);
        }
    }
    fclose(f);
    return found;
}

typedef void (*visit_fn)(const char *dir, ps_cgroup_limits *limits);

/* Calls visit for this process's group and all its parents that can be seen. */
static void visit_groups(const char *root, const char *controller, visit_fn visit, ps_cgroup_limits *limits) {
    char point[PATH_MAX], top[PATH_MAX], path[PATH_MAX], dir[3 * PATH_MAX];
    if (!own_path(root, controller, path, sizeof path)) return;
    if (!find_mount(root, controller, point, top, sizeof point)) return;
    /* In a container the mount's root is often the group itself, while the path is the one the host sees. */
    const char *below = path;
    size_t n = strlen(top);
    if (strcmp(top, "/") != 0) below = strncmp(path, top, n) == 0 && (path[n] == '/' || !path[n]) ? path + n : "";
    if (strstr(below, "..")) below = ""; /* a group outside of our cgroup namespace */
    ps_snprintf(dir, sizeof dir, "%s%s%s", root, point, below);
    size_t base = strlen(root) + strlen(point);
    for (;;) {
        visit(dir, limits);
        char *slash = strrchr(dir + base, '/');
        if (!slash) break;
        *slash = 0;
    }
}

static bool read_group_file(const char *dir, const char *name, char *line, size_t size) {
    char file[4 * PATH_MAX];
    ps_snprintf(file, sizeof file, "%s/%s", dir, name);
    return read_first_line(file, line, size);
}

static void add_cpus(ps_cgroup_limits *limits, double quota, double period) {
    if (quota <= 0 || period <= 0) return;
    double cpus = quota / period;
    if (limits->cpus == 0 || cpus < limits->cpus) limits->cpus = cpus;
}

static void add_memory(ps_cgroup_limits *limits, const char *text) {
    if (!isdigit((unsigned char)text[0])) return; /* "max" */
    uint64_t bytes = strtoull(text, NULL, 10);
    if (bytes < limits->memory) limits->memory = bytes;
}

static void visit_v2(const char *dir, ps_cgroup_limits *limits) {
    char line[128];
    double quota, period;
    if (read_group_file(dir, "cpu.max", line, sizeof line) && sscanf(line, "%lf %lf", &quota, &period) == 2) {
        add_cpus(limits, quota, period);
    }
    if (read_group_file(dir, "memory.max", line, sizeof line)) add_memory(limits, line);
}

static void visit_v1_cpu(const char *dir, ps_cgroup_limits *limits) {
    char quota[64], period[64];
    if (read_group_file(dir, "cpu.cfs_quota_us", quota, sizeof quota) &&
        read_group_file(dir, "cpu.cfs_period_us", period, sizeof period)) {
        add_cpus(limits, strtod(quota, NULL), strtod(period, NULL));
    }
}

static void visit_v1_memory(const char *dir, ps_cgroup_limits *limits) {
    char line[64];
    if (read_group_file(dir, "memory.limit_in_bytes", line, sizeof line)) add_memory(limits, line);
}

ps_cgroup_limits ps_cgroup_read(const char *root) {
    ps_cgroup_limits limits = { 0, UINT64_MAX };
    visit_groups(root, NULL, visit_v2, &limits);
    visit_groups(root, "cpu", visit_v1_cpu, &limits);
    visit_groups(root, "memory", visit_v1_memory, &limits);
    return limits;
}

int ps_cpu_count(void) {
    cpu_set_t set[16]; /* 16,384 CPUs */
    int cpus = 0;
    if (sched_getaffinity(0, sizeof set, set) == 0) cpus = CPU_COUNT_S(sizeof set, set);
    if (cpus < 1) cpus = (int)sysconf(_SC_NPROCESSORS_ONLN);
    double quota = ps_cgroup_read("").cpus;
    if (quota > 0 && quota < cpus) cpus = (int)quota + (quota > (int)quota);
    return cpus < 1 ? 1 : cpus;
}

uint64_t ps_memory_total(void) {
    long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
    uint64_t ram = pages > 0 && page > 0 ? (uint64_t)pages * (uint64_t)page : UINT64_MAX;
    uint64_t limit = ps_cgroup_read("").memory;
    return limit < ram ? limit : ram;
}

uint64_t ps_memory_resident(void) {
    char line[256];
    unsigned long long resident;
    if (!read_first_line("/proc/self/statm", line, sizeof line) || sscanf(line, "%*s %llu", &resident) != 1) return 0;
    return resident * (uint64_t)sysconf(_SC_PAGESIZE);
}

void ps_memory_trim(void) {
#ifdef __GLIBC__
    malloc_trim(0);
#endif
}

/* On Linux each thread has a niceness of its own, which the threads that it starts inherit. */
void ps_thread_yield_to_others(void) {
    enum { NICER = 12 }; /* about a fifteenth of the time of a thread that it competes with */
    (void)setpriority(PRIO_PROCESS, (id_t)syscall(SYS_gettid), NICER);
}

uint64_t ps_open_files_allow(uint64_t want) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return want;
    if (limit.rlim_cur < want && limit.rlim_cur < limit.rlim_max) {
        rlim_t before = limit.rlim_cur;
        limit.rlim_cur = limit.rlim_max < want ? limit.rlim_max : (rlim_t)want;
        if (setrlimit(RLIMIT_NOFILE, &limit) != 0) limit.rlim_cur = before;
    }
    return limit.rlim_cur;
}

void ps_cpu_model(char *buf, size_t size) {
    struct utsname name;
    ps_snprintf(buf, size, "%s", uname(&name) == 0 ? name.machine : "cpu");
    FILE *f = fopen("/proc/cpuinfo", "re");
    if (!f) return;
    char line[512];
    while (next_line(f, line, sizeof line)) {
        const char *value = strncmp(line, "model name", 10) == 0 ? strchr(line, ':') : NULL;
        if (!value) continue;
        while (*++value == ' ') {
        }
        if (*value) ps_snprintf(buf, size, "%s", value);
        break;
    }
    fclose(f);
}

void *ps_symbol_find(const char *name) {
    void *all = dlopen(NULL, RTLD_NOW);
    void *symbol = all ? dlsym(all, name) : NULL;
    if (all) dlclose(all); /* what it stands for stays */
    return symbol;
}
