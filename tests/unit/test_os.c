/* Files, folders and the limits of the machine. Works in a fresh folder under TMPDIR. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/os.h"
#include "base/os_machine.h"
#include "base/str.h"
#include "test_alloc_fail.h"
#include "test_temp_dir.h"

static char dir[256];

static const char *in_dir(const char *name) {
    static char paths[4][512];
    static int next;
    char *path = paths[next++ % 4];
    ps_snprintf(path, sizeof paths[0], "%s/%s", dir, name);
    return path;
}

static int setup(void **state) {
    return ps_test_temp_dir(dir, sizeof dir) ? 0 : -1;
}

static int teardown(void **state) {
    ps_test_remove_tree(dir);
    return 0;
}

static void test_clock(void **state) {
    int64_t start = ps_clock_ns();
    ps_sleep_ns(3000000);
    assert_true(ps_clock_ns() - start >= 3000000);
    assert_true(ps_clock_wall_ns() > INT64_C(1700000000) * 1000000000);
}

static void test_write_and_read(void **state) {
    ps_alloc_state a;
    ps_alloc_state_init(&a, NULL);
    ps_error err = PS_ERROR_INIT;
    char *data;
    size_t size;
    struct stat st;
    assert_int_equal(ps_file_write(in_dir("f"), "first", 5, 0600, &err), PS_OK);
    assert_int_equal(ps_file_write(in_dir("f"), "ab\0cd", 5, 0600, &err), PS_OK);
    assert_int_equal(stat(in_dir("f"), &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    assert_int_equal(ps_file_read(&a, in_dir("f"), 5, &data, &size, &err), PS_OK);
    assert_int_equal(size, 5);
    assert_memory_equal(data, "ab\0cd\0", 6);
    ps_free(&a, data);
    assert_int_equal(ps_file_read(&a, in_dir("f"), 4, &data, &size, &err), PS_LIMIT);
    assert_int_equal(ps_file_read(&a, in_dir("none"), 4, &data, &size, &err), PS_NOT_FOUND);
    assert_non_null(strstr(err.msg, "No such file"));
    assert_int_equal(ps_file_read(&a, dir, 4, &data, &size, &err), PS_IO);
    /* A file of the kernel says size 0 but has content. */
    assert_int_equal(ps_file_read(&a, "/proc/self/status", 1 << 20, &data, &size, &err), PS_OK);
    assert_true(size > 100 && strlen(data) == size);
    ps_free(&a, data);
    assert_int_equal(ps_file_read(&a, "/proc/self/status", 50, &data, &size, &err), PS_LIMIT);
    assert_int_equal(ps_file_write(in_dir("no/such/folder"), "x", 1, 0600, &err), PS_NOT_FOUND);
    assert_int_equal(mkdir(in_dir("d"), 0700), 0);
    assert_int_equal(ps_file_write(in_dir("d"), "x", 1, 0600, &err), PS_IO);
    char **names;
    size_t n;
    assert_int_equal(ps_dir_list(&a, dir, &names, &n, &err), PS_OK); /* no temporary files left */
    assert_int_equal(n, 2);
    assert_string_equal(names[0], "d");
    assert_string_equal(names[1], "f");
    ps_dir_free(&a, names, n);
    assert_int_equal(atomic_load(&a.bytes), 0);
}

static void test_map_file(void **state) {
    ps_error err = PS_ERROR_INIT;
    ps_file_map map;
    size_t size = 3 * 4096 + 7;
    char *data = malloc(size);
    assert_non_null(data);
    for (size_t i = 0; i < size; i++)
        data[i] = (char)(i * 7);
    assert_int_equal(ps_file_write(in_dir("big"), data, size, 0600, &err), PS_OK);
    assert_int_equal(ps_file_map_open(in_dir("big"), &map, &err), PS_OK);
    assert_int_equal(map.size, size);
    ps_file_map_drop(&map, 100, size);
    ps_file_map_drop(&map, size + 1, 5);
    assert_memory_equal(map.data, data, size);
    ps_file_map_close(&map);
    assert_null(map.data);
    free(data);
    assert_int_equal(ps_file_write(in_dir("empty"), "", 0, 0600, &err), PS_OK);
    assert_int_equal(ps_file_map_open(in_dir("empty"), &map, &err), PS_OK);
    assert_null(map.data);
    assert_int_equal(map.size, 0);
    ps_file_map_close(&map);
    assert_int_equal(ps_file_map_open(in_dir("none"), &map, &err), PS_NOT_FOUND);
    assert_int_equal(ps_file_map_open(dir, &map, &err), PS_IO);
    assert_int_equal(ps_file_map_open("/dev/null", &map, &err), PS_IO);
}

