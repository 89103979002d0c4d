/* ModelInfer. */
#include <stddef.h>
#include <string.h>

#include "base/os.h"
#include "base/wire.h"
#include "server/grpc/handlers.h"
#include "server/grpc/infer_wire.h"
#include "server/infer_request.h"

enum { STREAM_INFER_RESPONSE = 2, RAW_FORM = 1 << 16 /* none of HTTP's */ };

ps_status ps_grpc_check_target(const char *name, const char *version, ps_error *err) {
    PS_FAIL_IF(!*name, err, INVALID, "the request names no model");
    PS_FAIL_IF(version[strspn(version, "0123456789")] && !ps_label_valid(version, strlen(version)), err, INVALID,
               "model version '%.32s' is neither a number nor a label", version);
    return PS_OK;
}

/* NULL: none is asked for. */
static const char *version_of(const char *text) {
    return *text ? text : NULL;
}

ps_status ps_grpc_peek(ps_grpc *g, const char *name, const char *version, ps_served **ret, ps_error *err) {
    PS_TRY(ps_grpc_check_target(name, version, err));
    return ps_repository_peek(g->options.repository, name, version_of(version), ret, err);
}

ps_status ps_grpc_acquire(ps_grpc *g, ps_infer *infer, ps_served **ret, ps_error *err) {
    PS_TRY(ps_grpc_check_target(infer->model_name, infer->version_name, err));
    return ps_core_acquire(g->options.repository, infer, infer->model_name, version_of(infer->version_name), ret, err);
}

int64_t ps_grpc_deadline(gpr_timespec deadline) {
    if (gpr_time_cmp(deadline, gpr_inf_future(deadline.clock_type)) == 0) return 0;
    gpr_timespec left = gpr_time_sub(deadline, gpr_now(deadline.clock_type));
    int64_t ns = left.tv_sec > INT32_MAX ? INT64_C(1000000000) * INT32_MAX : left.tv_sec * INT64_C(1000000000);
    int64_t until = ps_clock_ns() + ns + left.tv_nsec;
    return until > 0 ? until : 1;
}

/* A request that could not be read counts as the model's failure, if it names one. */
static void count_failure(ps_grpc *g, const ps_infer *infer, const ps_infer_wire_target *target, ps_status status) {
    if (ps_grpc_check_target(target->model_name, target->model_version, NULL) != PS_OK) return;
    ps_repository_count_failure(g->options.repository, target->model_name, version_of(target->model_version),
                                ps_failure_of(status), ps_clock_ns() - infer->arrived_ns);
}

/* It failed before it got its model. */
static void count_unserved(ps_grpc *g, const ps_infer *infer, ps_status status) {
    ps_core_count_unserved(g->options.repository, infer->model_name, version_of(infer->version_name), status,
                           infer->arrived_ns);
}

/* The call's metadata, where the request itself has no key. */
static ps_status read_routing_key(const ps_call *c, ps_infer *infer, ps_error *err) {
    char key[PS_INFER_MAX_KEY + 2]; /* one that is cut off is too long all the same */
    const bool found = ps_call_find_metadata(c, "x-routing-key", key, sizeof key);
    return found ? ps_infer_set_routing_key(infer, key, err) : PS_OK;
}

/* PS_OK: the request belongs to the runner, or waits for its model. */
static ps_status find_and_submit(ps_grpc *g, ps_infer *infer, ps_error *err) {
    ps_served *served;
    ps_status status = ps_grpc_acquire(g, infer, &served, err);
    if (status != PS_OK) count_unserved(g, infer, status);
    if (status != PS_OK || !served) return status;
    if (infer->route.repo && !infer->routing_key) status = read_routing_key(infer->ctx, infer, err);
    if (status != PS_OK) {
        ps_core_count_failure(served, status, infer->arrived_ns);
        ps_served_release(served);
        return status;
    }
    status = ps_core_submit(g->options.runner, infer, served, err);
    if (status == PS_OK) return status;
    ps_core_count_refusal(infer, status); /* infer holds the reference */
    ps_infer_drop_served(infer);
    return status;
}

