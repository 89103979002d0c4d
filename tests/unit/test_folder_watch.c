/* Watching folders: every kind of change is heard, nothing else is, and a wait ends when it is told to. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/folder_watch.h"
#include "base/os.h"
#include "base/thread.h"

static void write_file(const char *path) {
    assert_int_equal(ps_file_write(path, "x", 1, 0644, NULL), PS_OK);
}

static void test_changes_are_heard(void **state) {
    ps_alloc_state a;
    ps_folder_watch *w;
    char dir[64] = "/tmp/polestar-watch-XXXXXX", inner[96], file[128], moved[128];
    assert_non_null(mkdtemp(dir));
    snprintf(inner, sizeof inner, "%s/inner", dir);
    snprintf(file, sizeof file, "%s/file", inner);
    snprintf(moved, sizeof moved, "%s/moved", inner);
    ps_alloc_state_init(&a, NULL);
    assert_int_equal(ps_folder_watch_create(&a, &w, NULL), PS_OK);
    assert_true(ps_folder_watch_add(w, dir));
    assert_false(ps_folder_watch_wait(w, 0));
    assert_int_equal(mkdir(inner, 0700), 0);
    assert_true(ps_folder_watch_wait(w, 1000));
    assert_true(ps_folder_watch_add(w, inner));
    assert_true(ps_folder_watch_add(w, inner)); /* again */
    assert_false(ps_folder_watch_wait(w, 0));
    write_file(file);
    assert_true(ps_folder_watch_wait(w, 1000));
    assert_false(ps_folder_watch_wait(w, 0));
    assert_int_equal(rename(file, moved), 0);
    assert_true(ps_folder_watch_wait(w, 1000));
    assert_int_equal(unlink(moved), 0);
    assert_true(ps_folder_watch_wait(w, 1000));
    assert_int_equal(rmdir(inner), 0);
    assert_true(ps_folder_watch_wait(w, 1000));
    assert_false(ps_folder_watch_add(w, inner));
    ps_folder_watch_free(w);
    assert_int_equal(a.bytes, 0);
    assert_int_equal(rmdir(dir), 0);
}

static void wake(void *ctx) {
    ps_folder_watch_wake(ctx);
}

static void test_a_wait_can_be_ended(void **state) {
    ps_alloc_state a;
    ps_folder_watch *w;
    ps_thread thread;
    ps_alloc_state_init(&a, NULL);
    assert_int_equal(ps_folder_watch_create(&a, &w, NULL), PS_OK);
    assert_true(ps_thread_start(&thread, "wake", wake, w));
    assert_false(ps_folder_watch_wait(w, -1));
    ps_thread_join(thread);
    ps_folder_watch_free(w);
    ps_folder_watch_free(NULL);
}

static void test_size_and_time_of_a_file(void **state) {
    char path[64] = "/tmp/polestar-stat-XXXXXX";
    uint64_t size;
    int64_t changed, now = ps_clock_wall_ns();
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, "12345", 5), 5);
    close(fd);
    assert_true(ps_file_stat(path, &size, &changed));
    assert_int_equal(size, 5);
    assert_int_equal(ps_file_size(path), 5);
    assert_true(changed > now - INT64_C(60000000000) && changed < now + INT64_C(60000000000));
    unlink(path);
    assert_false(ps_file_stat(path, &size, &changed));
    assert_int_equal(ps_file_size(path), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_changes_are_heard),
        cmocka_unit_test(test_a_wait_can_be_ended),
        cmocka_unit_test(test_size_and_time_of_a_file),
    };
    return cmocka_run_group_tests_name("folder_watch", tests, NULL, NULL);
}
