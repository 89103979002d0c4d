/* profile_text.c - profiles to text and back. Lines, numbers decimal, times in ns:
 *
 *     polestar-profiles 1
 *     shape KEY work WORK
 *     size N samples N mean NS deviation NS
 *
 * `size` lines belong to the shape before them and ascend. Each shape starts with what it had measured. */
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "sched/sched_int.h"

#define HEAD "polestar-profiles 1"
#define MAX_TEXT ((size_t)16 << 20)
#define MAX_TIME INT64_C(86400000000000)
enum { READ_SAMPLES = 4 }; /* what was measured in another process is believed until this one knows better */

/* As an integer that the reader takes. */
static int64_t to_ns(double ns, int64_t least) {
    return ns >= (double)MAX_TIME ? MAX_TIME : ns < (double)least ? least : (int64_t)ns;
}

static void write_bucket(const ps_sched_bucket *b, ps_str *out) {
    bool any = false;
    for (uint32_t i = 0; i < b->profile.n_points; i++) {
        const ps_profile_point *pt = &b->profile.points[i];
        if (!pt->samples) continue;
        if (!any) ps_str_printf(out, "shape %" PRIu64 " work %" PRIu64 "\n", b->shape, b->work);
        any = true;
        uint32_t size = ps_profile_size_of(i);
        double mean = exp(pt->log_ns);
        ps_str_printf(out, "size %u samples %u mean %" PRId64 " deviation %" PRId64 "\n",
                      size < b->profile.max_batch ? size : b->profile.max_batch, pt->samples, to_ns(mean, 1),
                      to_ns(mean * sqrt((double)pt->var), 0));
    }
}

void ps_sched_write_profiles(const ps_sched_model *m, ps_str *out) {
    ps_str_append(out, HEAD "\n");
    for (uint32_t i = 0; i <= m->table_mask; i++) {
        for (const ps_sched_bucket *b = m->table[i]; b; b = b->chain)
            write_bucket(b, out);
    }
}

typedef struct reader {
    const char *at, *end;
    size_t line;
    ps_sched_model *model;
    ps_sched_bucket *bucket; /* NULL while only checking */
    bool apply, has_shape;
    uint64_t last_size;
    size_t shapes;
} reader;

/* " NAME NUMBER", the blank only if there is something before it on the line. */
static bool read_field(reader *r, const char *name, uint64_t most, uint64_t *ret) {
    size_t n = strlen(name);
    if ((size_t)(r->end - r->at) <= n || memcmp(r->at, name, n) != 0) return false;
    r->at += n;
    uint64_t value = 0;
    int digits = 0;
    for (; r->at < r->end && *r->at >= '0' && *r->at <= '9'; r->at++, digits++) {
        uint64_t digit = (uint64_t)(*r->at - '0');
        if (value > (most - digit) / 10) return false;
        value = value * 10 + digit;
    }
    *ret = value;
    return digits > 0;
}

static bool read_end(reader *r) {
    if (r->at >= r->end || *r->at != '\n') return false;
    r->at++;
    r->line++;
    return true;
}

static ps_status broken(const reader *r, ps_error *err) {
    return PS_FAIL(err, FORMAT, "line %zu of a model's latency profiles is not of their form", r->line);
}

static ps_status read_shape(reader *r, ps_error *err) {
    uint64_t shape, work;
    if (!read_field(r, "shape ", UINT64_MAX, &shape) || !read_field(r, " work ", UINT64_MAX, &work) || !read_end(r))
        return broken(r, err);
    r->has_shape = true;
    r->last_size = 0;
    r->bucket = NULL;
    if (!r->apply || r->shapes++ >= r->model->max_shapes) return PS_OK;
    r->bucket = ps_sched_bucket_get(r->model, shape, work, 0);
    return r->bucket ? PS_OK : PS_FAIL_NOMEM(err, "a model's profile");
}

static ps_status read_size(reader *r, ps_error *err) {
    uint64_t size, samples, mean, deviation;
    if (!read_field(r, "size ", PS_PROFILE_MAX_BATCH, &size) || !read_field(r, " samples ", UINT32_MAX, &samples) ||
        !read_field(r, " mean ", (uint64_t)MAX_TIME, &mean) ||
        !read_field(r, " deviation ", (uint64_t)MAX_TIME, &deviation) || !read_end(r))
        return broken(r, err);
    if (!r->has_shape || size <= r->last_size || samples == 0 || mean == 0) {
        r->line--;
        return broken(r, err);
    }
    r->last_size = size;
    if (!r->bucket || size > r->model->max_batch) return PS_OK;
    if (r->bucket->profile.points[ps_profile_point_of((uint32_t)size)].samples) return PS_OK;
    uint32_t believed = samples < READ_SAMPLES ? (uint32_t)samples : READ_SAMPLES;
    ps_profile_seed(&r->bucket->profile, (uint32_t)size, believed, (double)mean, (double)deviation);
    return PS_OK;
}

static ps_status read_all(reader *r, ps_error *err) {
    size_t n = strlen(HEAD);
    if ((size_t)(r->end - r->at) < n || memcmp(r->at, HEAD, n) != 0) return broken(r, err);
    r->at += n;
    if (!read_end(r)) return broken(r, err);
    while (r->at < r->end)
        PS_TRY(*r->at == 's' && r->end - r->at > 1 && r->at[1] == 'h' ? read_shape(r, err) : read_size(r, err));
    return PS_OK;
}

ps_status ps_sched_read_profiles(ps_sched *s, ps_sched_model *m, const char *text, size_t size, ps_error *err) {
    PS_FAIL_IF(size > MAX_TEXT, err, LIMIT, "latency profiles of %zu bytes are above the limit of %zu", size, MAX_TEXT);
    reader check = { .at = text, .end = text + size, .line = 1, .model = m };
    PS_TRY(read_all(&check, err));
    reader apply = { .at = text, .end = text + size, .line = 1, .model = m, .apply = true };
    return read_all(&apply, err);
}
