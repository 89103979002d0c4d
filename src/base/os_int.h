/* os_int.h - inside base: what its files that call the operating system share. */
#ifndef PS_BASE_OS_INT_H
#define PS_BASE_OS_INT_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"

/* "cannot VERB 'PATH': No such file or directory" for an errno: NOT_FOUND, NO_MEMORY or IO. */
ps_status ps_fail_errno(ps_error *err, const char *verb, const char *path, int code);

/* Go on after interrupted and partial transfers. ps_read_exact: false on an error or an early end. ps_write_all: 0 or
 * an errno. */
bool ps_read_exact(int fd, void *data, size_t size);
int ps_write_all(int fd, const void *data, size_t size);

#endif
