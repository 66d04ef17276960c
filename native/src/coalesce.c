/*
 * See coalesce.h.
 *
 * The rules are those of tcp_gro_receive in Linux, for the same reason: cutting the joined packet must give back the
 * very packets that went in, but for PSH, which only the last one keeps. So everything the pieces share must be equal:
 * the first four bytes of IPv6 (flow label and traffic class, hence ECN), the hop limit, and of TCP the acknowledged
 * number, the window and the options with their timestamps. An acknowledgement that moves on, or a new window, is news
 * for the sender at the other end and is not held back in a train of data. Flags other than ACK and PSH are events;
 * their packets go alone, and after what came before them.
 *
 * A checksum is verified only when a packet is about to be joined, since joining replaces it by one that is true: the
 * kernel must still see a wrong one. Packets that stay single are none of our business.
 */
#include "coalesce.h"

#include <string.h>

#include "checksum.h"
#include "offload.h"

/* What a packet is to us. */
struct segment {
    size_t header_size; /* of IPv6 and TCP or UDP; 0: to be written alone */
    bool last;          /* nothing may follow it in a run */
};

static struct segment parse(const struct coalescer *coalescer, const uint8_t *packet, size_t size)
{
    struct segment alone = {0, true};
    if (packet[0] >> 4 != 6 || get16(packet + IPV6_PAYLOAD_SIZE) != size - IPV6_HEADER_SIZE)
        return alone;
    const uint8_t *transport = packet + IPV6_HEADER_SIZE;
    if (packet[IPV6_NEXT_HEADER] == PROTOCOL_TCP) {
        if (!coalescer->tcp || size <= IPV6_HEADER_SIZE + TCP_HEADER_SIZE)
            return alone;
        size_t tcp_size = (size_t)(transport[TCP_FLAGS] >> 4) * 4;
        if (tcp_size < TCP_HEADER_SIZE || IPV6_HEADER_SIZE + tcp_size >= size)
            return alone;
        uint16_t flags = get16(transport + TCP_FLAGS) & TCP_ALL_FLAGS;
        if ((flags & ~TCP_PSH) != TCP_ACK)
            return alone;
        return (struct segment){IPV6_HEADER_SIZE + tcp_size, flags & TCP_PSH};
    }
    if (!coalescer->udp || size <= IPV6_HEADER_SIZE + UDP_HEADER_SIZE)
        return alone;
    if (get16(transport + UDP_SIZE) != size - IPV6_HEADER_SIZE || !get16(transport + UDP_CHECKSUM))
        return alone;
    return (struct segment){IPV6_HEADER_SIZE + UDP_HEADER_SIZE, false};
}

/*
 * Whether the headers are equal in all that the pieces of a joined packet share. Flow and header size are known to be,
 * and the flags to be ACK with or without PSH.
 */
static bool headers_equal(const uint8_t *one, const uint8_t *other, size_t header_size)
{
    if (memcmp(one, other, IPV6_PAYLOAD_SIZE) || one[IPV6_HOP_LIMIT] != other[IPV6_HOP_LIMIT])
        return false;
    if (one[IPV6_NEXT_HEADER] == PROTOCOL_UDP)
        return true;
    const uint8_t *a = one + IPV6_HEADER_SIZE, *b = other + IPV6_HEADER_SIZE;
    return !memcmp(a + TCP_ACK_NUMBER, b + TCP_ACK_NUMBER, TCP_FLAGS - TCP_ACK_NUMBER) &&
           !memcmp(a + TCP_WINDOW, b + TCP_WINDOW, TCP_CHECKSUM - TCP_WINDOW) &&
           !memcmp(a + TCP_URGENT, b + TCP_URGENT, header_size - IPV6_HEADER_SIZE - TCP_URGENT);
}

static void write_alone(struct coalescer *coalescer, uint8_t *packet, size_t size)
{
    struct iovec parts[] = {{&coalescer->plain, sizeof coalescer->plain}, {packet, size}};
    coalescer->write(coalescer->context, parts, 2);
}

/* Writes a run and frees its place. */
static void emit(struct coalescer *coalescer, int index)
{
    struct coalesce_run *run = &coalescer->runs[index];
    coalescer->active &= ~(UINT32_C(1) << index);
    if (run->count == 1) {
        write_alone(coalescer, run->packet, run->size);
        return;
    }
    size_t rest = run->size - IPV6_HEADER_SIZE;
    uint8_t protocol = run->packet[IPV6_NEXT_HEADER], *transport = run->packet + IPV6_HEADER_SIZE;
    size_t checksum = TCP_CHECKSUM;
    run->header = (struct virtio_net_hdr){
        .flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
        .gso_type = VIRTIO_NET_HDR_GSO_TCPV6,
        .hdr_len = (uint16_t)run->header_size,
        .gso_size = (uint16_t)run->piece_size,
        .csum_start = IPV6_HEADER_SIZE,
    };
    if (protocol == PROTOCOL_UDP) {
        checksum = UDP_CHECKSUM;
        run->header.gso_type = VIRTIO_NET_HDR_GSO_UDP_L4;
        put16(transport + UDP_SIZE, rest);
    }
    run->header.csum_offset = (uint16_t)checksum;
    put16(run->packet + IPV6_PAYLOAD_SIZE, rest);
    put16(transport + checksum, checksum_pseudo(run->packet, protocol, rest));
    coalescer->write(coalescer->context, run->parts, 1 + run->count);
}

