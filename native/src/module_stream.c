/* The streams of links as Python sees them before the engine takes them over: TlsContext and Stream, see _native.pyi. */
#include "module.h"

#include <errno.h>

#include "tls.h"

PyObject *tls_error;
PyTypeObject *tls_context_type, *stream_type;

/* ---- TlsContext ---- */

typedef struct {
    PyObject_HEAD
    struct tls_context *context;
} TlsContextObject;

static PyObject *tls_context_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    const char *certificate = NULL, *key = NULL;
    Py_ssize_t certificate_size = 0, key_size = 0;
    static char *names[] = {"certificate_pem", "private_key_pem", NULL};
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|y#y#", names, &certificate, &certificate_size, &key, &key_size))
        return NULL;
    TlsContextObject *self = (TlsContextObject *)PyType_GenericAlloc(type, 0);
    if (!self)
        return NULL;
    char reason[TLS_REASON_SIZE] = "";
    self->context = certificate ? tls_server_context(certificate, (size_t)certificate_size, key ? key : "",
                                                     (size_t)key_size, reason)
                                : tls_client_context(reason);
    if (self->context)
        return (PyObject *)self;
    Py_DECREF(self);
    PyErr_SetString(tls_error, reason);
    return NULL;
}

static void tls_context_dealloc(PyObject *object)
{
    PyTypeObject *type = Py_TYPE(object);
    tls_context_free(((TlsContextObject *)object)->context);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(object);
    Py_DECREF(type);
}

static PyType_Slot tls_context_slots[] = {
    {Py_tp_new, (void *)tls_context_new},
    {Py_tp_dealloc, (void *)tls_context_dealloc},
    {0, NULL},
};

PyType_Spec tls_context_spec = {
    "yggpy.datapath._native.TlsContext", sizeof(TlsContextObject), 0, Py_TPFLAGS_DEFAULT, tls_context_slots};

/* ---- Stream: the first life of a byte stream ---- */

typedef struct {
    PyObject_HEAD
    struct stream stream;
    bool open;
} StreamObject;

static PyObject *stream_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    int fd;
    PyObject *context = Py_None;
    const char *server_name = NULL;
    static char *names[] = {"fd", "context", "server_name", NULL};
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "i|Oz", names, &fd, &context, &server_name))
        return NULL;
    if (context != Py_None && !PyObject_TypeCheck(context, tls_context_type)) {
        PyErr_SetString(PyExc_TypeError, "context must be a TlsContext or None");
        return NULL;
    }
    StreamObject *self = (StreamObject *)PyType_GenericAlloc(type, 0);
    if (!self)
        return NULL;
    stream_init(&self->stream, -1);
    if (context != Py_None) {
        char reason[TLS_REASON_SIZE] = "";
        self->stream.tls = tls_new(((TlsContextObject *)context)->context, server_name, reason);
        if (!self->stream.tls) {
            Py_DECREF(self);
            PyErr_SetString(tls_error, reason);
            return NULL;
        }
    }
    self->stream.fd = fd; /* only now: an error leaves the descriptor to the caller */
    self->open = true;
    return (PyObject *)self;
}

static void stream_dealloc(PyObject *object)
{
    PyTypeObject *type = Py_TYPE(object);
    stream_free(&((StreamObject *)object)->stream);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(object);
    Py_DECREF(type);
}

static PyObject *raise_errno(int error)
{
    errno = error;
    return PyErr_SetFromErrno(PyExc_OSError);
}

struct stream *open_stream(PyObject *object)
{
    StreamObject *self = (StreamObject *)object;
    if (self->open)
        return &self->stream;
    raise_errno(EBADF);
    return NULL;
}

bool is_stream(PyObject *object)
{
    return PyObject_TypeCheck(object, stream_type);
}

void stream_given_away(PyObject *object)
{
    ((StreamObject *)object)->open = false;
}

static PyObject *stream_fail(struct stream *stream)
{
    if (stream->read_error)
        return raise_errno(stream->read_error);
    PyErr_SetString(tls_error, tls_reason(stream->tls));
    return NULL;
}

