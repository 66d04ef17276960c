/*
 * From seeds to public keys, for any number of candidates side by side.
 *
 * A file that includes this says how many (LANES), what holds a number of each (`word`: an integer or a vector of them,
 * for which C's operators do the right thing), for which CPU (TARGET), and how field elements are multiplied and table
 * entries fetched (`fe_mul`, `point_load`). All the rest is here, once: SHA-512 (FIPS 180-4) of a 32-byte message, the
 * scalar and its digits, the walk through the table, the shared inversion and the encoding (RFC 8032, section 5.1).
 *
 * A field element, modulo p = 2^255 - 19, has five limbs of 51 bits. "Narrow" ones have limbs below 2^51 + 2^15, as
 * `fe_mul` gives them. It takes limbs below 2^54 where LOOSE is 1; otherwise only below 2^52, so that sums and differences
 * are made narrow first.
 */
#include <string.h>

#include "genkeys.h"

#define INLINE TARGET static inline __attribute__((always_inline))

#define LIMB_BITS 51
#define LIMB_MASK ((UINT64_C(1) << LIMB_BITS) - 1)

enum { GROUPS = GENKEYS_BATCH / LANES };

typedef struct {
    word limb[5];
} fe;

/* A point of the table: y+x, y-x, 2dxy. */
typedef struct {
    fe plus, minus, t2d;
} niels;

/* X/Z, Y/Z and T/Z = xy of a point. */
typedef struct {
    fe x, y, z, t;
} point;

/* Given by the file that includes this. */
INLINE void fe_mul(fe *out, const fe *a, const fe *b);

/* Fetches for each lane the entry of a digit: `size` says which multiple, `negative` (0 or 1) whether of the opposite. */
INLINE void point_load(niels *out, const uint64_t (*rows)[GENKEYS_ROW], const word *size, const word *negative);

/* ---- field elements ---- */

/* Limbs of up to 2^61 become narrow. */
INLINE void fe_carry(fe *a)
{
    word carry[5];
    for (int i = 0; i < 5; i++) {
        carry[i] = a->limb[i] >> LIMB_BITS;
        a->limb[i] &= LIMB_MASK;
    }
    a->limb[0] += (carry[4] << 4) + (carry[4] << 1) + carry[4];
    for (int i = 1; i < 5; i++)
        a->limb[i] += carry[i - 1];
}

INLINE void fe_add(fe *out, const fe *a, const fe *b)
{
    for (int i = 0; i < 5; i++)
        out->limb[i] = a->limb[i] + b->limb[i];
    if (!LOOSE)
        fe_carry(out);
}

/* `b` must be narrow, so that its limbs do not exceed those of 2p. */
INLINE void fe_sub(fe *out, const fe *a, const fe *b)
{
    out->limb[0] = a->limb[0] + 2 * (LIMB_MASK - 18) - b->limb[0];
    for (int i = 1; i < 5; i++)
        out->limb[i] = a->limb[i] + 2 * LIMB_MASK - b->limb[i];
    if (!LOOSE)
        fe_carry(out);
}

INLINE void fe_set(fe *out, uint64_t value)
{
    memset(out, 0, sizeof *out);
    out->limb[0] += value;
}

/* `times` squarings. */
TARGET static void fe_square_times(fe *out, const fe *a, int times)
{
    fe_mul(out, a, a);
    while (--times > 0)
        fe_mul(out, out, out);
}

