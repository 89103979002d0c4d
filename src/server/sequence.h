/* sequence.h - requests that belong together: the server keeps a model's state between them (the sequence extension).
 *
 * A model has states if its configuration, or a file MODEL.state.json beside it, pairs outputs with the inputs that
 * take them in the next request of the same sequence. Requests of one sequence run one after the other, in the order in
 * which they came; those of different sequences are independent. Any thread; ps_sequence_bind and _keep are called by
 * the thread that runs the request. Life of a request with a sequence id:
 *
 *     ps_sequence_enter → (waits for its turn) → ps_sequence_bind → run → ps_sequence_keep → ps_sequence_leave */
#ifndef PS_SERVER_SEQUENCE_H
#define PS_SERVER_SEQUENCE_H

#include "base/arena.h"
#include "base/str.h"
#include "polestar/session.h"

#define PS_SEQUENCE_ID_MAX 128      /* bytes of an id */
#define PS_SEQUENCE_MAX_WAITING 256 /* requests of one sequence behind the one that runs */

typedef struct ps_sequences ps_sequences; /* of one served model */
typedef struct ps_sequence ps_sequence;
typedef struct ps_infer ps_infer;

/* Reads `text`, or, if it is NULL, MODEL.state.json beside MODEL.onnx; *ret is NULL if there is neither. inputs and
 * outputs are the model's and must live as long. */
ps_status ps_sequences_load(ps_engine *engine, const char *model_file, const char *text, const ps_value_info *inputs,
                            size_t n_inputs, const ps_value_info *outputs, size_t n_outputs, ps_sequences **ret,
                            ps_error *err);
void ps_sequences_free(ps_sequences *s); /* no request has a sequence any more; NULL is allowed */

/* Is any in progress, or younger than the time that it is kept for? s may be NULL. */
bool ps_sequences_live(ps_sequences *s);
/* Is that one in progress here? s may be NULL. */
bool ps_sequences_has(ps_sequences *s, const char *id);
/* It is no more, unless a request has its turn: then false. */
bool ps_sequences_end(ps_sequences *s, const char *id);
/* Finds the request's sequence, or makes one if the request starts it. *ret_waits: another request of the sequence
 * runs, and its ps_sequence_leave will return this one; then the caller must not touch the request any more. */
ps_status ps_sequence_enter(ps_infer *infer, bool *ret_waits, ps_error *err);
/* The request, which waits for its turn, waits no longer, and has no sequence any more. */
void ps_sequence_withdraw(ps_infer *infer);
/* Puts the states where the request has no tensor of its own. */
ps_status ps_sequence_bind(ps_infer *infer, ps_error *err);
/* Keeps the states from the outputs of the run (one per model output). */
ps_status ps_sequence_keep(ps_infer *infer, ps_tensor *const *outputs, ps_error *err);
/* The request is done, well or not. Returns the sequence's next request, whose turn it is, or NULL. */
ps_infer *ps_sequence_leave(ps_infer *infer);

/* The declared states, as indices of the model's inputs and outputs, and the shape of the first one; s may be NULL. */
typedef struct ps_sequence_state {
    int input, output;
    ps_shape shape;
} ps_sequence_state;
size_t ps_sequences_states(const ps_sequences *s);
ps_sequence_state ps_sequences_state(const ps_sequences *s, size_t i);
int64_t ps_sequences_idle_us(const ps_sequences *s);
/* Appends ,"sequence_batching":{…} of the model configuration. */
void ps_sequences_write_config(const ps_sequences *s, ps_str *out);

#endif