static PyObject *stream_py_handshake(PyObject *object, PyObject *unused)
{
    (void)unused;
    struct stream *stream = open_stream(object);
    if (!stream)
        return NULL;
    if (!stream->tls) {
        PyErr_SetString(PyExc_RuntimeError, "this stream is plain");
        return NULL;
    }
    switch (stream_handshake(stream)) {
    case TLS_OK:
        return PyBool_FromLong(1);
    case TLS_MORE:
        return PyBool_FromLong(0);
    case TLS_EOF:
        PyErr_SetString(tls_error, "UNEXPECTED_EOF_WHILE_READING");
        return NULL;
    default:
        return stream_fail(stream);
    }
}

static PyObject *stream_py_read_ahead(PyObject *object, PyObject *unused)
{
    (void)unused;
    struct stream *stream = open_stream(object);
    if (!stream)
        return NULL;
    enum stream_end end = stream_read_ahead(stream);
    return end == STREAM_FAILED ? stream_fail(stream) : PyBool_FromLong(end == STREAM_GOES_ON);
}

static PyObject *stream_py_take(PyObject *object, PyObject *argument)
{
    struct stream *stream = open_stream(object);
    if (!stream)
        return NULL;
    size_t size = PyLong_AsSize_t(argument);
    if (PyErr_Occurred())
        return NULL;
    if (size > buffer_size(&stream->ahead))
        return PyErr_Format(PyExc_ValueError, "only %zu bytes are there", buffer_size(&stream->ahead));
    PyObject *data = PyBytes_FromStringAndSize(size ? (const char *)buffer_bytes(&stream->ahead) : "", (Py_ssize_t)size);
    if (data && size)
        buffer_consume(&stream->ahead, size);
    return data;
}

static PyObject *stream_py_write(PyObject *object, PyObject *argument)
{
    struct stream *stream = open_stream(object);
    char *data;
    Py_ssize_t size;
    if (!stream || PyBytes_AsStringAndSize(argument, &data, &size) < 0)
        return NULL;
    if (!stream_write(stream, (const uint8_t *)data, (size_t)size))
        return PyErr_NoMemory();
    stream_flush(stream);
    Py_RETURN_NONE;
}

static PyObject *stream_py_flush(PyObject *object, PyObject *unused)
{
    (void)unused;
    struct stream *stream = open_stream(object);
    if (!stream)
        return NULL;
    stream_flush(stream);
    Py_RETURN_NONE;
}

static PyObject *stream_py_close(PyObject *object, PyObject *unused)
{
    (void)unused;
    StreamObject *self = (StreamObject *)object;
    self->open = false;
    stream_free(&self->stream);
    Py_RETURN_NONE;
}

static PyObject *stream_get_ahead(PyObject *object, void *unused)
{
    (void)unused;
    return PyLong_FromSize_t(buffer_size(&((StreamObject *)object)->stream.ahead));
}

static PyObject *stream_get_buffered(PyObject *object, void *unused)
{
    (void)unused;
    return PyLong_FromSize_t(stream_buffered(&((StreamObject *)object)->stream));
}

static PyObject *stream_get_description(PyObject *object, void *unused)
{
    (void)unused;
    const struct tls *tls = ((StreamObject *)object)->stream.tls;
    return PyUnicode_FromString(tls ? tls_description(tls) : "");
}

static PyMethodDef stream_methods[] = {
    {"handshake", stream_py_handshake, METH_NOARGS, "One step of the TLS handshake; True when it is done."},
    {"read_ahead", stream_py_read_ahead, METH_NOARGS, "Read a little of what has arrived; False at the end."},
    {"take", stream_py_take, METH_O, "Return that many of the bytes read ahead."},
    {"write", stream_py_write, METH_O, "Send bytes; what the kernel does not take waits."},
    {"flush", stream_py_flush, METH_NOARGS, "Try again to send what waits."},
    {"close", stream_py_close, METH_NOARGS, "Close at once; harmless when already closed."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef stream_properties[] = {
    {"ahead", stream_get_ahead, NULL, "Bytes read ahead.", NULL},
    {"buffered", stream_get_buffered, NULL, "Bytes that the kernel has not taken.", NULL},
    {"description", stream_get_description, NULL, "TLS version and cipher suite, or empty.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot stream_slots[] = {
    {Py_tp_new, (void *)stream_new},
    {Py_tp_dealloc, (void *)stream_dealloc},
    {Py_tp_methods, stream_methods},
    {Py_tp_getset, stream_properties},
    {0, NULL},
};

PyType_Spec stream_spec = {
    "yggpy.datapath._native.Stream", sizeof(StreamObject), 0, Py_TPFLAGS_DEFAULT, stream_slots};
