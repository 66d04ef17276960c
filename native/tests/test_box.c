/*
 * Tests of the session box, of every implementation that this CPU can run.
 *
 * Three things are compared: NaCl's published example, boxes that libsodium made (box_vectors.h), and each
 * implementation with the portable one, over all lengths where vectors of any width begin or end and over samples
 * beyond. Texts lie between canaries, and once between pages that cannot be touched, so that a vector that reaches
 * too far is noticed without a sanitizer as well.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <openssl/evp.h>

#include "box.h"
#include "box_vectors.h"
#include "salsa20.h"

#define CHECK(condition)                                                                             \
    do {                                                                                             \
        if (!(condition)) {                                                                          \
            fprintf(stderr, "%s:%d: %s: %s\n", __FILE__, __LINE__, box_implementation(), #condition); \
            exit(1);                                                                                 \
        }                                                                                            \
    } while (0)

enum {
    MAX_SIZE = 66000,
    DENSE_SIZE = 2200, /* up to here every length is tried */
    CANARY_SIZE = 64,
    ALIGNMENTS = 64,
    CANARY = 0xa5,
};

static const char *const names[] = {"portable", "avx2", "avx512"};

static struct box_context *context;
static uint8_t plain[MAX_SIZE], expected[MAX_SIZE];
static _Alignas(64) uint8_t field[CANARY_SIZE + ALIGNMENTS + MAX_SIZE + CANARY_SIZE];

static size_t from_hex(uint8_t *out, const char *hex)
{
    size_t size = 0;
    unsigned int byte;

    for (; sscanf(hex + 2 * size, "%2x", &byte) == 1; size++)
        out[size] = (uint8_t)byte;
    return size;
}

static uint32_t generate(uint8_t *out, size_t size, uint32_t x)
{
    for (size_t i = 0; i < size; i++) {
        x = x * 1664525 + 1013904223;
        out[i] = (uint8_t)(x >> 24);
    }
    return x;
}

static bool is_all(const uint8_t *bytes, size_t size, uint8_t value)
{
    for (size_t i = 0; i < size; i++) {
        if (bytes[i] != value)
            return false;
    }
    return true;
}

/* Seals, compares, tampers and opens `plain`, of which the box must be `tag` and `expected`. */
static void check_box(const struct box_key *key, uint64_t nonce, const uint8_t tag[BOX_TAG_SIZE], size_t size,
                      size_t alignment)
{
    uint8_t *const text = field + CANARY_SIZE + alignment;
    uint8_t made[BOX_TAG_SIZE];

    memset(text - CANARY_SIZE, CANARY, CANARY_SIZE);
    memset(text + size, CANARY, CANARY_SIZE);
    memcpy(text, plain, size);
    box_seal(context, key, nonce, made, text, size);
    CHECK(memcmp(made, tag, BOX_TAG_SIZE) == 0);
    CHECK(memcmp(text, expected, size) == 0);

    made[size % BOX_TAG_SIZE] ^= (uint8_t)(1 << size % 8);
    CHECK(!box_open(context, key, nonce, made, text, size));
    CHECK(memcmp(text, expected, size) == 0);

    CHECK(box_open(context, key, nonce, tag, text, size));
    CHECK(memcmp(text, plain, size) == 0);
    CHECK(is_all(text - CANARY_SIZE, CANARY_SIZE, CANARY));
    CHECK(is_all(text + size, CANARY_SIZE, CANARY));
}

/* The example of "Cryptography in NaCl" and of the tests that come with it. */
static void test_published_example(void)
{
    static const char text_hex[] =
        "be075fc53c81f2d5cf141316ebeb0c7b5228c52a4c62cbd44b66849b64244ffce5ecbaaf33bd751a1ac728d45e6c61296cdc3c01233561f4"
        "1db66cce314adb310e3be8250c46f06dceea3a7fa1348057e2f6556ad6b1318a024a838f21af1fde048977eb48f59ffd4924ca1c60902e52"
        "f0a089bc76897040e082f937763848645e0705";
    static const char box_hex[] =
        "f3ffc7703f9400e52a7dfb4b3d3305d98e993b9f48681273c29650ba32fc76ce48332ea7164d96a4476fb8c531a1186ac0dfc17c98dce87b"
        "4da7f011ec48c97271d2c20f9b928fe2270d6fb863d51738b48eeee314a7cc8ab932164548e526ae90224368517acfeabd6bb3732bc0e9da"
        "99832b61ca01b6de56244a9e88d5f9b37973f622a43d14a6599b1f654cb45a74e355a5";
    uint8_t shared[BOX_KEY_SIZE], first_key[32], second_key[32], start_of_nonce[16], box[147];
    struct box_key key;

    /* The shared key and sixteen zeros give the first key, which is what box_key_init does. */
    CHECK(from_hex(shared, "4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742") == 32);
    CHECK(from_hex(first_key, "1b27556473e985d462cd51197a9a46c76009549eac6474f206c4ee0844f68389") == 32);
    box_key_init(&key, shared);
    CHECK(memcmp(key.subkey, first_key, 32) == 0);

    /* The example goes on with a nonce that does not start with zeros, so its second key is made by hand. */
    CHECK(from_hex(start_of_nonce, "69696ee955b62b73cd62bda875fc73d6") == 16);
    CHECK(from_hex(second_key, "dc908dda0b9344a953629b733820778880f3ceb421bb61b91cbd4c3e66256ce4") == 32);
    hsalsa20(key.subkey, first_key, start_of_nonce);
    CHECK(memcmp(key.subkey, second_key, 32) == 0);

    CHECK(from_hex(plain, text_hex) == 131);
    CHECK(from_hex(box, box_hex) == sizeof(box));
    memcpy(expected, box + BOX_TAG_SIZE, 131);
    check_box(&key, 0x8219e0036b7a0b37, box, 131, 0);
}

