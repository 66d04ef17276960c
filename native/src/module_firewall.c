/* See module_firewall.h. */
#include "module_firewall.h"

#include "wire.h"

bool firewall_arguments(PyObject *args, struct firewall_arguments *out)
{
    const char *packed;
    Py_ssize_t size, count;
    if (!PyArg_ParseTuple(args, "z#n", &packed, &size, &count))
        return false;
    *out = (struct firewall_arguments){(const uint8_t *)packed, packed ? (size_t)size : 0, (size_t)count};
    if (count >= 0 && count <= FIREWALL_MAX_ENTRIES &&
        (!packed || firewall_rules_valid(out->packed, out->size, out->count)))
        return true;
    PyErr_SetString(PyExc_ValueError, "these are no packed rules");
    return false;
}

bool firewall_put(struct firewall **firewall, const struct firewall_arguments *rules)
{
    if (!rules->packed) {
        firewall_free(*firewall);
        *firewall = NULL;
        return true;
    }
    if (*firewall)
        return firewall_set_rules(*firewall, rules->packed, rules->size, rules->count);
    *firewall = firewall_new(rules->packed, rules->size, rules->count);
    return *firewall != NULL;
}

PyObject *firewall_report(const struct firewall *firewall, double now)
{
    if (!firewall)
        Py_RETURN_NONE;
    PyObject *allowed = PyTuple_New((Py_ssize_t)firewall->number_count);
    for (size_t i = 0; allowed && i < firewall->number_count; i++) {
        PyObject *number = PyLong_FromUnsignedLongLong(firewall->allowed[i]);
        if (!number) {
            Py_DECREF(allowed);
            return NULL;
        }
        PyTuple_SetItem(allowed, (Py_ssize_t)i, number);
    }
    if (!allowed)
        return NULL;
    const struct firewall_counters *counters = &firewall->counters;
    return Py_BuildValue("(nKKKKKKN)", (Py_ssize_t)firewall_flow_count(firewall, now),
                         (unsigned long long)counters->evicted, (unsigned long long)counters->established,
                         (unsigned long long)counters->errors, (unsigned long long)counters->fragments,
                         (unsigned long long)counters->denied, (unsigned long long)counters->malformed, allowed);
}

/* ---- a filter by itself ---- */

typedef struct {
    PyObject_HEAD
    struct firewall *firewall;
} FirewallObject;

static PyObject *firewall_py_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    (void)kwargs;
    struct firewall_arguments rules;
    if (!firewall_arguments(args, &rules))
        return NULL;
    FirewallObject *self = (FirewallObject *)PyType_GenericAlloc(type, 0);
    if (!self)
        return NULL;
    self->firewall = firewall_new(rules.packed, rules.size, rules.count);
    if (self->firewall)
        return (PyObject *)self;
    Py_DECREF(self);
    return PyErr_NoMemory();
}

static void firewall_dealloc(PyObject *object)
{
    PyTypeObject *type = Py_TYPE(object);
    firewall_free(((FirewallObject *)object)->firewall);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(object);
    Py_DECREF(type);
}

static PyObject *firewall_py_set_rules(PyObject *object, PyObject *args)
{
    struct firewall_arguments rules;
    if (!firewall_arguments(args, &rules))
        return NULL;
    if (!firewall_set_rules(((FirewallObject *)object)->firewall, rules.packed, rules.size, rules.count))
        return PyErr_NoMemory();
    Py_RETURN_NONE;
}

static bool whole_header(Py_ssize_t size)
{
    if (size >= IPV6_HEADER_SIZE)
        return true;
    PyErr_SetString(PyExc_ValueError, "a packet begins with an IPv6 header of 40 bytes");
    return false;
}

static PyObject *firewall_py_outbound(PyObject *object, PyObject *args)
{
    const char *packet;
    Py_ssize_t size;
    double now;
    if (!PyArg_ParseTuple(args, "y#d", &packet, &size, &now) || !whole_header(size))
        return NULL;
    firewall_outbound(((FirewallObject *)object)->firewall, (const uint8_t *)packet, (size_t)size, now);
    Py_RETURN_NONE;
}

static PyObject *firewall_py_inbound(PyObject *object, PyObject *args)
{
    const char *key, *packet;
    Py_ssize_t key_size, size;
    double now;
    if (!PyArg_ParseTuple(args, "y#y#d", &key, &key_size, &packet, &size, &now) || !whole_header(size))
        return NULL;
    if (key_size != KEY_SIZE)
        return PyErr_Format(PyExc_ValueError, "a key has %d bytes, not %zd", (int)KEY_SIZE, key_size);
    return PyBool_FromLong(firewall_inbound(((FirewallObject *)object)->firewall, (const uint8_t *)key,
                                            (const uint8_t *)packet, (size_t)size, now));
}

static PyObject *firewall_py_counters(PyObject *object, PyObject *argument)
{
    double now = PyFloat_AsDouble(argument);
    if (PyErr_Occurred())
        return NULL;
    return firewall_report(((FirewallObject *)object)->firewall, now);
}

static PyMethodDef methods[] = {
    {"set_rules", firewall_py_set_rules, METH_VARARGS, "Other rules: (packed rules, count of numbers)."},
    {"outbound", firewall_py_outbound, METH_VARARGS, "Note what this machine sends: (packet, now)."},
    {"inbound", firewall_py_inbound, METH_VARARGS, "Judge what has come: (key of the sender, packet, now)."},
    {"counters", firewall_py_counters, METH_O, "What has been counted, at this time."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_new, (void *)firewall_py_new},
    {Py_tp_dealloc, (void *)firewall_dealloc},
    {Py_tp_methods, methods},
    {0, NULL},
};

PyType_Spec firewall_spec = {"yggpy.datapath._native.Firewall", sizeof(FirewallObject), 0, Py_TPFLAGS_DEFAULT, slots};
