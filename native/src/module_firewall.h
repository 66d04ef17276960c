/* The packet filter as the Python module sees it: rules that come down, counters that go up, and a filter by itself. */
#ifndef YGGPY_MODULE_FIREWALL_H
#define YGGPY_MODULE_FIREWALL_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "firewall.h"

struct firewall_arguments {
    const uint8_t *packed; /* NULL: no filter */
    size_t size, count;
};

/* Reads (packed rules or None, count of numbers). False: with an exception. */
bool firewall_arguments(PyObject *args, struct firewall_arguments *out);

/* Makes, changes or removes a filter. False: no memory, and nothing has changed. */
bool firewall_put(struct firewall **firewall, const struct firewall_arguments *rules);

/* Returns what _native.pyi calls a FirewallReport; None without a filter. */
PyObject *firewall_report(const struct firewall *firewall, double now);

extern PyType_Spec firewall_spec; /* _native.Firewall */

#endif
