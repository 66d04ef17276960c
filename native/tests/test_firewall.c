/*
 * The packet filter: any bytes as a packet are judged without harm, and what the judgement rests on holds in between; its
 * table stays within its bounds; and it stands where it should in the plane. What it lets in and what not is tested with
 * the one in Python (tests/unit/test_firewall.py). test_firewall [rounds [seed]]
 */
#include "firewall.h"

#include <sys/socket.h>
#include <unistd.h>

#include "mesh.h"
#include "offload.h"

enum { ROUNDS = 200000, RULES = 3 };

static uint8_t rules[RULES * FIREWALL_RULE_SIZE];
static const uint8_t me[ADDRESS_SIZE] = {2, 1, 9}, they[ADDRESS_SIZE] = {2, 2, 7};

/* One rule for each kind of sender: anyone to TCP ports 20..30, a prefix to anything, a key to UDP. */
static void pack_rules(void)
{
    memset(rules, 0, sizeof rules);
    uint8_t *at = rules;
    at[1] = PROTOCOL_TCP;
    put16(at + 4, 20);
    put16(at + 6, 30);
    at += FIREWALL_RULE_SIZE;
    at[0] = 1;
    at[2] = 1;
    at[3] = 64;
    put16(at + 8, 1);
    at[42] = 3;
    at += FIREWALL_RULE_SIZE;
    at[0] = 2;
    at[1] = PROTOCOL_UDP;
    put16(at + 6, 0xffff);
    put16(at + 8, 2);
    make_key(at + 10, 5);
    CHECK(firewall_rules_valid(rules, sizeof rules, RULES));
    CHECK(!firewall_rules_valid(rules, sizeof rules - 1, RULES));
    CHECK(!firewall_rules_valid(rules, sizeof rules, RULES - 1));
}

static size_t packet_of(uint8_t *out, const uint8_t *from, const uint8_t *to, uint8_t protocol, unsigned from_port,
                        unsigned to_port)
{
    memset(out, 0, 80);
    out[0] = 0x60;
    put16(out + IPV6_PAYLOAD_SIZE, 40);
    out[IPV6_NEXT_HEADER] = protocol;
    memcpy(out + IPV6_ADDRESSES, from, ADDRESS_SIZE);
    memcpy(out + IPV6_ADDRESSES + ADDRESS_SIZE, to, ADDRESS_SIZE);
    put16(out + IPV6_HEADER_SIZE, from_port);
    put16(out + IPV6_HEADER_SIZE + 2, to_port);
    return 80;
}

static void test_any_bytes(size_t rounds)
{
    static const uint8_t likely[] = {0, 6, 17, 43, 44, 50, 51, 58, 59, 60, 135, 139, 140};
    struct firewall *firewall = firewall_new(rules, sizeof rules, RULES);
    uint8_t key[KEY_SIZE], packet[80];
    make_key(key, 6);
    uint64_t let_in = 0;
    double now = 0;
    for (size_t round = 0; round < rounds; round++) {
        size_t size = IPV6_HEADER_SIZE + random_below(200);
        uint8_t *bytes = malloc(size); /* exactly, so that ASan sees each byte too far */
        CHECK(bytes);
        for (size_t i = 0; i < size; i++)
            bytes[i] = random_below(3) ? (uint8_t)random_below(4) : (uint8_t)random_number();
        bytes[0] = (uint8_t)(0x60 | random_below(16));
        for (size_t at = IPV6_NEXT_HEADER; at < size; at = at == IPV6_NEXT_HEADER ? IPV6_HEADER_SIZE : at + 8) {
            bytes[at] = likely[random_below(sizeof likely)];
            if (at > IPV6_NEXT_HEADER && at + 1 < size && random_below(4))
                bytes[at + 1] = 0;
        }
        memcpy(bytes + 24, me, ADDRESS_SIZE);
        memcpy(bytes + 8, they, ADDRESS_SIZE);
        if (random_below(3) == 0)
            firewall_outbound(firewall, bytes, size, now);
        else
            let_in += firewall_inbound(firewall, key, bytes, size, now);
        free(bytes);
        now += (double)random_below(100) / 50;
    }
    const struct firewall_counters *counters = &firewall->counters;
    CHECK(let_in == counters->established + counters->errors + counters->fragments + firewall->allowed[0] +
                        firewall->allowed[1] + firewall->allowed[2]);
    CHECK(counters->malformed > 0 && counters->denied > counters->malformed);
    CHECK(firewall->allowed[0] > 0 && firewall->allowed[1] == 0 && firewall->allowed[2] == 0);
    /* And it still judges. */
    size_t size = packet_of(packet, they, me, PROTOCOL_UDP, 53, 4000);
    now += 100000;
    CHECK(!firewall_inbound(firewall, key, packet, size, now));
    make_key(key, 5);
    CHECK(firewall_inbound(firewall, key, packet, size, now) && firewall->allowed[2] == 1);
    firewall_free(firewall);
}

