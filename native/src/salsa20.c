/*
 * The portable Salsa20, the HSalsa20 key derivation and the choice between the implementations.
 *
 * The portable code runs four blocks side by side, one in each lane of a 128-bit vector of the compiler's own vector
 * type. The compiler makes SSE2, NEON or plain code of it, whatever the CPU has; the same source serves as the
 * reference that the others are tested against.
 */
#include "salsa20.h"

#include <stdatomic.h>
#include <string.h>

enum { LANES = 4, WIDE_SIZE = LANES * SALSA20_BLOCK_SIZE };

typedef uint32_t lanes __attribute__((vector_size(LANES * sizeof(uint32_t))));

/* "expand 32-byte k": the constants on the diagonal of the state. */
static const uint32_t sigma[4] = {0x61707865, 0x3320646e, 0x79622d32, 0x6b206574};

#define ROTATE(value, count) (((value) << (count)) | ((value) >> (32 - (count))))

#define QUARTER(a, b, c, d)       \
    do {                          \
        (b) ^= ROTATE((a) + (d), 7);  \
        (c) ^= ROTATE((b) + (a), 9);  \
        (d) ^= ROTATE((c) + (b), 13); \
        (a) ^= ROTATE((d) + (c), 18); \
    } while (0)

/* Works on words as on vectors of words, hence a macro. */
#define TWENTY_ROUNDS(x)                              \
    do {                                              \
        for (int round = 0; round < 20; round += 2) { \
            QUARTER(x[0], x[4], x[8], x[12]);         \
            QUARTER(x[5], x[9], x[13], x[1]);         \
            QUARTER(x[10], x[14], x[2], x[6]);        \
            QUARTER(x[15], x[3], x[7], x[11]);        \
            QUARTER(x[0], x[1], x[2], x[3]);          \
            QUARTER(x[5], x[6], x[7], x[4]);          \
            QUARTER(x[10], x[11], x[8], x[9]);        \
            QUARTER(x[15], x[12], x[13], x[14]);      \
        }                                             \
    } while (0)

static uint32_t load32(const uint8_t *bytes)
{
    return (uint32_t)bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16 | (uint32_t)bytes[3] << 24;
}

static void store32(uint8_t *bytes, uint32_t value)
{
    bytes[0] = (uint8_t)value;
    bytes[1] = (uint8_t)(value >> 8);
    bytes[2] = (uint8_t)(value >> 16);
    bytes[3] = (uint8_t)(value >> 24);
}

/* The state with everything but the words 6 to 9, which differ between the cipher and the key derivation. */
static void load_key(uint32_t word[16], const uint8_t key[SALSA20_KEY_SIZE])
{
    for (int i = 0; i < 4; i++) {
        word[5 * i] = sigma[i];
        word[1 + i] = load32(key + 4 * i);
        word[11 + i] = load32(key + 16 + 4 * i);
    }
}

void salsa20_init(struct salsa20_state *state, const uint8_t key[SALSA20_KEY_SIZE],
                  const uint8_t nonce[SALSA20_NONCE_SIZE])
{
    load_key(state->word, key);
    state->word[6] = load32(nonce);
    state->word[7] = load32(nonce + 4);
    state->word[8] = 0;
    state->word[9] = 0;
}

void hsalsa20(uint8_t out[SALSA20_KEY_SIZE], const uint8_t key[SALSA20_KEY_SIZE], const uint8_t input[16])
{
    uint32_t x[16];

    load_key(x, key);
    for (int i = 0; i < 4; i++)
        x[6 + i] = load32(input + 4 * i);
    TWENTY_ROUNDS(x);
    for (int i = 0; i < 4; i++) {
        store32(out + 4 * i, x[5 * i]);
        store32(out + 16 + 4 * i, x[6 + i]);
    }
}

/* Makes the key stream of four blocks. */
static void portable_wide(uint8_t out[WIDE_SIZE], const struct salsa20_state *state, uint32_t first)
{
    const lanes count_up = {0, 1, 2, 3};
    lanes start[16], x[16];

    for (int i = 0; i < 16; i++)
        start[i] = (lanes){0} + state->word[i];
    start[8] = count_up + first;
    memcpy(x, start, sizeof(x));
    TWENTY_ROUNDS(x);
    for (int i = 0; i < 16; i++) {
        const lanes word = x[i] + start[i];

        for (int lane = 0; lane < LANES; lane++)
            store32(out + lane * SALSA20_BLOCK_SIZE + 4 * i, word[lane]);
    }
}

static void portable_blocks(uint8_t *out, size_t count, const struct salsa20_state *state, uint32_t first)
{
    for (size_t done = 0; done < count; done += LANES)
        portable_wide(out + done * SALSA20_BLOCK_SIZE, state, first + (uint32_t)done);
}

static void portable_mix(uint8_t *text, const uint8_t *stream, size_t size)
{
    for (size_t i = 0; i < size; i++)
        text[i] ^= stream[i];
}

static void portable_crypt(uint8_t *text, size_t size, const struct salsa20_state *state, uint32_t first)
{
    uint8_t stream[WIDE_SIZE];

    while (size > 0) {
        const size_t part = size < WIDE_SIZE ? size : WIDE_SIZE;

        portable_wide(stream, state, first);
        portable_mix(text, stream, part);
        text += part;
        size -= part;
        first += LANES;
    }
}

static bool portable_available(void)
{
    return true;
}

static const struct salsa20 salsa20_portable = {
    .name = "portable",
    .available = portable_available,
    .blocks = portable_blocks,
    .crypt = portable_crypt,
    .mix = portable_mix,
};

/* The best one first. */
static const struct salsa20 *const implementations[] = {
#if defined(__x86_64__)
    &salsa20_avx512,
    &salsa20_avx2,
#endif
    &salsa20_portable,
};

enum { IMPLEMENTATIONS = sizeof(implementations) / sizeof(implementations[0]) };

/* Threads that meet here at their first packet all come to the same choice, so no order between them is needed. */
static _Atomic(const struct salsa20 *) chosen;

bool salsa20_use(const char *name)
{
    for (size_t i = 0; i < IMPLEMENTATIONS; i++) {
        const struct salsa20 *candidate = implementations[i];

        if ((name == NULL || strcmp(name, candidate->name) == 0) && candidate->available()) {
            atomic_store_explicit(&chosen, candidate, memory_order_relaxed);
            return true;
        }
    }
    return false;
}

const struct salsa20 *salsa20_get(void)
{
    const struct salsa20 *found = atomic_load_explicit(&chosen, memory_order_relaxed);

    if (found == NULL) {
        salsa20_use(NULL); /* never fails: the portable one is always there */
        found = atomic_load_explicit(&chosen, memory_order_relaxed);
    }
    return found;
}
