/*
 * The Python module yggpy.datapath._native: the only file that knows Python. See _native.pyi for what it offers.
 *
 * Limited API, so one build serves every Python from 3.11 on. Calls into the engine hold the interpreter's lock and the
 * engine's; the second is waited for without the first, and the engine's thread never takes the first.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "certificate.h"
#include "engine.h"

static PyObject *tls_error; /* TlsError(reason) */

/* ---- TlsContext ---- */

typedef struct {
    PyObject_HEAD
    struct tls_context *context;
} TlsContextObject;

static PyTypeObject *tls_context_type, *stream_type;

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

static PyType_Spec tls_context_spec = {
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

static struct stream *open_stream(PyObject *object)
{
    StreamObject *self = (StreamObject *)object;
    if (self->open)
        return &self->stream;
    raise_errno(EBADF);
    return NULL;
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

static PyType_Spec stream_spec = {
    "yggpy.datapath._native.Stream", sizeof(StreamObject), 0, Py_TPFLAGS_DEFAULT, stream_slots};

/* ---- Engine ---- */

typedef struct {
    PyObject_HEAD
    struct engine *engine; /* NULL once closed */
} EngineObject;

static const uint8_t *fixed(const char *data, Py_ssize_t size, Py_ssize_t wanted, const char *what)
{
    if (size == wanted)
        return (const uint8_t *)data;
    PyErr_Format(PyExc_ValueError, "%s has %zd bytes, not %zd", what, wanted, size);
    return NULL;
}

static const uint8_t *key_argument(PyObject *argument)
{
    char *data;
    Py_ssize_t size;
    if (PyBytes_AsStringAndSize(argument, &data, &size) < 0)
        return NULL;
    return fixed(data, size, KEY_SIZE, "a key");
}

/* Returns the locked engine; NULL with an exception when it is closed. */
static struct engine *enter(PyObject *object)
{
    struct engine *engine = ((EngineObject *)object)->engine;
    if (!engine) {
        PyErr_SetString(PyExc_RuntimeError, "the engine is closed");
        return NULL;
    }
    if (!engine_try_lock(engine)) {
        Py_BEGIN_ALLOW_THREADS
        engine_lock(engine);
        Py_END_ALLOW_THREADS
    }
    return engine;
}

static PyObject *leave(struct engine *engine, PyObject *result)
{
    engine_note_timers(engine);
    events_wake(&engine->plane->events);
    engine_unlock(engine);
    return result;
}

static PyObject *leave_none(struct engine *engine)
{
    Py_INCREF(Py_None);
    return leave(engine, Py_None);
}

static PyObject *engine_py_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    const char *key, *address, *subnet;
    Py_ssize_t key_size, address_size, subnet_size;
    int threaded, wake_fd;
    double offset;
    static char *names[] = {"key", "address", "subnet", "threaded", "clock_offset", "wake_fd", NULL};
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "y#y#y#pdi", names, &key, &key_size, &address, &address_size, &subnet,
                                     &subnet_size, &threaded, &offset, &wake_fd))
        return NULL;
    if (!fixed(key, key_size, KEY_SIZE, "a key") || !fixed(address, address_size, ADDRESS_SIZE, "an address") ||
        !fixed(subnet, subnet_size, SUBNET_SIZE, "a subnet"))
        return NULL;
    EngineObject *self = (EngineObject *)PyType_GenericAlloc(type, 0);
    if (!self)
        return NULL;
    self->engine = engine_new((const uint8_t *)key, (const uint8_t *)address, (const uint8_t *)subnet, threaded != 0,
                              offset, wake_fd);
    if (self->engine)
        return (PyObject *)self;
    Py_DECREF(self);
    return PyErr_SetFromErrno(PyExc_OSError);
}

static PyObject *engine_py_close(PyObject *object, PyObject *unused)
{
    (void)unused;
    struct engine *engine = ((EngineObject *)object)->engine;
    ((EngineObject *)object)->engine = NULL;
    Py_BEGIN_ALLOW_THREADS
    engine_free(engine);
    Py_END_ALLOW_THREADS
    Py_RETURN_NONE;
}

static void engine_dealloc(PyObject *object)
{
    PyTypeObject *type = Py_TYPE(object);
    engine_free(((EngineObject *)object)->engine);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(object);
    Py_DECREF(type);
}

