/*
 * The forwarding table: distances in the tree, who is chosen among those that are nearer, and paths of any length. The
 * last test asks thousands of random questions and compares with the rule written the slow way.
 */
#include "check.h"
#include "fib.h"

enum { MAX_PORTS = 8 };

struct path {
    uint64_t ports[MAX_PORTS];
    size_t depth;
};

static size_t encode(uint8_t *out, const struct path *path)
{
    size_t size = 0;
    for (size_t i = 0; i < path->depth; i++)
        size += uvarint_put(out + size, path->ports[i]);
    out[size++] = 0;
    return size;
}

#define PATH(...) \
    (struct path){{__VA_ARGS__}, sizeof((uint64_t[]){__VA_ARGS__}) / sizeof(uint64_t)}
static const struct path ROOT = {.depth = 0};

static struct fib *new_fib(struct path path)
{
    uint8_t wire[100];
    struct fib *fib = fib_new(wire, encode(wire, &path));
    CHECK(fib);
    size_t size;
    const uint8_t *own = fib_self_path(fib, &size);
    CHECK(size == encode(wire, &path) && !memcmp(own, wire, size));
    return fib;
}

static void add(struct fib *fib, uint64_t id, uint8_t key, struct path path, uint64_t cost, uint64_t priority,
                uint64_t order)
{
    uint8_t wire[100], whole[KEY_SIZE] = {key};
    CHECK(fib_add(fib, id, whole, wire, encode(wire, &path), cost, priority, order));
}

static struct fib_hop find(struct fib *fib, struct path path)
{
    uint8_t wire[100];
    size_t size = encode(wire, &path);
    struct fib_hop hop = fib_find(fib, wire, size), again = fib_find(fib, wire, size);
    CHECK(hop.link_id == again.link_id && hop.distance == again.distance);
    return hop;
}

#define EXPECT(fib, path, link, far)                                                                                  \
    do {                                                                                                              \
        struct fib_hop found = find(fib, path);                                                                       \
        CHECK(found.link_id == (link));                                                                               \
        CHECK(found.distance == (far));                                                                               \
    } while (0)

static void test_distance(void)
{
    struct fib *fib = new_fib(PATH(1, 2, 3));
    EXPECT(fib, PATH(1, 2, 3), 0, 0u);
    EXPECT(fib, PATH(1, 2), 0, 1u);
    EXPECT(fib, PATH(1, 2, 4), 0, 2u);
    EXPECT(fib, PATH(1, 2, 3, 9, 9), 0, 2u);
    EXPECT(fib, ROOT, 0, 3u);
    EXPECT(fib, PATH(7, 2, 3), 0, 6u); /* nothing in common, though later ports are alike */
    fib_free(fib);

    fib = new_fib(PATH(1, 2));
    add(fib, 10, 1, PATH(1), 5, 0, 0);
    add(fib, 11, 2, PATH(1, 2, 8), 5, 0, 1);
    EXPECT(fib, PATH(1), 10, 1u);
    EXPECT(fib, ROOT, 10, 2u);
    EXPECT(fib, PATH(4, 4), 10, 4u);
    EXPECT(fib, PATH(1, 2, 8, 8), 11, 2u);
    EXPECT(fib, PATH(1, 2, 9), 0, 1u); /* a child that we do not have */
    EXPECT(fib, PATH(1, 2), 0, 0u);
    fib_free(fib);
}

