/* Numbers of the wire: the shortest form of every length, over-long ones, cut ones and those of more than 64 bits. */
#include "check.h"

static void test_there_and_back(void)
{
    for (int bits = 0; bits <= 64; bits++) {
        for (int near = -1; near <= 1; near++) {
            uint64_t value = (bits == 64 ? 0 : (uint64_t)1 << bits) + (uint64_t)(int64_t)near, back;
            uint8_t out[MAX_UVARINT_SIZE];
            size_t size = uvarint_put(out, value);
            CHECK(size == uvarint_size(value) && size >= 1 && size <= MAX_UVARINT_SIZE);
            CHECK(size == 1 || value >> (7 * (size - 1))); /* not one byte more than it needs */
            CHECK(uvarint_get(out, size, &back) == (int)size && back == value);
            CHECK(uvarint_get(out, sizeof out, &back) == (int)size && back == value);
            /* Cut, in memory that ends there. */
            for (size_t cut = 0; cut < size; cut++) {
                uint8_t *exact = malloc(cut + !cut);
                CHECK(exact);
                memcpy(exact, out, cut);
                CHECK(uvarint_get(exact, cut, &back) == UVARINT_SHORT);
                free(exact);
            }
            /* Longer than it needs to be: the same number, as long as it is within ten bytes. */
            for (size_t longer = size + 1; longer <= MAX_UVARINT_SIZE; longer++) {
                uint8_t wide[MAX_UVARINT_SIZE];
                memset(wide, 0x80, sizeof wide);
                memcpy(wide, out, size);
                wide[size - 1] |= 0x80;
                wide[longer - 1] = 0;
                CHECK(uvarint_get(wide, longer, &back) == (int)longer && back == value);
            }
        }
    }
}

static void test_overflow(void)
{
    uint64_t value = 77;
    uint8_t bytes[12];
    memset(bytes, 0xff, sizeof bytes);
    CHECK(uvarint_get(bytes, 9, &value) == UVARINT_SHORT);
    CHECK(uvarint_get(bytes, 10, &value) == UVARINT_OVERFLOW);
    CHECK(uvarint_get(bytes, 12, &value) == UVARINT_OVERFLOW);
    for (int last = 0; last < 256; last++) {
        bytes[9] = (uint8_t)last;
        int used = uvarint_get(bytes, 12, &value);
        CHECK(used == (last <= 1 ? 10 : UVARINT_OVERFLOW));
        if (last <= 1)
            CHECK(value == (last ? UINT64_MAX : UINT64_MAX >> 1));
    }
}

int main(void)
{
    test_there_and_back();
    test_overflow();
    return 0;
}
