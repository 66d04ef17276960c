/*
 * Salsa20 for x86-64 CPUs with AVX2 or AVX-512.
 *
 * There are two ways to lay blocks out in vectors, and each has its use:
 *
 *   Sliced: vector i holds word i of 8 (AVX2) or 16 (AVX-512) blocks. The rounds need no shuffles at all and keep every
 *   unit of the CPU busy, but the blocks have to be transposed at the end and come in large lots. For bulk.
 *
 *   Rows: a vector holds one diagonal of the state of 2 or 4 blocks. A round is one long chain of dependent steps that
 *   leaves the CPU half idle, so two such sets run interleaved, but a few blocks are ready sooner. For short packets.
 *
 * The functions carry their instruction set as an attribute, so that the file compiles without special flags and the
 * choice is made on the machine where it runs.
 */
#include "salsa20.h"

#if defined(__x86_64__)

#include <immintrin.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline))
#define AVX2 __attribute__((target("avx2")))
#define AVX512 __attribute__((target("avx512f,avx512bw,avx512vl")))

/*
 * b ^= (a + d) <<< count, the only step there is. Without an instruction that rotates, it takes two shifts; these share
 * no bit, so each is XORed in by itself.
 */
#define STEP_256(b, a, d, count)                                           \
    do {                                                                   \
        const __m256i sum = _mm256_add_epi32((a), (d));                    \
        (b) = _mm256_xor_si256((b), _mm256_slli_epi32(sum, (count)));      \
        (b) = _mm256_xor_si256((b), _mm256_srli_epi32(sum, 32 - (count))); \
    } while (0)

#define STEP_512(b, a, d, count) ((b) = _mm512_xor_si512((b), _mm512_rol_epi32(_mm512_add_epi32((a), (d)), (count))))

#define QUARTER(STEP, a, b, c, d) \
    do {                          \
        STEP(b, a, d, 7);         \
        STEP(c, b, a, 9);         \
        STEP(d, c, b, 13);        \
        STEP(a, d, c, 18);        \
    } while (0)

/* Four quarter rounds step by step side by side: each waits for its own previous step, none for another. */
#define FOUR_QUARTERS(STEP, a0, b0, c0, d0, a1, b1, c1, d1, a2, b2, c2, d2, a3, b3, c3, d3)   \
    do {                                                                                      \
        STEP(b0, a0, d0, 7);  STEP(b1, a1, d1, 7);  STEP(b2, a2, d2, 7);  STEP(b3, a3, d3, 7);   \
        STEP(c0, b0, a0, 9);  STEP(c1, b1, a1, 9);  STEP(c2, b2, a2, 9);  STEP(c3, b3, a3, 9);   \
        STEP(d0, c0, b0, 13); STEP(d1, c1, b1, 13); STEP(d2, c2, b2, 13); STEP(d3, c3, b3, 13);  \
        STEP(a0, d0, c0, 18); STEP(a1, d1, c1, 18); STEP(a2, d2, c2, 18); STEP(a3, d3, c3, 18);  \
    } while (0)

#define SLICED_ROUNDS(STEP, x)                                                                              \
    do {                                                                                                    \
        for (int round = 0; round < 20; round += 2) {                                                       \
            FOUR_QUARTERS(STEP, x[0], x[4], x[8], x[12], x[5], x[9], x[13], x[1], x[10], x[14], x[2], x[6], \
                          x[15], x[3], x[7], x[11]);                                                        \
            FOUR_QUARTERS(STEP, x[0], x[1], x[2], x[3], x[5], x[6], x[7], x[4], x[10], x[11], x[8], x[9],   \
                          x[15], x[12], x[13], x[14]);                                                      \
        }                                                                                                   \
    } while (0)

/* ---- AVX2 ---- */

enum { WIDE_256 = 8 * SALSA20_BLOCK_SIZE };

/*
 * Turns four words of eight blocks into four words in a row: out[i] gets words 0..3 of block i in its lower and of block
 * i + 4 in its upper half.
 */
