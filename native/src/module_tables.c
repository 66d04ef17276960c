/* What the control plane tells the engine, and asks it: forwarding table, paths, sessions, addresses, packets of its own. */
#include "module_tables.h"

#include <stdlib.h>
#include <string.h>

/* links: a sequence of (link id, key, path, cost, priority, order) */
static bool add_fib_links(struct fib *fib, PyObject *links)
{
    Py_ssize_t count = PySequence_Size(links);
    for (Py_ssize_t i = 0; i < count; i++) {
        unsigned long long id, cost, priority, order;
        const uint8_t *key;
        const char *path;
        Py_ssize_t path_size;
        PyObject *item = PySequence_GetItem(links, i);
        bool good = item && PyArg_ParseTuple(item, "KO&y#KKK", &id, to_key, &key, &path, &path_size, &cost, &priority,
                                             &order);
        if (good && !fib_add(fib, id, key, (const uint8_t *)path, (size_t)path_size, cost, priority, order)) {
            PyErr_SetString(PyExc_ValueError, "no path in wire form, or out of memory");
            good = false;
        }
        Py_XDECREF(item);
        if (!good)
            return false;
    }
    return count >= 0;
}

PyObject *engine_py_set_fib(PyObject *object, PyObject *args)
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
    struct engine *engine = add_fib_links(fib, links) ? engine_enter(object) : NULL;
    if (!engine) {
        fib_free(fib);
        return NULL;
    }
    plane_set_fib(engine->plane, fib);
    return engine_leave_none(engine);
}

PyObject *engine_py_set_path(PyObject *object, PyObject *args)
{
    const uint8_t *dest;
    const char *path;
    Py_ssize_t path_size;
    if (!PyArg_ParseTuple(args, "O&y#", to_key, &dest, &path, &path_size))
        return NULL;
    if (path_measure((const uint8_t *)path, (size_t)path_size) != path_size) {
        PyErr_SetString(PyExc_ValueError, "no path in wire form");
        return NULL;
    }
    struct engine *engine = engine_enter(object);
    if (!engine)
        return NULL;
    bool done = plane_set_path(engine->plane, dest, (const uint8_t *)path, (size_t)path_size);
    return done ? engine_leave_none(engine) : engine_leave(engine, PyErr_NoMemory());
}

typedef void remove_function(struct plane *plane, const uint8_t key[KEY_SIZE]);

static PyObject *remove_entry(PyObject *object, PyObject *argument, remove_function *function)
{
    const uint8_t *key;
    struct engine *engine = to_key(argument, &key) ? engine_enter(object) : NULL;
    if (!engine)
        return NULL;
    function(engine->plane, key);
    return engine_leave_none(engine);
}

PyObject *engine_py_remove_path(PyObject *object, PyObject *argument)
{
    return remove_entry(object, argument, plane_remove_path);
}

PyObject *engine_py_remove_session(PyObject *object, PyObject *argument)
{
    return remove_entry(object, argument, plane_remove_session);
}

PyObject *engine_py_remove_address(PyObject *object, PyObject *argument)
{
    return remove_entry(object, argument, plane_remove_address);
}