/* Pages that are made at once are those that faults would make: zero, or what was there. */
static void test_pages(void **state) {
    const size_t size = (5 << 20) + 123;
    unsigned char *p = ps_pages_new(0, size);
    assert_non_null(p);
    memset(p + 3000000, 7, 5000);
    const uint64_t before = ps_memory_resident();
    ps_pages_expect(p + 100, size - 100);
    ps_pages_expect(p, 0);
    const uint64_t grown = ps_memory_resident() - before;
    assert_true(grown < 100000 || grown > (4 << 20)); /* before Linux 5.14 it does nothing */
    for (size_t i = 0; i < size; i++)
        assert_int_equal(p[i], i >= 3000000 && i < 3005000 ? 7 : 0);
    memset(p, 1, size);
    ps_pages_free(p, size);
    assert_null(ps_pages_new(0, SIZE_MAX / 2));
}

/* Large blocks begin at a huge page, and nothing but the block stays mapped; what is dropped of them leaves the
 * process. */
static void test_huge_pages(void **state) {
    const size_t size = ((size_t)9 << 20) + 5000, lead = ps_pages_lead(size, 64);
    assert_int_equal(ps_pages_lead(1000, 64), 64);
    const uint64_t before = ps_memory_resident();
    unsigned char *block = ps_pages_new(lead, size), *p = block + lead;
    assert_non_null(block);
    if (lead > 64) assert_int_equal((uintptr_t)p % (2 << 20), 0);
    memset(block, 1, lead);
    ps_pages_expect(p, size);
    for (size_t i = 0; i < size; i++)
        assert_int_equal(p[i], 0);
    memset(p, 2, size);
    uint64_t full = ps_memory_resident();
    assert_true(full >= before + size && full < before + size + (1 << 20));
    assert_int_equal(ps_pages_drop(p, size), ps_pages_inside(p, size));
    assert_true(ps_memory_resident() < before + (1 << 20));
    ps_pages_return(p, size);
    assert_int_equal(block[0], 1);
    memset(p, 3, size);
    ps_pages_free(block, lead + size);
    assert_true(ps_memory_resident() < before + (1 << 20));
}

static void test_paths(void **state) {
    ps_alloc_state a;
    ps_alloc_state_init(&a, NULL);
    ps_error err = PS_ERROR_INIT;
    char *real;
    assert_int_equal(ps_dir_create(in_dir("a/b//c/"), 0700, &err), PS_OK);
    assert_int_equal(ps_dir_create(in_dir("a/b/c"), 0700, &err), PS_OK);
    assert_true(ps_dir_exists(in_dir("a/b/c")));
    assert_false(ps_file_exists(in_dir("a/b/c")));
    assert_int_equal(ps_file_write(in_dir("a/file"), "", 0, 0600, &err), PS_OK);
    assert_true(ps_file_exists(in_dir("a/file")));
    assert_false(ps_dir_exists(in_dir("a/file")));
    assert_int_not_equal(ps_dir_create(in_dir("a/file/x"), 0700, &err), PS_OK);
    assert_int_equal(ps_dir_create("", 0700, &err), PS_NOT_FOUND);
    assert_int_equal(symlink("b/../file", in_dir("a/link")), 0);
    assert_int_equal(ps_path_real(&a, in_dir("a/link"), &real, &err), PS_OK);
    assert_int_equal(strcmp(real + strlen(real) - 7, "/a/file"), 0);
    ps_free(&a, real);
    assert_int_equal(ps_path_real(&a, in_dir("a/none"), &real, &err), PS_NOT_FOUND);
    assert_int_equal(atomic_load(&a.bytes), 0);
}

static ps_status files_scenario(ps_alloc_state *a, void *ctx) {
    char **names, *data, *real;
    size_t n;
    ps_status status = ps_dir_list(a, "/proc/self", &names, &n, NULL);
    if (status != PS_OK) return status;
    ps_dir_free(a, names, n);
    PS_TRY(ps_file_read(a, "/proc/self/status", 1 << 20, &data, &n, NULL));
    ps_free(a, data);
    PS_TRY(ps_path_real(a, "/proc", &real, NULL));
    ps_free(a, real);
    return PS_OK;
}

static void test_allocation_failure(void **state) {
    assert_in_range(ps_test_sweep(files_scenario, NULL), 10, 1000);
}

/* ---- control groups, laid out as files ---- */

static void put(const char *name, const char *text) {
    char folder[512];
    ps_snprintf(folder, sizeof folder, "%s", in_dir(name));
    *strrchr(folder, '/') = 0;
    assert_int_equal(ps_dir_create(folder, 0700, NULL), PS_OK);
    assert_int_equal(ps_file_write(in_dir(name), text, strlen(text), 0600, NULL), PS_OK);
}