/* Begins a run with a packet; another flow may have to go. */
static void begin(struct coalescer *coalescer, uint8_t *packet, size_t size, size_t header_size, uint32_t tag)
{
    uint32_t unused = ~coalescer->active & ((UINT32_C(1) << COALESCE_FLOWS) - 1);
    if (!unused) {
        emit(coalescer, coalescer->victim);
        unused = UINT32_C(1) << coalescer->victim;
        coalescer->victim = (coalescer->victim + 1) % COALESCE_FLOWS;
    }
    int index = __builtin_ctz(unused);
    struct coalesce_run *run = &coalescer->runs[index];
    run->packet = packet;
    run->header_size = header_size;
    run->piece_size = size - header_size;
    run->size = size;
    run->sequence = get32(packet + IPV6_HEADER_SIZE + TCP_SEQUENCE) + (uint32_t)run->piece_size;
    run->count = 1;
    run->parts[0] = (struct iovec){&run->header, sizeof run->header};
    run->parts[1] = (struct iovec){packet, size};
    coalescer->active |= unused & -unused;
    coalescer->tags[index] = tag;
    coalescer->last = index;
}

/* Appends a packet to a run of its flow. False: it does not fit, both are as they were. */
static bool extend(struct coalesce_run *run, uint8_t *packet, size_t size, size_t header_size)
{
    size_t payload = size - header_size;
    if (header_size != run->header_size || payload > run->piece_size || run->count == COALESCE_PACKETS ||
        run->size + payload > MAX_TUN_PACKET || !headers_equal(run->packet, packet, header_size))
        return false;
    uint8_t *transport = packet + IPV6_HEADER_SIZE;
    if (packet[IPV6_NEXT_HEADER] == PROTOCOL_TCP && get32(transport + TCP_SEQUENCE) != run->sequence)
        return false;
    if (run->count == 1 && !checksum_verify(run->packet, run->size))
        return false;
    if (!checksum_verify(packet, size))
        return false;
    if (packet[IPV6_NEXT_HEADER] == PROTOCOL_TCP)
        run->packet[IPV6_HEADER_SIZE + TCP_FLAGS + 1] |= transport[TCP_FLAGS + 1]; /* PSH of the last one */
    run->sequence += (uint32_t)payload;
    run->size += payload;
    run->count++;
    run->parts[run->count] = (struct iovec){packet + header_size, payload};
    return true;
}

/* A hash of the flow, out of the bytes that differ most; strangers who make them collide win one comparison more. */
static uint32_t tag_of(const uint8_t *packet)
{
    uint32_t ports, source, dest;
    memcpy(&ports, packet + IPV6_HEADER_SIZE, sizeof ports);
    memcpy(&source, packet + IPV6_ADDRESSES + ADDRESS_SIZE - 4, sizeof source);
    memcpy(&dest, packet + IPV6_ADDRESSES + 2 * ADDRESS_SIZE - 4, sizeof dest);
    return ports ^ source ^ dest * 3 ^ packet[IPV6_NEXT_HEADER];
}

static bool is_flow(const struct coalescer *coalescer, int index, const uint8_t *packet, uint32_t tag)
{
    if (!(coalescer->active >> index & 1) || coalescer->tags[index] != tag)
        return false;
    const uint8_t *first = coalescer->runs[index].packet;
    return first[IPV6_NEXT_HEADER] == packet[IPV6_NEXT_HEADER] &&
           !memcmp(first + IPV6_ADDRESSES, packet + IPV6_ADDRESSES, 2 * ADDRESS_SIZE + PORTS_SIZE);
}

/* Returns the run of the packet's flow; -1: there is none. */
static int find(const struct coalescer *coalescer, const uint8_t *packet, uint32_t tag)
{
    if (is_flow(coalescer, coalescer->last, packet, tag))
        return coalescer->last;
    for (uint32_t left = coalescer->active; left; left &= left - 1)
        if (is_flow(coalescer, __builtin_ctz(left), packet, tag))
            return __builtin_ctz(left);
    return -1;
}

void coalescer_init(struct coalescer *coalescer, coalesce_write *write, void *context, bool tcp, bool udp)
{
    memset(coalescer, 0, sizeof *coalescer);
    coalescer->write = write;
    coalescer->context = context;
    coalescer->tcp = tcp;
    coalescer->udp = udp;
}

void coalescer_add(struct coalescer *coalescer, uint8_t *packet, size_t size)
{
    uint8_t protocol = size >= IPV6_HEADER_SIZE ? packet[IPV6_NEXT_HEADER] : 0;
    if ((protocol != PROTOCOL_TCP && protocol != PROTOCOL_UDP) || size < IPV6_HEADER_SIZE + PORTS_SIZE) {
        /* A fragment or what follows an extension header may be of any flow between the two addresses. */
        for (uint32_t left = coalescer->active; left && size >= IPV6_HEADER_SIZE; left &= left - 1) {
            const uint8_t *first = coalescer->runs[__builtin_ctz(left)].packet;
            if (!memcmp(first + IPV6_ADDRESSES, packet + IPV6_ADDRESSES, 2 * ADDRESS_SIZE))
                emit(coalescer, __builtin_ctz(left));
        }
        write_alone(coalescer, packet, size);
        return;
    }
    uint32_t tag = tag_of(packet);
    int index = find(coalescer, packet, tag);
    struct segment segment = parse(coalescer, packet, size);
    if (segment.header_size && index >= 0) {
        struct coalesce_run *run = &coalescer->runs[index];
        if (extend(run, packet, size, segment.header_size)) {
            coalescer->last = index;
            if (segment.last || size - segment.header_size < run->piece_size)
                emit(coalescer, index);
            return;
        }
    }
    if (index >= 0)
        emit(coalescer, index);
    if (segment.last)
        write_alone(coalescer, packet, size);
    else
        begin(coalescer, packet, size, segment.header_size, tag);
}

void coalescer_flush(struct coalescer *coalescer)
{
    for (uint32_t left = coalescer->active; left; left &= left - 1)
        emit(coalescer, __builtin_ctz(left));
}
