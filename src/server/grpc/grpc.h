/* grpc.h - the gRPC front end: one server of grpc core over the core of the protocol.
 *
 * Threads: its own take calls off grpc core's completion queue, read the messages and finish calls; runs and loads
 * happen on the pools, whose threads start the replies themselves. */
#ifndef PS_SERVER_GRPC_GRPC_H
#define PS_SERVER_GRPC_GRPC_H

#include "server/front.h"

typedef struct ps_grpc ps_grpc;

/* Listens and serves from now on. */
ps_status ps_grpc_start(const ps_front_options *options, ps_grpc **ret, ps_error *err);
int ps_grpc_port(const ps_grpc *grpc);
/* What ServerReady answers; false at first. */
void ps_grpc_set_ready(ps_grpc *grpc, bool ready);
/* New calls are refused (UNAVAILABLE), but those that ask for health; calls in progress are answered, streams end when
 * what they have read is. */
void ps_grpc_drain(ps_grpc *grpc);
/* Waits until no call is in progress, and for a moment without new ones; false if the deadline (of ps_clock_ns) came
 * first. */
bool ps_grpc_wait_idle(ps_grpc *grpc, int64_t deadline_ns);
/* Cuts off what is left. No request may be queued or running any more. NULL is allowed. */
void ps_grpc_free(ps_grpc *grpc);

#endif