static PyObject *event_tuple(const struct event *event, const uint8_t *data)
{
    return Py_BuildValue("(iKy#KKKdy#)", (int)event->type, (unsigned long long)event->link_id, event->key,
                         (Py_ssize_t)KEY_SIZE, (unsigned long long)event->number, (unsigned long long)event->detail,
                         (unsigned long long)event->generation, event->when, data, (Py_ssize_t)event->size);
}

static PyObject *engine_py_take_events(PyObject *object, PyObject *unused)
{
    (void)unused;
    struct engine *engine = enter(object);
    if (!engine)
        return NULL;
    struct buffer batch;
    events_take(&engine->plane->events, &batch);
    plane_events_taken(engine->plane); /* which may lead to new ones */
    plane_settle(engine->plane);
    engine_note_timers(engine);
    engine_unlock(engine);
    PyObject *list = PyList_New(0);
    struct event event;
    const uint8_t *data;
    while (list && events_next(&batch, &event, &data)) {
        PyObject *tuple = event_tuple(&event, data);
        if (!tuple || PyList_Append(list, tuple) < 0) {
            Py_DECREF(list);
            list = NULL;
        }
        Py_XDECREF(tuple);
    }
    buffer_free(&batch);
    return list;
}

static PyObject *engine_py_step(PyObject *object, PyObject *argument)
{
    double now = PyFloat_AsDouble(argument);
    if (PyErr_Occurred())
        return NULL;
    struct engine *engine = enter(object);
    if (!engine)
        return NULL;
    if (!engine->threaded)
        engine->plane->now = now;
    double next = plane_timers(engine->plane);
    return leave(engine, PyFloat_FromDouble(next));
}

static PyObject *engine_py_set_now(PyObject *object, PyObject *argument)
{
    double now = PyFloat_AsDouble(argument);
    if (PyErr_Occurred())
        return NULL;
    struct engine *engine = enter(object);
    if (!engine)
        return NULL;
    engine->plane->now = now;
    return leave_none(engine);
}

static PyObject *engine_py_settle(PyObject *object, PyObject *unused)
{
    (void)unused;
    struct engine *engine = enter(object);
    if (!engine)
        return NULL;
    plane_settle(engine->plane);
    return leave_none(engine);
}

/* -- links -- */

static PyObject *engine_py_attach_link(PyObject *object, PyObject *args)
{
    unsigned long long id;
    const char *key;
    Py_ssize_t key_size;
    PyObject *carrier;
    if (!PyArg_ParseTuple(args, "Ky#O", &id, &key, &key_size, &carrier) || !fixed(key, key_size, KEY_SIZE, "a key"))
        return NULL;
    StreamObject *source = NULL;
    struct stream feed;
    stream_init(&feed, -1);
    if (carrier != Py_None) {
        if (!PyObject_TypeCheck(carrier, stream_type)) {
            PyErr_SetString(PyExc_TypeError, "a link needs a Stream, or None for a feed");
            return NULL;
        }
        source = (StreamObject *)carrier;
        if (!open_stream(carrier))
            return NULL;
    }
    struct engine *engine = enter(object);
    if (!engine)
        return NULL;
    struct stream *stream = source ? &source->stream : &feed;
    if (!plane_add_link(engine->plane, id, (const uint8_t *)key, stream)) {
        engine_unlock(engine);
        return PyErr_NoMemory();
    }
    if (source) {
        source->open = false;
        /* What was read ahead is handled now: no readiness will tell of it. */
        plane_read_link(engine->plane, plane_link(engine->plane, id));
    }
    plane_settle(engine->plane);
    return leave_none(engine);
}

static PyObject *engine_py_feed(PyObject *object, PyObject *args)
{
    unsigned long long id;
    Py_buffer data;
    if (!PyArg_ParseTuple(args, "Ky*", &id, &data))
        return NULL;
    struct engine *engine = enter(object);
    if (!engine) {
        PyBuffer_Release(&data);
        return NULL;
    }
    struct link *link = plane_link(engine->plane, id);
    if (link)
        plane_feed_link(engine->plane, link, data.buf, (size_t)data.len);
    PyBuffer_Release(&data);
    plane_settle(engine->plane);
    return leave_none(engine);
}

static PyObject *engine_py_carried(PyObject *object, PyObject *args)
{
    unsigned long long id, released;
    if (!PyArg_ParseTuple(args, "KK", &id, &released))
        return NULL;
    struct engine *engine = enter(object);
    if (!engine)
        return NULL;
    struct link *link = plane_link(engine->plane, id);
    if (link) {
        link->handed -= released < link->handed ? (size_t)released : link->handed;
        link_flush(link, engine->plane->now);
        plane_settle(engine->plane);
    }
    return leave_none(engine);
}

