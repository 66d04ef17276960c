/* See fib.h. */
#include "fib.h"

#include <stdlib.h>
#include <string.h>

enum {
    MEMO_PLACES = 1024, /* paths whose hop is remembered; a newer one takes the place of an older one */
    MEMO_PATH = 32,     /* bytes of the longest path that is remembered */
};

struct memo {
    uint8_t size; /* 0: empty */
    uint8_t path[MEMO_PATH];
    struct fib_hop hop;
};

struct fib {
    struct fib_link self;
    uint8_t *self_path;
    size_t self_path_size;
    struct fib_link *links;
    size_t count;
    size_t room;
    bool no_transit;
    size_t depth;   /* of the deepest of self and links */
    uint64_t *near; /* the first `depth` ports of the path that is looked up */
    struct memo memo[MEMO_PLACES];
};

ptrdiff_t path_measure(const uint8_t *data, size_t size)
{
    size_t at = 0;
    while (at < size) {
        if (data[at] < 0x80) {
            if (!data[at++])
                return (ptrdiff_t)at;
            continue;
        }
        uint64_t port;
        int used = uvarint_get(data + at, size - at, &port);
        if (used <= 0)
            return used == UVARINT_OVERFLOW ? -1 : 0;
        at += (size_t)used;
        if (!port)
            return (ptrdiff_t)at;
    }
    return 0;
}

/* Decodes the first `room` ports of a valid path; returns how many it has altogether. */
static size_t decode(const uint8_t *path, size_t size, uint64_t *ports, size_t room)
{
    size_t count = 0, at = 0;
    while (at < size) {
        uint64_t port;
        int used = uvarint_get(path + at, size - at, &port);
        if (used <= 0 || !port)
            break;
        if (count < room)
            ports[count] = port;
        count++;
        at += (size_t)used;
    }
    return count;
}

static bool set_ports(struct fib *fib, struct fib_link *link, const uint8_t *path, size_t size)
{
    if (path_measure(path, size) != (ptrdiff_t)size)
        return false;
    link->depth = decode(path, size, NULL, 0);
    link->ports = malloc((link->depth + 1) * sizeof *link->ports);
    if (!link->ports)
        return false;
    decode(path, size, link->ports, link->depth);
    if (link->depth > fib->depth || !fib->near) {
        uint64_t *near = realloc(fib->near, (link->depth + 1) * sizeof *near);
        if (!near) {
            free(link->ports);
            link->ports = NULL;
            return false;
        }
        fib->near = near;
        fib->depth = link->depth;
    }
    return true;
}

struct fib *fib_new(const uint8_t *path, size_t size)
{
    struct fib *fib = calloc(1, sizeof *fib);
    if (!fib)
        return NULL;
    fib->self_path = malloc(size + 1);
    if (!fib->self_path || !set_ports(fib, &fib->self, path, size)) {
        fib_free(fib);
        return NULL;
    }
    memcpy(fib->self_path, path, size);
    fib->self_path_size = size;
    return fib;
}

void fib_free(struct fib *fib)
{
    if (!fib)
        return;
    for (size_t i = 0; i < fib->count; i++)
        free(fib->links[i].ports);
    free(fib->links);
    free(fib->self.ports);
    free(fib->self_path);
    free(fib->near);
    free(fib);
}

void fib_set_transit(struct fib *fib, bool transit)
{
    fib->no_transit = !transit;
}

bool fib_transit(const struct fib *fib)
{
    return !fib->no_transit;
}

const uint8_t *fib_self_path(const struct fib *fib, size_t *size)
{
    *size = fib->self_path_size;
    return fib->self_path;
}

/* Among links to one key: lowest priority number, then lowest cost, then the oldest. */
static bool preferred(const struct fib_link *one, const struct fib_link *two)
{
    if (one->priority != two->priority)
        return one->priority < two->priority;
    if (one->cost != two->cost)
        return one->cost < two->cost;
    return one->order < two->order;
}

bool fib_add(struct fib *fib, uint64_t link_id, const uint8_t key[KEY_SIZE], const uint8_t *path, size_t size,
             uint64_t cost, uint64_t priority, uint64_t order)
{
    struct fib_link link = {.link_id = link_id, .cost = cost, .priority = priority, .order = order};
    memcpy(link.key, key, KEY_SIZE);
    if (!set_ports(fib, &link, path, size))
        return false;
    for (size_t i = 0; i < fib->count; i++) {
        if (memcmp(fib->links[i].key, key, KEY_SIZE) == 0) {
            struct fib_link *loser = preferred(&link, &fib->links[i]) ? &fib->links[i] : &link;
            free(loser->ports);
            if (loser != &link)
                *loser = link;
            return true;
        }
    }
    if (fib->count == fib->room) {
        size_t room = fib->room ? fib->room * 2 : 8;
        struct fib_link *links = realloc(fib->links, room * sizeof *links);
        if (!links) {
            free(link.ports);
            return false;
        }
        fib->links = links;
        fib->room = room;
    }
    fib->links[fib->count++] = link;
    return true;
}

static uint64_t distance(const uint64_t *near, size_t length, const struct fib_link *link)
{
    size_t least = length < link->depth ? length : link->depth;
    size_t common = 0;
    while (common < least && near[common] == link->ports[common])
        common++;
    return length + link->depth - 2 * common;
}

struct rank {
    __extension__ unsigned __int128 weight; /* cost times distance */
    uint64_t far, cost, order;
};

static bool better(const struct rank *one, const struct rank *two)
{
    if (one->weight != two->weight)
        return one->weight < two->weight;
    if (one->far != two->far)
        return one->far < two->far;
    if (one->cost != two->cost)
        return one->cost < two->cost;
    return one->order < two->order;
}

static struct fib_hop search(struct fib *fib, const uint8_t *path, size_t size)
{
    size_t length = decode(path, size, fib->near, fib->depth);
    struct fib_hop hop = {0, distance(fib->near, length, &fib->self)};
    struct rank best = {0};
    for (size_t i = 0; i < fib->count; i++) {
        const struct fib_link *link = &fib->links[i];
        uint64_t far = distance(fib->near, length, link);
        if (far >= hop.distance)
            continue;
        struct rank rank = {.far = far, .cost = link->cost, .order = link->order};
        rank.weight = link->cost;
        rank.weight *= far;
        if (!hop.link_id || better(&rank, &best)) {
            best = rank;
            hop.link_id = link->link_id;
        }
    }
    return hop;
}

struct fib_hop fib_find(struct fib *fib, const uint8_t *path, size_t size)
{
    if (size > MEMO_PATH)
        return search(fib, path, size);
    uint32_t hash = (uint32_t)size;
    for (size_t i = 0; i < size; i++)
        hash = (hash ^ path[i]) * 0x01000193u;
    struct memo *memo = &fib->memo[(hash ^ hash >> 15) % MEMO_PLACES];
    if (memo->size != size || memcmp(memo->path, path, size) != 0) {
        memo->hop = search(fib, path, size);
        memo->size = (uint8_t)size;
        memcpy(memo->path, path, size);
    }
    return memo->hop;
}
