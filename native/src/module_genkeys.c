/* See module_genkeys.h. The interpreter's lock is not held while keys are tried, so threads use all cores. */
#include "module_genkeys.h"

#include <string.h>

#include "genkeys.h"

PyObject *py_search_keys(PyObject *module, PyObject *args)
{
    (void)module;
    const char *best;
    Py_ssize_t size, batches;
    uint8_t key[GENKEYS_SIZE], seed[GENKEYS_SIZE];
    if (!PyArg_ParseTuple(args, "y#n", &best, &size, &batches))
        return NULL;
    if (size != GENKEYS_SIZE || batches < 0) {
        PyErr_SetString(PyExc_ValueError, "a key has 32 bytes, and batches cannot be negative");
        return NULL;
    }
    memcpy(key, best, GENKEYS_SIZE);
    enum genkeys_verdict verdict;
    Py_BEGIN_ALLOW_THREADS
    verdict = genkeys_search(key, seed, (size_t)batches);
    Py_END_ALLOW_THREADS
    switch (verdict) {
    case GENKEYS_FOUND:
        return Py_BuildValue("(y#y#)", seed, (Py_ssize_t)GENKEYS_SIZE, key, (Py_ssize_t)GENKEYS_SIZE);
    case GENKEYS_NOTHING:
        Py_RETURN_NONE;
    case GENKEYS_NO_MEMORY:
        return PyErr_NoMemory();
    case GENKEYS_NO_RANDOM:
        PyErr_SetString(PyExc_OSError, "OpenSSL has no random bytes");
        return NULL;
    default:
        PyErr_SetString(PyExc_RuntimeError,
                        "a public key differs from what OpenSSL computes for its seed; this machine computes wrongly");
        return NULL;
    }
}

PyObject *py_key_coordinates(PyObject *module, PyObject *argument)
{
    (void)module;
    char *seeds;
    Py_ssize_t size;
    static const Py_ssize_t wanted = (Py_ssize_t)GENKEYS_BATCH * GENKEYS_SIZE;
    if (PyBytes_AsStringAndSize(argument, &seeds, &size) < 0)
        return NULL;
    if (size != wanted)
        return PyErr_Format(PyExc_ValueError, "a batch of seeds has %zd bytes, not %zd", wanted, size);
    const struct genkeys_table *table = genkeys_get_table();
    PyObject *out = table ? PyBytes_FromStringAndSize(NULL, wanted) : PyErr_NoMemory();
    if (out)
        genkeys_get()->keys((uint8_t (*)[GENKEYS_SIZE])PyBytes_AsString(out), (const uint8_t (*)[GENKEYS_SIZE])seeds,
                            table);
    return out;
}
