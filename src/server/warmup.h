/* warmup.h - the runs that a model's configuration asks for when it is loaded, so that its first requests find plans
 * and memory ready. */
#ifndef PS_SERVER_WARMUP_H
#define PS_SERVER_WARMUP_H

#include "server/served.h"

/* Runs all of served->config's. folder: where the configuration lies; files of inputs lie in its folder `warmup`. A
 * run that fails is the load's failure, and says which. */
ps_status ps_warmup_run(ps_served *served, ps_engine *engine, const char *folder, ps_error *err);

#endif
