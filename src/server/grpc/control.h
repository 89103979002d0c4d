/* control.h - messages of the control plane: generated code, with memory in the call's arena. */
#ifndef PS_SERVER_GRPC_CONTROL_H
#define PS_SERVER_GRPC_CONTROL_H

#include "open_inference.pb-c.h"
#include "server/grpc/handlers.h"

#define PS_CONTROL_MAX ((size_t)1 << 20) /* bytes of a request: what it unpacks to is a multiple of that */

/* The call's message; the result lives as long as the call. PS_FORMAT if it is none of that type. */
ps_status ps_control_read(ps_call *c, const ProtobufCMessageDescriptor *type, void **ret, ps_error *err);
/* Answers with the message. */
void ps_control_reply(ps_call *c, const ProtobufCMessage *m);
/* Answers with an error if status is one (its sentence is in c->infer.error), else with the message. */
void ps_control_answer(ps_call *c, ps_status status, const ProtobufCMessage *m);
/* n pointers to zeroed messages of `size` bytes each, in the call's arena; NULL: out of memory. */
void *ps_control_list(ps_call *c, size_t n, size_t size);
/* A text that outlives what it was copied from; never NULL, but *ok becomes false. */
char *ps_control_text(ps_call *c, const char *text, bool *ok);

#endif
