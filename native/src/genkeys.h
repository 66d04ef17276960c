/*
 * The search for strong node keys: ed25519 key pairs whose public key is as low as possible (protocol section 1).
 *
 * A private key is a seed, so each candidate costs a SHA-512 and one multiplication of the base point. What can be
 * shared between candidates is shared: the field inversion that turns a point into a public key is done once for a
 * batch, and where the CPU has AVX-512 with IFMA eight candidates go side by side. Seeds are never derived from each
 * other: each is 32 fresh bytes of OpenSSL's generator.
 *
 * Secrets. The tables are indexed by digits of the secret scalars, so which cache lines are touched depends on them.
 * Whoever could watch that, from another program on the same core, would see the candidates go by, hundreds of thousands
 * a second, and would have to keep all of it to know the one that wins. That is accepted, for the speed; it ends with
 * the search. A node that uses the key signs with libsodium, which has no such look-ups. Batches are wiped after use.
 */
#ifndef YGGPY_GENKEYS_H
#define YGGPY_GENKEYS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    GENKEYS_SIZE = 32,   /* of a seed, and of a public key */
    GENKEYS_BATCH = 512, /* candidates that share an inversion */
    GENKEYS_DIGITS = 32, /* of a scalar, each -128..128 */
    GENKEYS_ENTRIES = 129,
    GENKEYS_ROW = 16, /* numbers of an entry: three field elements of five limbs, and one unused */
};

/*
 * Multiples 0..128 of 256^digit times the base point, as y+x, y-x and 2dxy in limbs of 51 bits. An entry is two cache
 * lines.
 */
struct genkeys_table {
    uint64_t row[GENKEYS_DIGITS][GENKEYS_ENTRIES][GENKEYS_ROW];
};

struct genkeys {
    const char *name;
    bool (*available)(void); /* can this CPU run it? */

    /*
     * Computes the public keys of GENKEYS_BATCH seeds, but for the sign in the last bit, which stays 0: the y coordinate
     * decides which key is lower.
     */
    void (*keys)(uint8_t (*y)[GENKEYS_SIZE], const uint8_t (*seeds)[GENKEYS_SIZE], const struct genkeys_table *table);
};

/* The implementation in use. */
const struct genkeys *genkeys_get(void);

/* Forces an implementation ("ifma", "portable"; NULL: the best one again), for tests. False: it cannot be had. */
bool genkeys_use(const char *name);

/* The table; made at the first call, which takes some milliseconds, and kept. NULL: no memory. */
const struct genkeys_table *genkeys_get_table(void);

enum genkeys_verdict {
    GENKEYS_NOTHING,    /* none was lower */
    GENKEYS_FOUND,      /* a lower key */
    GENKEYS_NO_MEMORY,
    GENKEYS_NO_RANDOM,  /* OpenSSL has no random bytes */
    GENKEYS_WRONG,      /* OpenSSL computes another public key: the CPU or this code is broken */
};

/*
 * Tries `batches` times GENKEYS_BATCH fresh keys. When one is lower than `public_key`, the lowest of them replaces it and
 * `seed` gets its seed. May be called from many threads at once.
 */
enum genkeys_verdict genkeys_search(uint8_t public_key[GENKEYS_SIZE], uint8_t seed[GENKEYS_SIZE], size_t batches);

extern const struct genkeys genkeys_portable;
#if defined(__x86_64__)
extern const struct genkeys genkeys_ifma;
#endif

#endif
