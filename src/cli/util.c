/* util.c - memory, text, time, files, JSON and the progress bar of the commands. */
#include <dirent.h>
#include <math.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "cli.h"

/* ---- memory ---- */

static void out_of_memory(void) {
    fprintf(stderr, "polestar: out of memory\n");
    exit(CLI_FAILED);
}

void *cli_alloc(size_t n, size_t size) {
    void *p = calloc(n ? n : 1, size ? size : 1);
    if (!p) out_of_memory();
    return p;
}

void *cli_realloc(void *ptr, size_t n, size_t size) {
    if (size && n > SIZE_MAX / size) out_of_memory();
    void *p = realloc(ptr, n > 0 && size > 0 ? n * size : 1);
    if (!p) out_of_memory();
    return p;
}

char *cli_format(const char *fmt, ...) {
    va_list ap, again;
    va_start(ap, fmt);
    va_copy(again, ap);
    const int n = vsnprintf(NULL, 0, fmt, ap);
    char *text = cli_alloc((size_t)(n < 0 ? 0 : n) + 1, 1);
    vsnprintf(text, (size_t)(n < 0 ? 0 : n) + 1, fmt, again);
    va_end(again);
    va_end(ap);
    return text;
}

/* ---- text ---- */

int64_t cli_now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

const char *cli_base_name(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash && slash[1] ? slash + 1 : path;
}

const char *cli_shape_text(const ps_model *model, const ps_shape *shape, char *buf, size_t size) {
    if (shape->rank < 0) {
        snprintf(buf, size, "[...]");
        return buf;
    }
    size_t at = (size_t)snprintf(buf, size, "[");
    for (int d = 0; d < shape->rank && at < size; d++) {
        const int64_t dim = shape->dims[d];
        const char *symbol = model && dim < PS_DIM_UNKNOWN ? ps_model_symbol(model, dim) : NULL;
        if (dim >= 0)
            at += (size_t)snprintf(buf + at, size - at, "%s%lld", d ? "," : "", (long long)dim);
        else
            at += (size_t)snprintf(buf + at, size - at, "%s%s", d ? "," : "", symbol ? symbol : "?");
    }
    if (at < size) snprintf(buf + at, size - at, "]");
    return buf;
}

static const char *scaled(double v, double step, const char *const *units, size_t n, char *buf, size_t size) {
    size_t k = 0;
    for (; k + 1 < n && fabs(v) >= step; k++)
        v /= step;
    snprintf(buf, size, k ? "%.1f %s" : "%.0f %s", v, units[k]);
    return buf;
}

const char *cli_bytes_text(double bytes, char *buf, size_t size) {
    static const char *const units[] = { "B", "KiB", "MiB", "GiB", "TiB" };
    return scaled(bytes, 1024, units, 5, buf, size);
}

const char *cli_count_text(double count, char *buf, size_t size) {
    static const char *const units[] = { "", "K", "M", "G", "T" };
    return scaled(count, 1000, units, 5, buf, size);
}

size_t cli_name_length(const char *text) {
    const char *equals = strchr(text, '=');
    return equals ? (size_t)(equals - text) : 0;
}

char *cli_safe_name(const char *name) {
    static const char allowed[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-";
    char *safe = cli_format("%s", name[0] ? name : "_");
    for (char *c = safe; *c; c++)
        if (!strchr(allowed, *c)) *c = '_';
    if (safe[0] == '.') safe[0] = '_'; /* neither hidden nor ".." */
    return safe;
}

/* ---- files ---- */

char *cli_path_join(const char *dir, const char *name) {
    const size_t n = strlen(dir);
    return cli_format("%s%s%s", dir, n && dir[n - 1] == '/' ? "" : "/", name);
}

bool cli_is_dir(const char *path) {
    struct stat s;
    return stat(path, &s) == 0 && S_ISDIR(s.st_mode);
}

bool cli_is_file(const char *path) {
    struct stat s;
    return stat(path, &s) == 0 && S_ISREG(s.st_mode);
}

char *cli_model_path(const char *path) {
    if (!cli_is_dir(path)) return cli_format("%s", path);
    static const char *const names[] = { "model.onnx", "model.onnx.zst", "model.pt2" };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char *file = cli_path_join(path, names[i]);
        if (cli_is_file(file)) return file;
        free(file);
    }
    return cli_path_join(path, names[0]);
}

/* ---- signals ---- */

static int cancel; /* style-ok: hidden-state a signal handler has no other way */

static void on_signal(int number) {
    (void)number;
    __atomic_store_n(&cancel, 1, __ATOMIC_RELAXED);
}

const int *cli_cancel_on_signals(void) {
    signal(SIGINT, on_signal);
    signal(SIGTERM, on_signal);
    return &cancel;
}

/* ---- progress ---- */

enum { BAR = 30 };

void cli_progress_start(cli_progress *p, const cli_args *args, const char *what) {
    *p = (cli_progress) { what, -1, isatty(STDERR_FILENO) != 0 };
}

void cli_progress_set(cli_progress *p, double share, const char *note) {
    const int now = (int)(share * 1000);
    if (!p->on || now == p->shown) return;
    p->shown = now;
    const int full = (int)(share * BAR);
    fprintf(stderr, "\r%s [%.*s%*s] %3d%% %.40s\033[K", p->what, full, "##############################", BAR - full, "",
            now / 10, note);
    fflush(stderr);
}

void cli_progress_end(cli_progress *p) {
    if (p->on && p->shown >= 0) fputs("\r\033[K", stderr);
}

/* ---- JSON ---- */

json_t *cli_json_text(const char *text) {
    if (!text) return json_null();
    json_t *j = json_string(text);
    if (j) return j;
    char *ascii = cli_format("%s", text);
    for (char *c = ascii; *c; c++)
        if ((unsigned char)*c >= 0x80) *c = '?';
    j = json_string(ascii);
    free(ascii);
    return j ? j : json_null();
}

json_t *cli_json_real(double value) {
    return isfinite(value) ? json_real(value) : json_null();
}

json_t *cli_json_shape(const ps_model *model, const ps_shape *shape) {
    if (shape->rank < 0) return json_null();
    json_t *list = json_array();
    for (int d = 0; d < shape->rank; d++) {
        const int64_t dim = shape->dims[d];
        const char *symbol = dim < PS_DIM_UNKNOWN ? ps_model_symbol(model, dim) : NULL;
        json_array_append_new(list, dim >= 0 ? json_integer(dim) : symbol ? cli_json_text(symbol) : json_integer(-1));
    }
    return list;
}

int cli_json_print(json_t *document) {
    const int bad = json_dumpf(document, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(9));
    fputc('\n', stdout);
    json_decref(document);
    if (!bad) return CLI_OK;
    fprintf(stderr, "polestar: standard output could not be written\n");
    return CLI_FAILED;
}