static void test_choice(void)
{
    /* Cost times distance is what counts, so a good link to a farther node may beat a bad one to a nearer. */
    struct fib *fib = new_fib(PATH(1, 2, 3, 4));
    add(fib, 10, 1, PATH(1, 2, 3), 10, 0, 0);
    add(fib, 11, 2, PATH(1), 31, 0, 1);
    EXPECT(fib, ROOT, 10, 4u); /* 3 * 10 against 1 * 31 */
    fib_free(fib);

    /* Equal products: the nearer one. Equal distance and cost: the older one. */
    fib = new_fib(PATH(1, 2, 3, 4));
    add(fib, 10, 1, PATH(1, 2), 15, 0, 0);
    add(fib, 11, 2, PATH(1), 30, 0, 1);
    add(fib, 12, 3, PATH(1, 2, 3), 10, 0, 2);
    EXPECT(fib, ROOT, 11, 4u);
    fib_free(fib);
    fib = new_fib(PATH(1, 2, 3, 4));
    add(fib, 13, 4, PATH(2), 30, 0, 9);
    add(fib, 14, 5, PATH(3), 30, 0, 0);
    add(fib, 15, 6, PATH(4), 30, 0, 5);
    EXPECT(fib, PATH(9), 14, 5u);
    fib_free(fib);

    /* At the destination itself every product is 0; then the cost decides. */
    fib = new_fib(PATH(1));
    add(fib, 10, 1, ROOT, 7, 0, 0);
    add(fib, 11, 2, ROOT, 6, 0, 1);
    EXPECT(fib, ROOT, 11, 1u);
    fib_free(fib);

    /* Products of more than 64 bits. */
    fib = new_fib(PATH(1, 1, 1, 1));
    add(fib, 10, 1, PATH(1, 1, 1), UINT64_MAX, 0, 0);
    add(fib, 11, 2, PATH(1, 1), UINT64_MAX - 1, 0, 1);
    EXPECT(fib, ROOT, 11, 4u);
    fib_free(fib);
}

static void test_parallel_links(void)
{
    /* Of several links to one key: lowest priority number, lowest cost, oldest; in whatever order they are added. */
    static const struct {
        uint64_t id, cost, priority, order;
    } links[] = {{1, 1, 2, 0}, {2, 5, 1, 1}, {3, 4, 1, 3}, {4, 4, 1, 2}, {5, 1, 3, 0}};
    for (size_t first = 0; first < 5; first++) {
        struct fib *fib = new_fib(PATH(1, 1));
        for (size_t i = 0; i < 5; i++) {
            size_t k = (first + i) % 5;
            add(fib, links[k].id, 7, PATH(1), links[k].cost, links[k].priority, links[k].order);
        }
        EXPECT(fib, ROOT, 4, 2u);
        /* Priority is no matter between keys. */
        add(fib, 9, 8, PATH(1), 3, 200, 9);
        fib_free(fib);
    }
    struct fib *fib = new_fib(PATH(1, 1));
    add(fib, 4, 7, PATH(1), 4, 1, 2);
    add(fib, 9, 8, PATH(1), 3, 200, 9);
    EXPECT(fib, ROOT, 9, 2u);
    fib_free(fib);
}

static void test_long_paths(void)
{
    enum { PORTS = 100000 };
    uint8_t *path = malloc(PORTS * 3 + 1);
    CHECK(path);
    size_t size = 0;
    for (uint32_t i = 0; i < PORTS; i++)
        size += uvarint_put(path + size, 1 + i % 300);
    path[size++] = 0;
    CHECK(path_measure(path, size) == (ptrdiff_t)size);
    CHECK(path_measure(path, size - 1) == 0);

    struct fib *fib = new_fib(PATH(1, 2, 3));
    add(fib, 5, 1, PATH(1, 2, 3, 4), 1, 0, 0);
    add(fib, 6, 2, PATH(1, 2, 3, 5), 1, 0, 1);
    struct fib_hop hop = fib_find(fib, path, size);
    CHECK(hop.link_id == 5 && hop.distance == PORTS - 3);
    /* A neighbour as deep as that. */
    uint8_t key[KEY_SIZE] = {9};
    CHECK(fib_add(fib, 7, key, path, size, 1, 0, 2));
    hop = fib_find(fib, path, size);
    CHECK(hop.link_id == 7 && hop.distance == PORTS - 3);
    fib_free(fib);
    /* ... and we ourselves. */
    fib = fib_new(path, size);
    CHECK(fib);
    add(fib, 5, 1, PATH(1, 2, 3, 4), 1, 0, 0);
    hop = fib_find(fib, path, size);
    CHECK(hop.link_id == 0 && hop.distance == 0);
    EXPECT(fib, PATH(1, 2, 3), 5, PORTS - 3u);
    fib_free(fib);
    free(path);
}