INLINE AVX2 void gather_256(__m256i out[4], __m256i w0, __m256i w1, __m256i w2, __m256i w3)
{
    const __m256i low01 = _mm256_unpacklo_epi32(w0, w1), high01 = _mm256_unpackhi_epi32(w0, w1);
    const __m256i low23 = _mm256_unpacklo_epi32(w2, w3), high23 = _mm256_unpackhi_epi32(w2, w3);

    out[0] = _mm256_unpacklo_epi64(low01, low23);
    out[1] = _mm256_unpackhi_epi64(low01, low23);
    out[2] = _mm256_unpacklo_epi64(high01, high23);
    out[3] = _mm256_unpackhi_epi64(high01, high23);
}

/* Writes 32 bytes of key stream, or XORs them in. */
INLINE AVX2 void put_256(uint8_t *out, __m256i stream, bool mix)
{
    if (mix)
        stream = _mm256_xor_si256(stream, _mm256_loadu_si256((const __m256i *)out));
    _mm256_storeu_si256((__m256i *)out, stream);
}

/* Eight blocks at once; `mix`: XORed into `out` rather than written. */
INLINE AVX2 void sliced_256(uint8_t *out, const struct salsa20_state *state, uint32_t first, bool mix)
{
    const __m256i numbers =
        _mm256_add_epi32(_mm256_set1_epi32((int)first), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
    __m256i x[16], quarter[4][4];

    for (int i = 0; i < 16; i++)
        x[i] = _mm256_set1_epi32((int)state->word[i]);
    x[8] = numbers;
    SLICED_ROUNDS(STEP_256, x);
    for (int i = 0; i < 16; i++)
        x[i] = _mm256_add_epi32(x[i], i == 8 ? numbers : _mm256_set1_epi32((int)state->word[i]));
    for (int i = 0; i < 4; i++)
        gather_256(quarter[i], x[4 * i], x[4 * i + 1], x[4 * i + 2], x[4 * i + 3]);
    for (int i = 0; i < 4; i++) {
        uint8_t *lower = out + i * SALSA20_BLOCK_SIZE, *upper = lower + 4 * SALSA20_BLOCK_SIZE;

        put_256(lower, _mm256_permute2x128_si256(quarter[0][i], quarter[1][i], 0x20), mix);
        put_256(lower + 32, _mm256_permute2x128_si256(quarter[2][i], quarter[3][i], 0x20), mix);
        put_256(upper, _mm256_permute2x128_si256(quarter[0][i], quarter[1][i], 0x31), mix);
        put_256(upper + 32, _mm256_permute2x128_si256(quarter[2][i], quarter[3][i], 0x31), mix);
    }
}

/*
 * Between the rows of a state and its diagonals. Given rows 0, 1, 2, 3 it returns the diagonals that start in rows 0, 1,
 * 2, 3; given diagonals 0, 3, 2, 1 it returns rows 0, 3, 2, 1.
 */
INLINE AVX2 void weave_256(__m256i v[4])
{
    const __m256i even01 = _mm256_blend_epi32(v[0], v[1], 0xaa), even12 = _mm256_blend_epi32(v[1], v[2], 0xaa);
    const __m256i even23 = _mm256_blend_epi32(v[2], v[3], 0xaa), even30 = _mm256_blend_epi32(v[3], v[0], 0xaa);

    v[0] = _mm256_blend_epi32(even01, even23, 0xcc);
    v[1] = _mm256_blend_epi32(even12, even30, 0xcc);
    v[2] = _mm256_blend_epi32(even23, even01, 0xcc);
    v[3] = _mm256_blend_epi32(even30, even12, 0xcc);
}

/* Writes four blocks of key stream, made as two sets of two. */
INLINE AVX2 void rows_256(uint8_t *out, const struct salsa20_state *state, uint32_t first)
{
    __m256i start[2][4], x[2][4], end[4];

    for (int set = 0; set < 2; set++) {
        const int number = (int)(first + 2 * (uint32_t)set);

        for (int i = 0; i < 4; i++)
            start[set][i] = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)&state->word[4 * i]));
        start[set][2] = _mm256_add_epi32(start[set][2], _mm256_setr_epi32(number, 0, 0, 0, number + 1, 0, 0, 0));
        memcpy(x[set], start[set], sizeof(x[set]));
        weave_256(x[set]);
    }
    for (int round = 0; round < 20; round++) {
        QUARTER(STEP_256, x[0][0], x[0][1], x[0][2], x[0][3]);
        QUARTER(STEP_256, x[1][0], x[1][1], x[1][2], x[1][3]);
        for (int set = 0; set < 2; set++) {
            /* Columns and rows change places; the same exchange leads back. */
            const __m256i second = x[set][1];

            x[set][1] = _mm256_shuffle_epi32(x[set][3], 0x39);
            x[set][2] = _mm256_shuffle_epi32(x[set][2], 0x4e);
            x[set][3] = _mm256_shuffle_epi32(second, 0x93);
        }
    }
    for (int set = 0; set < 2; set++) {
        uint8_t *block = out + 2 * set * SALSA20_BLOCK_SIZE;

        end[0] = x[set][0];
        end[1] = x[set][3];
        end[2] = x[set][2];
        end[3] = x[set][1];
        weave_256(end);
        for (int i = 0; i < 4; i++)
            end[i] = _mm256_add_epi32(end[i], start[set][(4 - i) % 4]);
        put_256(block, _mm256_permute2x128_si256(end[0], end[3], 0x20), false);
        put_256(block + 32, _mm256_permute2x128_si256(end[2], end[1], 0x20), false);
        put_256(block + 64, _mm256_permute2x128_si256(end[0], end[3], 0x31), false);
        put_256(block + 96, _mm256_permute2x128_si256(end[2], end[1], 0x31), false);
    }
}

