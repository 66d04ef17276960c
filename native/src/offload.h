/*
 * What segment.c and coalesce.c share: the fields of IPv6, TCP and UDP they touch, and numbers in network byte order.
 *
 * A TUN opened with IFF_VNET_HDR puts a struct virtio_net_hdr, in the byte order of the machine, before every packet.
 * With it the kernel hands us up to 64 KB of one TCP or UDP flow at once, with one IPv6 header and a checksum that is
 * only begun, and takes the like from us: one system call and one walk through its stack instead of fifty. What goes
 * over the mesh are ordinary packets still, so we cut (segment.c) what we read and join (coalesce.c) what we write.
 */
#ifndef YGGPY_OFFLOAD_H
#define YGGPY_OFFLOAD_H

#include <linux/virtio_net.h>
#include <stdint.h>

#include "wire.h"

#ifndef VIRTIO_NET_HDR_GSO_UDP_L4
#define VIRTIO_NET_HDR_GSO_UDP_L4 5 /* Linux 6.2; headers may be older than the kernel */
#endif

_Static_assert(sizeof(struct virtio_net_hdr) == 10, "the TUN expects ten bytes before a packet");

enum {
    IPV6_PAYLOAD_SIZE = 4, /* offsets in the IPv6 header */
    IPV6_NEXT_HEADER = 6,
    IPV6_HOP_LIMIT = 7,
    IPV6_ADDRESSES = 8, /* source, then destination */

    PROTOCOL_TCP = 6,
    PROTOCOL_UDP = 17,
    PORTS_SIZE = 4, /* both protocols begin with source and destination port */

    TCP_SEQUENCE = 4, /* offsets in the TCP header */
    TCP_ACK_NUMBER = 8,
    TCP_FLAGS = 12, /* 16 bits: header size in words (4), reserved (4), flags (8) */
    TCP_WINDOW = 14,
    TCP_CHECKSUM = 16,
    TCP_URGENT = 18,
    TCP_HEADER_SIZE = 20, /* without options */

    TCP_FIN = 0x001,
    TCP_PSH = 0x008,
    TCP_ACK = 0x010,
    TCP_CWR = 0x080,
    TCP_ALL_FLAGS = 0xfff, /* with the reserved ones */

    UDP_SIZE = 4, /* offsets in the UDP header */
    UDP_CHECKSUM = 6,
    UDP_HEADER_SIZE = 8,
};

static inline uint16_t get16(const uint8_t *data)
{
    return (uint16_t)(data[0] << 8 | data[1]);
}

static inline void put16(uint8_t *data, size_t value)
{
    data[0] = (uint8_t)(value >> 8);
    data[1] = (uint8_t)value;
}

static inline uint32_t get32(const uint8_t *data)
{
    return (uint32_t)get16(data) << 16 | get16(data + 2);
}

static inline void put32(uint8_t *data, uint32_t value)
{
    put16(data, value >> 16);
    put16(data + 2, value & 0xffff);
}

#endif
