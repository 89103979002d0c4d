/* trace_context.h - the traceparent header of W3C Trace Context: who asked on whose behalf. */
#ifndef PS_SERVER_TRACE_CONTEXT_H
#define PS_SERVER_TRACE_CONTEXT_H

#include <stdbool.h>

/* Splits "VERSION-TRACE-PARENT-FLAGS": lower-case hexadecimal of 2, 32, 16 and 2 digits, no id of zeros only. A version
 * above 00 may have more behind them; ff is invalid. As the recommendation says, an invalid header counts as none. */
bool ps_trace_context_parse(const char *text, char ret_trace[33], char ret_parent[17]);

#endif
