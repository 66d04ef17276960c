/*
 * The checksum, and the cutting of what the TUN gave. Each piece must equal, byte by byte, the packet that is made
 * afresh from the description it should have.
 */
#include "segment.h"

#include "checksum.h"
#include "offload_packets.h"

static uint8_t whole[2 * MAX_TUN_PACKET], out[MAX_TUN_PACKET], expected[MAX_TUN_PACKET];

static struct virtio_net_hdr header_of(const struct description *it, size_t gso_size)
{
    return (struct virtio_net_hdr){
        .flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
        .gso_type = it->protocol == PROTOCOL_TCP ? VIRTIO_NET_HDR_GSO_TCPV6 : VIRTIO_NET_HDR_GSO_UDP_L4,
        .hdr_len = 9999, /* a hint only, and not always a good one */
        .gso_size = (uint16_t)gso_size,
        .csum_start = (uint16_t)transport_at(it),
        .csum_offset = it->protocol == PROTOCOL_TCP ? 16 : 6,
    };
}

static void test_checksum(void)
{
    uint8_t data[300];
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (uint8_t)(i * 151 + 7);
    for (size_t start = 0; start < 16; start++)
        for (size_t size = 0; size <= sizeof data - start; size++)
            CHECK(checksum_sum(data + start, size) == slow_sum(data + start, size));
    memset(whole, 0xff, MAX_TUN_PACKET);
    CHECK(checksum_sum(whole, MAX_TUN_PACKET) == slow_sum(whole, MAX_TUN_PACKET));
    memset(whole, 0, 100);
    CHECK(checksum_sum(whole, 100) == 0);
    CHECK(checksum_fold(0) == 0 && checksum_fold(0xffff) == 0xffff && checksum_fold(0x10000) == 1);
    CHECK(checksum_fold(UINT64_MAX) == 0xffff);

    for (size_t payload = 1; payload < 70; payload++)
        for (int tcp = 0; tcp < 2; tcp++) {
            struct description it = tcp ? TCP_PACKET : UDP_PACKET;
            it.payload = payload;
            size_t size = make(whole, &it);
            CHECK(checksum_pseudo(whole, it.protocol, size - 40) == slow_pseudo(whole, it.protocol, size - 40));
            CHECK(checksum_verify(whole, size));
            whole[size - 1] ^= 1;
            CHECK(!checksum_verify(whole, size));
        }
}

/* Cuts the described packet and compares each piece. */
static void check_cut(struct description it, size_t gso_size, bool ecn)
{
    size_t size = make(whole, &it);
    begin_checksum(whole, size, transport_at(&it), it.protocol);
    struct virtio_net_hdr header = header_of(&it, gso_size);
    if (ecn)
        header.gso_type |= VIRTIO_NET_HDR_GSO_ECN;
    struct segmenter segmenter;
    CHECK(segmenter_init(&segmenter, &header, whole, size));
    const uint8_t *packet;
    size_t packet_size;
    CHECK(segmenter_whole(&segmenter, &packet, &packet_size) == (it.payload <= gso_size));
    for (size_t from = 0; from < it.payload; from += gso_size) {
        struct description piece = it;
        piece.sequence += (uint32_t)from;
        piece.payload = it.payload - from;
        if (piece.payload > gso_size) {
            piece.payload = gso_size;
            piece.flags &= (uint16_t) ~(TCP_FIN | TCP_PSH);
        }
        if (from)
            piece.flags &= (uint16_t)~TCP_CWR;
        size_t expected_size = make(expected, &piece);
        memset(out, 0xa5, sizeof out);
        CHECK(segmenter_next(&segmenter, out) == expected_size);
        CHECK(slow_verify(out, expected_size, transport_at(&it), it.protocol));
        CHECK(same_packet(out, expected_size, expected, expected_size));
    }
    CHECK(!segmenter_next(&segmenter, out));
    CHECK(!segmenter_next(&segmenter, out));
}

