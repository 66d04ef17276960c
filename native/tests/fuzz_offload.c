/*
 * Random packets through segment.c and coalesce.c, against the naive model of offload_packets.h. The same numbers give
 * the same run: fuzz_offload [rounds [seed]]. All packets lie in memory of exactly their size, so that a sanitizer sees
 * every byte too far.
 *
 * Cutting: sound joined packets must fall into the pieces of the model; spoilt ones may be refused or cut into anything
 * that ends. Joining: whatever comes in must come out, byte by byte once it is cut by the model, and in order within a
 * flow, where what belongs to no known flow must keep its order to all between the same addresses.
 */
#include "checksum.h"
#include "coalesce.h"
#include "offload_packets.h"
#include "segment.h"

enum { MAX_BATCH = 200 };

static uint64_t state;

static uint32_t roll(uint32_t sides)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (uint32_t)(state >> 32) % sides;
}

static uint8_t scratch[2 * MAX_TUN_PACKET], piece[MAX_TUN_PACKET], joined[MAX_TUN_PACKET];

static uint8_t *copy(const uint8_t *data, size_t size)
{
    uint8_t *exact = malloc(size ? size : 1);
    CHECK(exact);
    memcpy(exact, data, size);
    return exact;
}

static void spoil(uint8_t *data, size_t size)
{
    for (uint32_t times = 1 + roll(3); times && size; times--) {
        uint32_t at = roll(roll(4) ? (size < 80 ? (uint32_t)size : 80) : (uint32_t)size);
        data[at] = roll(2) ? (uint8_t)roll(256) : (uint8_t)(data[at] ^ 1 << roll(8));
    }
}

static size_t roll_size(void)
{
    static const uint32_t limits[] = {4, 100, 1500, 9000, 60000};
    return 1 + roll(limits[roll(5)]);
}

static size_t cut(void)
{
    struct description it = roll(2) ? TCP_PACKET : UDP_PACKET;
    it.extension = roll(4) ? 0 : 8 * (1 + roll(4));
    it.options = 4 * roll(11);
    it.payload = roll_size();
    it.flags = (uint16_t)(TCP_ACK | roll(256));
    it.sequence = roll(2) ? (uint32_t)-roll(60000) : roll(UINT32_MAX);
    size_t size = make(scratch, &it), pieces = 0;
    struct virtio_net_hdr header = {.csum_start = (uint16_t)transport_at(&it), .csum_offset = 16};
    if (it.protocol == PROTOCOL_UDP)
        header.csum_offset = 6;
    if (roll(8)) {
        header.gso_type = it.protocol == PROTOCOL_TCP ? VIRTIO_NET_HDR_GSO_TCPV6 : VIRTIO_NET_HDR_GSO_UDP_L4;
        if (it.protocol == PROTOCOL_TCP && roll(2))
            header.gso_type |= VIRTIO_NET_HDR_GSO_ECN;
        size_t least = it.payload / 200 + 1; /* keeps the model, which is slow, within bounds */
        header.gso_size = (uint16_t)(least + roll(1 + roll((uint32_t)it.payload + 10)));
    }
    if (header.gso_type || roll(2)) {
        header.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM;
        begin_checksum(scratch, size, transport_at(&it), it.protocol);
    }
    bool sound = roll(2);
    if (!sound) {
        if (roll(2))
            spoil((uint8_t *)&header, sizeof header);
        if (roll(2))
            spoil(scratch, size);
        if (roll(2))
            size = roll((uint32_t)size + 1);
    }
    uint8_t *exact = copy(scratch, size);
    struct segmenter segmenter;
    bool taken = segmenter_init(&segmenter, &header, exact, size);
    CHECK(taken || !sound);
    while (taken) {
        size_t got = segmenter_next(&segmenter, piece);
        CHECK(got <= size);
        if (sound) {
            size_t wanted = slow_cut(&header, scratch, size, pieces, joined);
            CHECK(got == wanted && !memcmp(piece, joined, got));
        }
        if (!got)
            break;
        pieces++;
        CHECK(pieces <= size);
    }
    free(exact);
    return pieces;
}

/* A batch that goes through the coalescer. */
static struct batch {
    size_t count, out, joined;
    struct {
        uint8_t *packet, *original;
        size_t size;
        bool seen;
    } of[MAX_BATCH];
} batch;

static bool has_ports(size_t i)
{
    uint8_t protocol = batch.of[i].size >= 44 ? batch.of[i].original[6] : 0;
    return protocol == PROTOCOL_TCP || protocol == PROTOCOL_UDP;
}

static bool in_order(size_t one, size_t other)
{
    const uint8_t *a = batch.of[one].original, *b = batch.of[other].original;
    if (batch.of[one].size < 40 || batch.of[other].size < 40 || memcmp(a + 8, b + 8, 32))
        return false;
    return !has_ports(one) || !has_ports(other) || (a[6] == b[6] && !memcmp(a + 40, b + 40, 4));
}

static void account(const uint8_t *packet, size_t size)
{
    size_t i = 0;
    while (i < batch.count &&
           (batch.of[i].seen || !same_packet(packet, size, batch.of[i].original, batch.of[i].size)))
        i++;
    CHECK(i < batch.count);
    for (size_t earlier = 0; earlier < i; earlier++)
        CHECK(batch.of[earlier].seen || !in_order(earlier, i));
    batch.of[i].seen = true;
    batch.out++;
}