static PyObject *engine_py_close_link(PyObject *object, PyObject *argument)
{
    unsigned long long id = PyLong_AsUnsignedLongLong(argument);
    if (PyErr_Occurred())
        return NULL;
    struct engine *engine = enter(object);
    if (!engine)
        return NULL;
    plane_close_link(engine->plane, id);
    return leave_none(engine);
}

static PyObject *engine_py_send_direct(PyObject *object, PyObject *args)
{
    unsigned long long id;
    int type;
    const char *payload;
    Py_ssize_t size;
    if (!PyArg_ParseTuple(args, "Kiy#", &id, &type, &payload, &size))
        return NULL;
    struct engine *engine = enter(object);
    if (!engine)
        return NULL;
    struct link *link = plane_link(engine->plane, id);
    if (link && size < MAX_FRAME_SIZE)
        link_send_direct(link, (enum frame_type)type, (const uint8_t *)payload, (size_t)size, engine->plane->now);
    if (link && link->closed)
        plane_check_link(engine->plane, link);
    return leave_none(engine);
}

static PyObject *engine_py_send_queued(PyObject *object, PyObject *args)
{
    unsigned long long id;
    int type;
    const char *payload, *source, *dest;
    Py_ssize_t size, source_size, dest_size;
    if (!PyArg_ParseTuple(args, "Kiy#y#y#", &id, &type, &payload, &size, &source, &source_size, &dest, &dest_size) ||
        !fixed(source, source_size, KEY_SIZE, "a key") || !fixed(dest, dest_size, KEY_SIZE, "a key"))
        return NULL;
    if (size >= MAX_FRAME_SIZE)
        Py_RETURN_NONE;
    uint8_t *frame = malloc(MAX_FRAME_HEAD + (size_t)size);
    if (!frame)
        return PyErr_NoMemory();
    size_t head = uvarint_put(frame, (uint64_t)size + 1);
    frame[head++] = (uint8_t)type;
    memcpy(frame + head, payload, (size_t)size);
    struct engine *engine = enter(object);
    if (engine) {
        struct link *link = plane_link(engine->plane, id);
        if (link)
            link_send_queued(link, frame, head + (size_t)size, (size_t)size, (const uint8_t *)source,
                             (const uint8_t *)dest, engine->plane->now);
    }
    free(frame);
    return engine ? leave_none(engine) : NULL;
}

static PyObject *engine_py_link_counters(PyObject *object, PyObject *argument)
{
    unsigned long long id = PyLong_AsUnsignedLongLong(argument);
    if (PyErr_Occurred())
        return NULL;
    struct engine *engine = enter(object);
    if (!engine)
        return NULL;
    unsigned long long numbers[4] = {0};
    const struct link *link = plane_link(engine->plane, id);
    if (link) {
        numbers[0] = link->received;
        numbers[1] = link->sent;
        numbers[2] = link->queue.size;
        numbers[3] = link->queue.dropped;
    }
    engine_unlock(engine);
    return Py_BuildValue("(KKKK)", numbers[0], numbers[1], numbers[2], numbers[3]);
}

/* -- tables -- */

/* links: a sequence of (link id, key, path, cost, priority, order) */
static bool add_fib_links(struct fib *fib, PyObject *links)
{
    Py_ssize_t count = PySequence_Size(links);
    for (Py_ssize_t i = 0; i < count; i++) {
        unsigned long long id, cost, priority, order;
        const char *key, *path;
        Py_ssize_t key_size, path_size;
        PyObject *item = PySequence_GetItem(links, i);
        bool good = item && PyArg_ParseTuple(item, "Ky#y#KKK", &id, &key, &key_size, &path, &path_size, &cost, &priority,
                                             &order) &&
                    fixed(key, key_size, KEY_SIZE, "a key");
        if (good && !fib_add(fib, id, (const uint8_t *)key, (const uint8_t *)path, (size_t)path_size, cost, priority,
                             order)) {
            PyErr_SetString(PyExc_ValueError, "no path in wire form, or out of memory");
            good = false;
        }
        Py_XDECREF(item);
        if (!good)
            return false;
    }
    return count >= 0;
}

