/* shadow.h - copies of requests to another version of their model, whose answers are compared and seen by nobody else.
 *
 * One thread of low priority runs them, from a short queue: what finds the queue full is dropped and counted, so that
 * the requests themselves wait for nothing but the copying of their inputs and answers. Nothing of them is kept. */
#ifndef PS_SERVER_SHADOW_H
#define PS_SERVER_SHADOW_H

#include "server/core.h"

#define PS_SHADOW_QUEUE 16
#define PS_SHADOW_MAX_BYTES ((size_t)64 << 20) /* of all copies together */

typedef struct ps_shadow ps_shadow;

ps_status ps_shadow_create(ps_engine *engine, ps_shadow **ret, ps_error *err);
/* The run in progress ends soon, the others do not begin. NULL is allowed. */
void ps_shadow_free(ps_shadow *shadow);
/* Between `encode` and `done` of a request that went well and whose route has a shadow: takes that over. shadow may be
 * NULL. */
void ps_shadow_copy(ps_shadow *shadow, ps_infer *infer);

/* Numbers: |got - want| <= atol + rtol |want|, NaN and infinities at the same places, as `polestar verify` compares;
 * shapes and types must be equal. Adds to *result, which starts as PS_SHADOW_SAME. */
#define PS_SHADOW_SAME ((ps_shadow_result) { .close = true, .argmax_same = true })
void ps_shadow_compare(const ps_tensor *got, const ps_tensor *want, double rtol, double atol, ps_shadow_result *result);

#endif