static AVX2 void avx2_blocks(uint8_t *out, size_t count, const struct salsa20_state *state, uint32_t first)
{
    size_t done = 0;

    while (done < count) {
        if (count - done > 4) {
            sliced_256(out + done * SALSA20_BLOCK_SIZE, state, first + (uint32_t)done, false);
            done += 8;
        } else {
            rows_256(out + done * SALSA20_BLOCK_SIZE, state, first + (uint32_t)done);
            done += 4;
        }
    }
}

static AVX2 void avx2_mix(uint8_t *text, const uint8_t *stream, size_t size)
{
    size_t done = 0;

    for (; size - done >= 32; done += 32)
        put_256(text + done, _mm256_loadu_si256((const __m256i *)(stream + done)), true);
    if (size - done >= 16) {
        const __m128i part = _mm_loadu_si128((const __m128i *)(stream + done));

        _mm_storeu_si128((__m128i *)(text + done),
                         _mm_xor_si128(part, _mm_loadu_si128((const __m128i *)(text + done))));
        done += 16;
    }
    for (; done < size; done++)
        text[done] ^= stream[done];
}

static AVX2 void avx2_crypt(uint8_t *text, size_t size, const struct salsa20_state *state, uint32_t first)
{
    _Alignas(32) uint8_t stream[WIDE_256];

    for (; size >= WIDE_256; size -= WIDE_256, text += WIDE_256, first += 8)
        sliced_256(text, state, first, true);
    if (size > 0) {
        avx2_blocks(stream, (size + SALSA20_BLOCK_SIZE - 1) / SALSA20_BLOCK_SIZE, state, first);
        avx2_mix(text, stream, size);
        explicit_bzero(stream, sizeof(stream));
    }
}

static bool avx2_available(void)
{
    return __builtin_cpu_supports("avx2");
}

const struct salsa20 salsa20_avx2 = {
    .name = "avx2",
    .available = avx2_available,
    .blocks = avx2_blocks,
    .crypt = avx2_crypt,
    .mix = avx2_mix,
};

/* ---- AVX-512 ---- */

enum { WIDE_512 = 16 * SALSA20_BLOCK_SIZE };

INLINE AVX512 void put_512(uint8_t *out, __m512i stream, bool mix)
{
    if (mix)
        stream = _mm512_xor_si512(stream, _mm512_loadu_si512(out));
    _mm512_storeu_si512(out, stream);
}

