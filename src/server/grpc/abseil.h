/* abseil.h - a switch of a library that grpc core stands on. */
#ifndef PS_SERVER_GRPC_ABSEIL_H
#define PS_SERVER_GRPC_ABSEIL_H

/* Distributions build Abseil with its debug mode on: then each of the fifty locks that grpc core takes for a call is
 * entered into a graph of lock orders, a fifth of the call's instructions, and an order that looks like a deadlock
 * aborts the process. Switches that off, where it is there to be switched. Before grpc_init. */
void ps_abseil_quiet(void);

#endif