static PyObject *engine_py_set_fib(PyObject *object, PyObject *args)
{
    const char *path;
    Py_ssize_t path_size;
    PyObject *links;
    int transit;
    if (!PyArg_ParseTuple(args, "y#Op", &path, &path_size, &links, &transit))
        return NULL;
    struct fib *fib = fib_new((const uint8_t *)path, (size_t)path_size);
    if (!fib) {
        PyErr_SetString(PyExc_ValueError, "no path in wire form, or out of memory");
        return NULL;
    }
    fib_set_transit(fib, transit);
    struct engine *engine = add_fib_links(fib, links) ? enter(object) : NULL;
    if (!engine) {
        fib_free(fib);
        return NULL;
    }
    plane_set_fib(engine->plane, fib);
    return leave_none(engine);
}

static PyObject *engine_py_set_path(PyObject *object, PyObject *args)
{
    const char *dest, *path;
    Py_ssize_t dest_size, path_size;
    if (!PyArg_ParseTuple(args, "y#y#", &dest, &dest_size, &path, &path_size) ||
        !fixed(dest, dest_size, KEY_SIZE, "a key"))
        return NULL;
    if (path_measure((const uint8_t *)path, (size_t)path_size) != path_size) {
        PyErr_SetString(PyExc_ValueError, "no path in wire form");
        return NULL;
    }
    struct engine *engine = enter(object);
    if (!engine)
        return NULL;
    bool done = plane_set_path(engine->plane, (const uint8_t *)dest, (const uint8_t *)path, (size_t)path_size);
    return done ? leave_none(engine) : leave(engine, PyErr_NoMemory());
}

typedef void remove_function(struct plane *plane, const uint8_t key[KEY_SIZE]);

static PyObject *remove_entry(PyObject *object, PyObject *argument, remove_function *function)
{
    const uint8_t *key = key_argument(argument);
    struct engine *engine = key ? enter(object) : NULL;
    if (!engine)
        return NULL;
    function(engine->plane, key);
    return leave_none(engine);
}

static PyObject *engine_py_remove_path(PyObject *object, PyObject *argument)
{
    return remove_entry(object, argument, plane_remove_path);
}

static PyObject *engine_py_remove_session(PyObject *object, PyObject *argument)
{
    return remove_entry(object, argument, plane_remove_session);
}

static PyObject *engine_py_remove_address(PyObject *object, PyObject *argument)
{
    return remove_entry(object, argument, plane_remove_address);
}

static PyObject *engine_py_set_session(PyObject *object, PyObject *args)
{
    struct session_keys keys = {0};
    const char *data[6];
    Py_ssize_t sizes[6];
    unsigned long long remote_seq, local_seq, recv_nonce, send_nonce;
    int keep;
    if (!PyArg_ParseTuple(args, "y#KKy#y#y#y#y#KKp", &data[0], &sizes[0], &remote_seq, &local_seq, &data[1], &sizes[1],
                          &data[2], &sizes[2], &data[3], &sizes[3], &data[4], &sizes[4], &data[5], &sizes[5],
                          &recv_nonce, &send_nonce, &keep))
        return NULL;
    for (int i = 0; i < 6; i++)
        if (!fixed(data[i], sizes[i], KEY_SIZE, "a key"))
            return NULL;
    keys.remote_key_seq = remote_seq;
    keys.local_key_seq = local_seq;
    memcpy(keys.recv_shared, data[1], BOX_KEY_SIZE);
    memcpy(keys.send_shared, data[2], BOX_KEY_SIZE);
    memcpy(keys.next_send_shared, data[3], BOX_KEY_SIZE);
    memcpy(keys.next_recv_shared, data[4], BOX_KEY_SIZE);
    memcpy(keys.next_public, data[5], KEY_SIZE);
    keys.recv_nonce = recv_nonce;
    keys.send_nonce = send_nonce;
    keys.keep_send_nonce = keep != 0;
    struct engine *engine = enter(object);
    if (!engine)
        return NULL;
    uint64_t generation = 0;
    if (!plane_set_session(engine->plane, (const uint8_t *)data[0], &keys, &generation))
        return leave(engine, PyErr_NoMemory());
    return leave(engine, PyLong_FromUnsignedLongLong(generation));
}

static PyObject *engine_py_set_address(PyObject *object, PyObject *args)
{
    const char *key, *address, *subnet;
    Py_ssize_t key_size, address_size, subnet_size;
    if (!PyArg_ParseTuple(args, "y#y#y#", &key, &key_size, &address, &address_size, &subnet, &subnet_size) ||
        !fixed(key, key_size, KEY_SIZE, "a key") || !fixed(address, address_size, ADDRESS_SIZE, "an address") ||
        !fixed(subnet, subnet_size, SUBNET_SIZE, "a subnet"))
        return NULL;
    struct engine *engine = enter(object);
    if (!engine)
        return NULL;
    bool done = plane_set_address(engine->plane, (const uint8_t *)key, (const uint8_t *)address,
                                  (const uint8_t *)subnet);
    return done ? leave_none(engine) : leave(engine, PyErr_NoMemory());
}