/* As gather_256, of 16 blocks: out[i] gets words 0..3 of the blocks i, i + 4, i + 8, i + 12. */
INLINE AVX512 void gather_512(__m512i out[4], __m512i w0, __m512i w1, __m512i w2, __m512i w3)
{
    const __m512i low01 = _mm512_unpacklo_epi32(w0, w1), high01 = _mm512_unpackhi_epi32(w0, w1);
    const __m512i low23 = _mm512_unpacklo_epi32(w2, w3), high23 = _mm512_unpackhi_epi32(w2, w3);

    out[0] = _mm512_unpacklo_epi64(low01, low23);
    out[1] = _mm512_unpackhi_epi64(low01, low23);
    out[2] = _mm512_unpacklo_epi64(high01, high23);
    out[3] = _mm512_unpackhi_epi64(high01, high23);
}

/*
 * Writes four blocks, `distance` blocks apart: vector i has words 4i..4i+3 of all of them, one block after the other.
 */
INLINE AVX512 void put_four_512(uint8_t *out, size_t distance, __m512i v0, __m512i v1, __m512i v2, __m512i v3, bool mix)
{
    const __m512i low01 = _mm512_shuffle_i32x4(v0, v1, 0x44), high01 = _mm512_shuffle_i32x4(v0, v1, 0xee);
    const __m512i low23 = _mm512_shuffle_i32x4(v2, v3, 0x44), high23 = _mm512_shuffle_i32x4(v2, v3, 0xee);

    distance *= SALSA20_BLOCK_SIZE;
    put_512(out, _mm512_shuffle_i32x4(low01, low23, 0x88), mix);
    put_512(out + distance, _mm512_shuffle_i32x4(low01, low23, 0xdd), mix);
    put_512(out + 2 * distance, _mm512_shuffle_i32x4(high01, high23, 0x88), mix);
    put_512(out + 3 * distance, _mm512_shuffle_i32x4(high01, high23, 0xdd), mix);
}

/* Sixteen blocks at once; `mix`: XORed into `out` rather than written. */
INLINE AVX512 void sliced_512(uint8_t *out, const struct salsa20_state *state, uint32_t first, bool mix)
{
    const __m512i numbers = _mm512_add_epi32(
        _mm512_set1_epi32((int)first), _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15));
    __m512i x[16], quarter[4][4];

    for (int i = 0; i < 16; i++)
        x[i] = _mm512_set1_epi32((int)state->word[i]);
    x[8] = numbers;
    SLICED_ROUNDS(STEP_512, x);
    for (int i = 0; i < 16; i++)
        x[i] = _mm512_add_epi32(x[i], i == 8 ? numbers : _mm512_set1_epi32((int)state->word[i]));
    for (int i = 0; i < 4; i++)
        gather_512(quarter[i], x[4 * i], x[4 * i + 1], x[4 * i + 2], x[4 * i + 3]);
    for (int i = 0; i < 4; i++)
        put_four_512(out + i * SALSA20_BLOCK_SIZE, 4, quarter[0][i], quarter[1][i], quarter[2][i], quarter[3][i], mix);
}

/* As weave_256. */
INLINE AVX512 void weave_512(__m512i v[4])
{
    const __m512i even01 = _mm512_mask_blend_epi32(0xaaaa, v[0], v[1]);
    const __m512i even12 = _mm512_mask_blend_epi32(0xaaaa, v[1], v[2]);
    const __m512i even23 = _mm512_mask_blend_epi32(0xaaaa, v[2], v[3]);
    const __m512i even30 = _mm512_mask_blend_epi32(0xaaaa, v[3], v[0]);

    v[0] = _mm512_mask_blend_epi32(0xcccc, even01, even23);
    v[1] = _mm512_mask_blend_epi32(0xcccc, even12, even30);
    v[2] = _mm512_mask_blend_epi32(0xcccc, even23, even01);
    v[3] = _mm512_mask_blend_epi32(0xcccc, even30, even12);
}

