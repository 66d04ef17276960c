/*
 * Joining packets: what is joined and how it looks to the kernel, every reason not to join, and that what comes out,
 * cut again, is what went in, in the order of each flow.
 */
#include "coalesce.h"

#include "offload_packets.h"
#include "segment.h"

enum { MAX_PACKETS = 2000, MAX_BYTES = 8 << 20 };

/* The packets of one case: as they are added, and a copy to compare with. */
static uint8_t memory[MAX_BYTES], copies[MAX_BYTES];
static struct {
    size_t at, size;
} packets[MAX_PACKETS];
static size_t packet_count, bytes_used;

/* The writes that came out. */
static struct {
    struct virtio_net_hdr header;
    size_t at, size;
    int parts;
} writes[MAX_PACKETS];
static uint8_t written[MAX_BYTES];
static size_t write_count, bytes_written;

static struct coalescer coalescer;

static void collect(void *context, const struct iovec *parts, int count)
{
    CHECK(context == &coalescer && count >= 2 && write_count < MAX_PACKETS);
    CHECK(parts[0].iov_len == 10);
    memcpy(&writes[write_count].header, parts[0].iov_base, 10);
    writes[write_count].at = bytes_written;
    writes[write_count].parts = count;
    for (int i = 1; i < count; i++) {
        CHECK(parts[i].iov_len && bytes_written + parts[i].iov_len <= MAX_BYTES);
        memcpy(written + bytes_written, parts[i].iov_base, parts[i].iov_len);
        bytes_written += parts[i].iov_len;
    }
    writes[write_count].size = bytes_written - writes[write_count].at;
    CHECK(writes[write_count].size <= MAX_TUN_PACKET);
    write_count++;
}

static void start(bool tcp, bool udp)
{
    packet_count = bytes_used = write_count = bytes_written = 0;
    coalescer_init(&coalescer, collect, &coalescer, tcp, udp);
}

static void add_bytes(const uint8_t *data, size_t size)
{
    CHECK(packet_count < MAX_PACKETS && bytes_used + size <= MAX_BYTES);
    memcpy(memory + bytes_used, data, size);
    memcpy(copies + bytes_used, data, size);
    packets[packet_count].at = bytes_used;
    packets[packet_count++].size = size;
    coalescer_add(&coalescer, memory + bytes_used, size);
    bytes_used += size;
}

static void add(struct description it)
{
    static uint8_t data[MAX_TUN_PACKET];
    add_bytes(data, make(data, &it));
}

/* Whether the two have to stay in order: of one flow, or between the same addresses and one of no known flow. */
static bool same_flow(size_t one, size_t other)
{
    const uint8_t *a = copies + packets[one].at, *b = copies + packets[other].at;
    if (packets[one].size < 44 || packets[other].size < 44 || (a[6] != PROTOCOL_TCP && a[6] != PROTOCOL_UDP) ||
        (b[6] != PROTOCOL_TCP && b[6] != PROTOCOL_UDP))
        return !memcmp(a + 8, b + 8, 32);
    return a[6] == b[6] && !memcmp(a + 8, b + 8, 36);
}

/* Flushes; what came out, cut again, must be what went in, and each flow in its order. */
static void finish(void)
{
    static uint8_t piece[MAX_TUN_PACKET];
    static bool seen[MAX_PACKETS];
    memset(seen, 0, sizeof seen);
    coalescer_flush(&coalescer);
    size_t out_count = 0;
    for (size_t i = 0; i < write_count; i++) {
        struct segmenter segmenter;
        CHECK(segmenter_init(&segmenter, &writes[i].header, written + writes[i].at, writes[i].size));
        size_t size;
        int parts = 1;
        while ((size = segmenter_next(&segmenter, piece))) {
            size_t k = 0;
            while (k < packet_count && (seen[k] || !same_packet(piece, size, copies + packets[k].at, packets[k].size)))
                k++;
            CHECK(k < packet_count);
            for (size_t earlier = 0; earlier < k; earlier++)
                CHECK(seen[earlier] || !same_flow(earlier, k));
            seen[k] = true;
            out_count++;
            parts++;
        }
        CHECK(parts == writes[i].parts);
    }
    CHECK(out_count == packet_count);
    size_t before = write_count;
    coalescer_flush(&coalescer);
    CHECK(write_count == before);
}

/* Finishes and checks how many packets each write was made of; 0 ends the list. */
static void expect(const int *counts)
{
    finish();
    size_t i = 0;
    for (; counts[i]; i++) {
        CHECK(i < write_count);
        CHECK(writes[i].parts == 1 + counts[i]);
    }
    CHECK(i == write_count);
}

#define EXPECT(...) expect((const int[]){__VA_ARGS__, 0})

static struct description next(struct description it)
{
    it.sequence += (uint32_t)it.payload;
    return it;
}

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

/* After one packet of TCP_PACKET: the other one is not joined, neither with it nor with what follows if `alone`. */
static void check_apart(struct description it, bool alone)
{
    start(true, true);
    add(TCP_PACKET);
    add(it);
    CHECK(write_count == (alone ? 2 : 1));
    add(next(it));
    if (alone) {
        CHECK(write_count == 3);
        EXPECT(1, 1, 1);
    } else {
        EXPECT(1, 2);
    }
}

