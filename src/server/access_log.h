/* access_log.h - the one line of a request in the log, the same for every front end. */
#ifndef PS_SERVER_ACCESS_LOG_H
#define PS_SERVER_ACCESS_LOG_H

#include "base/log.h"

typedef struct ps_access {
    const char *method, *path, *status;
    const char *model, *id;           /* "" for none */
    const char *trace_id, *parent_id; /* of a W3C trace context, or "" */
    size_t in, out;                   /* bytes of the bodies */
    int64_t ns;                       /* from arrival until the reply was sent */
    bool aborted;
} ps_access;

void ps_access_log(const ps_log *log, const ps_access *a);

#endif
