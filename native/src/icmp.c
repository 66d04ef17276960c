/* See icmp.h. */
#include "icmp.h"

#include <string.h>

#include "checksum.h"
#include "offload.h"

enum { PROTOCOL = 58, TYPE_TOO_BIG = 2, HEADER = 40, HEAD = 8, HOP_LIMIT = 255 };

size_t icmp_packet_too_big(const uint8_t *packet, size_t size, uint32_t mtu, uint8_t out[ICMP_MAX_SIZE])
{
    size_t quoted = size < ICMP_QUOTED ? size : ICMP_QUOTED;
    size_t length = HEAD + quoted;
    memset(out, 0, HEADER + HEAD);
    out[0] = 6 << 4;
    out[4] = (uint8_t)(length >> 8);
    out[5] = (uint8_t)length;
    out[6] = PROTOCOL;
    out[7] = HOP_LIMIT;
    memcpy(out + 8, packet + 24, 16);
    memcpy(out + 24, packet + 8, 16);
    uint8_t *message = out + HEADER;
    message[0] = TYPE_TOO_BIG;
    for (int i = 0; i < 4; i++)
        message[4 + i] = (uint8_t)(mtu >> (24 - 8 * i));
    memcpy(message + HEAD, packet, quoted);
    /* The sum of the pseudo header goes where the checksum will be, as a partial checksum has it. */
    put16(message + 2, checksum_pseudo(out, PROTOCOL, length));
    checksum_complete(message, length, 2);
    return HEADER + length;
}