static void test_invalid_paths(void)
{
    static const struct {
        size_t size;
        ptrdiff_t measure;
        uint8_t bytes[14];
    } cases[] = {
        {0, 0, {0}},
        {1, 1, {0}},
        {2, 1, {0, 0}},
        {1, 0, {5}},
        {2, 0, {5, 0x80}},
        {3, 3, {5, 0x80, 0}}, /* a zero in two bytes is a zero */
        {4, 3, {5, 0x80, 0, 1}},
        {11, 11, {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 0}},
        {11, -1, {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0}},
        {12, -1, {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x81, 0, 0}},
        {9, 0, {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}},
        {10, 10, {0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint8_t *exact = malloc(cases[i].size + !cases[i].size), key[KEY_SIZE] = {1};
        CHECK(exact);
        memcpy(exact, cases[i].bytes, cases[i].size);
        CHECK(path_measure(exact, cases[i].size) == cases[i].measure);
        bool whole = cases[i].measure == (ptrdiff_t)cases[i].size;
        struct fib *fib = fib_new(exact, cases[i].size);
        CHECK(!fib == !whole);
        fib_free(fib);
        fib = new_fib(PATH(1));
        CHECK(fib_add(fib, 1, key, exact, cases[i].size, 1, 0, 0) == whole);
        EXPECT(fib, PATH(1), 0, 0u);
        fib_free(fib);
        free(exact);
    }
    /* The same path in two spellings is the same place. */
    struct fib *fib = new_fib(PATH(1, 2));
    add(fib, 3, 1, PATH(1), 1, 0, 0);
    static const uint8_t spelled[] = {0x81, 0, 0x80, 0};
    struct fib_hop hop = fib_find(fib, spelled, sizeof spelled);
    CHECK(hop.link_id == 3 && hop.distance == 1);
    fib_free(fib);
}

/* ---- the rule, the slow way ---- */

static uint64_t slow_distance(const struct path *one, const struct path *two)
{
    size_t common = 0;
    while (common < one->depth && common < two->depth && one->ports[common] == two->ports[common])
        common++;
    return one->depth + two->depth - 2 * common;
}

static struct path random_path(void)
{
    struct path path = {.depth = random_below(MAX_PORTS + 1)};
    for (size_t i = 0; i < path.depth; i++) /* few values, one of which takes many bytes */
        path.ports[i] = random_below(5) ? random_below(2) + 1 : UINT64_MAX;
    return path;
}

static void test_against_model(void)
{
    enum { LINKS = 12 };
    for (int round = 0; round < 40; round++) {
        struct path self = random_path(), paths[LINKS];
        uint64_t costs[LINKS], priorities[LINKS];
        struct fib *fib = new_fib(self);
        for (size_t i = 0; i < LINKS; i++) {
            /* Two links to each of the last keys, which lie at one place. */
            paths[i] = i > 8 ? paths[i - 3] : random_path();
            costs[i] = random_below(4) + 1;
            priorities[i] = random_below(2);
            add(fib, i + 1, (uint8_t)(i > 8 ? i - 3 : i), paths[i], costs[i], priorities[i], i);
        }
        for (int question = 0; question < 300; question++) {
            struct path path = random_path();
            uint64_t own = slow_distance(&path, &self);
            size_t best = LINKS;
            for (size_t i = 0; i < LINKS; i++) {
                size_t twin = i > 8 ? i - 3 : i >= 6 && i <= 8 ? i + 3 : i;
                if (twin != i && (priorities[twin] < priorities[i] ||
                                  (priorities[twin] == priorities[i] &&
                                   (costs[twin] < costs[i] || (costs[twin] == costs[i] && twin < i)))))
                    continue;
                uint64_t far = slow_distance(&path, &paths[i]);
                if (far >= own)
                    continue;
                if (best == LINKS) {
                    best = i;
                    continue;
                }
                uint64_t best_far = slow_distance(&path, &paths[best]);
                if (far * costs[i] != best_far * costs[best] ? far * costs[i] < best_far * costs[best]
                    : far != best_far                        ? far < best_far
                    : costs[i] != costs[best]                ? costs[i] < costs[best]
                                                             : i < best)
                    best = i;
            }
            EXPECT(fib, path, best == LINKS ? 0 : best + 1, own);
        }
        fib_free(fib);
    }
}

int main(void)
{
    test_distance();
    test_choice();
    test_parallel_links();
    test_long_paths();
    test_invalid_paths();
    test_against_model();
    fib_free(NULL);
    return 0;
}
