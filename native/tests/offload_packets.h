/*
 * What the tests of segment.c and coalesce.c share: packets made from a description, and a second opinion on checksums
 * and on how a joined packet is to be cut. All of it is written the slow and obvious way, and nothing is taken from the
 * code under test but its constants.
 */
#ifndef YGGPY_OFFLOAD_PACKETS_H
#define YGGPY_OFFLOAD_PACKETS_H

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "offload.h"

#define CHECK(condition)                                                                                              \
    do {                                                                                                              \
        if (!(condition)) {                                                                                           \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);                                           \
            exit(1);                                                                                                  \
        }                                                                                                             \
    } while (0)

struct description {
    uint8_t protocol;
    size_t extension; /* bytes of destination options before the transport header, a multiple of 8 */
    size_t options;   /* bytes of TCP options, a multiple of 4 */
    size_t payload;
    uint16_t flags; /* of TCP */
    uint16_t window;
    uint32_t sequence; /* for UDP: where its payload begins in the stream */
    uint32_t ack;
    uint16_t source_port, dest_port;
    uint8_t source, dest;  /* last bytes of the addresses */
    uint32_t first_word;   /* of IPv6, below the version: traffic class and flow label */
    uint8_t hop_limit;
    uint8_t options_value; /* their bytes */
};

static const struct description TCP_PACKET = {
    .protocol = PROTOCOL_TCP, .options = 12, .payload = 1000, .flags = TCP_ACK, .window = 500, .sequence = 4000000,
    .ack = 77, .source_port = 1000, .dest_port = 2000, .source = 1, .dest = 2, .first_word = 0x12345, .hop_limit = 64,
    .options_value = 1,
};

static const struct description UDP_PACKET = {
    .protocol = PROTOCOL_UDP, .payload = 1000, .source_port = 1000, .dest_port = 2000, .source = 1, .dest = 2,
    .first_word = 0x12345, .hop_limit = 64,
};

static inline uint16_t slow_sum(const uint8_t *data, size_t size)
{
    uint32_t sum = 0;
    for (size_t i = 0; i < size; i++) {
        sum += i % 2 ? data[i] : (uint32_t)data[i] << 8;
        if (sum > 0xffff)
            sum -= 0xffff;
    }
    return (uint16_t)sum;
}

static inline uint16_t slow_pseudo(const uint8_t *packet, uint8_t protocol, size_t size)
{
    uint8_t pseudo[40] = {0};
    memcpy(pseudo, packet + 8, 32);
    pseudo[33] = (uint8_t)(size >> 16);
    pseudo[34] = (uint8_t)(size >> 8);
    pseudo[35] = (uint8_t)size;
    pseudo[39] = protocol;
    return slow_sum(pseudo, sizeof pseudo);
}

static inline uint16_t slow_total(const uint8_t *packet, size_t size, size_t transport, uint8_t protocol)
{
    uint32_t sum = slow_pseudo(packet, protocol, size - transport);
    sum += slow_sum(packet + transport, size - transport);
    return (uint16_t)(sum > 0xffff ? sum - 0xffff : sum);
}

static inline bool slow_verify(const uint8_t *packet, size_t size, size_t transport, uint8_t protocol)
{
    return slow_total(packet, size, transport, protocol) == 0xffff;
}

static inline uint8_t *checksum_field(uint8_t *packet, size_t transport, uint8_t protocol)
{
    return packet + transport + (protocol == PROTOCOL_TCP ? 16 : 6);
}

/* Puts the right checksum into a packet. */
static inline void fill_checksum(uint8_t *packet, size_t size, size_t transport, uint8_t protocol)
{
    uint8_t *field = checksum_field(packet, transport, protocol);
    put16(field, 0);
    uint16_t checksum = (uint16_t)~slow_total(packet, size, transport, protocol);
    put16(field, checksum ? checksum : 0xffff);
}

/* Puts the sum of the pseudo header there instead, as the kernel does. */
static inline void begin_checksum(uint8_t *packet, size_t size, size_t transport, uint8_t protocol)
{
    put16(checksum_field(packet, transport, protocol), slow_pseudo(packet, protocol, size - transport));
}