/* 1/a as a^(p-2), p-2 = 2^255 - 21: eleven multiplications and 254 squarings. */
TARGET static void fe_invert(fe *out, const fe *a)
{
    fe a2, a9, a11, e5, e10, e20, e50, e100, t; /* eN: a^(2^N - 1) */

    fe_square_times(&a2, a, 1);
    fe_square_times(&t, &a2, 2);
    fe_mul(&a9, &t, a);
    fe_mul(&a11, &a9, &a2);
    fe_square_times(&t, &a11, 1);
    fe_mul(&e5, &t, &a9);
    fe_square_times(&t, &e5, 5);
    fe_mul(&e10, &t, &e5);
    fe_square_times(&t, &e10, 10);
    fe_mul(&e20, &t, &e10);
    fe_square_times(&t, &e20, 20);
    fe_mul(&t, &t, &e20);
    fe_square_times(&t, &t, 10);
    fe_mul(&e50, &t, &e10);
    fe_square_times(&t, &e50, 50);
    fe_mul(&e100, &t, &e50);
    fe_square_times(&t, &e100, 100);
    fe_mul(&t, &t, &e100);
    fe_square_times(&t, &t, 50);
    fe_mul(&t, &t, &e50);
    fe_square_times(&t, &t, 5);
    fe_mul(out, &t, &a11);
}

/* The one form below p, in four numbers of 64 bits, lowest first. */
INLINE void fe_pack(word out[4], const fe *a)
{
    fe r = *a;
    fe_carry(&r);
    fe_carry(&r); /* now below 2p, and only the lowest limb may reach 2^51 */
    word over = (r.limb[0] + 19) >> LIMB_BITS;
    for (int i = 1; i < 5; i++)
        over = (r.limb[i] + over) >> LIMB_BITS;
    r.limb[0] += (over << 4) + (over << 1) + over; /* minus p, plus 2^255, which is cut off at the end */
    for (int i = 0; i < 4; i++) {
        r.limb[i + 1] += r.limb[i] >> LIMB_BITS;
        r.limb[i] &= LIMB_MASK;
    }
    r.limb[4] &= LIMB_MASK;
    out[0] = r.limb[0] | r.limb[1] << 51;
    out[1] = r.limb[1] >> 13 | r.limb[2] << 38;
    out[2] = r.limb[2] >> 26 | r.limb[3] << 25;
    out[3] = r.limb[3] >> 39 | r.limb[4] << 12;
}

/* ---- points ---- */

/*
 * p += q on -x^2 + y^2 = 1 + d x^2 y^2, by the formula of Hisil, Wong, Carter and Dawson, which holds for all points. The
 * last of a row of additions needs no x and no t.
 */
INLINE void point_add(point *p, const niels *q, bool last)
{
    fe a, b, c, d, e, f, g, h;

    fe_sub(&e, &p->y, &p->x);
    fe_add(&f, &p->y, &p->x);
    fe_mul(&a, &e, &q->minus);
    fe_mul(&b, &f, &q->plus);
    fe_mul(&c, &p->t, &q->t2d);
    fe_add(&d, &p->z, &p->z);
    fe_sub(&e, &b, &a);
    fe_sub(&f, &d, &c);
    fe_add(&g, &d, &c);
    fe_add(&h, &b, &a);
    fe_mul(&p->y, &g, &h);
    fe_mul(&p->z, &f, &g);
    if (last)
        return;
    fe_mul(&p->x, &e, &f);
    fe_mul(&p->t, &e, &h);
}

/* ---- scalars ---- */

static const uint64_t sha512_start[8] = {
    0x6a09e667f3bcc908, 0xbb67ae8584caa73b, 0x3c6ef372fe94f82b, 0xa54ff53a5f1d36f1, 0x510e527fade682d1,
    0x9b05688c2b3e6c1f, 0x1f83d9abfb41bd6b, 0x5be0cd19137e2179,
};

