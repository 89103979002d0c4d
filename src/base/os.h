/* os.h - everything the rest of the tree may ask of the operating system. POSIX lives behind this header only. */
#ifndef PS_BASE_OS_H
#define PS_BASE_OS_H

#include "base/alloc.h"
#include "base/error.h"

/* Monotonic nanoseconds; wall-clock nanoseconds since 1970. */
int64_t ps_clock_ns(void);
int64_t ps_clock_wall_ns(void);
int64_t ps_thread_cpu_ns(void); /* that the calling thread has spent on processors */
void ps_sleep_ns(int64_t ns);
/* n bytes that nobody can predict, from the kernel's generator. */
ps_status ps_random_bytes(void *dst, size_t n, ps_error *err);

/* A whole file, mapped read-only. data is NULL for an empty file. */
typedef struct ps_file_map {
    const uint8_t *data;
    size_t size;
} ps_file_map;

ps_status ps_file_map_open(const char *path, ps_file_map *ret_map, ps_error *err);
void ps_file_map_close(ps_file_map *map);
/* Tells the kernel that these bytes will not be read again soon. */
void ps_file_map_drop(const ps_file_map *map, size_t offset, size_t size);

/* Pages of its own, zeroed: `lead` bytes for the caller's notes and `size` behind them; NULL if there are none. Behind
 * a lead of ps_pages_lead, large blocks begin at a huge page and are made of such where the system gives them to who
 * asks: a five hundredth of the faults, and of the entries in the TLB. */
size_t ps_pages_lead(size_t size, size_t least);
void *ps_pages_new(size_t lead, size_t size);
void ps_pages_free(void *block, size_t size); /* lead + size */
/* All of the block is about to be written: its pages are made at once, which costs less than a fault for each. */
void ps_pages_expect(void *block, size_t size);
/* Gives the whole pages inside a block of private memory back to the system. Their content is undefined until they are
 * written again, after ps_pages_return. Returns the bytes given back, all that are inside or none. In builds with
 * assertions a touch in between is a fault. */
size_t ps_pages_drop(void *block, size_t size);
void ps_pages_return(void *block, size_t size);
size_t ps_pages_inside(const void *block, size_t size); /* bytes of them */

/* Reads a whole file of at most max bytes into a new block (ps_free). One NUL follows the content. */
ps_status ps_file_read(ps_alloc_state *a, const char *path, size_t max, char **ret_data, size_t *ret_size,
                       ps_error *err);
/* Writes to a file that has no name yet (where the file system has none such: to a temporary one beside path), syncs,
 * and gives it path's name. */
ps_status ps_file_write(const char *path, const void *data, size_t size, int mode, ps_error *err);
/* The same for what is of use while the system runs: not synced, it outlives this process but no power cut. */
ps_status ps_file_note(const char *path, const void *data, size_t size, int mode, ps_error *err);
/* As ps_file_write, in pieces. Nothing stands under path before commit, which closes; abort forgets what was written,
 * and does nothing after commit or on a zeroed writer. */
typedef struct ps_file_writer {
    int fd; /* plus 1; 0: closed */
    char *temp, *path; /* temp: "" for a file without a name */
    ps_alloc_state *alloc;
} ps_file_writer;

ps_status ps_file_writer_open(ps_file_writer *w, ps_alloc_state *a, const char *path, int mode, ps_error *err);
ps_status ps_file_writer_append(ps_file_writer *w, const void *data, size_t size, ps_error *err);
ps_status ps_file_writer_commit(ps_file_writer *w, ps_error *err);
void ps_file_writer_abort(ps_file_writer *w);
bool ps_file_exists(const char *path);
uint64_t ps_file_size(const char *path); /* 0 if there is none */
/* Size and time of the last change (wall clock); false if there is no such file. */
bool ps_file_stat(const char *path, uint64_t *ret_size, int64_t *ret_changed_ns);
bool ps_dir_exists(const char *path);
/* May this process read and write it? */
bool ps_file_usable(const char *path);
/* Resolves symlinks and ".."; the result is ps_free'd by the caller. */
ps_status ps_path_real(ps_alloc_state *a, const char *path, char **ret_real, ps_error *err);
/* Creates the folder and its parents with the mode. */
ps_status ps_dir_create(const char *path, int mode, ps_error *err);
/* A file, or an empty folder; false if it is not gone. */
bool ps_file_remove(const char *path);
bool ps_dir_remove(const char *path);
/* Names in a folder without "." and "..", sorted by byte value; free with ps_dir_free. */
ps_status ps_dir_list(ps_alloc_state *a, const char *path, char ***ret_names, size_t *ret_count, ps_error *err);
void ps_dir_free(ps_alloc_state *a, char **names, size_t count);

/* Sets a variable of this process's environment unless it is set already. Not while other threads read it. */
void ps_env_default(const char *name, const char *value);
/* NULL if it is not set. */
const char *ps_env_get(const char *name);

/* CPUs this process may use: affinity mask capped by the cgroup quota (rounded up), at least 1. */
int ps_cpu_count(void);
/* min(RAM, cgroup memory.max) in bytes. */
uint64_t ps_memory_total(void);
/* Resident bytes of this process. */
uint64_t ps_memory_resident(void);
/* Memory that was freed goes back to the system now. Takes some milliseconds. */
void ps_memory_trim(void);
/* The calling thread, and threads it starts from now on, run when others leave room. */
void ps_thread_yield_to_others(void);
/* Raises this process's own limit of open files to `want`, as far as the hard limit lets it. Returns how many there may
 * be now, which may be more or fewer. */
uint64_t ps_open_files_allow(uint64_t want);
/* "AMD EPYC 9654" or the architecture's name. */
void ps_cpu_model(char *buf, size_t size);
/* Address of a symbol of the libraries that this process was started with, or NULL. */
void *ps_symbol_find(const char *name);

#endif
