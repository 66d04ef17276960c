/* What the files of the Python module share; _native.pyi says what the module offers. */
#ifndef YGGPY_MODULE_H
#define YGGPY_MODULE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdbool.h>
#include <stdint.h>

#include "engine.h"

/* ---- arguments (module.c) ---- */

/* Converters for "O&": a bytes object of exactly KEY_SIZE, ADDRESS_SIZE or SUBNET_SIZE to a const uint8_t *. */
int to_key(PyObject *argument, void *out);
int to_address(PyObject *argument, void *out);
int to_subnet(PyObject *argument, void *out);

/* ---- streams (module_stream.c) ---- */

extern PyObject *tls_error; /* TlsError(reason) */
extern PyTypeObject *tls_context_type, *stream_type;
extern PyType_Spec tls_context_spec, stream_spec;

bool is_stream(PyObject *object);

/* Of a Stream object; NULL with an exception when it is closed. */
struct stream *open_stream(PyObject *object);

/* The stream inside has been moved elsewhere: the object is closed from now on. */
void stream_given_away(PyObject *object);

/* ---- the engine (module_engine.c) ---- */

extern PyType_Spec engine_spec;

/* Returns the locked engine of an Engine object; NULL with an exception when it is closed. */
struct engine *engine_enter(PyObject *object);

/* Unlocks, and hands the result on. */
PyObject *engine_leave(struct engine *engine, PyObject *result);
PyObject *engine_leave_none(struct engine *engine);

#endif
