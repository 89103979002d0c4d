/* replay.c - main of a fuzz target where there is no libFuzzer: every file of a folder as it is, cut short, and with
 * bytes changed. Deterministic, so it runs with the unit tests: `fuzz_model CORPUS-FOLDER`. */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CUTS = 100, CHANGES = 300, LARGEST = 1 << 20 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The input is copied into a block of its exact size, so that a sanitizer sees reads past its end. */
static void feed(const uint8_t *data, size_t size) {
    uint8_t *copy = malloc(size ? size : 1);
    if (!copy)
        exit(2);
    memcpy(copy, data, size);
    LLVMFuzzerTestOneInput(copy, size);
    free(copy);
}

/* A xorshift generator (Marsaglia 2003). */
static uint32_t next(uint32_t *state) {
    *state ^= *state << 13;
    *state ^= *state >> 17;
    *state ^= *state << 5;
    return *state;
}

static void replay(uint8_t *data, size_t size) {
    feed(data, size);
    for (size_t i = 0; i < CUTS; i++)
        feed(data, size * i / CUTS);
    uint32_t state = 2463534242u;
    for (size_t i = 0; size && i < CHANGES; i++) {
        size_t place = next(&state) % size;
        uint8_t old = data[place];
        data[place] = (uint8_t)(i % 3 ? next(&state) : 0xff);
        feed(data, size);
        data[place] = old;
    }
}

static int replay_file(const char *path) {
    FILE *file = fopen(path, "rb");
    uint8_t *data = malloc(LARGEST);
    if (!file || !data) {
        perror(path);
        return 1;
    }
    size_t size = fread(data, 1, LARGEST, file);
    fclose(file);
    replay(data, size);
    free(data);
    return 0;
}

int main(int argc, char **argv) {
    DIR *folder = argc == 2 ? opendir(argv[1]) : NULL;
    if (!folder) {
        fprintf(stderr, "usage: %s CORPUS-FOLDER\n", argv[0]);
        return 2;
    }
    int failed = 0, files = 0;
    for (struct dirent *entry = readdir(folder); entry; entry = readdir(folder)) {
        char path[4096];
        if (entry->d_name[0] == '.' ||
            snprintf(path, sizeof path, "%s/%s", argv[1], entry->d_name) >= (int)sizeof path)
            continue;
        failed += replay_file(path);
        files++;
    }
    closedir(folder);
    printf("%d files, each as it is, cut %d times, changed %d times\n", files, CUTS, CHANGES);
    return failed || !files;
}
