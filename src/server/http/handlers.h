/* handlers.h - one function per route. Each is called on a daemon's thread when the whole body has arrived, and either
 * sets the reply or suspends the exchange. */
#ifndef PS_SERVER_HTTP_HANDLERS_H
#define PS_SERVER_HTTP_HANDLERS_H

#include "server/http/exchange.h"

void ps_handle_live(ps_exchange *x);
void ps_handle_ready(ps_exchange *x);
void ps_handle_server(ps_exchange *x);
void ps_handle_metadata(ps_exchange *x);
void ps_handle_model_ready(ps_exchange *x);
void ps_handle_config(ps_exchange *x);
void ps_handle_stats(ps_exchange *x);
void ps_handle_all_stats(ps_exchange *x);
void ps_handle_infer(ps_exchange *x);
void ps_handle_index(ps_exchange *x);
void ps_handle_load(ps_exchange *x);
void ps_handle_unload(ps_exchange *x);
/* metrics.c */
void ps_handle_metrics(ps_exchange *x);
/* traffic.c */
void ps_handle_traffic(ps_exchange *x);
void ps_handle_traffic_update(ps_exchange *x);
/* memory.c */
void ps_handle_shm_status(ps_exchange *x);
void ps_handle_shm_register(ps_exchange *x);
void ps_handle_shm_unregister(ps_exchange *x);
void ps_handle_cuda_status(ps_exchange *x);
void ps_handle_cuda_register(ps_exchange *x);
void ps_handle_cuda_unregister(ps_exchange *x);
/* settings.c */
void ps_handle_trace(ps_exchange *x);
void ps_handle_trace_update(ps_exchange *x);
void ps_handle_logging(ps_exchange *x);
void ps_handle_logging_update(ps_exchange *x);

#endif