/* The model that was waited for may be there. */
static void loaded(ps_wait *w) {
    ps_infer *infer = (ps_infer *)((char *)w - offsetof(ps_infer, wait));
    const ps_call *c = infer->ctx;
    ps_error err = PS_ERROR_INIT;
    infer->here_ns = 0; /* this thread has others to tell */
    ps_status status = find_and_submit(c->grpc, infer, &err);
    if (status == PS_OK) return;
    infer->status = status;
    infer->error = err;
    infer->done(infer);
}

static ps_status submit(ps_grpc *g, ps_infer *infer, const ps_message *m, const char **ret_model, ps_error *err) {
    ps_infer_wire_target target;
    ps_status status = ps_infer_wire_read(infer, m->data, m->size, &target, err);
    *ret_model = infer->model_name = target.model_name;
    infer->version_name = target.model_version;
    if (status == PS_OK) return find_and_submit(g, infer, err);
    count_failure(g, infer, &target, status);
    return status;
}

bool ps_grpc_give_up(ps_grpc *g, ps_infer *infer) {
    atomic_store(&infer->abandoned, true); /* first: it may be about to wait */
    return ps_repository_leave(g->options.repository, &infer->wait) || ps_runner_give_up(g->options.runner, infer);
}

void ps_grpc_end_given_up(ps_grpc *g, ps_infer *infer) {
    if (infer->served) {
        ps_runner_end_given_up(g->options.runner, infer);
        return;
    }
    if (infer->encode) count_unserved(g, infer, PS_CANCELLED); /* else it asks for a description */
    infer->status = PS_FAIL(&infer->error, CANCELLED, "the client gave the request up");
    infer->done(infer);
}

/* infer->error must not be written once the runner has the request: only a failure is copied there. */
ps_status ps_grpc_submit(ps_grpc *g, ps_infer *infer, const ps_message *m, const char **ret_model) {
    ps_error err = PS_ERROR_INIT;
    infer->shm = g->options.shm;
    infer->want_binary = true;
    infer->form = RAW_FORM;
    infer->wait.over = loaded;
    ps_status status = submit(g, infer, m, ret_model, &err);
    if (status == PS_OK) return status;
    infer->status = status;
    infer->error = err;
    return status;
}

ps_status ps_grpc_encode(ps_infer *infer, bool stream, grpc_byte_buffer **ret, size_t *ret_size, ps_error *err) {
    ps_infer_wire_reply reply;
    uint8_t *p;
    PS_TRY(ps_infer_wire_measure(infer, stream, &reply, err));
    *ret_size = stream ? ps_wire_len_size(STREAM_INFER_RESPONSE, reply.size) : reply.size;
    *ret = ps_message_create(infer->arena.alloc, *ret_size, &p);
    if (!*ret) return PS_FAIL_NOMEM(err, "a reply");
    if (stream) {
        p = ps_wire_put_tag(p, STREAM_INFER_RESPONSE, PS_WIRE_LEN);
        p = ps_wire_put_varint(p, reply.size);
    }
    ps_infer_wire_put(&reply, p);
    return PS_OK;
}

static ps_status encode(ps_infer *infer, ps_error *err) {
    ps_call *c = infer->ctx;
    return ps_grpc_encode(infer, false, &c->reply, &c->reply_size, err);
}

static void infer_done(ps_infer *infer) {
    ps_call *c = infer->ctx;
    if (infer->status == PS_OK)
        ps_call_finish(c);
    else
        ps_call_fail(c, infer->status);
}

static void watch(ps_infer *infer) {
    ps_call_watch(infer->ctx);
}

void ps_grpc_handle_infer(ps_call *c) {
    ps_infer *infer = &c->infer;
    infer->arrived_ns = c->arrived_ns;
    infer->deadline_ns = ps_grpc_deadline(c->deadline);
    infer->encode = encode;
    infer->done = infer_done;
    infer->park = watch; /* a run on this thread is over before anybody could give it up */
    infer->ctx = c;
    if (ps_grpc_submit(c->grpc, infer, &c->message, &c->model) != PS_OK) ps_call_fail(c, infer->status);
}
