/* metrics.h - what is counted of models, versions and their traffic, in the text format of Prometheus (0.0.4). */
#ifndef PS_SERVER_METRICS_H
#define PS_SERVER_METRICS_H

#include "server/repository.h"

#define PS_METRICS_TYPE "text/plain; version=0.0.4; charset=utf-8"

ps_status ps_metrics_write(ps_repository *repo, ps_engine *engine, ps_str *out, ps_error *err);

#endif
