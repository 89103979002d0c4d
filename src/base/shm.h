/* shm.h - POSIX shared memory objects of other processes, read and written through their descriptor.
 *
 * They are not mapped: their owner may cut them short at any time, and touching a page that is gone is a fatal signal,
 * while a read just comes short. Any thread. */
#ifndef PS_BASE_SHM_H
#define PS_BASE_SHM_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"

/* A name as shm_open takes it, with or without the first '/': no other '/', no control characters, at most 254 bytes.
 */
bool ps_shm_name_valid(const char *name);
/* An existing object, for reading and writing. PS_INVALID for a bad name or something that is no such object. */
ps_status ps_shm_open(const char *name, int *ret_fd, size_t *ret_size, ps_error *err);
void ps_shm_close(int fd);
/* All of it: an object that ends before is an error. A write never makes an object longer than it was when opened,
 * given that offset and size lay within that. */
ps_status ps_shm_read(int fd, size_t offset, void *dst, size_t size, ps_error *err);
ps_status ps_shm_write(int fd, size_t offset, const void *src, size_t size, ps_error *err);

#endif
