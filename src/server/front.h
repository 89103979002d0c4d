/* front.h - what every front end (http/, grpc/) is started with. */
#ifndef PS_SERVER_FRONT_H
#define PS_SERVER_FRONT_H

#include "base/log.h"
#include "server/budget.h"
#include "server/log_filter.h"
#include "server/pool.h"
#include "server/repository.h"
#include "server/runner.h"
#include "server/shared_memory.h"
#include "server/trace.h"

typedef struct ps_front_options {
    ps_engine *engine;
    ps_log log;
    ps_repository *repository; /* the eight outlive the front end */
    ps_runner *runner;
    ps_pool *loader, *keeper;
    ps_trace *trace;
    ps_shm_table *shm;
    ps_log_filter *log_filter;
    ps_budget *bodies;     /* of all requests */
    const char *host;      /* name or address */
    int port;              /* 0: any */
    size_t max_body_bytes; /* of one body or message */
    int threads;
    int max_connections; /* HTTP only */
    int client_seconds;  /* patience with slow clients: see ps_server_options */
} ps_front_options;

#endif
