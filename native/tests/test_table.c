/*
 * The hash table: many keys of every size in use, replacement, and deletions, after which all others must still be
 * found; compared with a plain list of what should be there.
 */
#include "check.h"
#include "table.h"

enum { COUNT = 5000 };

struct entry {
    uint32_t number;
    bool present;
    uint8_t key[KEY_SIZE];
};

static struct entry entries[COUNT], twins[COUNT]; /* a twin has the key of its entry */
static struct table table;

static void start(size_t key_size)
{
    table_init(&table, offsetof(struct entry, key), key_size);
    for (uint32_t i = 0; i < COUNT; i++) {
        entries[i] = (struct entry){.number = i};
        /* Keys that count up and keys that look random; all differ in their first 8 bytes. */
        if (i % 2)
            pattern(entries[i].key, KEY_SIZE, i);
        memcpy(entries[i].key, &i, sizeof i);
        twins[i] = entries[i];
        twins[i].number = i + COUNT;
    }
}

static void check_all(void)
{
    size_t present = 0, place = 0, seen = 0;
    for (size_t i = 0; i < COUNT; i++) {
        const struct entry *wanted = entries[i].present ? &entries[i] : twins[i].present ? &twins[i] : NULL;
        CHECK(table_get(&table, entries[i].key) == wanted);
        present += wanted != NULL;
    }
    CHECK(table.count == present && present * 2 <= table.room);
    for (const struct entry *entry; (entry = table_next(&table, &place)); seen++)
        CHECK(entry->present);
    CHECK(seen == present);
}

static void put(struct entry *entry, struct entry *twin)
{
    CHECK(table_put(&table, entry));
    entry->present = true;
    twin->present = false;
}

static void test_table(size_t key_size)
{
    start(key_size);
    size_t place = 0;
    CHECK(!table_get(&table, entries[0].key) && !table_remove(&table, entries[0].key) && !table_next(&table, &place));
    for (uint32_t i = 0; i < COUNT; i++)
        put(&entries[i], &twins[i]);
    check_all();
    /* An entry takes the place of another one with its key. */
    for (uint32_t i = 0; i < COUNT; i += 3)
        put(&twins[i], &entries[i]);
    check_all();
    /* At random, with a look at everything now and then. */
    for (int i = 0; i < 40000; i++) {
        size_t k = random_below(COUNT);
        if (random_below(2)) {
            bool twin = random_below(2);
            put(twin ? &twins[k] : &entries[k], twin ? &entries[k] : &twins[k]);
        } else {
            struct entry *gone = table_remove(&table, entries[k].key);
            CHECK(gone == (entries[k].present ? &entries[k] : twins[k].present ? &twins[k] : NULL));
            if (gone)
                gone->present = false;
        }
        if (i % 4000 == 0)
            check_all();
    }
    for (uint32_t i = 0; i < COUNT; i++) {
        table_remove(&table, entries[i].key);
        entries[i].present = twins[i].present = false;
        if (i % 500 == 0)
            check_all();
    }
    CHECK(table.count == 0);
    table_free(&table);
    CHECK(!table_get(&table, entries[0].key));
}

static void test_small(void)
{
    /* Few places, so that runs go around the end of the table: every order of deletion, by many seeds. */
    start(8);
    for (uint64_t seed = 0; seed < 2000; seed++) {
        table_init(&table, offsetof(struct entry, key), 8);
        table.seed = seed;
        for (size_t i = 0; i < 8; i++)
            CHECK(table_put(&table, &entries[i]));
        CHECK(table.room == 16);
        for (size_t left = 8; left; left--) {
            size_t victim = random_below(8);
            while (!table_get(&table, entries[victim].key))
                victim = (victim + 1) % 8;
            size_t found = 0;
            CHECK(table_remove(&table, entries[victim].key) == &entries[victim]);
            for (size_t i = 0; i < 8; i++)
                found += table_get(&table, entries[i].key) == &entries[i];
            CHECK(found == left - 1 && table.count == found);
        }
        table_free(&table);
    }
}

static void test_seed(void)
{
    struct table other;
    table_init(&table, 0, 8);
    table_init(&other, 0, 8);
    CHECK(table.seed != other.seed); /* nobody outside can tell where a key falls */
}

int main(void)
{
    test_table(8);
    test_table(16);
    test_table(32);
    test_small();
    test_seed();
    return 0;
}
