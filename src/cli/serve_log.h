/* serve_log.h - the server's log lines on standard error, written in batches by a thread of their own.
 *
 * A request must neither pay a system call for its line nor wait for whoever reads standard error. Lines are put into
 * a buffer; the thread writes what has come together, 10 ms after the first at the latest, warnings and errors at
 * once. Lines that find the buffer full are counted, and the next that fits says how many. */
#ifndef CLI_SERVE_LOG_H
#define CLI_SERVE_LOG_H

#include "polestar/polestar.h"

typedef struct serve_log serve_log;

/* Signals that are blocked now are blocked in its thread. NULL: out of resources. */
serve_log *serve_log_start(void);
/* A ps_log_fn; ctx is the serve_log. Any thread. */
void serve_log_line(void *ctx, ps_log_level level, const char *line);
/* Writes what is left (or gives up on a reader that takes nothing for a second). NULL is allowed. */
void serve_log_stop(serve_log *log);

#endif