static void test_libsodium_boxes(void)
{
    static uint8_t box[BOX_TAG_SIZE + MAX_SIZE];

    for (size_t n = 0; n < sizeof(box_vectors) / sizeof(box_vectors[0]); n++) {
        const struct box_vector *vector = &box_vectors[n];
        uint8_t shared[32], tag[BOX_TAG_SIZE], digest[32], made[32];
        char seed[32];
        struct box_key key;

        snprintf(seed, sizeof(seed), "shared %zu", n);
        CHECK(EVP_Digest(seed, strlen(seed), shared, NULL, EVP_sha256(), NULL));
        CHECK(from_hex(tag, vector->tag) == sizeof(tag) && from_hex(digest, vector->digest) == sizeof(digest));
        box_key_init(&key, shared);
        generate(plain, vector->size, (uint32_t)vector->size * 2654435761U + 1);

        memcpy(box + BOX_TAG_SIZE, plain, vector->size);
        box_seal(context, &key, vector->nonce, box, box + BOX_TAG_SIZE, vector->size);
        CHECK(memcmp(box, tag, BOX_TAG_SIZE) == 0);
        CHECK(EVP_Digest(box, BOX_TAG_SIZE + vector->size, made, NULL, EVP_sha256(), NULL));
        CHECK(memcmp(made, digest, sizeof(digest)) == 0);

        memcpy(expected, box + BOX_TAG_SIZE, vector->size);
        check_box(&key, vector->nonce, tag, vector->size, n % ALIGNMENTS);
    }
}

/* Makes the box of a length with the portable implementation and has all others make it at some alignments. */
static void compare_length(const struct box_key *key, size_t size, size_t alignments)
{
    const uint64_t nonce = 0x0123456789abcdef * (size + 1);
    uint8_t tag[BOX_TAG_SIZE];

    CHECK(salsa20_use("portable"));
    memcpy(expected, plain, size);
    box_seal(context, key, nonce, tag, expected, size);
    for (size_t n = 0; n < sizeof(names) / sizeof(names[0]); n++) {
        if (!salsa20_use(names[n]))
            continue;
        for (size_t i = 0; i < alignments; i++)
            check_box(key, nonce, tag, size, (size * 7 + i * 21) % ALIGNMENTS);
    }
}

static void test_all_lengths(void)
{
    uint8_t shared[BOX_KEY_SIZE];
    struct box_key key;

    generate(shared, sizeof(shared), 99);
    generate(plain, sizeof(plain), 100);
    box_key_init(&key, shared);
    for (size_t size = 0; size <= DENSE_SIZE; size++)
        compare_length(&key, size, 3);
    /* 61 is odd, so the samples pass through all residues of every power of two. */
    for (size_t size = DENSE_SIZE; size <= MAX_SIZE; size += 61)
        compare_length(&key, size, 1);
    /* Around the places where a chunk ends: the head of the stream less the key of the tag, then 16 KiB each. */
    for (size_t size = 2016 + 16384; size < MAX_SIZE; size += 16384) {
        for (size_t near = size - 2; near <= size + 2; near++)
            compare_length(&key, near, 1);
    }
    compare_length(&key, MAX_SIZE, 2);
}

