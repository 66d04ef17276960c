/* The engine's methods for tables and packets from above, see module_tables.c. */
#ifndef YGGPY_MODULE_TABLES_H
#define YGGPY_MODULE_TABLES_H

#include "module.h"

PyObject *engine_py_set_fib(PyObject *object, PyObject *args);
PyObject *engine_py_set_path(PyObject *object, PyObject *args);
PyObject *engine_py_remove_path(PyObject *object, PyObject *argument);
PyObject *engine_py_set_session(PyObject *object, PyObject *args);
PyObject *engine_py_remove_session(PyObject *object, PyObject *argument);
PyObject *engine_py_set_address(PyObject *object, PyObject *args);
PyObject *engine_py_remove_address(PyObject *object, PyObject *argument);
PyObject *engine_py_remote(PyObject *object, PyObject *argument);
PyObject *engine_py_knows_destination(PyObject *object, PyObject *argument);
PyObject *engine_py_open_again(PyObject *object, PyObject *args);
PyObject *engine_py_send_payload(PyObject *object, PyObject *args);
PyObject *engine_py_send_message(PyObject *object, PyObject *args);
PyObject *engine_py_send_ipv6(PyObject *object, PyObject *argument);

#define TABLE_METHODS                                                                                           \
    {"set_fib", engine_py_set_fib, METH_VARARGS, "Replace the forwarding table."},                              \
    {"set_path", engine_py_set_path, METH_VARARGS, "Install a path in wire form."},                             \
    {"remove_path", engine_py_remove_path, METH_O, "Forget a path."},                                           \
    {"set_session", engine_py_set_session, METH_VARARGS, "Install session keys; return their generation."},     \
    {"remove_session", engine_py_remove_session, METH_O, "Forget session keys."},                               \
    {"set_address", engine_py_set_address, METH_VARARGS, "Map an address and subnet to a key."},                \
    {"remove_address", engine_py_remove_address, METH_O, "Forget an address."},                                 \
    {"remote", engine_py_remote, METH_O, "What is known of a remote node, or None."},                           \
    {"knows_destination", engine_py_knows_destination, METH_O, "Whether a packet's destination has a key."},    \
    {"open_again", engine_py_open_again, METH_VARARGS, "Try again to open traffic that was asked about."},      \
    {"send_payload", engine_py_send_payload, METH_VARARGS, "Send a session-layer payload along a path."},       \
    {"send_message", engine_py_send_message, METH_VARARGS, "Seal and send a message."},                         \
    {"send_ipv6", engine_py_send_ipv6, METH_O, "Send an IPv6 packet as if read from the TUN."}

#endif