static void test_cut(void)
{
    static const size_t sizes[] = {1, 2, 3, 99, 100, 1000, 1348, 1349};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        for (int tcp = 0; tcp < 2; tcp++) {
            struct description it = tcp ? TCP_PACKET : UDP_PACKET;
            size_t gso_size = sizes[i];
            size_t payloads[] = {1, gso_size, gso_size + 1, 2 * gso_size - 1, 2 * gso_size, 2 * gso_size + 1,
                                 5 * gso_size};
            for (size_t k = 0; k < sizeof payloads / sizeof *payloads; k++) {
                it.payload = payloads[k];
                for (it.extension = 0; it.extension <= 24; it.extension += 8)
                    check_cut(it, gso_size, false);
            }
        }
    struct description it = TCP_PACKET;
    it.payload = MAX_TUN_PACKET - 72;
    check_cut(it, 1348, false);
    for (it.options = 0; it.options <= 40; it.options += 4) {
        it.payload = 5000;
        check_cut(it, 1348, false);
    }
    it = UDP_PACKET;
    it.payload = MAX_TUN_PACKET - 48;
    check_cut(it, 1452, false);
}

static void test_tcp_flags(void)
{
    struct description it = TCP_PACKET;
    it.payload = 3500;
    it.flags = TCP_ACK | TCP_PSH | TCP_FIN;
    check_cut(it, 1000, false);
    it.flags = TCP_ACK | TCP_PSH | TCP_CWR;
    check_cut(it, 1000, true);
    it.flags = TCP_ACK | 0x40; /* ECE stays on all */
    check_cut(it, 1000, true);
    it.flags = TCP_ACK | TCP_CWR | TCP_FIN;
    it.payload = 900;
    check_cut(it, 1000, true);
}

static void test_sequence_wraps(void)
{
    struct description it = TCP_PACKET;
    it.payload = 5000;
    for (uint32_t before = 0; before < 6000; before += 500) {
        it.sequence = (uint32_t)-before;
        check_cut(it, 1000, false);
    }
}

/* A datagram whose checksum comes out as 0 must say 0xffff instead, as 0 means that there is none. */
static void test_udp_zero_checksum(void)
{
    struct description it = UDP_PACKET;
    it.payload = 100;
    int found = 0;
    for (uint32_t port = 0; port < 0x10000; port++) {
        it.source_port = (uint16_t)port;
        size_t size = make(whole, &it);
        if (get16(whole + 46) != 0xffff)
            continue;
        found++;
        check_cut(it, 100, false);
        it.payload = 200;
        it.sequence = 0;
        size = make(whole, &it);
        memcpy(whole + 148, whole + 48, 100); /* two pieces with the same bytes */
        begin_checksum(whole, size, 40, PROTOCOL_UDP);
        struct virtio_net_hdr header = header_of(&it, 100);
        struct segmenter segmenter;
        CHECK(segmenter_init(&segmenter, &header, whole, size));
        CHECK(segmenter_next(&segmenter, out) == 148 && get16(out + 46) == 0xffff);
        CHECK(segmenter_next(&segmenter, out) == 148 && get16(out + 46) == 0xffff);
        CHECK(!segmenter_next(&segmenter, out));
        it.payload = 100;
    }
    CHECK(found);
}

static void test_whole(void)
{
    struct segmenter segmenter;
    const uint8_t *packet;
    size_t packet_size;
    size_t size = make(expected, &TCP_PACKET);
    memcpy(whole, expected, size);
    struct virtio_net_hdr header = {0};
    CHECK(segmenter_init(&segmenter, &header, whole, size));
    CHECK(segmenter_whole(&segmenter, &packet, &packet_size) && packet == whole && packet_size == size);
    CHECK(!memcmp(whole, expected, size));

    begin_checksum(whole, size, 40, PROTOCOL_TCP);
    header = (struct virtio_net_hdr){.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM, .csum_start = 40, .csum_offset = 16};
    CHECK(segmenter_init(&segmenter, &header, whole, size));
    CHECK(segmenter_whole(&segmenter, &packet, &packet_size) && packet == whole && packet_size == size);
    CHECK(!memcmp(whole, expected, size));
    CHECK(segmenter_next(&segmenter, out) == size && !memcmp(out, expected, size));
    CHECK(!segmenter_next(&segmenter, out));

    /* A joined packet with a finished checksum, which has no sum of the pseudo header to begin with. */
    struct description it = TCP_PACKET;
    it.payload = 2500;
    size = make(whole, &it);
    header = (struct virtio_net_hdr){.gso_type = VIRTIO_NET_HDR_GSO_TCPV6, .gso_size = 1000};
    CHECK(segmenter_init(&segmenter, &header, whole, size));
    for (int i = 0; i < 3; i++) {
        size_t piece = segmenter_next(&segmenter, out);
        CHECK(piece == (i < 2 ? 1072 : 572) && slow_verify(out, piece, 40, PROTOCOL_TCP));
    }
    CHECK(!segmenter_next(&segmenter, out));
}

