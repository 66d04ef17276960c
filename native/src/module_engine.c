/* The engine as Python sees it: its life, its events, links and the TUN. The tables it works from are in module_tables.c. */
#include "module.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "module_firewall.h"
#include "module_tables.h"

typedef struct {
    PyObject_HEAD
    struct engine *engine; /* NULL once closed */
} EngineObject;

struct engine *engine_enter(PyObject *object)
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

PyObject *engine_leave(struct engine *engine, PyObject *result)
{
    engine_note_timers(engine);
    events_wake(&engine->plane->events);
    engine_unlock(engine);
    return result;
}

PyObject *engine_leave_none(struct engine *engine)
{
    Py_INCREF(Py_None);
    return engine_leave(engine, Py_None);
}

static PyObject *engine_py_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    const uint8_t *key, *address, *subnet;
    int threaded, wake_fd;
    double offset;
    static char *names[] = {"key", "address", "subnet", "threaded", "clock_offset", "wake_fd", NULL};
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O&O&O&pdi", names, to_key, &key, to_address, &address, to_subnet,
                                     &subnet, &threaded, &offset, &wake_fd))
        return NULL;
    EngineObject *self = (EngineObject *)PyType_GenericAlloc(type, 0);
    if (!self)
        return NULL;
    self->engine = engine_new(key, address, subnet, threaded != 0, offset, wake_fd);
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
    struct engine *engine = engine_enter(object);
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
    struct engine *engine = engine_enter(object);
    if (!engine)
        return NULL;
    if (!engine->threaded)
        engine->plane->now = now;
    double next = plane_timers(engine->plane);
    return engine_leave(engine, PyFloat_FromDouble(next));
}

static PyObject *engine_py_set_now(PyObject *object, PyObject *argument)
{
    double now = PyFloat_AsDouble(argument);
    if (PyErr_Occurred())
        return NULL;
    struct engine *engine = engine_enter(object);
    if (!engine)
        return NULL;
    engine->plane->now = now;
    return engine_leave_none(engine);
}

static PyObject *engine_py_settle(PyObject *object, PyObject *unused)
{
    (void)unused;
    struct engine *engine = engine_enter(object);
    if (!engine)
        return NULL;
    plane_settle(engine->plane);
    return engine_leave_none(engine);
}

/* -- links -- */

static PyObject *engine_py_attach_link(PyObject *object, PyObject *args)
{
    unsigned long long id;
    const uint8_t *key;
    PyObject *carrier;
    if (!PyArg_ParseTuple(args, "KO&O", &id, to_key, &key, &carrier))
        return NULL;
    struct stream *source = NULL, feed;
    stream_init(&feed, -1);
    if (carrier != Py_None) {
        if (!is_stream(carrier)) {
            PyErr_SetString(PyExc_TypeError, "a link needs a Stream, or None for a feed");
            return NULL;
        }
        source = open_stream(carrier);
        if (!source)
            return NULL;
    }
    struct engine *engine = engine_enter(object);
    if (!engine)
        return NULL;
    if (!plane_add_link(engine->plane, id, key, source ? source : &feed)) {
        engine_unlock(engine);
        return PyErr_NoMemory();
    }
    if (source) {
        stream_given_away(carrier);
        /* What was read ahead is handled now: no readiness will tell of it. */
        plane_read_link(engine->plane, plane_link(engine->plane, id));
    }
    plane_settle(engine->plane);
    return engine_leave_none(engine);
}

static PyObject *engine_py_feed(PyObject *object, PyObject *args)
{
    unsigned long long id;
    Py_buffer data;
    if (!PyArg_ParseTuple(args, "Ky*", &id, &data))
        return NULL;
    struct engine *engine = engine_enter(object);
    if (!engine) {
        PyBuffer_Release(&data);
        return NULL;
    }
    struct link *link = plane_link(engine->plane, id);
    if (link)
        plane_feed_link(engine->plane, link, data.buf, (size_t)data.len);
    PyBuffer_Release(&data);
    plane_settle(engine->plane);
    return engine_leave_none(engine);
}

static PyObject *engine_py_carried(PyObject *object, PyObject *args)
{
    unsigned long long id, released;
    if (!PyArg_ParseTuple(args, "KK", &id, &released))
        return NULL;
    struct engine *engine = engine_enter(object);
    if (!engine)
        return NULL;
    struct link *link = plane_link(engine->plane, id);
    if (link) {
        link->handed -= released < link->handed ? (size_t)released : link->handed;
        link_flush(link, engine->plane->now);
        plane_settle(engine->plane);
    }
    return engine_leave_none(engine);
}

static PyObject *engine_py_close_link(PyObject *object, PyObject *argument)
{
    unsigned long long id = PyLong_AsUnsignedLongLong(argument);
    if (PyErr_Occurred())
        return NULL;
    struct engine *engine = engine_enter(object);
    if (!engine)
        return NULL;
    plane_close_link(engine->plane, id);
    return engine_leave_none(engine);
}

static PyObject *engine_py_send_direct(PyObject *object, PyObject *args)
{
    unsigned long long id;
    int type;
    const char *payload;
    Py_ssize_t size;
    if (!PyArg_ParseTuple(args, "Kiy#", &id, &type, &payload, &size))
        return NULL;
    struct engine *engine = engine_enter(object);
    if (!engine)
        return NULL;
    struct link *link = plane_link(engine->plane, id);
    if (link && size < MAX_FRAME_SIZE)
        link_send_direct(link, (enum frame_type)type, (const uint8_t *)payload, (size_t)size, engine->plane->now);
    if (link && link->closed)
        plane_check_link(engine->plane, link);
    return engine_leave_none(engine);
}

