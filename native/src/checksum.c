/*
 * See checksum.h.
 *
 * The sum does not depend on the byte order in which the words are read (RFC 1071, section 2), so memory is added in
 * the order of the machine, eight bytes at a time, and only the folded result is turned. Four sums with end-around
 * carry run side by side, which keeps the adders of any 64-bit machine busy; that is several times faster than the
 * cipher every byte passes as well, so there is nothing to win with vector instructions.
 */
#include "checksum.h"

#include <endian.h>
#include <string.h>

#include "offload.h"

static inline uint64_t load(const uint8_t *data)
{
    uint64_t word;
    memcpy(&word, data, sizeof word);
    return word;
}

static inline uint64_t add(uint64_t sum, uint64_t word)
{
    sum += word;
    return sum + (sum < word);
}

uint16_t checksum_sum(const void *data, size_t size)
{
    const uint8_t *at = data;
    uint64_t a = 0, b = 0, c = 0, d = 0;
    for (; size >= 32; size -= 32, at += 32) {
        a = add(a, load(at));
        b = add(b, load(at + 8));
        c = add(c, load(at + 16));
        d = add(d, load(at + 24));
    }
    for (; size >= 8; size -= 8, at += 8)
        a = add(a, load(at));
    if (size) {
        uint64_t rest = 0;
        memcpy(&rest, at, size);
        b = add(b, rest);
    }
    return be16toh(checksum_fold(add(add(a, b), add(c, d))));
}

uint16_t checksum_pseudo(const uint8_t *packet, uint8_t protocol, size_t size)
{
    return checksum_fold((uint64_t)checksum_sum(packet + IPV6_ADDRESSES, 2 * ADDRESS_SIZE) + protocol + size);
}

void checksum_complete(uint8_t *data, size_t size, size_t offset)
{
    uint16_t checksum = (uint16_t)~checksum_sum(data, size);
    put16(data + offset, checksum ? checksum : 0xffff);
}

bool checksum_verify(const uint8_t *packet, size_t size)
{
    size_t rest = size - IPV6_HEADER_SIZE;
    uint64_t sum = checksum_pseudo(packet, packet[IPV6_NEXT_HEADER], rest);
    return checksum_fold(sum + checksum_sum(packet + IPV6_HEADER_SIZE, rest)) == 0xffff;
}
