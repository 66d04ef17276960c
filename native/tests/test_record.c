/*
 * The record layer of TLS 1.3: the example of RFC 8448, then two halves against each other, in all suites, through
 * changes of key, with padding, and with everything that must not open.
 */
#include "check.h"
#include "record.h"

static const struct {
    uint16_t suite;
    size_t secret;
} SUITES[] = {{0x1301, 32}, {0x1302, 48}, {0x1303, 32}};

static struct record_half sealing, opening;
static uint8_t wire[RECORD_MAX_PLAIN + RECORD_OVERHEAD], out[RECORD_MAX_BODY], data[RECORD_MAX_PLAIN];

static void start(size_t suite)
{
    uint8_t secret[RECORD_MAX_SECRET];
    pattern(secret, sizeof secret, 5);
    CHECK(record_init(&sealing, SUITES[suite].suite, secret, SUITES[suite].secret, true));
    CHECK(record_init(&opening, SUITES[suite].suite, secret, SUITES[suite].secret, false));
}

static void finish(void)
{
    record_free(&sealing);
    record_free(&opening);
}

static bool open_wire(size_t size, size_t *length, enum record_type *type)
{
    CHECK(size == RECORD_HEADER + (size_t)(wire[3] << 8 | wire[4]));
    return record_open(&opening, wire, wire + RECORD_HEADER, size - RECORD_HEADER, out, length, type);
}

static void test_example(void)
{
    /* RFC 8448, section 3: application data of the client. */
    static const uint8_t secret[] = {
        0x9e, 0x40, 0x64, 0x6c, 0xe7, 0x9a, 0x7f, 0x9d, 0xc0, 0x5a, 0xf8, 0x88, 0x9b, 0xce, 0x65, 0x52,
        0x87, 0x5a, 0xfa, 0x0b, 0x06, 0xdf, 0x00, 0x87, 0xf7, 0x92, 0xeb, 0xb7, 0xc1, 0x75, 0x04, 0xa5,
    };
    static const uint8_t expected[] = {
        0x17, 0x03, 0x03, 0x00, 0x43, 0xa2, 0x3f, 0x70, 0x54, 0xb6, 0x2c, 0x94, 0xd0, 0xaf, 0xfa, 0xfe, 0x82, 0x28,
        0xba, 0x55, 0xcb, 0xef, 0xac, 0xea, 0x42, 0xf9, 0x14, 0xaa, 0x66, 0xbc, 0xab, 0x3f, 0x2b, 0x98, 0x19, 0xa8,
        0xa5, 0xb4, 0x6b, 0x39, 0x5b, 0xd5, 0x4a, 0x9a, 0x20, 0x44, 0x1e, 0x2b, 0x62, 0x97, 0x4e, 0x1f, 0x5a, 0x62,
        0x92, 0xa2, 0x97, 0x70, 0x14, 0xbd, 0x1e, 0x3d, 0xea, 0xe6, 0x3a, 0xee, 0xbb, 0x21, 0x69, 0x49, 0x15, 0xe4,
    };
    uint8_t text[50];
    for (size_t i = 0; i < sizeof text; i++)
        text[i] = (uint8_t)i;
    CHECK(record_init(&sealing, 0x1301, secret, sizeof secret, true));
    CHECK(record_seal(&sealing, RECORD_DATA, text, sizeof text, wire) == sizeof expected);
    CHECK(!memcmp(wire, expected, sizeof expected));
    record_free(&sealing);
}

static void test_there_and_back(void)
{
    static const enum record_type TYPES[] = {RECORD_DATA, RECORD_ALERT, RECORD_HANDSHAKE};
    pattern(data, sizeof data, 1);
    for (size_t suite = 0; suite < 3; suite++) {
        start(suite);
        for (size_t i = 0; i < 600; i++) {
            size_t size = i < 70 ? i : i == 599 ? RECORD_MAX_PLAIN : random_below(2000), length;
            enum record_type type;
            size_t sealed = record_seal(&sealing, TYPES[i % 3], data, size, wire);
            CHECK(sealed == size + RECORD_OVERHEAD && wire[0] == RECORD_DATA && wire[1] == 3 && wire[2] == 3);
            CHECK(open_wire(sealed, &length, &type));
            CHECK(type == TYPES[i % 3] && length == size && !memcmp(out, data, size));
            if (i % 100 == 50)
                CHECK(record_update(&sealing) && record_update(&opening) && sealing.sequence == 0);
        }
        finish();
    }
}

