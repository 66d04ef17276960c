/* Every reason not to join a packet: what waits of its flow goes out first, and what can join nothing never waits. */
#include "coalesce.h"

#include "coalesce_recorder.h"

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

int main(void)
{
    test_tcp_rules();
    test_udp_rules();
    test_wrong_checksum();
    test_others();
    test_malformed();
    return 0;
}
