/* polestar.h - everything: an inference engine and server for plain CPUs and legacy GPUs.
 *
 *   engine   process-wide: devices, allocator, threads, log            shared, internally locked
 *   model    parsed, optimised; immutable, reference counted           shared, read-only
 *   session  arena and state for running one model                     one thread at a time
 *
 * Pointers must not be NULL where no comment allows it; what a call returns through a pointer is set on success only.
 *
 * A complete program: examples/run.c. */
#ifndef POLESTAR_POLESTAR_H
#define POLESTAR_POLESTAR_H

#include "polestar/compress.h"
#include "polestar/engine.h"
#include "polestar/error.h"
#include "polestar/io.h"
#include "polestar/model.h"
#include "polestar/server.h"
#include "polestar/session.h"
#include "polestar/tensor.h"

#endif
