/*
 * The Internet checksum (RFC 1071) of TCP and UDP over IPv6.
 *
 * A sum here is an ordinary number: the ones-complement sum of the 16-bit big-endian words, so that lengths and fields
 * are simply added to it. Sums of parts may be added when every part but the last has an even size.
 */
#ifndef YGGPY_CHECKSUM_H
#define YGGPY_CHECKSUM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Folds a sum of many 16-bit words into one; the result is 0 only if the sum is. */
static inline uint16_t checksum_fold(uint64_t sum)
{
    while (sum > 0xffff)
        sum = (sum >> 16) + (sum & 0xffff);
    return (uint16_t)sum;
}

/* Sums up to 4 GB of any alignment; an odd last byte counts as if a zero byte followed. */
uint16_t checksum_sum(const void *data, size_t size);

/* Sums the pseudo header: the addresses of an IPv6 packet, the protocol, the size of transport header and payload. */
uint16_t checksum_pseudo(const uint8_t *packet, uint8_t protocol, size_t size);

/*
 * Completes the checksum of the transport header and payload at data: the field at `offset` holds the sum of the pseudo
 * header and gets the checksum of all. Never 0, which for UDP means "none"; for TCP 0xffff says the same as 0.
 * The field must lie within size.
 */
void checksum_complete(uint8_t *data, size_t size, size_t offset);

/*
 * Whether the checksum holds of a whole IPv6 packet in which TCP or UDP directly follows the IPv6 header. A UDP field
 * of 0 is not told apart from others: it fails, as good as always.
 */
bool checksum_verify(const uint8_t *packet, size_t size);

#endif