static void test_tcp_rules(void)
{
    struct description base = next(TCP_PACKET), it;
    static const uint16_t events[] = {0x001, 0x002, 0x004, 0x020, 0x040, 0x080, 0x100, 0x200, 0x400, 0x800};
    for (size_t i = 0; i < sizeof events / sizeof *events; i++) {
        it = base;
        it.flags |= events[i];
        check_apart(it, true);
    }
    it = base;
    it.flags = 0;
    check_apart(it, true);
    it = base;
    it.payload = 0; /* pure ACK */
    check_apart(it, true);
    it = base;
    it.ack++;
    check_apart(it, false);
    it = base;
    it.window++;
    check_apart(it, false);
    it = base;
    it.options_value++; /* timestamps */
    check_apart(it, false);
    it = base;
    it.options -= 4;
    check_apart(it, false);
    it = base;
    it.first_word += 1; /* flow label */
    check_apart(it, false);
    it = base;
    it.first_word |= 3 << 20; /* congestion experienced */
    check_apart(it, false);
    it = base;
    it.hop_limit--;
    check_apart(it, false);
    it = base;
    it.sequence++;
    check_apart(it, false);
    it = base;
    it.sequence--;
    check_apart(it, false);
    it = base;
    it.payload++; /* larger than the first */
    check_apart(it, false);

    /* A shorter one ends the run. */
    start(true, true);
    add(TCP_PACKET);
    it = base;
    it.payload--;
    add(it);
    CHECK(write_count == 1);
    add(next(it));
    EXPECT(2, 1);

    /* So does PSH, at full size too. */
    start(true, true);
    add(TCP_PACKET);
    it = base;
    it.flags |= TCP_PSH;
    add(it);
    CHECK(write_count == 1);
    it = next(it);
    it.flags = TCP_ACK;
    add(it);
    add(next(it));
    EXPECT(2, 2);

    /* The sequence goes on behind 2^32. */
    start(true, true);
    it = TCP_PACKET;
    it.sequence = (uint32_t)-1500;
    for (int i = 0; i < 4; i++, it = next(it))
        add(it);
    EXPECT(4);

    /* The urgent pointer, which no description has. */
    static uint8_t data[MAX_TUN_PACKET];
    start(true, true);
    add(TCP_PACKET);
    size_t size = make(data, &base);
    put16(data + 58, 1);
    fill_checksum(data, size, 40, PROTOCOL_TCP);
    add_bytes(data, size);
    EXPECT(1, 1);
}

static void test_udp_rules(void)
{
    static uint8_t data[MAX_TUN_PACKET];
    struct description it = UDP_PACKET;
    it.first_word |= 1 << 20;
    start(true, true);
    add(UDP_PACKET);
    add(it);
    add(it);
    EXPECT(1, 2);

    it = UDP_PACKET;
    it.hop_limit++;
    start(true, true);
    add(UDP_PACKET);
    add(it);
    EXPECT(1, 1);

    /* No checksum, and a size of its own that is not that of the packet. */
    for (int field = 44; field <= 46; field += 2) {
        start(true, true);
        add(UDP_PACKET);
        size_t size = make(data, &UDP_PACKET);
        put16(data + field, 0);
        add_bytes(data, size);
        CHECK(write_count == 2);
        add(UDP_PACKET);
        EXPECT(1, 1, 1);
    }
}

static void test_wrong_checksum(void)
{
    static uint8_t data[MAX_TUN_PACKET];
    for (int tcp = 0; tcp < 2; tcp++)
        for (int wrong = 0; wrong < 4; wrong++) {
            struct description it = tcp ? TCP_PACKET : UDP_PACKET;
            start(true, true);
            for (int i = 0; i < 4; i++, it = next(it)) {
                size_t size = make(data, &it);
                if (i == wrong)
                    data[size - 1] ^= 0x10;
                add_bytes(data, size);
            }
            finish();
            CHECK(write_count == (wrong == 0 || wrong == 3 ? 2 : 3));
        }
}

/* What has no ports to go by pushes out the flows between its addresses, and no others. */
static void test_others(void)
{
    static uint8_t data[MAX_TUN_PACKET];
    for (int kind = 0; kind < 4; kind++) {
        start(true, true);
        struct description other = TCP_PACKET, it = next(TCP_PACKET);
        other.dest = 9;
        add(other);
        add(TCP_PACKET);
        size_t size;
        if (kind == 0) { /* an extension header before TCP */
            it.extension = 8;
            size = make(data, &it);
        } else if (kind == 1) { /* a fragment */
            size = make(data, &it);
            data[6] = 44;
        } else if (kind == 2) { /* ICMPv6 */
            size = make(data, &it);
            data[6] = 58;
        } else { /* cut within the ports */
            size = 43;
            make(data, &it);
        }
        add_bytes(data, size);
        CHECK(write_count == 2 && writes[0].parts == 2 && writes[1].parts == 2);
        add(it = next(next(TCP_PACKET)));
        add(next(other));
        add(next(it));
        EXPECT(1, 1, 2, 2);
    }
}

static void test_malformed(void)
{
    static uint8_t data[MAX_TUN_PACKET];
    for (int tcp = 0; tcp < 2; tcp++) {
        size_t whole = make(data, tcp ? &TCP_PACKET : &UDP_PACKET);
        for (size_t size = 1; size < 90; size++) {
            start(true, true);
            add_bytes(data, size);
            CHECK(write_count == 1);
            finish();
        }
        start(true, true);
        add_bytes(data, whole + 1); /* more bytes than the header says */
        CHECK(write_count == 1);
        data[0] = 0x45;
        add_bytes(data, whole);
        CHECK(write_count == 2);
        finish();
    }
    size_t whole = make(data, &TCP_PACKET);
    for (int words = 0; words < 5; words++) {
        start(true, true);
        data[52] = (uint8_t)(words << 4);
        add_bytes(data, whole);
        CHECK(write_count == 1);
        finish();
    }
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
    test_tcp_rules();
    test_udp_rules();
    test_wrong_checksum();
    test_others();
    test_malformed();
    test_not_accepted();
    test_many_flows();
    test_bounds();
    test_round_trip();
    return 0;
}
