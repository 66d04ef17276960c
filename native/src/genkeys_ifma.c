/*
 * Eight candidates side by side, for CPUs with AVX-512 and its 52-bit multiplication. See genkeys_lanes.h.
 *
 * The functions carry their instruction set as an attribute, so that the file compiles without special flags and the
 * choice is made on the machine where it runs.
 */
#include "genkeys.h"

#if defined(__x86_64__)

#include <immintrin.h>

#define TARGET __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512ifma")))
enum { LANES = 8, LOOSE = 0 };
typedef uint64_t word __attribute__((vector_size(LANES * sizeof(uint64_t))));

#include "genkeys_lanes.h"

/*
 * The instructions give the lower or the upper 52 bits of a product. An upper half counts 2^52, which is twice what the
 * next limb counts, hence the doubling before the lower halves are added. Limbs must be below 2^52; each sum is below
 * 15 * 2^52, and after 2^255 is replaced by 19, below 2^61.
 */
INLINE void fe_mul(fe *out, const fe *left, const fe *right)
{
    __m512i sum[10], a[5], b[5];

    for (int i = 0; i < 5; i++) {
        a[i] = (__m512i)left->limb[i];
        b[i] = (__m512i)right->limb[i];
    }
    for (int i = 0; i < 10; i++)
        sum[i] = _mm512_setzero_si512();
#pragma GCC unroll 5
    for (int i = 0; i < 5; i++)
#pragma GCC unroll 5
        for (int j = 0; j < 5; j++)
            sum[i + j + 1] = _mm512_madd52hi_epu64(sum[i + j + 1], a[i], b[j]);
#pragma GCC unroll 10
    for (int i = 1; i < 10; i++)
        sum[i] = _mm512_add_epi64(sum[i], sum[i]);
#pragma GCC unroll 5
    for (int i = 0; i < 5; i++)
#pragma GCC unroll 5
        for (int j = 0; j < 5; j++)
            sum[i + j] = _mm512_madd52lo_epu64(sum[i + j], a[i], b[j]);
    for (int i = 0; i < 5; i++) {
        const word high = (word)sum[i + 5];
        out->limb[i] = (word)sum[i] + (high << 4) + (high << 1) + high;
    }
    fe_carry(out);
}

/* Turns eight rows of eight numbers into eight columns. */
INLINE void transpose(__m512i r[8])
{
    __m512i s[8];
    for (int i = 0; i < 8; i += 2) {
        s[i] = _mm512_unpacklo_epi64(r[i], r[i + 1]);
        s[i + 1] = _mm512_unpackhi_epi64(r[i], r[i + 1]);
    }
    for (int i = 0; i < 2; i++) {
        const __m512i even0 = _mm512_shuffle_i64x2(s[i], s[i + 2], 0x88);
        const __m512i odd0 = _mm512_shuffle_i64x2(s[i], s[i + 2], 0xdd);
        const __m512i even1 = _mm512_shuffle_i64x2(s[i + 4], s[i + 6], 0x88);
        const __m512i odd1 = _mm512_shuffle_i64x2(s[i + 4], s[i + 6], 0xdd);
        r[i] = _mm512_shuffle_i64x2(even0, even1, 0x88);
        r[i + 4] = _mm512_shuffle_i64x2(even0, even1, 0xdd);
        r[i + 2] = _mm512_shuffle_i64x2(odd0, odd1, 0x88);
        r[i + 6] = _mm512_shuffle_i64x2(odd0, odd1, 0xdd);
    }
}

INLINE void point_load(niels *out, const uint64_t (*rows)[GENKEYS_ROW], const word *size, const word *negative)
{
    uint64_t index[LANES];
    __m512i first[8], second[8];
    memcpy(index, size, sizeof index);
    for (int i = 0; i < LANES; i++) {
        first[i] = _mm512_load_si512(rows[index[i]]);
        second[i] = _mm512_load_si512(rows[index[i]] + 8);
    }
    transpose(first);
    transpose(second);
    const __m512i column[15] = {first[0],  first[1],  first[2],  first[3],  first[4],  first[5],  first[6], first[7],
                                second[0], second[1], second[2], second[3], second[4], second[5], second[6]};
    const __mmask8 swap = _mm512_test_epi64_mask((__m512i)*negative, (__m512i)*negative);
    for (int i = 0; i < 5; i++) {
        const __m512i twice_p = _mm512_set1_epi64((long long)(2 * (i ? LIMB_MASK : LIMB_MASK - 18)));
        out->plus.limb[i] = (word)_mm512_mask_blend_epi64(swap, column[i], column[i + 5]);
        out->minus.limb[i] = (word)_mm512_mask_blend_epi64(swap, column[i + 5], column[i]);
        out->t2d.limb[i] = (word)_mm512_mask_sub_epi64(column[i + 10], swap, twice_p, column[i + 10]);
    }
}

static bool ifma_available(void)
{
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512ifma");
}

const struct genkeys genkeys_ifma = {.name = "ifma", .available = ifma_available, .keys = batch_keys};

#endif
