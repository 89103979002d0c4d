/* sequence_int.h - inside the sequence extension: what the state file says. */
#ifndef PS_SERVER_SEQUENCE_INT_H
#define PS_SERVER_SEQUENCE_INT_H

#include "server/sequence.h"

typedef struct ps_state_pair {
    int input, output; /* -1: not named yet */
    bool has_shape;
    ps_shape shape; /* of the first state, which is all zeros */
} ps_state_pair;

typedef struct ps_state_file {
    ps_state_pair *pairs; /* in the arena */
    size_t n_pairs;
    int64_t idle_seconds, max_sequences;
} ps_state_file;

/* {"states":[{"input":…,"output":…,"shape":[…]}],"idle_seconds":…,"max_sequences":…} */
ps_status ps_state_file_read(const char *text, size_t size, const ps_value_info *inputs, size_t n_inputs,
                             const ps_value_info *outputs, size_t n_outputs, ps_arena *arena, ps_state_file *ret,
                             ps_error *err);

#endif
