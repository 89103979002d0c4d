/* handlers.h - one function per method. Each is called on a thread of the front end with the message read, and answers
 * or leaves that to a pool. */
#ifndef PS_SERVER_GRPC_HANDLERS_H
#define PS_SERVER_GRPC_HANDLERS_H

#include "server/grpc/call.h"

void ps_grpc_handle_live(ps_call *c);
void ps_grpc_handle_ready(ps_call *c);
void ps_grpc_handle_health(ps_call *c);
void ps_grpc_handle_server(ps_call *c);
void ps_grpc_handle_model_ready(ps_call *c);
void ps_grpc_handle_metadata(ps_call *c);
void ps_grpc_handle_config(ps_call *c);
void ps_grpc_handle_stats(ps_call *c);
/* infer.c, stream.c */
void ps_grpc_handle_infer(ps_call *c);
void ps_grpc_handle_stream(ps_call *c);
/* repository.c */
void ps_grpc_handle_index(ps_call *c);
void ps_grpc_handle_load(ps_call *c);
void ps_grpc_handle_unload(ps_call *c);
/* memory.c */
void ps_grpc_handle_shm_status(ps_call *c);
void ps_grpc_handle_shm_register(ps_call *c);
void ps_grpc_handle_shm_unregister(ps_call *c);
void ps_grpc_handle_cuda_status(ps_call *c);
void ps_grpc_handle_cuda_register(ps_call *c);
void ps_grpc_handle_cuda_unregister(ps_call *c);
/* settings.c */
void ps_grpc_handle_trace(ps_call *c);
void ps_grpc_handle_log(ps_call *c);

#endif
