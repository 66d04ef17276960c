/*
 * Joining packets: what the kernel gets to see, flows side by side, the bounds, and back and forth with segment.c. Why
 * packets are not joined is in test_coalesce_rules.c.
 */
#include "coalesce.h"

#include "coalesce_recorder.h"

static void test_tcp_join(void)
{
    start(true, true);
    struct description it = TCP_PACKET;
    for (int i = 0; i < 5; i++, it = next(it))
        add(it);
    CHECK(!write_count);
    it.payload = 10;
    it.flags |= TCP_PSH;
    add(it);
    CHECK(write_count == 1); /* nothing can follow, so it does not wait */
    EXPECT(6);

    start(true, true);
    it = TCP_PACKET;
    add(it);
    it = next(it);
    it.flags |= TCP_PSH;
    add(it);
    coalescer_flush(&coalescer);
    const uint8_t *packet = written;
    CHECK(write_count == 1 && writes[0].size == 72 + 2000);
    struct virtio_net_hdr header = writes[0].header;
    CHECK(header.flags == VIRTIO_NET_HDR_F_NEEDS_CSUM && header.gso_type == VIRTIO_NET_HDR_GSO_TCPV6);
    CHECK(header.hdr_len == 72 && header.gso_size == 1000 && header.csum_start == 40 && header.csum_offset == 16);
    CHECK(get16(packet + 4) == 2032 && get32(packet + 44) == TCP_PACKET.sequence);
    CHECK((get16(packet + 52) & 0xfff) == (TCP_ACK | TCP_PSH));
    CHECK(get16(packet + 56) == slow_pseudo(packet, PROTOCOL_TCP, 2032));
    finish();
}

static void test_udp_join(void)
{
    start(true, true);
    struct description it = UDP_PACKET;
    add(it);
    add(it);
    it.payload = 999;
    add(it);
    CHECK(write_count == 1);
    const uint8_t *packet = written;
    struct virtio_net_hdr header = writes[0].header;
    CHECK(header.flags == VIRTIO_NET_HDR_F_NEEDS_CSUM && header.gso_type == VIRTIO_NET_HDR_GSO_UDP_L4);
    CHECK(header.hdr_len == 48 && header.gso_size == 1000 && header.csum_start == 40 && header.csum_offset == 6);
    CHECK(get16(packet + 4) == 3007 && get16(packet + 44) == 3007);
    CHECK(get16(packet + 46) == slow_pseudo(packet, PROTOCOL_UDP, 3007));
    EXPECT(3);

    start(true, true);
    add(UDP_PACKET);
    it.payload = 1001; /* larger: begins a run of its own */
    add(it);
    add(it);
    EXPECT(1, 2);

    start(true, true);
    it = UDP_PACKET;
    it.payload = 0;
    add(UDP_PACKET);
    add(it);
    add(UDP_PACKET);
    EXPECT(1, 1, 1);
}

static void test_single(void)
{
    start(true, true);
    add(TCP_PACKET);
    CHECK(!write_count);
    EXPECT(1);
    static const struct virtio_net_hdr zero;
    CHECK(!memcmp(&writes[0].header, &zero, sizeof zero));
    CHECK(!memcmp(written, copies, packets[0].size));

    start(true, true);
    struct description it = TCP_PACKET;
    it.flags |= TCP_PSH;
    add(it);
    CHECK(write_count == 1); /* cannot be joined, so it does not wait */
    EXPECT(1);
}

static void test_not_accepted(void)
{
    for (int mode = 0; mode < 4; mode++) {
        start(mode & 1, mode & 2);
        struct description tcp = TCP_PACKET, udp = UDP_PACKET;
        for (int i = 0; i < 3; i++, tcp = next(tcp)) {
            add(tcp);
            add(udp);
        }
        finish();
        CHECK(write_count == (size_t)((mode & 1 ? 1 : 3) + (mode & 2 ? 1 : 3)));
    }
}