/* Writes 4 blocks of key stream for each of `sets` (1 or 2) sets. */
INLINE AVX512 void rows_512(uint8_t *out, const struct salsa20_state *state, uint32_t first, const int sets)
{
    __m512i start[2][4], x[2][4], end[4];

    for (int set = 0; set < sets; set++) {
        const int number = (int)(first + 4 * (uint32_t)set);

        for (int i = 0; i < 4; i++)
            start[set][i] = _mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)&state->word[4 * i]));
        start[set][2] = _mm512_add_epi32(start[set][2],
                                         _mm512_maskz_add_epi32(0x1111, _mm512_set1_epi32(number),
                                                                _mm512_setr_epi32(0, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0,
                                                                                  3, 0, 0, 0)));
        memcpy(x[set], start[set], sizeof(x[set]));
        weave_512(x[set]);
    }
    for (int round = 0; round < 20; round++) {
        for (int set = 0; set < sets; set++)
            QUARTER(STEP_512, x[set][0], x[set][1], x[set][2], x[set][3]);
        for (int set = 0; set < sets; set++) {
            /* Columns and rows change places; the same exchange leads back. */
            const __m512i second = x[set][1];

            x[set][1] = _mm512_shuffle_epi32(x[set][3], 0x39);
            x[set][2] = _mm512_shuffle_epi32(x[set][2], 0x4e);
            x[set][3] = _mm512_shuffle_epi32(second, 0x93);
        }
    }
    for (int set = 0; set < sets; set++) {
        end[0] = x[set][0];
        end[1] = x[set][3];
        end[2] = x[set][2];
        end[3] = x[set][1];
        weave_512(end);
        for (int i = 0; i < 4; i++)
            end[i] = _mm512_add_epi32(end[i], start[set][(4 - i) % 4]);
        put_four_512(out + 4 * set * SALSA20_BLOCK_SIZE, 1, end[0], end[3], end[2], end[1], false);
    }
}

static AVX512 void avx512_blocks(uint8_t *out, size_t count, const struct salsa20_state *state, uint32_t first)
{
    size_t done = 0;

    while (done < count) {
        uint8_t *next = out + done * SALSA20_BLOCK_SIZE;

        if (count - done > 8) {
            sliced_512(next, state, first + (uint32_t)done, false);
            done += 16;
        } else if (count - done > 4) {
            rows_512(next, state, first + (uint32_t)done, 2);
            done += 8;
        } else {
            rows_512(next, state, first + (uint32_t)done, 1);
            done += 4;
        }
    }
}

static AVX512 void avx512_mix(uint8_t *text, const uint8_t *stream, size_t size)
{
    size_t done = 0;

    for (; size - done >= 64; done += 64)
        put_512(text + done, _mm512_loadu_si512(stream + done), true);
    if (done < size) {
        const __mmask64 rest = ~(__mmask64)0 >> (64 - (size - done));
        const __m512i part = _mm512_maskz_loadu_epi8(rest, stream + done);

        _mm512_mask_storeu_epi8(text + done, rest,
                                _mm512_xor_si512(part, _mm512_maskz_loadu_epi8(rest, text + done)));
    }
}

static AVX512 void avx512_crypt(uint8_t *text, size_t size, const struct salsa20_state *state, uint32_t first)
{
    _Alignas(64) uint8_t stream[WIDE_512];

    for (; size >= WIDE_512; size -= WIDE_512, text += WIDE_512, first += 16)
        sliced_512(text, state, first, true);
    if (size > 0) {
        avx512_blocks(stream, (size + SALSA20_BLOCK_SIZE - 1) / SALSA20_BLOCK_SIZE, state, first);
        avx512_mix(text, stream, size);
        explicit_bzero(stream, sizeof(stream));
    }
}

static bool avx512_available(void)
{
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl");
}

const struct salsa20 salsa20_avx512 = {
    .name = "avx512",
    .available = avx512_available,
    .blocks = avx512_blocks,
    .crypt = avx512_crypt,
    .mix = avx512_mix,
};

#endif
