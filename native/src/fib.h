/*
 * Greedy next hop over tree coordinates (protocol section 8): the forwarding table, as the router last pushed it.
 *
 * Paths stay in their wire form, ports as varints with a final zero; only as many ports as anybody near us has are
 * ever decoded, the rest is counted. So a path of 100,000 ports costs a walk over its bytes and no memory.
 */
#ifndef YGGPY_FIB_H
#define YGGPY_FIB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "wire.h"

struct fib_link {
    uint64_t link_id;
    uint8_t key[KEY_SIZE];
    uint64_t *ports; /* coordinates of the node at the other end */
    size_t depth;
    uint64_t cost;
    uint64_t priority;
    uint64_t order; /* the oldest link has the lowest */
};

struct fib;

/* Makes a table of our own coordinates and no links. NULL: out of memory, or no valid path. path: wire form. */
struct fib *fib_new(const uint8_t *path, size_t size);
void fib_free(struct fib *fib);

/* Adds a link; of several links to one key only the best can ever be chosen. False: out of memory or no valid path. */
bool fib_add(struct fib *fib, uint64_t link_id, const uint8_t key[KEY_SIZE], const uint8_t *path, size_t size,
             uint64_t cost, uint64_t priority, uint64_t order);

/* Whether packets that came in by a link may leave by another one; otherwise only our own leave. At first they may. */
void fib_set_transit(struct fib *fib, bool transit);
bool fib_transit(const struct fib *fib);

/* Our own coordinates in wire form. */
const uint8_t *fib_self_path(const struct fib *fib, size_t *size);

/* A hop: the link that leads nearer (0: nobody is nearer than we are) and our own distance from the destination. */
struct fib_hop {
    uint64_t link_id;
    uint64_t distance;
};

/* Finds the hop for a path in wire form, which must be valid (see path_measure). Remembers short paths. */
struct fib_hop fib_find(struct fib *fib, const uint8_t *path, size_t size);

/* Returns the bytes of the path at data with its final zero; 0: cut short; -1: a port has more than 64 bits. */
ptrdiff_t path_measure(const uint8_t *data, size_t size);

#endif