static const uint64_t sha512_round[80] = {
    0x428a2f98d728ae22, 0x7137449123ef65cd, 0xb5c0fbcfec4d3b2f, 0xe9b5dba58189dbbc, 0x3956c25bf348b538,
    0x59f111f1b605d019, 0x923f82a4af194f9b, 0xab1c5ed5da6d8118, 0xd807aa98a3030242, 0x12835b0145706fbe,
    0x243185be4ee4b28c, 0x550c7dc3d5ffb4e2, 0x72be5d74f27b896f, 0x80deb1fe3b1696b1, 0x9bdc06a725c71235,
    0xc19bf174cf692694, 0xe49b69c19ef14ad2, 0xefbe4786384f25e3, 0x0fc19dc68b8cd5b5, 0x240ca1cc77ac9c65,
    0x2de92c6f592b0275, 0x4a7484aa6ea6e483, 0x5cb0a9dcbd41fbd4, 0x76f988da831153b5, 0x983e5152ee66dfab,
    0xa831c66d2db43210, 0xb00327c898fb213f, 0xbf597fc7beef0ee4, 0xc6e00bf33da88fc2, 0xd5a79147930aa725,
    0x06ca6351e003826f, 0x142929670a0e6e70, 0x27b70a8546d22ffc, 0x2e1b21385c26c926, 0x4d2c6dfc5ac42aed,
    0x53380d139d95b3df, 0x650a73548baf63de, 0x766a0abb3c77b2a8, 0x81c2c92e47edaee6, 0x92722c851482353b,
    0xa2bfe8a14cf10364, 0xa81a664bbc423001, 0xc24b8b70d0f89791, 0xc76c51a30654be30, 0xd192e819d6ef5218,
    0xd69906245565a910, 0xf40e35855771202a, 0x106aa07032bbd1b8, 0x19a4c116b8d2d0c8, 0x1e376c085141ab53,
    0x2748774cdf8eeb99, 0x34b0bcb5e19b48a8, 0x391c0cb3c5c95a63, 0x4ed8aa4ae3418acb, 0x5b9cca4f7763e373,
    0x682e6ff3d6b2b8a3, 0x748f82ee5defb2fc, 0x78a5636f43172f60, 0x84c87814a1f0ab72, 0x8cc702081a6439ec,
    0x90befffa23631e28, 0xa4506cebde82bde9, 0xbef9a3f7b2c67915, 0xc67178f2e372532b, 0xca273eceea26619c,
    0xd186b8c721c0c207, 0xeada7dd6cde0eb1e, 0xf57d4f7fee6ed178, 0x06f067aa72176fba, 0x0a637dc5a2c898a6,
    0x113f9804bef90dae, 0x1b710b35131c471b, 0x28db77f523047d84, 0x32caab7b40c72493, 0x3c9ebe0a15c9bebc,
    0x431d67c49c100d4c, 0x4cc5d4becb3e42b6, 0x597f299cfc657e2a, 0x5fcb6fab3ad6faec, 0x6c44198c4a475817,
};

#define ROTATE(value, count) (((value) >> (count)) | ((value) << (64 - (count))))

/* The first half of SHA-512 of each lane's seed, as numbers with the first byte in the highest place. */
INLINE void hash_seed(word out[4], const word seed[4])
{
    word w[16], s[8];

    memset(w, 0, sizeof w);
    for (int i = 0; i < 4; i++)
        w[i] = seed[i];
    w[4] += UINT64_C(1) << 63;
    w[15] += 8 * GENKEYS_SIZE;
    memset(s, 0, sizeof s);
    for (int i = 0; i < 8; i++)
        s[i] += sha512_start[i];
    for (int round = 0; round < 80; round += 16) {
        for (int i = 0; i < 16; i++) {
            const word a = s[0], b = s[1], c = s[2], e = s[4], f = s[5], g = s[6];
            const word t1 = s[7] + (ROTATE(e, 14) ^ ROTATE(e, 18) ^ ROTATE(e, 41)) + (g ^ (e & (f ^ g))) +
                            sha512_round[round + i] + w[i];
            const word t2 = (ROTATE(a, 28) ^ ROTATE(a, 34) ^ ROTATE(a, 39)) + ((a & b) | (c & (a | b)));
            for (int k = 7; k > 0; k--)
                s[k] = s[k - 1];
            s[4] += t1;
            s[0] = t1 + t2;
            const word w1 = w[(i + 1) % 16], w14 = w[(i + 14) % 16];
            w[i] += (ROTATE(w1, 1) ^ ROTATE(w1, 8) ^ (w1 >> 7)) + w[(i + 9) % 16] +
                    (ROTATE(w14, 19) ^ ROTATE(w14, 61) ^ (w14 >> 6));
        }
    }
    for (int i = 0; i < 4; i++)
        out[i] = s[i] + sha512_start[i];
}