static void test_full_table(void)
{
    struct firewall *firewall = firewall_new(rules, 0, 0);
    uint8_t packet[80], key[KEY_SIZE] = {0};
    enum { PLACES = FIREWALL_SETS * FIREWALL_WAYS, FLOWS = 2 * PLACES };
    /* One flow that was answered, then far more that never are. */
    firewall_outbound(firewall, packet, packet_of(packet, me, they, PROTOCOL_UDP, 7, 53), 0);
    CHECK(firewall_inbound(firewall, key, packet, packet_of(packet, they, me, PROTOCOL_UDP, 53, 7), 0));
    for (unsigned i = 0; i < FLOWS; i++)
        firewall_outbound(firewall, packet, packet_of(packet, me, they, PROTOCOL_UDP, i & 0xffff, 1000 + (i >> 16)),
                          1 + i * 1e-6);
    size_t count = firewall_flow_count(firewall, 2);
    CHECK(count > PLACES * 9 / 10 && count <= PLACES);
    CHECK(count + firewall->counters.evicted == FLOWS + 1);
    /* The answered one was spared, since there was always one to give way that was not. */
    CHECK(firewall_inbound(firewall, key, packet, packet_of(packet, they, me, PROTOCOL_UDP, 53, 7), 2));
    CHECK(firewall_flow_count(firewall, 1000) == 0);
    firewall_free(firewall);
}

static void send_udp(struct node *from, struct node *to, unsigned from_port, unsigned to_port)
{
    uint8_t packet[80];
    plane_send_ipv6(from->plane, packet, packet_of(packet, from->address, to->address, PROTOCOL_UDP, from_port, to_port));
    carry();
}

/* Takes all events of a node; returns how many of them are packets that would have gone to its TUN. */
static size_t received(struct node *node)
{
    struct event event;
    const uint8_t *data;
    size_t count = 0;
    while (events_next(&node->seen, &event, &data))
        count += event.type == EVENT_IPV6_RECEIVED;
    return count;
}

/* In the plane: what c answers passes, what it starts does not, and transit through b is not judged. */
static void test_in_the_plane(void)
{
    open_line();
    know(&a, &c);
    know(&c, &a);
    a.plane->firewall = firewall_new(rules, 0, 0);
    b.plane->firewall = firewall_new(rules, 0, 0);
    CHECK(a.plane->firewall && b.plane->firewall);
    send_udp(&c, &a, 53, 4000);
    CHECK(received(&a) == 0 && a.plane->firewall->counters.denied == 1);
    send_udp(&a, &c, 4000, 53);
    CHECK(received(&c) == 1);
    send_udp(&c, &a, 53, 4000);
    CHECK(received(&a) == 1);
    CHECK(a.plane->firewall->counters.established == 1 && firewall_flow_count(a.plane->firewall, a.plane->now) == 1);
    CHECK(b.plane->firewall->counters.denied == 0);
    close_line();
}

/*
 * What the TUN brings as a super-packet makes its flow: before it is cut, also while nobody knows the way, and once for
 * all its segments. Nothing else has told the filter of it, so without that hook the answer would be denied.
 */
static void test_a_super_packet_makes_a_flow(bool known)
{
    enum { SEGMENTS = 3, SEGMENT = 500, SIZE = IPV6_HEADER_SIZE + UDP_HEADER_SIZE + SEGMENTS * SEGMENT };
    struct {
        struct virtio_net_hdr header;
        uint8_t packet[SIZE];
    } read = {.header = {.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
                         .gso_type = VIRTIO_NET_HDR_GSO_UDP_L4,
                         .hdr_len = IPV6_HEADER_SIZE + UDP_HEADER_SIZE,
                         .gso_size = SEGMENT,
                         .csum_start = IPV6_HEADER_SIZE,
                         .csum_offset = 6}};
    open_line();
    if (known)
        know(&a, &c);
    know(&c, &a);
    a.plane->firewall = firewall_new(rules, 0, 0);
    CHECK(a.plane->firewall);
    int ends[2];
    CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, ends) == 0);
    CHECK(tun_attach(&a.plane->tun, ends[0], 1400));
    a.plane->tun.vnet = true; /* a socket is no device that could be asked for it */
    make_packet(read.packet, a.address, c.address, SIZE - IPV6_HEADER_SIZE);
    read.packet[IPV6_NEXT_HEADER] = PROTOCOL_UDP;
    put16(read.packet + IPV6_HEADER_SIZE, 4000);
    put16(read.packet + IPV6_HEADER_SIZE + 2, 53);
    put16(read.packet + IPV6_HEADER_SIZE + 4, SIZE - IPV6_HEADER_SIZE);
    CHECK(send(ends[1], &read, sizeof read, 0) == (ssize_t)sizeof read);
    plane_read_tun(a.plane);
    plane_settle(a.plane);
    tun_detach(&a.plane->tun); /* what comes in is told of, then */
    a.plane->tun.mtu = DEFAULT_MTU;
    carry();
    CHECK(received(&c) == (known ? SEGMENTS : 0));
    CHECK(firewall_flow_count(a.plane->firewall, a.plane->now) == 1);
    received(&a); /* the question for the address, which is answered now */
    know(&a, &c);
    send_udp(&c, &a, 53, 4000);
    send_udp(&c, &a, 54, 4000);
    CHECK(received(&a) == 1);
    CHECK(a.plane->firewall->counters.established == 1 && a.plane->firewall->counters.denied == 1);
    close(ends[0]);
    close(ends[1]);
    close_line();
}

int main(int argc, char **argv)
{
    size_t rounds = argc > 1 ? strtoul(argv[1], NULL, 0) : ROUNDS;
    for (unsigned long skip = argc > 2 ? strtoul(argv[2], NULL, 0) : 0; skip; skip--)
        random_number();
    pack_rules();
    test_any_bytes(rounds);
    test_full_table();
    test_in_the_plane();
    test_a_super_packet_makes_a_flow(true);
    test_a_super_packet_makes_a_flow(false);
    return 0;
}
