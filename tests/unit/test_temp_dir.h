/* test_temp_dir.h - a fresh folder under TMPDIR, and its removal. */
#ifndef PS_TEST_TEMP_DIR_H
#define PS_TEST_TEMP_DIR_H

#include <dirent.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static inline bool ps_test_temp_dir(char *buf, size_t size) {
    const char *top = getenv("TMPDIR");
    snprintf(buf, size, "%s/polestar-test-XXXXXX", top && *top ? top : "/tmp");
    return mkdtemp(buf) != NULL;
}

/* Follows no links. */
static inline void ps_test_remove_tree(const char *path) {
    DIR *dir = opendir(path);
    for (struct dirent *e; dir && (e = readdir(dir));) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0) continue;
        char child[4096];
        struct stat st;
        int n = snprintf(child, sizeof child, "%s/%s", path, e->d_name);
        if (n < 0 || n >= (int)sizeof child) continue;
        if (lstat(child, &st) == 0 && S_ISDIR(st.st_mode)) {
            ps_test_remove_tree(child);
        } else {
            unlink(child);
        }
    }
    if (dir) closedir(dir);
    rmdir(path);
}

#endif
