/*
 * The numbers and varints of the wire protocol, as far as the packet path needs them (protocol sections 3.1 and 3.2).
 *
 * Everything here is total: any bytes give a value or a refusal, and nothing is read beyond the given size.
 */
#ifndef YGGPY_WIRE_H
#define YGGPY_WIRE_H

#include <stddef.h>
#include <stdint.h>

enum {
    KEY_SIZE = 32,
    ADDRESS_SIZE = 16,
    SUBNET_SIZE = 8,
    IPV6_HEADER_SIZE = 40,
    MAX_UVARINT_SIZE = 10,
    MAX_FRAME_SIZE = 131070,          /* type byte and payload of a frame (peerMaxMessageSize) */
    MAX_TRAFFIC_PAYLOAD = MAX_FRAME_SIZE - 77, /* a frame less the least header of Traffic (protocol section 6) */
    MAX_TUN_PACKET = 65535,
};

enum frame_type {
    FRAME_DUMMY,
    FRAME_KEEPALIVE,
    FRAME_SIG_REQ,
    FRAME_SIG_RES,
    FRAME_ANNOUNCE,
    FRAME_BLOOM_FILTER,
    FRAME_PATH_LOOKUP,
    FRAME_PATH_NOTIFY,
    FRAME_PATH_BROKEN,
    FRAME_TRAFFIC,
    FRAME_TYPES,
};

enum message_type { MESSAGE_DUMMY, MESSAGE_INIT, MESSAGE_ACK, MESSAGE_TRAFFIC };

enum inner_type { INNER_DUMMY, INNER_TRAFFIC, INNER_PROTO };

#define MAX_WATERMARK UINT64_MAX

/* Writes the shortest encoding of value to out, which has room for MAX_UVARINT_SIZE bytes; returns its size. */
static inline size_t uvarint_put(uint8_t *out, uint64_t value)
{
    size_t size = 0;
    while (value >= 0x80) {
        out[size++] = (uint8_t)(value | 0x80);
        value >>= 7;
    }
    out[size++] = (uint8_t)value;
    return size;
}

/* Returns the size of the shortest encoding. */
static inline size_t uvarint_size(uint64_t value)
{
    size_t size = 1;
    while (value >= 0x80) {
        value >>= 7;
        size++;
    }
    return size;
}

enum { UVARINT_SHORT = 0, UVARINT_OVERFLOW = -1 };

/* Reads a number from data; returns the bytes it took, UVARINT_SHORT or UVARINT_OVERFLOW (more than 64 bits). */
static inline int uvarint_get(const uint8_t *data, size_t size, uint64_t *value)
{
    if (size && data[0] < 0x80) {
        *value = data[0];
        return 1;
    }
    uint64_t number = 0;
    for (int i = 0; i < MAX_UVARINT_SIZE; i++) {
        if ((size_t)i == size)
            return UVARINT_SHORT;
        uint8_t byte = data[i];
        if (i == MAX_UVARINT_SIZE - 1 && byte > 1)
            return UVARINT_OVERFLOW;
        number |= (uint64_t)(byte & 0x7f) << (7 * i);
        if (byte < 0x80) {
            *value = number;
            return i + 1;
        }
    }
    return UVARINT_OVERFLOW;
}

#endif
