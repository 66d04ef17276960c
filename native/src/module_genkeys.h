/* The search for strong keys as functions of the Python module. */
#ifndef YGGPY_MODULE_GENKEYS_H
#define YGGPY_MODULE_GENKEYS_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

PyObject *py_search_keys(PyObject *module, PyObject *args);
PyObject *py_key_coordinates(PyObject *module, PyObject *argument);

#define GENKEYS_FUNCTIONS                                                                                    \
    {"search_keys", py_search_keys, METH_VARARGS, "Try fresh keys: (public key to beat, batches)."},         \
    {"key_coordinates", py_key_coordinates, METH_O, "The y coordinates of the public keys of a batch of seeds."}

#endif
