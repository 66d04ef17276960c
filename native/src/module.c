/*
 * The Python module yggpy.datapath._native; see _native.pyi for what it offers. Only files called module*.c know Python.
 *
 * Limited API, so one build serves every Python from 3.11 on. Calls into the engine hold the interpreter's lock and the
 * engine's; the second is waited for without the first, and the engine's thread never takes the first.
 */
#include "module.h"

#include "box.h"
#include "certificate.h"
#include "module_firewall.h"
#include "module_genkeys.h"

static int to_fixed(PyObject *argument, void *out, Py_ssize_t wanted, const char *what)
{
    char *data;
    Py_ssize_t size;
    if (PyBytes_AsStringAndSize(argument, &data, &size) < 0)
        return 0;
    if (size != wanted) {
        PyErr_Format(PyExc_ValueError, "%s has %zd bytes, not %zd", what, wanted, size);
        return 0;
    }
    *(const uint8_t **)out = (const uint8_t *)data;
    return 1;
}

int to_key(PyObject *argument, void *out)
{
    return to_fixed(argument, out, KEY_SIZE, "a key");
}

int to_address(PyObject *argument, void *out)
{
    return to_fixed(argument, out, ADDRESS_SIZE, "an address");
}

int to_subnet(PyObject *argument, void *out)
{
    return to_fixed(argument, out, SUBNET_SIZE, "a subnet");
}

static PyTypeObject *add_type(PyObject *module, PyType_Spec *spec)
{
    PyObject *type = PyType_FromModuleAndSpec(module, spec, NULL);
    if (type && PyModule_AddType(module, (PyTypeObject *)type) < 0) {
        Py_DECREF(type);
        return NULL;
    }
    return (PyTypeObject *)type;
}

static PyObject *box_name(PyObject *module, PyObject *unused)
{
    (void)module, (void)unused;
    return PyUnicode_FromString(box_implementation());
}

static PyObject *py_make_certificate(PyObject *module, PyObject *args)
{
    (void)module;
    const uint8_t *seed;
    const char *common_name;
    if (!PyArg_ParseTuple(args, "O&s", to_key, &seed, &common_name))
        return NULL;
    struct buffer certificate = {0}, key = {0};
    PyObject *pair = NULL;
    if (certificate_make(seed, common_name, &certificate, &key))
        pair = Py_BuildValue("(y#y#)", buffer_bytes(&certificate), (Py_ssize_t)buffer_size(&certificate),
                             buffer_bytes(&key), (Py_ssize_t)buffer_size(&key));
    else
        PyErr_SetString(tls_error, "OpenSSL could not make an ed25519 certificate");
    buffer_free(&certificate);
    buffer_free(&key);
    return pair;
}

static PyMethodDef functions[] = {
    {"make_certificate", py_make_certificate, METH_VARARGS, "Certificate and key, both PEM, for (seed, common name)."},
    {"box_implementation", box_name, METH_NOARGS, "Which Salsa20 this CPU runs: avx512, avx2 or portable."},
    GENKEYS_FUNCTIONS,
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    .m_base = PyModuleDef_HEAD_INIT,
    .m_name = "yggpy.datapath._native",
    .m_doc = "The data plane in C.",
    .m_size = -1,
    .m_methods = functions,
};

PyMODINIT_FUNC PyInit__native(void);

PyMODINIT_FUNC PyInit__native(void)
{
    PyObject *module = PyModule_Create(&definition);
    if (!module)
        return NULL;
    tls_error = PyErr_NewExceptionWithDoc("yggpy.datapath._native.TlsError", "TLS failed; the text is the reason.",
                                          PyExc_Exception, NULL);
    tls_context_type = add_type(module, &tls_context_spec);
    stream_type = add_type(module, &stream_spec);
    if (!tls_error || !tls_context_type || !stream_type || !add_type(module, &engine_spec) ||
        !add_type(module, &firewall_spec) || PyModule_AddObjectRef(module, "TlsError", tls_error) < 0) {
        Py_DECREF(module);
        return NULL;
    }
    return module;
}