/* Clamps the scalar of a hash and splits it into digits of -128..127, the last one 64..128. */
INLINE void split_scalar(word size[GENKEYS_DIGITS], word negative[GENKEYS_DIGITS], const word hash[4])
{
    word carry = hash[0] ^ hash[0];
    for (int i = 0; i < GENKEYS_DIGITS; i++) {
        word digit = (hash[i / 8] >> (56 - 8 * (i % 8))) & 255;
        if (i == 0)
            digit &= 248;
        if (i == GENKEYS_DIGITS - 1)
            digit = (digit & 127) | 64;
        digit += carry;
        if (i < GENKEYS_DIGITS - 1) {
            carry = (digit + 128) >> 8;
            digit -= carry << 8;
        }
        negative[i] = digit >> 63;
        size[i] = (digit ^ (0 - negative[i])) + negative[i];
    }
}

/* ---- the batch ---- */

/* Multiplies the base point with each lane's scalar; gives y and z. */
TARGET static void walk(fe *y, fe *z, const uint8_t (*seeds)[GENKEYS_SIZE], const struct genkeys_table *table)
{
    word seed[4], hash[4], size[GENKEYS_DIGITS], negative[GENKEYS_DIGITS];
    for (int i = 0; i < 4; i++) {
        uint64_t lane[LANES];
        for (int k = 0; k < LANES; k++) {
            lane[k] = 0;
            for (int byte = 0; byte < 8; byte++)
                lane[k] = lane[k] << 8 | seeds[k][8 * i + byte];
        }
        memcpy(&seed[i], lane, sizeof lane);
    }
    hash_seed(hash, seed);
    split_scalar(size, negative, hash);

    niels entry;
    point p;
    fe_set(&p.x, 0);
    fe_set(&p.y, 1);
    fe_set(&p.z, 1);
    fe_set(&p.t, 0);
    for (int i = 0; i < GENKEYS_DIGITS - 1; i++) {
        point_load(&entry, table->row[i], &size[i], &negative[i]);
        point_add(&p, &entry, false);
    }
    point_load(&entry, table->row[GENKEYS_DIGITS - 1], &size[GENKEYS_DIGITS - 1], &negative[GENKEYS_DIGITS - 1]);
    point_add(&p, &entry, true);
    *y = p.y;
    *z = p.z;
}

/* See `keys` in genkeys.h. */
TARGET static void batch_keys(uint8_t (*out)[GENKEYS_SIZE], const uint8_t (*seeds)[GENKEYS_SIZE],
                              const struct genkeys_table *table)
{
    fe y[GROUPS], z[GROUPS], before[GROUPS]; /* before[i]: the product of all z before the i-th */
    fe product, inverse;

    fe_set(&product, 1);
    for (int i = 0; i < GROUPS; i++) {
        walk(&y[i], &z[i], seeds + (size_t)i * LANES, table);
        before[i] = product;
        fe_mul(&product, &product, &z[i]);
    }
    fe_invert(&inverse, &product); /* z is never 0: the formula is complete */
    for (int i = GROUPS - 1; i >= 0; i--) {
        fe own;
        word packed[4];
        fe_mul(&own, &inverse, &before[i]);
        fe_mul(&inverse, &inverse, &z[i]);
        fe_mul(&own, &own, &y[i]);
        fe_pack(packed, &own);
        for (int part = 0; part < 4; part++) {
            uint64_t lane[LANES];
            memcpy(lane, &packed[part], sizeof lane);
            for (int k = 0; k < LANES; k++)
                for (int byte = 0; byte < 8; byte++)
                    out[i * LANES + k][8 * part + byte] = (uint8_t)(lane[k] >> 8 * byte);
        }
    }
}
