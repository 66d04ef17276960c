/*
 * See segment.h.
 *
 * A piece is the headers of the whole with other sizes, sequence number and flags, as in tcp_gso_segment and
 * udp_gso_segment of Linux. Its pseudo header differs from that of the whole in the size alone, so its sum is taken
 * from the checksum field the kernel has begun: that is right with a routing header too, where the last destination is
 * not the one in the IPv6 header. The sum of the headers is not kept from piece to piece; adding up their twenty or
 * thirty bytes along with the payload costs less than any bookkeeping.
 */
#include "segment.h"

#include <string.h>

#include "checksum.h"
#include "offload.h"

/* Completes the checksum of a packet that stays whole, where the header says. */
static bool complete(const struct virtio_net_hdr *header, uint8_t *packet, size_t size)
{
    size_t start = header->csum_start, offset = header->csum_offset;
    if (start + offset + 2 > size)
        return false;
    checksum_complete(packet + start, size - start, offset);
    return true;
}

bool segmenter_init(struct segmenter *segmenter, const struct virtio_net_hdr *header, uint8_t *packet, size_t size)
{
    *segmenter = (struct segmenter){.packet = packet, .size = size};
    if (!size || size > MAX_TUN_PACKET)
        return false;
    bool begun = header->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM;
    if (header->gso_type == VIRTIO_NET_HDR_GSO_NONE)
        return !begun || complete(header, packet, size);

    uint8_t protocol;
    size_t least;
    switch (header->gso_type) {
    case VIRTIO_NET_HDR_GSO_TCPV6:
    case VIRTIO_NET_HDR_GSO_TCPV6 | VIRTIO_NET_HDR_GSO_ECN:
        protocol = PROTOCOL_TCP;
        least = TCP_HEADER_SIZE;
        segmenter->checksum = TCP_CHECKSUM;
        break;
    case VIRTIO_NET_HDR_GSO_UDP_L4:
        protocol = PROTOCOL_UDP;
        least = UDP_HEADER_SIZE;
        segmenter->checksum = UDP_CHECKSUM;
        break;
    default:
        return false;
    }

    /* hdr_len is only a hint and may count payload; csum_start and the TCP header itself say where the headers end. */
    size_t transport = begun ? header->csum_start : IPV6_HEADER_SIZE;
    if (transport < IPV6_HEADER_SIZE || transport + least > size || packet[0] >> 4 != 6)
        return false;
    if (begun && header->csum_offset != segmenter->checksum)
        return false;
    if (transport == IPV6_HEADER_SIZE && packet[IPV6_NEXT_HEADER] != protocol)
        return false;
    size_t transport_size = least;
    if (protocol == PROTOCOL_TCP)
        transport_size = (size_t)(packet[transport + TCP_FLAGS] >> 4) * 4;
    size_t header_size = transport + transport_size;
    if (transport_size < least || header_size >= size || !header->gso_size)
        return false;
    if (size - header_size <= header->gso_size)
        return !begun || complete(header, packet, size);

    segmenter->at = header_size;
    segmenter->transport = transport;
    segmenter->header_size = header_size;
    segmenter->piece_size = header->gso_size;
    if (begun) /* take the size out again: in ones complement, add what it lacks to 0xffff */
        segmenter->pseudo = (uint64_t)get16(packet + transport + segmenter->checksum) + (0xffff - (size - transport));
    else
        segmenter->pseudo = checksum_pseudo(packet, protocol, 0);
    return true;
}

bool segmenter_whole(const struct segmenter *segmenter, const uint8_t **packet, size_t *size)
{
    if (segmenter->header_size)
        return false;
    *packet = segmenter->packet;
    *size = segmenter->size;
    return true;
}

size_t segmenter_next(struct segmenter *segmenter, uint8_t *out)
{
    size_t at = segmenter->at, left = segmenter->size - at;
    if (!left)
        return 0;
    if (!segmenter->header_size) {
        memcpy(out, segmenter->packet, left);
        segmenter->at = segmenter->size;
        return left;
    }
    size_t header_size = segmenter->header_size, transport = segmenter->transport;
    size_t payload = left < segmenter->piece_size ? left : segmenter->piece_size;
    size_t size = header_size + payload;
    memcpy(out, segmenter->packet, header_size);
    memcpy(out + header_size, segmenter->packet + at, payload);
    put16(out + IPV6_PAYLOAD_SIZE, size - IPV6_HEADER_SIZE);

    uint8_t *field = out + transport;
    if (segmenter->checksum == TCP_CHECKSUM) {
        uint16_t flags = get16(field + TCP_FLAGS);
        if (at != header_size)
            flags &= (uint16_t)~TCP_CWR; /* says "I have slowed down" once, not once for each piece */
        if (payload != left)
            flags &= (uint16_t) ~(TCP_FIN | TCP_PSH);
        put16(field + TCP_FLAGS, flags);
        put32(field + TCP_SEQUENCE, get32(field + TCP_SEQUENCE) + (uint32_t)(at - header_size));
    } else {
        put16(field + UDP_SIZE, size - transport);
    }
    put16(field + segmenter->checksum, checksum_fold(segmenter->pseudo + (size - transport)));
    checksum_complete(field, size - transport, segmenter->checksum);
    segmenter->at = at + payload;
    return size;
}
