/* See genkeys.h. Here are the choice between the implementations, the seeds, and the judgement of what comes out. */
#include "genkeys.h"

#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

/* The best one first. */
static const struct genkeys *const implementations[] = {
#if defined(__x86_64__)
    &genkeys_ifma,
#endif
    &genkeys_portable,
};

enum { IMPLEMENTATIONS = sizeof(implementations) / sizeof(implementations[0]) };

/* Threads that meet here at their first batch all come to the same choice, so no order between them is needed. */
static _Atomic(const struct genkeys *) chosen;

bool genkeys_use(const char *name)
{
    for (size_t i = 0; i < IMPLEMENTATIONS; i++) {
        const struct genkeys *candidate = implementations[i];
        if ((!name || strcmp(name, candidate->name) == 0) && candidate->available()) {
            atomic_store_explicit(&chosen, candidate, memory_order_relaxed);
            return true;
        }
    }
    return false;
}

const struct genkeys *genkeys_get(void)
{
    if (!atomic_load_explicit(&chosen, memory_order_relaxed))
        genkeys_use(NULL); /* never fails: the portable one is always there */
    return atomic_load_explicit(&chosen, memory_order_relaxed);
}

struct batch {
    uint8_t seeds[GENKEYS_BATCH][GENKEYS_SIZE], y[GENKEYS_BATCH][GENKEYS_SIZE];
};

static bool public_key_of(const uint8_t seed[GENKEYS_SIZE], uint8_t out[GENKEYS_SIZE])
{
    size_t size = GENKEYS_SIZE;
    EVP_PKEY *key = EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL, seed, GENKEYS_SIZE);
    bool made = key && EVP_PKEY_get_raw_public_key(key, out, &size) == 1;
    if (!made)
        ERR_clear_error();
    EVP_PKEY_free(key);
    return made;
}

/*
 * Takes over the lowest key of a batch if it beats the one so far. OpenSSL computes each winner once more: it adds the
 * sign, and a key that this machine got wrong is never handed out.
 */
static enum genkeys_verdict judge(const struct batch *batch, uint8_t public_key[GENKEYS_SIZE],
                                  uint8_t seed[GENKEYS_SIZE])
{
    enum genkeys_verdict verdict = GENKEYS_NOTHING;
    for (size_t i = 0; i < GENKEYS_BATCH; i++) {
        uint8_t key[GENKEYS_SIZE], y[GENKEYS_SIZE];
        if (memcmp(batch->y[i], public_key, GENKEYS_SIZE) >= 0)
            continue; /* the sign can only make it higher */
        if (!public_key_of(batch->seeds[i], key))
            return GENKEYS_NO_MEMORY;
        memcpy(y, key, GENKEYS_SIZE);
        y[GENKEYS_SIZE - 1] &= 0x7f;
        if (memcmp(y, batch->y[i], GENKEYS_SIZE) != 0)
            return GENKEYS_WRONG;
        if (memcmp(key, public_key, GENKEYS_SIZE) >= 0)
            continue;
        memcpy(public_key, key, GENKEYS_SIZE);
        memcpy(seed, batch->seeds[i], GENKEYS_SIZE);
        verdict = GENKEYS_FOUND;
    }
    return verdict;
}

enum genkeys_verdict genkeys_search(uint8_t public_key[GENKEYS_SIZE], uint8_t seed[GENKEYS_SIZE], size_t batches)
{
    const struct genkeys_table *table = genkeys_get_table();
    struct batch *batch = malloc(sizeof *batch);
    enum genkeys_verdict verdict = table && batch ? GENKEYS_NOTHING : GENKEYS_NO_MEMORY;
    for (size_t i = 0; i < batches && verdict < GENKEYS_NO_MEMORY; i++) {
        if (RAND_priv_bytes(&batch->seeds[0][0], sizeof batch->seeds) != 1) {
            ERR_clear_error();
            verdict = GENKEYS_NO_RANDOM;
            break;
        }
        genkeys_get()->keys(batch->y, (const uint8_t (*)[GENKEYS_SIZE])batch->seeds, table);
        enum genkeys_verdict now = judge(batch, public_key, seed);
        if (now != GENKEYS_NOTHING)
            verdict = now;
    }
    if (batch)
        OPENSSL_cleanse(batch, sizeof *batch);
    free(batch);
    return verdict;
}
