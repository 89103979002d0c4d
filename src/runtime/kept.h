/* kept.h - inside runtime: the bytes of a model's optimised graph, for the cache on disk.
 *
 * Numbers are varints, signed ones zigzag. A value, and a graph's symbol, is written where it is first met, and is a
 * number from then on. Tensors stand in a list of their own; what of them is large follows behind all of this.
 *
 * Bytes that are read are input like any other: every number is checked where it is used, and what is wrong is
 * PS_FORMAT. */
#ifndef PS_RUNTIME_KEPT_H
#define PS_RUNTIME_KEPT_H

#include "base/map.h"
#include "base/vec.h"
#include "base/wire.h"
#include "runtime/runtime_int.h"

/* ---- writing ---- */

typedef struct ps_kept_out {
    ps_str bytes;
    ps_arena arena;                    /* keys of `places` */
    ps_map places;                     /* a tensor's address as text → its place in `tensors`, plus 1 */
    PS_VEC(const ps_tensor *) tensors; /* that the graph reads, each once */
    uint32_t *values;                  /* by id: its number plus 1; 0: not met yet */
    uint32_t n_values;
} ps_kept_out;

void ps_kept_put(ps_kept_out *o, uint64_t v);
void ps_kept_put_signed(ps_kept_out *o, int64_t v);
void ps_kept_put_text(ps_kept_out *o, const char *text, size_t size); /* NULs inside stay */
void ps_kept_put_shape(ps_kept_out *o, const ps_shape *s);
ps_status ps_kept_put_graph(ps_kept_out *o, const ps_graph *root, ps_error *err);

/* ---- reading ---- */

typedef struct ps_kept_in {
    ps_wire wire;
    ps_arena *arena;     /* for texts */
    ps_tensor **tensors; /* of the graph, by place */
    size_t n_tensors;
    PS_VEC(ps_value *) values;
} ps_kept_in;

ps_status ps_kept_broken(ps_error *err);
/* At most max. */
ps_status ps_kept_get(ps_kept_in *in, uint64_t max, uint64_t *ret, ps_error *err);
ps_status ps_kept_get_signed(ps_kept_in *in, int64_t *ret, ps_error *err);
/* A count of things of at least one byte each. */
ps_status ps_kept_get_count(ps_kept_in *in, size_t *ret, ps_error *err);
ps_status ps_kept_get_text(ps_kept_in *in, const char **ret, size_t *ret_size,
                           ps_error *err); /* ret_size may be NULL */
ps_status ps_kept_get_shape(ps_kept_in *in, size_t n_symbols, ps_shape *ret, ps_error *err);
ps_status ps_kept_get_dtype(ps_kept_in *in, ps_dtype *ret, ps_error *err);
/* Checked for structure, and its operators resolved. */
ps_status ps_kept_get_graph(ps_kept_in *in, ps_alloc_state *alloc, ps_graph **ret, ps_error *err);

/* ---- kept.c ---- */

/* The model as the cache has it, into a model that has nothing yet; anything but PS_OK: it is loaded from its file. */
ps_status ps_model_recall(ps_model *m, ps_error *err);
/* For tests: the same from the bytes that describe a model, without what is large. */
ps_status ps_kept_parse(ps_model *m, const void *data, size_t size, ps_error *err);

#endif