static PyObject *engine_py_send_queued(PyObject *object, PyObject *args)
{
    unsigned long long id;
    int type;
    const char *payload;
    const uint8_t *source, *dest;
    Py_ssize_t size;
    if (!PyArg_ParseTuple(args, "Kiy#O&O&", &id, &type, &payload, &size, to_key, &source, to_key, &dest))
        return NULL;
    if (size >= MAX_FRAME_SIZE)
        Py_RETURN_NONE;
    uint8_t *frame = malloc(MAX_FRAME_HEAD + (size_t)size);
    if (!frame)
        return PyErr_NoMemory();
    size_t head = uvarint_put(frame, (uint64_t)size + 1);
    frame[head++] = (uint8_t)type;
    memcpy(frame + head, payload, (size_t)size);
    struct engine *engine = engine_enter(object);
    if (engine) {
        struct link *link = plane_link(engine->plane, id);
        if (link)
            link_send_queued(link, frame, head + (size_t)size, (size_t)size, source, dest, engine->plane->now);
    }
    free(frame);
    return engine ? engine_leave_none(engine) : NULL;
}

static PyObject *engine_py_link_counters(PyObject *object, PyObject *argument)
{
    unsigned long long id = PyLong_AsUnsignedLongLong(argument);
    if (PyErr_Occurred())
        return NULL;
    struct engine *engine = engine_enter(object);
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

static PyObject *engine_py_counters(PyObject *object, PyObject *unused)
{
    (void)unused;
    struct engine *engine = engine_enter(object);
    if (!engine)
        return NULL;
    const struct plane *plane = engine->plane;
    struct plane_counters all = plane->counters;
    unsigned long long queued = 0, tun_queued = plane->fair.bytes, tun_packets = plane->fair.count;
    unsigned long long questions_dropped = plane->events.dropped;
    const struct link *link;
    for (size_t place = 0; (link = table_next(&plane->links, &place));) {
        all.received += link->received;
        all.sent += link->sent;
        all.dropped += link->queue.dropped;
        queued += link->queue.size;
    }
    all.tun_dropped += plane->fair.dropped;
    engine_unlock(engine);
    return Py_BuildValue("(KKKKKKKKKKKK)", (unsigned long long)all.received, (unsigned long long)all.sent,
                         (unsigned long long)all.dropped, queued, (unsigned long long)all.transit_packets,
                         (unsigned long long)all.transit_bytes, (unsigned long long)all.session_received,
                         (unsigned long long)all.session_sent, tun_queued, tun_packets,
                         (unsigned long long)all.tun_dropped, questions_dropped);
}

/* -- the TUN -- */

static PyObject *engine_py_attach_tun(PyObject *object, PyObject *args)
{
    int fd;
    unsigned mtu;
    if (!PyArg_ParseTuple(args, "iI", &fd, &mtu))
        return NULL;
    struct engine *engine = engine_enter(object);
    if (!engine)
        return NULL;
    if (!engine_attach_tun(engine, fd, mtu))
        return engine_leave(engine, PyErr_NoMemory());
    const struct tun *tun = &engine->plane->tun;
    bool tcp = tun->coalescer && tun->coalescer->tcp, udp = tun->coalescer && tun->coalescer->udp;
    return engine_leave(engine, Py_BuildValue("(NNN)", PyBool_FromLong(tun->vnet), PyBool_FromLong(tcp), PyBool_FromLong(udp)));
}

static PyObject *engine_py_detach_tun(PyObject *object, PyObject *unused)
{
    (void)unused;
    struct engine *engine = engine_enter(object);
    if (!engine)
        return NULL;
    engine_detach_tun(engine);
    return engine_leave_none(engine);
}

static PyObject *engine_py_set_firewall(PyObject *object, PyObject *args)
{
    struct firewall_arguments rules;
    if (!firewall_arguments(args, &rules))
        return NULL;
    struct engine *engine = engine_enter(object);
    if (!engine)
        return NULL;
    if (!firewall_put(&engine->plane->firewall, &rules))
        return engine_leave(engine, PyErr_NoMemory());
    return engine_leave_none(engine);
}

static PyObject *engine_py_firewall_counters(PyObject *object, PyObject *unused)
{
    (void)unused;
    struct engine *engine = engine_enter(object);
    if (!engine)
        return NULL;
    return engine_leave(engine, firewall_report(engine->plane->firewall, engine->plane->now));
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
    {"counters", engine_py_counters, METH_NOARGS, "What has been counted and what waits, over all links and sessions."},
    {"attach_tun", engine_py_attach_tun, METH_VARARGS, "Use a TUN; return (vnet header, TCP offload, UDP offload)."},
    {"set_firewall", engine_py_set_firewall, METH_VARARGS, "Filter with (packed rules, count of numbers), or (None, 0)."},
    {"firewall_counters", engine_py_firewall_counters, METH_NOARGS, "What the filter has counted, or None."},
    {"detach_tun", engine_py_detach_tun, METH_NOARGS, "Stop using the TUN."},
    TABLE_METHODS,
    {NULL, NULL, 0, NULL},
};

static PyType_Slot engine_slots[] = {
    {Py_tp_new, (void *)engine_py_new},
    {Py_tp_dealloc, (void *)engine_dealloc},
    {Py_tp_methods, engine_methods},
    {0, NULL},
};

PyType_Spec engine_spec = {
    "yggpy.datapath._native.Engine", sizeof(EngineObject), 0, Py_TPFLAGS_DEFAULT, engine_slots};