static inline size_t transport_at(const struct description *it)
{
    return 40 + it->extension;
}

/* Makes the packet with a right checksum; the payload is a piece of a stream that begins at the sequence number. */
static inline size_t make(uint8_t *out, const struct description *it)
{
    size_t transport = transport_at(it), header = it->protocol == PROTOCOL_TCP ? 20 + it->options : 8;
    size_t size = transport + header + it->payload;
    memset(out, 0, size - it->payload);
    put32(out, 0x60000000 | it->first_word);
    put16(out + 4, size - 40);
    out[6] = it->extension ? 60 : it->protocol;
    out[7] = it->hop_limit;
    out[8] = out[24] = 2;
    out[23] = it->source;
    out[39] = it->dest;
    if (it->extension) {
        out[40] = it->protocol;
        out[41] = (uint8_t)(it->extension / 8 - 1);
        out[42] = 1; /* PadN */
        out[43] = (uint8_t)(it->extension - 4);
    }
    uint8_t *field = out + transport;
    put16(field, it->source_port);
    put16(field + 2, it->dest_port);
    if (it->protocol == PROTOCOL_TCP) {
        put32(field + 4, it->sequence);
        put32(field + 8, it->ack);
        put16(field + 12, (header / 4) << 12 | it->flags);
        put16(field + 14, it->window);
        memset(field + 20, it->options_value, it->options);
    } else {
        put16(field + 4, size - transport);
    }
    for (size_t i = 0; i < it->payload; i++) {
        uint32_t at = it->sequence + (uint32_t)i;
        field[header + i] = (uint8_t)(at ^ at >> 8 ^ at >> 16 ^ at >> 24);
    }
    fill_checksum(out, size, transport, it->protocol);
    return size;
}

/*
 * Cuts the index-th packet out of a joined one, given its sound vnet header; returns its size, 0: there is none. Every
 * piece is put together from nothing but the headers and a slice, and its checksum is computed anew.
 */
static inline size_t slow_cut(const struct virtio_net_hdr *header, const uint8_t *packet, size_t size, size_t index,
                              uint8_t *out)
{
    if (header->gso_type == VIRTIO_NET_HDR_GSO_NONE) {
        memcpy(out, packet, size);
        if (header->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM) {
            uint16_t sum = (uint16_t)~slow_sum(packet + header->csum_start, size - header->csum_start);
            put16(out + header->csum_start + header->csum_offset, sum ? sum : 0xffff);
        }
        return index ? 0 : size;
    }
    bool tcp = header->gso_type != VIRTIO_NET_HDR_GSO_UDP_L4;
    uint8_t protocol = tcp ? PROTOCOL_TCP : PROTOCOL_UDP;
    size_t transport = header->csum_start;
    size_t headers = transport + (tcp ? packet[transport + 12] / 16 * 4 : 8);
    size_t from = index * header->gso_size, all = size - headers;
    if (from >= all)
        return 0;
    size_t payload = all - from < header->gso_size ? all - from : header->gso_size;
    memcpy(out, packet, headers);
    memcpy(out + headers, packet + headers + from, payload);
    put16(out + 4, headers + payload - 40);
    uint8_t *field = out + transport;
    if (tcp) {
        put32(field + 4, get32(packet + transport + 4) + (uint32_t)from);
        if (index)
            field[13] &= 0x7f;
        if (from + payload < all)
            field[13] &= 0xf6;
    } else {
        put16(field + 4, 8 + payload);
    }
    fill_checksum(out, headers + payload, transport, protocol);
    return headers + payload;
}

/* Whether two packets are the same, but for a checksum of TCP that is 0 in one and 0xffff in the other. */
static inline bool same_packet(const uint8_t *one, size_t one_size, const uint8_t *other, size_t other_size)
{
    if (one_size != other_size)
        return false;
    if (!memcmp(one, other, one_size))
        return true;
    if (one_size < 60 || one[6] != PROTOCOL_TCP || memcmp(one, other, 56) ||
        memcmp(one + 58, other + 58, one_size - 58))
        return false;
    return (get16(one + 56) == 0 && get16(other + 56) == 0xffff) || (get16(one + 56) == 0xffff && !get16(other + 56));
}

#endif