/* What is known of a remote: (has session, has path, last traffic, last session use, last address use, received, sent). */
static PyObject *engine_py_remote(PyObject *object, PyObject *argument)
{
    const uint8_t *key = key_argument(argument);
    struct engine *engine = key ? enter(object) : NULL;
    if (!engine)
        return NULL;
    const struct remote *remote = remote_get(&engine->plane->remotes, key);
    PyObject *result;
    if (remote) {
        result = Py_BuildValue("(iidddKK)", (int)remote->has_session, (int)remote->has_path, remote->last_traffic,
                               remote->last_session_use, remote->last_used, (unsigned long long)remote->bytes_received,
                               (unsigned long long)remote->bytes_sent);
    } else {
        Py_INCREF(Py_None);
        result = Py_None;
    }
    engine_unlock(engine);
    return result;
}

static PyObject *engine_py_knows_destination(PyObject *object, PyObject *argument)
{
    char *packet;
    Py_ssize_t size;
    struct engine *engine = PyBytes_AsStringAndSize(argument, &packet, &size) < 0 ? NULL : enter(object);
    if (!engine)
        return NULL;
    bool lawful;
    const struct remote *remote = plane_find_remote(engine->plane, (const uint8_t *)packet, (size_t)size, &lawful);
    engine_unlock(engine);
    return PyBool_FromLong(remote != NULL);
}

/* -- packets from above -- */

typedef void send_function(struct plane *plane, const uint8_t dest[KEY_SIZE], const uint8_t *data, size_t size);

static PyObject *send_to(PyObject *object, PyObject *args, send_function *function)
{
    const char *dest, *data;
    Py_ssize_t dest_size, size;
    if (!PyArg_ParseTuple(args, "y#y#", &dest, &dest_size, &data, &size) || !fixed(dest, dest_size, KEY_SIZE, "a key"))
        return NULL;
    struct engine *engine = enter(object);
    if (!engine)
        return NULL;
    function(engine->plane, (const uint8_t *)dest, (const uint8_t *)data, (size_t)size);
    return leave_none(engine);
}

/* None: it needs no more attention; else whether there is a session that it does not fit. */
static PyObject *engine_py_open_again(PyObject *object, PyObject *args)
{
    const char *source, *payload;
    Py_ssize_t source_size, size;
    if (!PyArg_ParseTuple(args, "y#y#", &source, &source_size, &payload, &size) ||
        !fixed(source, source_size, KEY_SIZE, "a key"))
        return NULL;
    uint8_t *copy = malloc((size_t)size + 1);
    if (!copy)
        return PyErr_NoMemory();
    memcpy(copy, payload, (size_t)size);
    struct engine *engine = enter(object);
    if (!engine) {
        free(copy);
        return NULL;
    }
    bool known;
    enum session_verdict verdict = plane_open_again(engine->plane, (const uint8_t *)source, copy, (size_t)size, &known);
    free(copy);
    return verdict == SESSION_MISMATCH ? leave(engine, PyBool_FromLong(known)) : leave_none(engine);
}

static PyObject *engine_py_send_payload(PyObject *object, PyObject *args)
{
    return send_to(object, args, plane_send_payload);
}

static PyObject *engine_py_send_message(PyObject *object, PyObject *args)
{
    return send_to(object, args, plane_send_message);
}

static PyObject *engine_py_send_ipv6(PyObject *object, PyObject *argument)
{
    char *packet;
    Py_ssize_t size;
    struct engine *engine = PyBytes_AsStringAndSize(argument, &packet, &size) < 0 ? NULL : enter(object);
    if (!engine)
        return NULL;
    plane_send_ipv6(engine->plane, (const uint8_t *)packet, (size_t)size);
    return leave_none(engine);
}

