/* See table.h. */
#include "table.h"

#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

enum { FIRST_ROOM = 16 };

static uint64_t random_seed(void)
{
    uint64_t seed;
    if (getrandom(&seed, sizeof seed, GRND_NONBLOCK) != (ssize_t)sizeof seed)
        seed = (uint64_t)time(NULL) ^ (uint64_t)(uintptr_t)&seed; /* an early boot; better than a known seed */
    return seed;
}

void table_init(struct table *table, size_t key_offset, size_t key_size)
{
    *table = (struct table){.key_offset = key_offset, .key_size = key_size, .seed = random_seed()};
}

void table_free(struct table *table)
{
    free(table->slots);
    table->slots = NULL;
    table->room = table->count = 0;
}

static const uint8_t *key_of(const struct table *table, const void *entry)
{
    return (const uint8_t *)entry + table->key_offset;
}

/* Folds a 64 by 64 bit product: each bit of the input moves about half of those of the result. */
static uint64_t fold(uint64_t one, uint64_t two)
{
    __extension__ unsigned __int128 product = (unsigned __int128)one * two;
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

static size_t place_of(const struct table *table, const void *key)
{
    uint64_t hash = table->seed;
    for (size_t i = 0; i < table->key_size; i += 8) {
        uint64_t word;
        memcpy(&word, (const uint8_t *)key + i, 8);
        hash = fold(hash ^ word ^ 0x9e3779b97f4a7c15u, 0xd6e8feb86659fd93u ^ table->seed << 1);
    }
    return (size_t)hash & (table->room - 1);
}

/* Returns the place of the key, or that of the free slot where it would go. There always is a free slot. */
static size_t find(const struct table *table, const void *key)
{
    size_t place = place_of(table, key);
    while (table->slots[place] && memcmp(key_of(table, table->slots[place]), key, table->key_size) != 0)
        place = (place + 1) & (table->room - 1);
    return place;
}

void *table_get(const struct table *table, const void *key)
{
    return table->room ? table->slots[find(table, key)] : NULL;
}

static bool grow(struct table *table)
{
    struct table larger = *table;
    larger.room = table->room ? table->room * 2 : FIRST_ROOM;
    larger.slots = calloc(larger.room, sizeof *larger.slots);
    if (!larger.slots)
        return false;
    for (size_t i = 0; i < table->room; i++)
        if (table->slots[i])
            larger.slots[find(&larger, key_of(table, table->slots[i]))] = table->slots[i];
    free(table->slots);
    *table = larger;
    return true;
}

bool table_put(struct table *table, void *entry)
{
    if ((table->count + 1) * 2 > table->room && !grow(table))
        return false;
    size_t place = find(table, key_of(table, entry));
    if (!table->slots[place])
        table->count++;
    table->slots[place] = entry;
    return true;
}

void *table_remove(struct table *table, const void *key)
{
    if (!table->room)
        return NULL;
    size_t hole = find(table, key);
    void *entry = table->slots[hole];
    if (!entry)
        return NULL;
    table->slots[hole] = NULL;
    table->count--;
    /* Move up what would not be found any more beyond the hole. */
    for (size_t i = (hole + 1) & (table->room - 1); table->slots[i]; i = (i + 1) & (table->room - 1)) {
        size_t home = place_of(table, key_of(table, table->slots[i]));
        if (((i - home) & (table->room - 1)) >= ((i - hole) & (table->room - 1))) {
            table->slots[hole] = table->slots[i];
            table->slots[i] = NULL;
            hole = i;
        }
    }
    return entry;
}

void *table_next(const struct table *table, size_t *place)
{
    while (*place < table->room) {
        void *entry = table->slots[(*place)++];
        if (entry)
            return entry;
    }
    return NULL;
}