/* Whether the header is taken for a TCP packet of 3000 bytes payload, in memory of exactly its size. */
static bool takes(struct virtio_net_hdr header, size_t cut_to, int patch_at, uint8_t patch)
{
    struct description it = TCP_PACKET;
    it.payload = 3000;
    size_t size = make(whole, &it);
    begin_checksum(whole, size, 40, PROTOCOL_TCP);
    if (patch_at >= 0)
        whole[patch_at] = patch;
    if (cut_to < size)
        size = cut_to;
    uint8_t *exact = malloc(size ? size : 1);
    CHECK(exact);
    memcpy(exact, whole, size);
    struct segmenter segmenter;
    bool taken = segmenter_init(&segmenter, &header, exact, size);
    for (size_t piece, total = 0; taken && (piece = segmenter_next(&segmenter, out));) {
        total += piece;
        CHECK(piece <= size && total < 80 * size);
    }
    free(exact);
    return taken;
}

static void test_refusals(void)
{
    struct virtio_net_hdr good = header_of(&TCP_PACKET, 1000), bad;
    CHECK(takes(good, 9999, -1, 0));
    CHECK(!takes(good, 0, -1, 0));
    CHECK(!takes(good, 39, -1, 0));
    CHECK(!takes(good, 59, -1, 0)); /* within the TCP header */
    CHECK(!takes(good, 71, -1, 0)); /* within its options */
    CHECK(!takes(good, 72, -1, 0)); /* no payload */
    CHECK(takes(good, 73, -1, 0));
    CHECK(!takes(good, 9999, 0, 0x45));
    CHECK(!takes(good, 9999, 6, PROTOCOL_UDP));
    CHECK(!takes(good, 9999, 52, 0x40)); /* a TCP header of 16 bytes */
    CHECK(takes(good, 9999, 52, 0xf0));
    static const uint8_t types[] = {1, 2, 3, 6, 0x80, 0x81, 0x83, 0x85, 0x44, 0xff};
    for (size_t i = 0; i < sizeof types; i++) {
        bad = good;
        bad.gso_type = types[i];
        CHECK(!takes(bad, 9999, -1, 0));
    }
    bad = good;
    bad.gso_type = VIRTIO_NET_HDR_GSO_UDP_L4;
    CHECK(!takes(bad, 9999, -1, 0));
    bad.csum_offset = 6;
    CHECK(!takes(bad, 9999, -1, 0)); /* the packet is TCP */
    bad = good;
    bad.gso_size = 0;
    CHECK(!takes(bad, 9999, -1, 0));
    bad = good;
    bad.csum_offset = 6;
    CHECK(!takes(bad, 9999, -1, 0));
    for (unsigned start = 0; start < 40; start++) {
        bad = good;
        bad.csum_start = (uint16_t)start;
        CHECK(!takes(bad, 9999, -1, 0));
    }
    bad = good;
    bad.csum_start = 3060;
    CHECK(!takes(bad, 9999, -1, 0));
    bad.csum_start = 65535;
    CHECK(!takes(bad, 9999, -1, 0));

    /* The field of a packet that stays whole: the last place that fits, and the first that does not. */
    bad = (struct virtio_net_hdr){.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM, .csum_start = 98};
    CHECK(takes(bad, 100, -1, 0));
    bad.csum_offset = 1;
    CHECK(!takes(bad, 100, -1, 0));
    bad.csum_start = bad.csum_offset = 65535;
    CHECK(!takes(bad, 9999, -1, 0));
    struct segmenter segmenter;
    good = (struct virtio_net_hdr){0};
    CHECK(segmenter_init(&segmenter, &good, whole, MAX_TUN_PACKET));
    CHECK(!segmenter_init(&segmenter, &good, whole, MAX_TUN_PACKET + 1));
}

int main(void)
{
    test_checksum();
    test_cut();
    test_tcp_flags();
    test_sequence_wraps();
    test_udp_zero_checksum();
    test_whole();
    test_refusals();
    return 0;
}