PyObject *engine_py_set_session(PyObject *object, PyObject *args)
{
    struct session_keys keys = {0};
    const uint8_t *remote, *recv, *send, *next_send, *next_recv, *next_public;
    unsigned long long remote_seq, local_seq, recv_nonce, send_nonce;
    int keep;
    if (!PyArg_ParseTuple(args, "O&KKO&O&O&O&O&KKp", to_key, &remote, &remote_seq, &local_seq, to_key, &recv, to_key, &send,
                          to_key, &next_send, to_key, &next_recv, to_key, &next_public, &recv_nonce, &send_nonce, &keep))
        return NULL;
    keys.remote_key_seq = remote_seq;
    keys.local_key_seq = local_seq;
    memcpy(keys.recv_shared, recv, BOX_KEY_SIZE);
    memcpy(keys.send_shared, send, BOX_KEY_SIZE);
    memcpy(keys.next_send_shared, next_send, BOX_KEY_SIZE);
    memcpy(keys.next_recv_shared, next_recv, BOX_KEY_SIZE);
    memcpy(keys.next_public, next_public, KEY_SIZE);
    keys.recv_nonce = recv_nonce;
    keys.send_nonce = send_nonce;
    keys.keep_send_nonce = keep != 0;
    struct engine *engine = engine_enter(object);
    if (!engine)
        return NULL;
    uint64_t generation = 0;
    if (!plane_set_session(engine->plane, remote, &keys, &generation))
        return engine_leave(engine, PyErr_NoMemory());
    return engine_leave(engine, PyLong_FromUnsignedLongLong(generation));
}

PyObject *engine_py_set_address(PyObject *object, PyObject *args)
{
    const uint8_t *key, *address, *subnet;
    if (!PyArg_ParseTuple(args, "O&O&O&", to_key, &key, to_address, &address, to_subnet, &subnet))
        return NULL;
    struct engine *engine = engine_enter(object);
    if (!engine)
        return NULL;
    bool done = plane_set_address(engine->plane, key, address, subnet);
    return done ? engine_leave_none(engine) : engine_leave(engine, PyErr_NoMemory());
}

/* What is known of a remote: (has session, has path, last traffic, last session use, last address use, received, sent). */
PyObject *engine_py_remote(PyObject *object, PyObject *argument)
{
    const uint8_t *key;
    struct engine *engine = to_key(argument, &key) ? engine_enter(object) : NULL;
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

PyObject *engine_py_knows_destination(PyObject *object, PyObject *argument)
{
    char *packet;
    Py_ssize_t size;
    struct engine *engine = PyBytes_AsStringAndSize(argument, &packet, &size) < 0 ? NULL : engine_enter(object);
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
    const uint8_t *dest;
    const char *data;
    Py_ssize_t size;
    if (!PyArg_ParseTuple(args, "O&y#", to_key, &dest, &data, &size))
        return NULL;
    struct engine *engine = engine_enter(object);
    if (!engine)
        return NULL;
    function(engine->plane, dest, (const uint8_t *)data, (size_t)size);
    return engine_leave_none(engine);
}

/* None: it needs no more attention; else whether there is a session that it does not fit. */
PyObject *engine_py_open_again(PyObject *object, PyObject *args)
{
    const uint8_t *source;
    const char *payload;
    Py_ssize_t size;
    if (!PyArg_ParseTuple(args, "O&y#", to_key, &source, &payload, &size))
        return NULL;
    uint8_t *copy = malloc((size_t)size + 1);
    if (!copy)
        return PyErr_NoMemory();
    memcpy(copy, payload, (size_t)size);
    struct engine *engine = engine_enter(object);
    if (!engine) {
        free(copy);
        return NULL;
    }
    bool known;
    enum session_verdict verdict = plane_open_again(engine->plane, source, copy, (size_t)size, &known);
    free(copy);
    return verdict == SESSION_MISMATCH ? engine_leave(engine, PyBool_FromLong(known)) : engine_leave_none(engine);
}

PyObject *engine_py_send_payload(PyObject *object, PyObject *args)
{
    return send_to(object, args, plane_send_payload);
}

PyObject *engine_py_send_message(PyObject *object, PyObject *args)
{
    return send_to(object, args, plane_send_message);
}

PyObject *engine_py_send_ipv6(PyObject *object, PyObject *argument)
{
    char *packet;
    Py_ssize_t size;
    struct engine *engine = PyBytes_AsStringAndSize(argument, &packet, &size) < 0 ? NULL : engine_enter(object);
    if (!engine)
        return NULL;
    plane_send_ipv6(engine->plane, (const uint8_t *)packet, (size_t)size);
    return engine_leave_none(engine);
}
