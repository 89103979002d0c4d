/* library.h - shared libraries that are loaded while the program runs, where one is there.
 *
 * A library stays in memory once it was loaded: drivers behind it may have threads. Any thread. */
#ifndef PS_BASE_LIBRARY_H
#define PS_BASE_LIBRARY_H

#include "base/error.h"

/* PS_NOT_FOUND with the loader's reason if it is not there or does not load. */
ps_status ps_library_open(const char *name, void **ret_library, ps_error *err);
void ps_library_close(void *library); /* NULL is allowed */
/* NULL: it has no such symbol. */
void *ps_library_symbol(void *library, const char *name);

#endif
