/*
 * Salsa20 (20 rounds, 256-bit key, 8-byte nonce) and the HSalsa20 key derivation.
 *
 * The cipher is fast only when several blocks run side by side, and how many fit depends on the CPU. So there are
 * several implementations of the same two operations, and the best one the CPU can run is chosen at the first use.
 * None of them branches on, or indexes with, anything secret: only lengths and block numbers steer them.
 */
#ifndef YGGPY_SALSA20_H
#define YGGPY_SALSA20_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    SALSA20_KEY_SIZE = 32,
    SALSA20_NONCE_SIZE = 8,
    SALSA20_BLOCK_SIZE = 64,
    SALSA20_MAX_BLOCKS = 32, /* most that one call of `blocks` makes */
};

/* The input of every block of one stream; words 8 and 9, the block number, are zero here. */
struct salsa20_state {
    uint32_t word[16];
};

struct salsa20 {
    const char *name;
    bool (*available)(void); /* can this CPU run it? */

    /*
     * Writes `count` (1..SALSA20_MAX_BLOCKS) blocks of key stream from block `first` on. It may make more blocks than
     * asked for, so `out` must have room for SALSA20_MAX_BLOCKS blocks.
     */
    void (*blocks)(uint8_t *out, size_t count, const struct salsa20_state *state, uint32_t first);

    /* XORs `text` with the key stream from the start of block `first` on; touches nothing outside `text`. */
    void (*crypt)(uint8_t *text, size_t size, const struct salsa20_state *state, uint32_t first);

    /* XORs `size` bytes of `stream` into `text`. */
    void (*mix)(uint8_t *text, const uint8_t *stream, size_t size);
};

/* Prepares the stream of a key and a nonce. */
void salsa20_init(struct salsa20_state *state, const uint8_t key[SALSA20_KEY_SIZE],
                  const uint8_t nonce[SALSA20_NONCE_SIZE]);

/* Derives a key from a key and a 16-byte input. */
void hsalsa20(uint8_t out[SALSA20_KEY_SIZE], const uint8_t key[SALSA20_KEY_SIZE], const uint8_t input[16]);

/* The implementation in use. */
const struct salsa20 *salsa20_get(void);

/*
 * Forces an implementation ("avx512", "avx2", "portable"; NULL: the best one again), for tests and benchmarks. False:
 * there is none of that name or the CPU cannot run it; then nothing has changed.
 */
bool salsa20_use(const char *name);

#if defined(__x86_64__)
extern const struct salsa20 salsa20_avx512;
extern const struct salsa20 salsa20_avx2;
#endif

#endif
