/*
 * Every implementation of the key search against OpenSSL: random seeds, seeds of patterns, and the search itself.
 * `test_genkeys speed` prints keys per second on one core instead.
 */
#include "genkeys.h"

#include <openssl/evp.h>
#include <time.h>

#include "check.h"

enum { ROUNDS = 12 };

static const char *const names[] = {"ifma", "portable"};
static uint8_t seeds[GENKEYS_BATCH][GENKEYS_SIZE], y[GENKEYS_BATCH][GENKEYS_SIZE];

static void openssl_key(const uint8_t *seed, uint8_t *key)
{
    size_t size = GENKEYS_SIZE;
    EVP_PKEY *pair = EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL, seed, GENKEYS_SIZE);
    CHECK(pair && EVP_PKEY_get_raw_public_key(pair, key, &size) == 1 && size == GENKEYS_SIZE);
    EVP_PKEY_free(pair);
}

static void compare_batch(void)
{
    memset(y, 0xee, sizeof y);
    genkeys_get()->keys(y, (const uint8_t (*)[GENKEYS_SIZE])seeds, genkeys_get_table());
    for (size_t i = 0; i < GENKEYS_BATCH; i++) {
        uint8_t key[GENKEYS_SIZE];
        openssl_key(seeds[i], key);
        key[GENKEYS_SIZE - 1] &= 0x7f;
        CHECK(memcmp(key, y[i], GENKEYS_SIZE) == 0);
    }
}

static void test_known_key(void)
{
    /* RFC 8032, section 7.1, test 1. */
    static const uint8_t seed[] = {0x9d, 0x61, 0xb1, 0x9d, 0xef, 0xfd, 0x5a, 0x60, 0xba, 0x84, 0x4a,
                                   0xf4, 0x92, 0xec, 0x2c, 0xc4, 0x44, 0x49, 0xc5, 0x69, 0x7b, 0x32,
                                   0x69, 0x19, 0x70, 0x3b, 0xac, 0x03, 0x1c, 0xae, 0x7f, 0x60};
    static const uint8_t key[] = {0xd7, 0x5a, 0x98, 0x01, 0x82, 0xb1, 0x0a, 0xb7, 0xd5, 0x4b, 0xfe,
                                  0xd3, 0xc9, 0x64, 0x07, 0x3a, 0x0e, 0xe1, 0x72, 0xf3, 0xda, 0xa6,
                                  0x23, 0x25, 0xaf, 0x02, 0x1a, 0x68, 0xf7, 0x07, 0x51, 0x1a};
    for (size_t i = 0; i < GENKEYS_BATCH; i++)
        memcpy(seeds[i], seed, GENKEYS_SIZE);
    compare_batch();
    CHECK(memcmp(y[0], key, GENKEYS_SIZE) == 0 && memcmp(y[GENKEYS_BATCH - 1], key, GENKEYS_SIZE) == 0);
}

static void test_patterns(void)
{
    for (size_t i = 0; i < GENKEYS_BATCH; i++) { /* one bit set, one bit clear */
        memset(seeds[i], i < 256 ? 0 : 0xff, GENKEYS_SIZE);
        seeds[i][i % 256 / 8] ^= (uint8_t)(1 << i % 8);
    }
    compare_batch();
    for (size_t i = 0; i < GENKEYS_BATCH; i++) /* one byte for all, runs of zeros and of ones */
        for (size_t k = 0; k < GENKEYS_SIZE; k++)
            seeds[i][k] = i < 256 ? (uint8_t)i : k < i % 33 ? 0 : 0xff;
    compare_batch();
}

static void test_random(void)
{
    for (int round = 0; round < ROUNDS; round++) {
        for (size_t i = 0; i < GENKEYS_BATCH; i++)
            for (size_t k = 0; k < GENKEYS_SIZE; k++)
                seeds[i][k] = (uint8_t)random_number();
        compare_batch();
    }
}

static void test_search(void)
{
    uint8_t key[GENKEYS_SIZE], seed[GENKEYS_SIZE], check[GENKEYS_SIZE], before[GENKEYS_SIZE];
    memset(key, 0xff, sizeof key);
    CHECK(genkeys_search(key, seed, 2) == GENKEYS_FOUND);
    openssl_key(seed, check);
    CHECK(memcmp(check, key, GENKEYS_SIZE) == 0);
    CHECK(key[0] < 8); /* the lowest of a thousand */
    for (int i = 0; i < 8; i++) {
        memcpy(before, key, sizeof key);
        bool found = genkeys_search(key, seed, 1) == GENKEYS_FOUND;
        CHECK(memcmp(key, before, sizeof key) < (found ? 0 : 1) && found == (memcmp(key, before, sizeof key) != 0));
        openssl_key(seed, check);
        CHECK(memcmp(check, key, GENKEYS_SIZE) == 0);
    }
    memset(key, 0, sizeof key); /* nothing is lower */
    memset(seed, 7, sizeof seed);
    CHECK(genkeys_search(key, seed, 1) == GENKEYS_NOTHING && seed[0] == 7 && key[0] == 0);
    CHECK(genkeys_search(key, seed, 0) == GENKEYS_NOTHING);
}

static double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void speed(void)
{
    uint8_t key[GENKEYS_SIZE], seed[GENKEYS_SIZE];
    memset(key, 0, sizeof key);
    double start = seconds();
    CHECK(genkeys_search(key, seed, 0) == GENKEYS_NOTHING);
    printf("%s: table in %.1f ms", genkeys_get()->name, 1e3 * (seconds() - start));
    start = seconds();
    CHECK(genkeys_search(key, seed, 200) == GENKEYS_NOTHING);
    printf(", %.0f keys/s\n", 200 * GENKEYS_BATCH / (seconds() - start));
}

int main(int argc, char **argv)
{
    CHECK(!genkeys_use("no such thing"));
    CHECK(genkeys_use("portable"));
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (!genkeys_use(names[i])) {
            printf("%s: not on this CPU\n", names[i]);
            continue;
        }
        CHECK(strcmp(genkeys_get()->name, names[i]) == 0);
        if (argc > 1 && strcmp(argv[1], "speed") == 0) {
            speed();
            continue;
        }
        test_known_key();
        test_patterns();
        test_random();
        test_search();
    }
    return 0;
}
