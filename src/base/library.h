/* library.h - shared libraries that are loaded while the program runs, where one is there.
 *
 * A library stays in memory once it was loaded: drivers behind it may have threads. Any thread. */
#ifndef PS_BASE_LIBRARY_H
#define PS_BASE_LIBRARY_H

#include <stddef.h>

#include "base/error.h"

/* PS_NOT_FOUND with the loader's reason if it is not there or does not load. */
ps_status ps_library_open(const char *name, void **ret_library, ps_error *err);
void ps_library_close(void *library); /* NULL is allowed */
/* NULL: it has no such symbol. */
void *ps_library_symbol(void *library, const char *name);

/* What the linker names this very build by (the GNU build ID of the program or library this code is part of); returns
 * the bytes, at most room, 0 if it has no name. */
size_t ps_library_build_id(unsigned char *dst, size_t room);

#endif