static void test_cgroup_v2(void **state) {
    put("two/proc/self/cgroup", "0::/user/job\n");
    put("two/proc/self/mountinfo", "22 1 0:20 / /proc rw - proc proc rw\n"
                                   "30 23 0:27 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw\n");
    put("two/sys/fs/cgroup/user/job/cpu.max", "max 100000\n");
    put("two/sys/fs/cgroup/user/job/memory.max", "8000000\n");
    put("two/sys/fs/cgroup/user/cpu.max", "250000 100000\n"); /* the parent's limit holds too */
    put("two/sys/fs/cgroup/user/memory.max", "max\n");
    ps_cgroup_limits limits = ps_cgroup_read(in_dir("two"));
    assert_true(limits.cpus == 2.5);
    assert_int_equal(limits.memory, 8000000);
}

static void test_cgroup_v1_in_container(void **state) {
    put("one/proc/self/cgroup", "4:memory:/docker/abc\n3:cpu,cpuacct:/docker/abc\n1:name=systemd:/docker/abc\n");
    put("one/proc/self/mountinfo",
        "30 23 0:27 /docker/abc /sys/fs/cgroup/cpu,cpuacct ro - cgroup cgroup rw,cpu,cpuacct\n"
        "31 23 0:28 /docker/abc /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n");
    put("one/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "150000\n");
    put("one/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n");
    put("one/sys/fs/cgroup/memory/memory.limit_in_bytes", "123456789\n");
    ps_cgroup_limits limits = ps_cgroup_read(in_dir("one"));
    assert_true(limits.cpus == 1.5);
    assert_int_equal(limits.memory, 123456789);
}

static void test_cgroup_none(void **state) {
    ps_cgroup_limits limits = ps_cgroup_read(in_dir("nothing-here"));
    assert_true(limits.cpus == 0 && limits.memory == UINT64_MAX);
    put("bad/proc/self/cgroup", "x\n0::/../outside\n5:cpu:/a\n");
    put("bad/proc/self/mountinfo", "nonsense - \n30 23 0:27 / /cg rw - cgroup2 cgroup2 rw\n"
                                   "31 23 0:27 / /v1 rw - cgroup cgroup rw,cpu\n");
    put("bad/cg/cpu.max", "-5 what\n");
    put("bad/v1/a/cpu.cfs_quota_us", "-1\n");
    put("bad/v1/a/cpu.cfs_period_us", "100000\n");
    put("bad/cg/memory.max", "\n");
    limits = ps_cgroup_read(in_dir("bad"));
    assert_true(limits.cpus == 0 && limits.memory == UINT64_MAX);
}

static void test_machine(void **state) {
    char model[128];
    assert_in_range(ps_cpu_count(), 1, 16384);
    assert_in_range(ps_memory_total(), 64 << 20, UINT64_C(1) << 50);
    assert_in_range(ps_memory_resident(), 1 << 18, UINT64_C(1) << 40);
    ps_cpu_model(model, sizeof model);
    assert_true(strlen(model) > 0 && model[0] != ' ');
}

/* In a process of its own: a hard limit cannot be taken back. */
static void test_open_files(void **state) {
    int status = 0;
    pid_t child = fork();
    if (child == 0) {
        struct rlimit limit = { 40, 60 };
        bool ok = setrlimit(RLIMIT_NOFILE, &limit) == 0;
        ok = ok && ps_open_files_allow(10) == 40 && ps_open_files_allow(50) == 50 && ps_open_files_allow(40) == 50;
        ok = ok && ps_open_files_allow(1000) == 60 && getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur == 60;
        _exit(ok ? 0 : 1); /* style-ok: no-exit the child process after fork */
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_clock),
        cmocka_unit_test_setup_teardown(test_write_and_read, setup, teardown),
        cmocka_unit_test_setup_teardown(test_map_file, setup, teardown),
        cmocka_unit_test(test_pages),
        cmocka_unit_test(test_huge_pages),
        cmocka_unit_test_setup_teardown(test_paths, setup, teardown),
        cmocka_unit_test(test_allocation_failure),
        cmocka_unit_test_setup_teardown(test_cgroup_v2, setup, teardown),
        cmocka_unit_test_setup_teardown(test_cgroup_v1_in_container, setup, teardown),
        cmocka_unit_test_setup_teardown(test_cgroup_none, setup, teardown),
        cmocka_unit_test(test_machine),
        cmocka_unit_test(test_open_files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