/* Flows in turn, as many as there are places and more; TCP and UDP of the same ports are different ones. */
static void test_many_flows(void)
{
    start(true, true);
    for (uint32_t round = 0; round < 10; round++)
        for (uint16_t flow = 0; flow < COALESCE_FLOWS; flow++) {
            struct description it = flow % 2 ? UDP_PACKET : TCP_PACKET;
            it.source_port = (uint16_t)(it.source_port + flow / 4);
            it.dest = (uint8_t)(it.dest + flow / 2 % 2);
            it.sequence += round * 1000;
            add(it);
        }
    CHECK(!write_count);
    EXPECT(10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10);

    start(true, true);
    for (uint32_t round = 0; round < 10; round++)
        for (uint16_t flow = 0; flow < 3 * COALESCE_FLOWS; flow++) {
            struct description it = TCP_PACKET;
            it.source_port = flow;
            it.sequence += round * 1000;
            add(it);
        }
    finish();
    CHECK(write_count == 30 * COALESCE_FLOWS);

    start(true, true); /* two flows with the same hash */
    struct description one = TCP_PACKET, other = TCP_PACKET;
    other.source ^= 4;
    other.dest_port ^= 4;
    for (int i = 0; i < 5; i++, one = next(one), other = next(other)) {
        add(one);
        add(other);
    }
    EXPECT(5, 5);

    start(true, true);
    struct description steady = TCP_PACKET; /* one flow that goes on in pairs while others come and go */
    for (uint16_t flow = 3000; flow < 3100; flow++) {
        struct description it = TCP_PACKET;
        it.source_port = flow;
        add(it);
        add(steady);
        add(steady = next(steady));
        steady = next(steady);
    }
    finish();
    CHECK(write_count < 100 + 20);
}

/* Runs end at 64 KB and at COALESCE_PACKETS. */
static void test_bounds(void)
{
    start(true, true);
    struct description it = TCP_PACKET;
    it.payload = 1348;
    for (int i = 0; i < 100; i++, it = next(it))
        add(it);
    EXPECT(48, 48, 4);

    start(true, true);
    it = UDP_PACKET;
    it.payload = 10;
    for (int i = 0; i < 130; i++)
        add(it);
    EXPECT(64, 64, 2);

    for (size_t last = 1; last <= 2; last++) { /* exactly 65535 bytes, and one more */
        start(true, true);
        it = UDP_PACKET;
        it.payload = 32743;
        add(it);
        add(it);
        it.payload = last;
        add(it);
        finish();
        CHECK(write_count == last && writes[0].size == MAX_TUN_PACKET - last + 1);
    }

    start(true, true);
    it = TCP_PACKET;
    it.payload = MAX_TUN_PACKET - 72;
    add(it);
    it = next(it);
    it.payload = 1;
    add(it);
    EXPECT(1, 1);
}

/* Cutting, joining and cutting again gives the same packets. */
static void test_round_trip(void)
{
    static uint8_t whole[MAX_TUN_PACKET], piece[MAX_TUN_PACKET];
    static const size_t gso_sizes[] = {1, 7, 1000, 1348, 30000, 65000};
    for (size_t i = 0; i < sizeof gso_sizes / sizeof *gso_sizes; i++)
        for (int tcp = 0; tcp < 2; tcp++) {
            struct description it = tcp ? TCP_PACKET : UDP_PACKET;
            it.flags |= TCP_PSH;
            it.payload = gso_sizes[i] * 40 + gso_sizes[i] / 2;
            if (it.payload > 65000)
                it.payload = 65000;
            size_t size = make(whole, &it);
            begin_checksum(whole, size, 40, it.protocol);
            struct virtio_net_hdr header = {
                VIRTIO_NET_HDR_F_NEEDS_CSUM, tcp ? VIRTIO_NET_HDR_GSO_TCPV6 : VIRTIO_NET_HDR_GSO_UDP_L4,
                tcp ? 72 : 48, (uint16_t)gso_sizes[i], 40, tcp ? 16 : 6,
            };
            struct segmenter segmenter;
            CHECK(segmenter_init(&segmenter, &header, whole, size));
            start(true, true);
            for (size_t piece_size; (piece_size = segmenter_next(&segmenter, piece));)
                add_bytes(piece, piece_size);
            coalescer_flush(&coalescer);
            CHECK(write_count == 1 && writes[0].size == size);
            if (packet_count > 1) {
                CHECK(!memcmp(&writes[0].header, &header, sizeof header));
                CHECK(!memcmp(written, whole, size));
            }
            finish();
        }
}

int main(void)
{
    test_tcp_join();
    test_udp_join();
    test_single();
    test_not_accepted();
    test_many_flows();
    test_bounds();
    test_round_trip();
    return 0;
}