static PyObject *engine_py_attach_tun(PyObject *object, PyObject *args)
{
    int fd;
    unsigned mtu;
    if (!PyArg_ParseTuple(args, "iI", &fd, &mtu))
        return NULL;
    struct engine *engine = enter(object);
    if (!engine)
        return NULL;
    if (!engine_attach_tun(engine, fd, mtu))
        return leave(engine, PyErr_NoMemory());
    const struct tun *tun = &engine->plane->tun;
    bool tcp = tun->coalescer && tun->coalescer->tcp, udp = tun->coalescer && tun->coalescer->udp;
    return leave(engine, Py_BuildValue("(NNN)", PyBool_FromLong(tun->vnet), PyBool_FromLong(tcp), PyBool_FromLong(udp)));
}

static PyObject *engine_py_detach_tun(PyObject *object, PyObject *unused)
{
    (void)unused;
    struct engine *engine = enter(object);
    if (!engine)
        return NULL;
    engine_detach_tun(engine);
    return leave_none(engine);
}

static PyMethodDef engine_methods[] = {
    {"close", engine_py_close, METH_NOARGS, "End the thread and free everything."},
    {"take_events", engine_py_take_events, METH_NOARGS, "Return and forget the events that wait."},
    {"step", engine_py_step, METH_O, "Judge deadlines at this time and settle; return the next deadline, or 0."},
    {"set_now", engine_py_set_now, METH_O, "Tell the time (without a thread)."},
    {"settle", engine_py_settle, METH_NOARGS, "Send what has been collected."},
    {"attach_link", engine_py_attach_link, METH_VARARGS, "Begin a link on a Stream, or on a feed (None)."},
    {"feed", engine_py_feed, METH_VARARGS, "Bytes that have arrived for a feed."},
    {"carried", engine_py_carried, METH_VARARGS, "How many bytes of a feed's output its carrier has got rid of."},
    {"close_link", engine_py_close_link, METH_O, "Close a link; no event follows."},
    {"send_direct", engine_py_send_direct, METH_VARARGS, "Write a frame that overtakes the queue."},
    {"send_queued", engine_py_send_queued, METH_VARARGS, "Write a frame in turn."},
    {"link_counters", engine_py_link_counters, METH_O, "Bytes received, sent, queued, and packets dropped."},
    {"set_fib", engine_py_set_fib, METH_VARARGS, "Replace the forwarding table."},
    {"set_path", engine_py_set_path, METH_VARARGS, "Install a path in wire form."},
    {"remove_path", engine_py_remove_path, METH_O, "Forget a path."},
    {"set_session", engine_py_set_session, METH_VARARGS, "Install session keys; return their generation."},
    {"remove_session", engine_py_remove_session, METH_O, "Forget session keys."},
    {"set_address", engine_py_set_address, METH_VARARGS, "Map an address and subnet to a key."},
    {"remove_address", engine_py_remove_address, METH_O, "Forget an address."},
    {"remote", engine_py_remote, METH_O, "What is known of a remote node, or None."},
    {"knows_destination", engine_py_knows_destination, METH_O, "Whether a packet's destination has a key."},
    {"open_again", engine_py_open_again, METH_VARARGS, "Try again to open traffic that was asked about."},
    {"send_payload", engine_py_send_payload, METH_VARARGS, "Send a session-layer payload along a path."},
    {"send_message", engine_py_send_message, METH_VARARGS, "Seal and send a message."},
    {"send_ipv6", engine_py_send_ipv6, METH_O, "Send an IPv6 packet as if read from the TUN."},
    {"attach_tun", engine_py_attach_tun, METH_VARARGS, "Use a TUN; return (vnet header, TCP offload, UDP offload)."},
    {"detach_tun", engine_py_detach_tun, METH_NOARGS, "Stop using the TUN."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot engine_slots[] = {
    {Py_tp_new, (void *)engine_py_new},
    {Py_tp_dealloc, (void *)engine_dealloc},
    {Py_tp_methods, engine_methods},
    {0, NULL},
};

static PyType_Spec engine_spec = {
    "yggpy.datapath._native.Engine", sizeof(EngineObject), 0, Py_TPFLAGS_DEFAULT, engine_slots};

/* ---- the module ---- */

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
    const char *seed, *common_name;
    Py_ssize_t seed_size;
    if (!PyArg_ParseTuple(args, "y#s", &seed, &seed_size, &common_name) || !fixed(seed, seed_size, KEY_SIZE, "a seed"))
        return NULL;
    struct buffer certificate = {0}, key = {0};
    PyObject *pair = NULL;
    if (certificate_make((const uint8_t *)seed, common_name, &certificate, &key))
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
        PyModule_AddObjectRef(module, "TlsError", tls_error) < 0) {
        Py_DECREF(module);
        return NULL;
    }
    return module;
}
