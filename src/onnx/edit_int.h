/* edit_int.h - what edit.c and paste.c share. */
#ifndef PS_ONNX_EDIT_INT_H
#define PS_ONNX_EDIT_INT_H

#include "onnx/edit.h"
#include "onnx/onnx_int.h"

/* Where the elements of a tensor are; exactly one of the pointers is set. */
typedef struct ps_onnx_payload {
    const uint8_t
        *body; /* of the TensorProto in the source, `bytes` long: its fields of elements are copied as they are */
    const uint8_t *raw; /* elements in a file of external data */
    ps_tensor *tensor;  /* a replacement, retained */
    size_t bytes;
} ps_onnx_payload;

struct ps_onnx_edit {
    ps_alloc_state *alloc;
    ps_onnx_proto proto;
    ps_onnx_external external;
    PS_VEC(ps_onnx_payload) payloads;
    PS_VEC(Onnx__TensorProto *) tensors; /* initializers */
};

/* The payload that a number left in raw_data means, or NULL. */
const ps_onnx_payload *ps_onnx_edit_payload(const ps_onnx_edit *e, const uint8_t *token, size_t size);

/* ---- edit_graph.c: pieces of messages, in the model's memory ---- */
char *ps_onnx_edit_text(ps_onnx_edit *e, const char *s, ps_error *err); /* NULL: out of memory */
void ps_onnx_edit_free_text(ps_onnx_edit *e, char *s);
void ps_onnx_edit_free_message(ps_onnx_edit *e, ProtobufCMessage *m); /* NULL is allowed */
/* A list of pointers gets a NULL at `at`. */
ps_status ps_onnx_edit_open_gap(ps_onnx_edit *e, void ***list, size_t *n, size_t at, ps_error *err);
/* Fills an empty list with copies. */
ps_status ps_onnx_edit_texts(ps_onnx_edit *e, char ***list, size_t *count, const char *const *from, size_t n,
                             ps_error *err);
ps_status ps_onnx_edit_add_attr(ps_onnx_edit *e, Onnx__NodeProto *n, const ps_onnx_attr_spec *spec, ps_error *err);
ps_status ps_onnx_edit_insert_into(ps_onnx_edit *e, Onnx__GraphProto *g, size_t index, const ps_onnx_node_spec *spec,
                                   ps_error *err);
ps_status ps_onnx_edit_add_to(ps_onnx_edit *e, Onnx__GraphProto *g, const char *name, ps_tensor *t, ps_error *err);

/* ---- zstd.c ---- */
bool ps_onnx_is_zstd(const void *data, size_t size);
/* Unpacks a whole frame, at most max bytes; *ret is ps_free'd by the caller. */
ps_status ps_onnx_unzstd(ps_alloc_state *alloc, const void *data, size_t size, size_t max, uint8_t **ret,
                         size_t *ret_size, ps_error *err);

/* Bytes on their way into a file, compressed or not. */
typedef struct ps_onnx_sink {
    ps_file_writer *file; /* NULL: buffer keeps it all or, if it is compressed, only its length is kept */
    uint64_t length;
    void *stream;         /* ZSTD_CCtx, or NULL */
    uint8_t *buffer;
    size_t room, used;
    ps_alloc_state *alloc;
} ps_onnx_sink;

/* level 0: as they are. size: of all that will come. */
ps_status ps_onnx_sink_open(ps_onnx_sink *s, ps_alloc_state *alloc, ps_file_writer *file, int level, uint64_t size,
                            ps_error *err);
ps_status ps_onnx_sink_put(ps_onnx_sink *s, const void *data, size_t size, ps_error *err);
ps_status ps_onnx_sink_finish(ps_onnx_sink *s, ps_error *err);
void ps_onnx_sink_close(ps_onnx_sink *s);

#endif