/* The operations of the cipher by themselves, at block numbers and counts that the box does not use. */
static void test_cipher(const struct salsa20 *cipher, const struct salsa20 *reference)
{
    enum { SIZE = SALSA20_MAX_BLOCKS * SALSA20_BLOCK_SIZE };
    static const uint32_t firsts[] = {0, 1, 31, 1000, 0xfffffff0 - SALSA20_MAX_BLOCKS};
    static _Alignas(64) uint8_t stream[SIZE], made[SIZE];
    uint8_t seed[SALSA20_KEY_SIZE + SALSA20_NONCE_SIZE];
    struct salsa20_state state;

    generate(seed, sizeof(seed), 5);
    salsa20_init(&state, seed, seed + SALSA20_KEY_SIZE);
    for (size_t f = 0; f < sizeof(firsts) / sizeof(firsts[0]); f++) {
        reference->blocks(stream, SALSA20_MAX_BLOCKS, &state, firsts[f]);
        for (size_t count = 1; count <= SALSA20_MAX_BLOCKS; count++) {
            memset(made, 0, sizeof(made));
            cipher->blocks(made, count, &state, firsts[f]);
            CHECK(memcmp(made, stream, count * SALSA20_BLOCK_SIZE) == 0);
        }
        for (size_t size = 0; size <= SIZE; size += size < 300 ? 1 : 37) {
            memset(made, 0, sizeof(made));
            cipher->crypt(made, size, &state, firsts[f]);
            CHECK(memcmp(made, stream, size) == 0 && is_all(made + size, SIZE - size, 0));
            cipher->mix(made, stream, size);
            CHECK(is_all(made, SIZE, 0));
        }
    }
}

/* The text ends, or starts, where a page ends or starts, and its neighbour cannot be read or written. */
static void test_page_borders(void)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE), room = 5 * page;
    uint8_t *const before = mmap(NULL, room + 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    uint8_t *const inside = before + page;
    const struct box_key key = {{1, 2, 3}};
    uint8_t tag[BOX_TAG_SIZE];

    CHECK(before != MAP_FAILED);
    CHECK(mprotect(inside, room, PROT_READ | PROT_WRITE) == 0);
    for (size_t size = 0; size <= room; size += size < 2200 ? 1 : 321) {
        uint8_t *const places[] = {inside, inside + room - size};

        for (int i = 0; i < 2; i++) {
            memset(places[i], CANARY, size);
            box_seal(context, &key, size, tag, places[i], size);
            CHECK(box_open(context, &key, size, tag, places[i], size));
            CHECK(is_all(places[i], size, CANARY));
        }
    }
    CHECK(munmap(before, room + 2 * page) == 0);
}

/* Every bit of tag and text counts, and so do key and nonce. */
static void test_tampering(void)
{
    enum { SIZE = 150 };
    struct box_key key = {{9}};
    uint8_t box[BOX_TAG_SIZE + SIZE], good[sizeof(box)];

    generate(good, sizeof(good), 3);
    box_seal(context, &key, 77, good, good + BOX_TAG_SIZE, SIZE);
    for (size_t bit = 0; bit < 8 * sizeof(box); bit++) {
        uint8_t changed[sizeof(box)];

        memcpy(box, good, sizeof(box));
        box[bit / 8] ^= (uint8_t)(1 << bit % 8);
        memcpy(changed, box, sizeof(box));
        CHECK(!box_open(context, &key, 77, box, box + BOX_TAG_SIZE, SIZE));
        CHECK(memcmp(box, changed, sizeof(box)) == 0);
    }
    memcpy(box, good, sizeof(box));
    CHECK(!box_open(context, &key, 78, box, box + BOX_TAG_SIZE, SIZE));
    CHECK(!box_open(context, &key, 77, box, box + BOX_TAG_SIZE, SIZE - 1));
    CHECK(!box_open(context, &key, 77, box, box + BOX_TAG_SIZE, 0));
    key.subkey[31] ^= 0x80;
    CHECK(!box_open(context, &key, 77, box, box + BOX_TAG_SIZE, SIZE));
    key.subkey[31] ^= 0x80;
    CHECK(memcmp(box, good, sizeof(box)) == 0);
    CHECK(box_open(context, &key, 77, box, box + BOX_TAG_SIZE, SIZE));
}

static void test_choice(void)
{
    CHECK(salsa20_use("portable"));
    CHECK(strcmp(box_implementation(), "portable") == 0);
    CHECK(!salsa20_use("enigma"));
    CHECK(strcmp(box_implementation(), "portable") == 0);
    CHECK(salsa20_use(NULL));
    box_context_free(NULL);
}

int main(void)
{
    const struct salsa20 *reference;

    context = box_context_new();
    CHECK(context != NULL);
    test_choice();
    printf("box: the best implementation here is %s\n", box_implementation());
    CHECK(salsa20_use("portable"));
    reference = salsa20_get();
    for (size_t n = 0; n < sizeof(names) / sizeof(names[0]); n++) {
        if (!salsa20_use(names[n])) {
            printf("box: %s left out, this CPU has not got it\n", names[n]);
            continue;
        }
        test_published_example();
        test_libsodium_boxes();
        test_cipher(salsa20_get(), reference);
        test_page_borders();
        test_tampering();
    }
    test_all_lengths();
    box_context_free(context);
    return 0;
}