static void take(void *context, const struct iovec *parts, int count)
{
    CHECK(context == &batch && count >= 2 && parts[0].iov_len == sizeof(struct virtio_net_hdr));
    struct virtio_net_hdr header;
    memcpy(&header, parts[0].iov_base, sizeof header);
    size_t size = 0;
    for (int i = 1; i < count; i++) {
        CHECK(size + parts[i].iov_len <= sizeof joined);
        memcpy(joined + size, parts[i].iov_base, parts[i].iov_len);
        size += parts[i].iov_len;
    }
    if (count == 2) {
        static const struct virtio_net_hdr plain;
        CHECK(!memcmp(&header, &plain, sizeof plain));
        account(joined, size);
        return;
    }
    uint8_t protocol = header.gso_type == VIRTIO_NET_HDR_GSO_UDP_L4 ? PROTOCOL_UDP : PROTOCOL_TCP;
    CHECK(header.flags == VIRTIO_NET_HDR_F_NEEDS_CSUM && joined[6] == protocol && header.csum_start == 40);
    CHECK(get16(joined + 4) == size - 40);
    CHECK(get16(checksum_field(joined, 40, protocol)) == slow_pseudo(joined, protocol, size - 40));
    size_t index = 0;
    for (size_t got; (got = slow_cut(&header, joined, size, index, piece)); index++)
        account(piece, got);
    CHECK(index == (size_t)count - 1);
    batch.joined += index;
}

static size_t join(void)
{
    static struct coalescer coalescer;
    struct description flows[40];
    uint32_t flow_count = 1 + roll(roll(3) ? 4 : 40), calm = 2 + roll(30);
    size_t usual = 1 + roll(2000);
    for (uint32_t i = 0; i < flow_count; i++) {
        flows[i] = roll(3) ? TCP_PACKET : UDP_PACKET;
        flows[i].source_port = (uint16_t)roll(flow_count);
        flows[i].dest = (uint8_t)roll(3);
        flows[i].options = 4 * roll(4);
        flows[i].sequence = roll(4) ? roll(UINT32_MAX) : (uint32_t)-roll(5000);
        flows[i].payload = roll(20) ? usual : roll_size();
    }
    coalescer_init(&coalescer, take, &batch, roll(8), roll(8));
    memset(&batch, 0, sizeof batch);
    size_t count = 1 + roll(MAX_BATCH);
    struct description *flow = flows;
    while (batch.count < count) {
        if (!roll(4))
            flow = &flows[roll(flow_count)];
        struct description it = *flow;
        bool odd = !roll(calm);
        if (odd) {
            switch (roll(12)) {
            case 0: it.flags |= TCP_PSH; break;
            case 1: it.flags |= (uint16_t)(1 << roll(12)); break;
            case 2: it.ack = flow->ack += roll(3); break;
            case 3: it.window = flow->window ^= 1; break;
            case 4: it.options_value = flow->options_value ^= 1; break;
            case 5: it.first_word ^= UINT32_C(1) << roll(28); break;
            case 6: it.hop_limit--; break;
            case 7: it.sequence -= roll(2000); break;
            case 8: it.extension = 8 * (1 + roll(3)); break;
            case 9: it.payload = roll(3) ? roll((uint32_t)it.payload + 5) : 0; break;
            default: break;
            }
        }
        size_t size = make(scratch, &it);
        flow->sequence = it.sequence + (uint32_t)it.payload;
        if (odd && !roll(3)) {
            spoil(scratch, size);
            if (!roll(3))
                size = 1 + roll((uint32_t)size);
            else if (size > 60 && roll(2)) /* a field that matters, under a good checksum */
                fill_checksum(scratch, size, 40, it.protocol);
        }
        size_t i = batch.count++;
        batch.of[i].packet = copy(scratch, size);
        batch.of[i].original = copy(scratch, size);
        batch.of[i].size = size;
        coalescer_add(&coalescer, batch.of[i].packet, size);
        if (!roll(60)) {
            coalescer_flush(&coalescer);
            CHECK(batch.out == batch.count);
        }
    }
    coalescer_flush(&coalescer);
    CHECK(batch.out == batch.count);
    for (size_t i = 0; i < batch.count; i++) {
        free(batch.of[i].packet);
        free(batch.of[i].original);
    }
    return batch.joined;
}

static void sum(void)
{
    size_t size = roll(200), start = roll(16);
    for (size_t i = 0; i < start + size; i++)
        scratch[i] = roll(4) ? (uint8_t)roll(256) : 0xff;
    uint8_t *exact = copy(scratch, start + size);
    CHECK(checksum_sum(exact + start, size) == slow_sum(exact + start, size));
    free(exact);
}

int main(int argc, char **argv)
{
    long rounds = argc > 1 ? atol(argv[1]) : 300;
    state = argc > 2 ? strtoull(argv[2], NULL, 0) * 2 + 1 : 0x9e3779b97f4a7c15;
    size_t cut_into = 0, joined_from = 0;
    for (long round = 0; round < rounds; round++) {
        for (int i = 0; i < 10; i++) {
            cut_into += cut();
            sum();
        }
        joined_from += join();
    }
    printf("%ld rounds: %zu pieces cut, %zu packets joined\n", rounds, cut_into, joined_from);
    CHECK(rounds < 10 || (cut_into && joined_from));
    return 0;
}
