/* os_machine.h - inside base: reading the control group's limits below a given root, for tests to lay out files. */
#ifndef PS_BASE_OS_MACHINE_H
#define PS_BASE_OS_MACHINE_H

#include <stdint.h>

typedef struct ps_cgroup_limits {
    double cpus;     /* quota / period; 0: no quota */
    uint64_t memory; /* bytes; UINT64_MAX: no limit */
} ps_cgroup_limits;

/* Reads ROOT/proc/self/cgroup, ROOT/proc/self/mountinfo and the files of cgroup v1 and v2 they lead to; limits of
 * parent groups count too. root is "" outside of tests. Files that are missing or odd mean no limit. */
ps_cgroup_limits ps_cgroup_read(const char *root);

#endif
