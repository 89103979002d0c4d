/* folder_watch.h - hearing that something in a set of folders has changed (inotify).
 *
 * What has changed, the caller has to find out. One thread waits, any other may wake it. */
#ifndef PS_BASE_FOLDER_WATCH_H
#define PS_BASE_FOLDER_WATCH_H

#include "base/alloc.h"
#include "base/error.h"

typedef struct ps_folder_watch ps_folder_watch;

ps_status ps_folder_watch_create(ps_alloc_state *alloc, ps_folder_watch **ret, ps_error *err);
void ps_folder_watch_free(ps_folder_watch *w); /* NULL is allowed */
/* From now on; a folder that is watched already may be added again. False: the system allows no more, or there is no
 * such folder. */
bool ps_folder_watch_add(ps_folder_watch *w, const char *path);
/* Until something changes, ps_folder_watch_wake, or so many milliseconds have passed (-1: no end). True: something has
 * changed. */
bool ps_folder_watch_wait(ps_folder_watch *w, int milliseconds);
void ps_folder_watch_wake(ps_folder_watch *w);

#endif
