/* One candidate after the other, for any CPU; and the table that all implementations share. See genkeys_lanes.h. */
#include "genkeys.h"

#include <pthread.h>
#include <stdlib.h>

#define TARGET
enum { LANES = 1, LOOSE = 1 };
typedef uint64_t word;

#include "genkeys_lanes.h"

__extension__ typedef unsigned __int128 wide;

/* Limbs may have up to 54 bits here. */
INLINE void fe_mul(fe *out, const fe *left, const fe *right)
{
    const uint64_t *a = left->limb, *b = right->limb;
    const uint64_t b1 = 19 * b[1], b2 = 19 * b[2], b3 = 19 * b[3], b4 = 19 * b[4]; /* 2^255 is 19 */
    wide r0 = (wide)a[0] * b[0] + (wide)a[1] * b4 + (wide)a[2] * b3 + (wide)a[3] * b2 + (wide)a[4] * b1;
    wide r1 = (wide)a[0] * b[1] + (wide)a[1] * b[0] + (wide)a[2] * b4 + (wide)a[3] * b3 + (wide)a[4] * b2;
    wide r2 = (wide)a[0] * b[2] + (wide)a[1] * b[1] + (wide)a[2] * b[0] + (wide)a[3] * b4 + (wide)a[4] * b3;
    wide r3 = (wide)a[0] * b[3] + (wide)a[1] * b[2] + (wide)a[2] * b[1] + (wide)a[3] * b[0] + (wide)a[4] * b4;
    wide r4 = (wide)a[0] * b[4] + (wide)a[1] * b[3] + (wide)a[2] * b[2] + (wide)a[3] * b[1] + (wide)a[4] * b[0];

    r1 += (uint64_t)(r0 >> LIMB_BITS);
    r2 += (uint64_t)(r1 >> LIMB_BITS);
    r3 += (uint64_t)(r2 >> LIMB_BITS);
    r4 += (uint64_t)(r3 >> LIMB_BITS);
    const uint64_t low = ((uint64_t)r0 & LIMB_MASK) + 19 * (uint64_t)(r4 >> LIMB_BITS);
    out->limb[0] = low & LIMB_MASK;
    out->limb[1] = ((uint64_t)r1 & LIMB_MASK) + (low >> LIMB_BITS);
    out->limb[2] = (uint64_t)r2 & LIMB_MASK;
    out->limb[3] = (uint64_t)r3 & LIMB_MASK;
    out->limb[4] = (uint64_t)r4 & LIMB_MASK;
}

INLINE void point_load(niels *out, const uint64_t (*rows)[GENKEYS_ROW], const word *size, const word *negative)
{
    const uint64_t *row = rows[*size];
    memcpy(&out->plus, row + (*negative ? 5 : 0), sizeof(fe));
    memcpy(&out->minus, row + (*negative ? 0 : 5), sizeof(fe));
    memcpy(&out->t2d, row + 10, sizeof(fe));
    if (*negative) {
        const fe zero = {{0}};
        fe_sub(&out->t2d, &zero, &out->t2d);
    }
}

static bool portable_available(void)
{
    return true;
}

const struct genkeys genkeys_portable = {.name = "portable", .available = portable_available, .keys = batch_keys};

/* ---- the table ---- */

/* The base point (RFC 8032, section 5.1) and 2d. */
static const fe base_x = {{0x62d608f25d51a, 0x412a4b4f6592a, 0x75b7171a4b31d, 0x1ff60527118fe, 0x216936d3cd6e5}};
static const fe base_y = {{0x6666666666658, 0x4cccccccccccc, 0x1999999999999, 0x3333333333333, 0x6666666666666}};
static const fe twice_d = {{0x69b9426b2f159, 0x35050762add7a, 0x3cf44c0038052, 0x6738cc7407977, 0x2406d9dc56dff}};

/* All limbs below 2^51, so that y+x and the opposite of 2dxy fit the multiplication as they are. */
static void canonical(fe *a)
{
    word packed[4];
    fe_pack(packed, a);
    a->limb[0] = packed[0] & LIMB_MASK;
    a->limb[1] = (packed[0] >> 51 | packed[1] << 13) & LIMB_MASK;
    a->limb[2] = (packed[1] >> 38 | packed[2] << 26) & LIMB_MASK;
    a->limb[3] = (packed[2] >> 25 | packed[3] << 39) & LIMB_MASK;
    a->limb[4] = packed[3] >> 12;
}

static void to_niels(niels *out, const point *p)
{
    fe inverse, x, y;
    fe_invert(&inverse, &p->z);
    fe_mul(&x, &p->x, &inverse);
    fe_mul(&y, &p->y, &inverse);
    fe_add(&out->plus, &y, &x);
    fe_sub(&out->minus, &y, &x);
    fe_mul(&out->t2d, &x, &y);
    fe_mul(&out->t2d, &out->t2d, &twice_d);
    canonical(&out->plus);
    canonical(&out->minus);
    canonical(&out->t2d);
}

static void fill(struct genkeys_table *table)
{
    point start = {.x = base_x, .y = base_y};
    fe_set(&start.z, 1);
    fe_mul(&start.t, &base_x, &base_y);
    for (int digit = 0; digit < GENKEYS_DIGITS; digit++) {
        niels one, entry;
        point sum;
        to_niels(&one, &start);
        fe_set(&sum.x, 0);
        fe_set(&sum.y, 1);
        fe_set(&sum.z, 1);
        fe_set(&sum.t, 0);
        for (int i = 0; i < GENKEYS_ENTRIES; i++) {
            uint64_t *row = table->row[digit][i];
            to_niels(&entry, &sum);
            memcpy(row, &entry.plus, sizeof(fe));
            memcpy(row + 5, &entry.minus, sizeof(fe));
            memcpy(row + 10, &entry.t2d, sizeof(fe));
            row[15] = 0;
            if (i < GENKEYS_ENTRIES - 1)
                point_add(&sum, &one, false);
        }
        point_add(&sum, &entry, false); /* 128 and 128 times the last start is the next */
        start = sum;
    }
}

static pthread_once_t table_once = PTHREAD_ONCE_INIT;
static struct genkeys_table *the_table;

static void make_table(void)
{
    the_table = aligned_alloc(64, sizeof *the_table);
    if (the_table)
        fill(the_table);
}

const struct genkeys_table *genkeys_get_table(void)
{
    pthread_once(&table_once, make_table);
    return the_table;
}
