/*
 * A hash table of pointers, found by a key of fixed size that lies inside what they point to.
 *
 * Keys can be chosen by strangers (a node key costs nothing), so the hash is seeded: nobody outside can pick keys that
 * fall into one place. Open addressing with linear probing; deletion closes the gap, so there are no tombstones and a
 * table that was once large does not stay slow.
 */
#ifndef YGGPY_TABLE_H
#define YGGPY_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct table {
    void **slots;
    size_t room; /* 0 or a power of two */
    size_t count;
    size_t key_offset; /* of the key inside an entry */
    size_t key_size;   /* a multiple of 8 */
    uint64_t seed;
};

void table_init(struct table *table, size_t key_offset, size_t key_size);
void table_free(struct table *table);

/* Returns the entry with this key, or NULL. */
void *table_get(const struct table *table, const void *key);

/* Adds an entry, or puts it in the place of the one with the same key. False: out of memory, nothing has changed. */
bool table_put(struct table *table, void *entry);

/* Takes the entry with this key out and returns it, or NULL. */
void *table_remove(struct table *table, const void *key);

/* Steps through all entries: start with *place = 0, ends with NULL. The table must not change meanwhile. */
void *table_next(const struct table *table, size_t *place);

#endif