static void test_padding(void)
{
    /* The true type is the last byte that is not zero; a record of nothing but zeros has none. */
    start(0);
    size_t length;
    enum record_type type;
    uint8_t padded[100] = {1, 0, 2, 0, RECORD_HANDSHAKE};
    size_t sealed = record_seal(&sealing, (enum record_type)0, padded, sizeof padded, wire);
    CHECK(open_wire(sealed, &length, &type) && type == RECORD_HANDSHAKE && length == 4 && !memcmp(out, padded, 4));
    sealed = record_seal(&sealing, RECORD_DATA, padded, 0, wire);
    CHECK(open_wire(sealed, &length, &type) && type == RECORD_DATA && length == 0);
    memset(padded, 0, sizeof padded);
    sealed = record_seal(&sealing, (enum record_type)0, padded, sizeof padded, wire);
    CHECK(!open_wire(sealed, &length, &type));
    finish();
}

static void test_refused(void)
{
    size_t length;
    enum record_type type;
    pattern(data, 200, 2);
    /* Every bit of header, text and tag counts. */
    for (size_t at = 0; at < 40 + RECORD_OVERHEAD; at++) {
        start(at % 3);
        size_t sealed = record_seal(&sealing, RECORD_DATA, data, 40, wire);
        wire[at] ^= (uint8_t)(1 << at % 8);
        CHECK(!record_open(&opening, wire, wire + RECORD_HEADER, sealed - RECORD_HEADER, out, &length, &type));
        finish();
    }
    /* Too short for a tag and a type, in memory of that size. */
    for (size_t size = 0; size <= RECORD_TAG + 1; size++) {
        start(size % 3);
        uint8_t *exact = calloc(1, size + !size);
        CHECK(exact && !record_open(&opening, wire, exact, size, out, &length, &type));
        free(exact);
        finish();
    }
    /* A record twice, one left out, one of the key before. */
    start(1);
    size_t sealed = record_seal(&sealing, RECORD_DATA, data, 40, wire);
    CHECK(open_wire(sealed, &length, &type) && !open_wire(sealed, &length, &type));
    finish();
    start(2);
    record_seal(&sealing, RECORD_DATA, data, 40, wire);
    sealed = record_seal(&sealing, RECORD_DATA, data, 40, wire);
    CHECK(!open_wire(sealed, &length, &type));
    finish();
    start(0);
    CHECK(record_update(&sealing));
    sealed = record_seal(&sealing, RECORD_DATA, data, 40, wire);
    CHECK(!open_wire(sealed, &length, &type));
    finish();
}

static void test_limits(void)
{
    uint8_t secret[64] = {0};
    /* Not of TLS 1.3, or a secret that does not fit the suite. */
    CHECK(!record_init(&sealing, 0xc02f, secret, 32, true));
    CHECK(!record_init(&sealing, 0x1304, secret, 32, true));
    CHECK(!record_init(&sealing, 0x1301, secret, 48, true));
    CHECK(!record_init(&sealing, 0x1302, secret, 32, true));
    CHECK(!record_init(&sealing, 0x1301, secret, 0, true));
    start(0);
    CHECK(!record_worn(&sealing));
    sealing.sequence = ((uint64_t)1 << 24) - 1;
    CHECK(!record_worn(&sealing));
    sealing.sequence++;
    CHECK(record_worn(&sealing) && record_update(&sealing) && !record_worn(&sealing));
    /* A number of more than four bytes still makes the same nonce at both ends. */
    CHECK(record_update(&opening));
    sealing.sequence = opening.sequence = 0x0102030405060708;
    size_t length, sealed = record_seal(&sealing, RECORD_DATA, data, 10, wire);
    enum record_type type;
    CHECK(open_wire(sealed, &length, &type) && length == 10 && opening.sequence == 0x0102030405060709);
    finish();
    record_free(&sealing); /* harmless */
}

int main(void)
{
    test_example();
    test_there_and_back();
    test_padding();
    test_refused();
    test_limits();
    return 0;
}
