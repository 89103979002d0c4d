/* devices.h - the devices that a server's models run on, and how busy each is.
 *
 * Made at the start and immutable but for counters that any thread may change. Models have references to entries. */
#ifndef PS_SERVER_DEVICES_H
#define PS_SERVER_DEVICES_H

#include <stdatomic.h>

#include "base/alloc.h"
#include "base/arena.h"
#include "base/error.h"
#include "polestar/server.h"
#include "server/model_config.h"

#define PS_USED_DEVICES_MAX 16
#define PS_USED_DEVICES_LIST 256 /* bytes of a list of their names */

typedef struct ps_used_device {
    char name[15];         /* of the engine: "cpu", "opencl:0" */
    bool own_memory;       /* it has memory of its own */
    bool limited;          /* that got a limit here */
    atomic_int running;    /* sessions that are in use */
    atomic_ullong runs;    /* of sessions, that have ended */
    atomic_ullong busy_ns; /* that sessions were in use for, all together */
} ps_used_device;

typedef struct ps_used_devices {
    ps_alloc_state *alloc;
    ps_engine *engine;
    ps_used_device all[PS_USED_DEVICES_MAX];
    size_t n;
    char list[PS_USED_DEVICES_LIST]; /* their names */
} ps_used_devices;

/* options->device is a list; limits memory as options say. Fails if one of the devices is not there. */
ps_status ps_used_devices_create(ps_engine *engine, const ps_server_options *options, ps_used_devices **ret,
                                 ps_error *err);
/* Takes the limits back. NULL is allowed. */
void ps_used_devices_free(ps_used_devices *devices);

/* Of a device with memory of its own: what is held there, and the limit; else 0 and 0. */
void ps_used_device_memory(const ps_used_devices *devices, size_t index, size_t *ret_held, size_t *ret_limit);
/* How many runs there should be at once: two for each card, so that one's inputs and outputs are on their way while the
 * other computes. More share its time out without gain, in smaller batches, and each has memory of its own there. 0: as
 * many as there are cores, for some of the devices are the host itself. */
int ps_used_devices_runs(const ps_used_devices *devices);
/* Do models lie in memory other than the host's? */
bool ps_used_devices_have_memory(const ps_used_devices *devices);
/* Is four fifths of the memory of one of them taken? */
bool ps_used_devices_full(const ps_used_devices *devices);

/* A list for ps_model_options.device, in the arena: of those that a model's configuration asks for, the ones that the
 * server uses; all of them where it asks for none, or for none of these (*ret_none). */
ps_status ps_used_devices_choose(const ps_used_devices *devices, const ps_config_devices *wanted, ps_arena *arena,
                                 const char **ret, bool *ret_none, ps_error *err);
/* By the engine's name; NULL: it is none of them. */
ps_used_device *ps_used_devices_find(ps_used_devices *devices, const char *name);

#endif
