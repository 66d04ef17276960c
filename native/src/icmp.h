/* The ICMPv6 answer "packet too big" (protocol section 11). */
#ifndef YGGPY_ICMP_H
#define YGGPY_ICMP_H

#include <stddef.h>
#include <stdint.h>

enum { ICMP_QUOTED = 512, ICMP_MAX_SIZE = 40 + 8 + ICMP_QUOTED };

/* Writes the answer to an IPv6 packet of at least 40 bytes: at most `mtu` bytes, please. Returns its size. */
size_t icmp_packet_too_big(const uint8_t *packet, size_t size, uint32_t mtu, uint8_t out[ICMP_MAX_SIZE]);

#endif
