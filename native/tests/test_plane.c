/*
 * Two and three planes joined by their feeds: what one gives to the carrier of a link is handed to the other. Messages
 * and IPv6 packets go from end to end, sealed; a node in between changes the watermark and nothing else; what a plane
 * cannot decide comes up as an event.
 */
#include <sys/socket.h>
#include <unistd.h>

#include "icmp.h"
#include "mesh.h"

static void test_message(void)
{
    open_line();
    const uint8_t *data;
    static uint8_t message[MAX_MESSAGE + 1];
    pattern(message, sizeof message, 1);
    message[0] = INNER_PROTO;
    for (size_t size = 1; size <= MAX_MESSAGE - 40; size = size * 3 + 7) {
        plane_send_message(a.plane, c.key, message, size);
        CHECK(carry() == 2);
        struct event event = expect(&c, EVENT_MESSAGE_RECEIVED, &data);
        CHECK(event.size == size && !memcmp(data, message, size) && !memcmp(event.key, a.key, KEY_SIZE));
        CHECK(event.when == 1000);
    }
    plane_send_message(a.plane, c.key, message, sizeof message); /* too long: dropped, no event */
    plane_send_message(a.plane, c.key, message, 0);              /* an empty one arrives and says nothing */
    carry();
    expect_nothing(&a);
    expect_nothing(&b);
    expect_nothing(&c);
    struct remote *remote = remote_get(&c.plane->remotes, a.key);
    CHECK(remote->bytes_received == remote_get(&a.plane->remotes, c.key)->bytes_sent && remote->bytes_received > 9);
    CHECK(remote->last_traffic == 1000 && remote->last_session_use == 1000);
    /* Back: under keys that are new to a, so the control plane is told, once in a while. */
    for (int i = 0; i < 3; i++)
        plane_send_message(c.plane, a.key, message, 40);
    carry();
    struct event event = expect(&a, EVENT_SESSION_RATCHET, &data);
    CHECK(event.detail == SESSION_NEXT_SEND && event.number == 1 && event.generation == 1 && event.size == KEY_SIZE);
    CHECK(!memcmp(data, remote_get(&c.plane->remotes, a.key)->session.keys.next_public, KEY_SIZE));
    for (int i = 0; i < 3; i++)
        expect(&a, EVENT_MESSAGE_RECEIVED, NULL);
    expect_nothing(&a);
    a.plane->now += TELL_AGAIN * 2;
    plane_send_message(c.plane, a.key, message, 40);
    carry();
    CHECK(expect(&a, EVENT_SESSION_RATCHET, NULL).number == 4);
    expect(&a, EVENT_MESSAGE_RECEIVED, NULL);
    expect_nothing(&a);
    close_line();
}

/* A frame of traffic from b's link 1, with a watermark in the given number of bytes. */
static size_t make_traffic(uint8_t *out, const char *path, uint64_t mark, size_t digits, size_t body)
{
    uint8_t payload[1000];
    size_t size = strlen(path) + 1;
    memcpy(payload, path, size);
    memcpy(payload + size, "\7\7\7", 4);
    size += 4;
    memcpy(payload + size, a.key, KEY_SIZE);
    memcpy(payload + size + KEY_SIZE, c.key, KEY_SIZE);
    size += 2 * KEY_SIZE;
    for (size_t i = 0; i < digits; i++) {
        payload[size++] = (uint8_t)((mark & 0x7f) | (i + 1 < digits ? 0x80 : 0));
        mark >>= 7;
    }
    pattern(payload + size, body, 4);
    size += body;
    size_t head = uvarint_put(out, size + 1);
    out[head++] = FRAME_TRAFFIC;
    memcpy(out + head, payload, size);
    return head + size;
}

static void test_transit(void)
{
    open_line();
    static const struct {
        uint64_t mark;
        size_t digits, body;
    } cases[] = {{2, 1, 0},           {2, 1, 100},  {300, 2, 100}, {UINT64_MAX, 10, 0}, {UINT64_MAX, 10, 100},
                 {UINT64_MAX, 10, 45}, {2, 10, 30}, {2, 5, 49},    {1, 1, 10},          {0, 1, 10}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint8_t frame[1000], expected[1000];
        size_t size = make_traffic(frame, "\1\2", cases[i].mark, cases[i].digits, cases[i].body);
        size_t wanted = make_traffic(expected, "\1\2", 1, 1, cases[i].body);
        last_size = 0;
        /* In one piece, then cut in two anywhere. */
        for (size_t cut = 0; cut < size; cut += 1 + size / 7) {
            struct link *link = plane_link(b.plane, 1);
            plane_feed_link(b.plane, link, frame, cut);
            plane_feed_link(b.plane, link, frame + cut, size - cut);
            carry();
            if (cases[i].mark > 1) {
                CHECK(last_size == wanted && !memcmp(last_frame, expected, wanted));
                expect_nothing(&b);
            } else { /* not nearer than it has been: it goes nowhere */
                const uint8_t *data;
                struct event event = expect(&b, EVENT_TRAFFIC_UNROUTABLE, &data);
                size_t head = uvarint_size(event.size + 1) + 1;
                CHECK(head + event.size == size && !memcmp(data, frame + head, event.size));
            }
            buffer_free(&c.seen);
        }
    }
    /* A link that the table names but that is gone: the packet is lost, and nothing else. */
    uint8_t frame[1000];
    size_t size = make_traffic(frame, "\1\2", 9, 1, 30);
    plane_close_link(b.plane, 2);
    plane_feed_link(b.plane, plane_link(b.plane, 1), frame, size);
    carry();
    expect_nothing(&b);
    CHECK(!plane_link(b.plane, 1)->closed);
    close_line();
}

static void test_malformed_traffic(void)
{
    static const struct {
        const char *text;
        size_t cut;
        uint8_t bytes[14];
        size_t given;
    } cases[] = {
        {"path without end", 0, {1, 2, 3}, 3},
        {"path without end", 0, {0}, 0},
        {"path without end", 0, {0, 3, 4}, 3},
        {"number overflows 64 bits", 0,
         {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0}, 11},
        {"number cut short", 63, {0, 0}, 2},
        {"number cut short", 64, {0, 0}, 2},
        {"number cut short", 0, {0, 0}, 2},
        {"number cut short", 65, {0, 0}, 2}, /* the fill byte says: more to come */
        {"number overflows 64 bits", 75, {0, 0}, 2},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        open_line();
        uint8_t frame[200];
        size_t payload = cases[i].given + cases[i].cut, head = uvarint_put(frame, payload + 1);
        frame[head++] = FRAME_TRAFFIC;
        memcpy(frame + head, cases[i].bytes, cases[i].given);
        memset(frame + head + cases[i].given, 0xff, cases[i].cut);
        plane_feed_link(b.plane, plane_link(b.plane, 1), frame, head + payload);
        CHECK(!plane_link(b.plane, 1));
        carry();
        const uint8_t *text;
        struct event event = expect(&b, EVENT_LINK_ENDED, &text);
        CHECK(event.link_id == 1 && event.number == LINK_ERROR && event.detail == 0);
        CHECK(event.size == strlen(cases[i].text) && !memcmp(text, cases[i].text, event.size));
        expect_nothing(&b);
        close_line();
    }
}

static void test_ipv6(void)
{
    open_line();
    uint8_t packet[3000], other[ADDRESS_SIZE];
    const uint8_t *data;
    size_t size = make_packet(packet, a.address, c.address, 1000);
    plane_send_ipv6(a.plane, packet, size);
    carry();
    struct event event = expect(&a, EVENT_DESTINATION_UNKNOWN, &data);
    CHECK(event.size == size && !memcmp(data, packet, size));
    know(&a, &c);
    plane_send_ipv6(a.plane, packet, size);
    carry();
    expect(&c, EVENT_SOURCE_LEARNED, NULL);
    event = expect(&c, EVENT_IPV6_RECEIVED, &data);
    CHECK(event.size == size && !memcmp(data, packet, size) && !memcmp(event.key, a.key, KEY_SIZE));
    know(&c, &a);
    /* Within the subnets of both. */
    memcpy(other, c.subnet, SUBNET_SIZE);
    memset(other + SUBNET_SIZE, 7, SUBNET_SIZE);
    size = make_packet(packet, a.address, other, 10);
    memcpy(packet + 8, a.subnet, SUBNET_SIZE);
    plane_send_ipv6(a.plane, packet, size);
    carry();
    CHECK(expect(&c, EVENT_IPV6_RECEIVED, NULL).size == size);
    /* What is not ours to send: a foreign source, a destination outside, no IPv6, too short. */
    make_packet(packet, c.address, a.address, 0);
    plane_send_ipv6(a.plane, packet, 40);
    memset(other, 0xfd, sizeof other);
    make_packet(packet, a.address, other, 0);
    plane_send_ipv6(a.plane, packet, 40);
    make_packet(packet, a.address, c.address, 0);
    plane_send_ipv6(a.plane, packet, 39);
    packet[0] = 0x45;
    plane_send_ipv6(a.plane, packet, 40);
    CHECK(carry() == 0);
    /* What is not c's to send: its own session does not make another's address lawful. */
    memset(packet, INNER_TRAFFIC, 1);
    make_packet(packet + 1, b.address, c.address, 5);
    plane_send_message(a.plane, c.key, packet, 46);
    carry();
    expect_nothing(&c);
    /* Not for c's address, or with a wrong length: an application's datagram. */
    make_packet(packet + 1, a.address, b.address, 5);
    plane_send_message(a.plane, c.key, packet, 46);
    make_packet(packet + 1, a.address, c.address, 5);
    plane_send_message(a.plane, c.key, packet, 45);
    carry();
    CHECK(expect(&c, EVENT_MESSAGE_RECEIVED, NULL).size == 46);
    CHECK(expect(&c, EVENT_MESSAGE_RECEIVED, NULL).size == 45);
    expect_nothing(&a);
    expect_nothing(&c);

    /* Larger than c's MTU: the answer comes back, byte for byte. */
    size = make_packet(packet, a.address, c.address, DEFAULT_MTU + 1 - IPV6_HEADER_SIZE);
    uint8_t answer[ICMP_MAX_SIZE];
    size_t answer_size = icmp_packet_too_big(packet, size, DEFAULT_MTU, answer);
    plane_send_ipv6(a.plane, packet, size);
    carry();
    expect_nothing(&c);
    expect(&a, EVENT_SESSION_RATCHET, NULL);
    event = expect(&a, EVENT_IPV6_RECEIVED, &data);
    CHECK(event.size == answer_size && !memcmp(data, answer, answer_size));
    size = make_packet(packet, a.address, c.address, DEFAULT_MTU - IPV6_HEADER_SIZE);
    plane_send_ipv6(a.plane, packet, size);
    carry();
    CHECK(expect(&c, EVENT_IPV6_RECEIVED, NULL).size == DEFAULT_MTU);
    close_line();
}

static void test_deep_tree(void)
{
    /* Paths longer than the room in front of a packet go another way, up to what a frame can hold. */
    open_line();
    const uint8_t *data;
    static uint8_t path[MAX_FRAME_SIZE + 2];
    uint8_t message[300];
    pattern(message, sizeof message, 3);
    message[0] = INNER_PROTO;
    memset(path, 5, sizeof path);
    memcpy(path, "\1\2", 2);
    size_t around = sizeof message + SESSION_MIN_TRAFFIC + 2 * KEY_SIZE + 1 + 3; /* a's own path, and the watermark */
    for (size_t depth = 300; depth < 700; depth += 7) {
        path[depth] = 0;
        struct fib *fib = fib_new(path, depth + 1); /* c lies there */
        CHECK(fib);
        plane_set_fib(c.plane, fib);
        plane_remove_path(a.plane, c.key);
        CHECK(plane_set_path(a.plane, c.key, path, depth + 1));
        plane_send_message(a.plane, c.key, message, sizeof message);
        carry();
        struct event event = expect(&c, EVENT_MESSAGE_RECEIVED, &data);
        CHECK(event.size == sizeof message && !memcmp(data, message, sizeof message));
        path[depth] = 5;
    }
    /* The longest there may be, of that many ports, then one more. */
    for (size_t size = MAX_FRAME_SIZE - 1 - around; size <= MAX_FRAME_SIZE - around; size++) {
        path[size - 1] = 0;
        plane_remove_path(a.plane, c.key);
        CHECK(plane_set_path(a.plane, c.key, path, size));
        last_size = 0;
        plane_send_message(a.plane, c.key, message, sizeof message);
        carry();
        path[size - 1] = 5;
        CHECK(last_size == (size + around < MAX_FRAME_SIZE ? 3 + 1 + size + around : 0));
        buffer_free(&b.seen);
        buffer_free(&c.seen);
    }
    expect_nothing(&a);
    close_line();
}

static void test_events_hold_up_a_link(void)
{
    /* A peer that says more than the control plane can take is read no further until it has taken it. */
    open_line();
    int ends[2];
    CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends) == 0);
    struct stream stream;
    stream_init(&stream, ends[0]);
    CHECK(plane_add_link(a.plane, 9, b.key, &stream));
    struct link *link = plane_link(a.plane, 9);
    static uint8_t frame[40000] = {0xbd, 0xb8, 2, FRAME_ANNOUNCE}; /* 39,997 bytes follow the length */
    for (int i = 0; i < 8; i++) {
        CHECK(send(ends[1], frame, sizeof frame, 0) == sizeof frame);
        CHECK(link->watching_input == (i < 7));
        if (link->watching_input)
            plane_read_link(a.plane, link);
    }
    CHECK(!link_wants_input(link));
    carry(); /* takes the events */
    CHECK(link->watching_input && link->event_bytes == 0);
    plane_read_link(a.plane, link);
    close(ends[1]);
    plane_read_link(a.plane, link);
    CHECK(!plane_link(a.plane, 9));
    carry();
    for (int i = 0; i < 8; i++)
        CHECK(expect(&a, EVENT_PROTOCOL_FRAME, NULL).size == 39996);
    CHECK(expect(&a, EVENT_LINK_ENDED, NULL).number == LINK_EOF);
    expect_nothing(&a);
    close_line();
}

static void test_ends(void)
{
    /* A link that the control plane closes ends silently, even with unwritten frames; one that dies is told of once. */
    open_line();
    plane_close_link(a.plane, 77);
    link_send_direct(plane_link(b.plane, 1), FRAME_ANNOUNCE, b.key, 5, b.plane->now);
    plane_close_link(b.plane, 1);
    CHECK(!plane_link(b.plane, 1) && carry() == 0);
    expect_nothing(&b);
    link_send_direct(plane_link(b.plane, 2), FRAME_ANNOUNCE, b.key, 5, b.plane->now);
    link_send_direct(plane_link(a.plane, 1), FRAME_ANNOUNCE, a.key, 5, a.plane->now);
    carry();
    expect(&c, EVENT_PROTOCOL_FRAME, NULL);
    a.plane->now = b.plane->now += READ_TIMEOUT;
    CHECK(plane_next_timer(a.plane) == a.plane->now && plane_timers(a.plane) == 0);
    plane_link(b.plane, 2)->handed = 2 * MAX_DIRECT_BACKLOG;
    struct link *link = plane_link(b.plane, 2);
    link_send_direct(link, FRAME_ANNOUNCE, b.key, 5, b.plane->now);
    plane_check_link(b.plane, link);
    plane_check_link(b.plane, link);
    plane_timers(b.plane);
    carry();
    CHECK(expect(&a, EVENT_LINK_ENDED, NULL).link_id == 1 && expect(&b, EVENT_LINK_ENDED, NULL).link_id == 2);
    expect_nothing(&a);
    expect_nothing(&b);
    close_line();
}

/* Lets the TUN of `a` bring a UDP packet to c from a port, and a read it. */
static void tun_brings(int fd, uint8_t port, size_t size)
{
    uint8_t packet[9000];
    make_packet(packet, a.address, c.address, size - IPV6_HEADER_SIZE);
    packet[6] = 17;
    packet[IPV6_HEADER_SIZE] = port;
    CHECK(send(fd, packet, size, 0) == (ssize_t)size);
    plane_read_tun(a.plane);
    plane_settle(a.plane);
}

/* The port of the next packet that has reached c. */
static uint8_t port_received(void)
{
    const uint8_t *data;
    expect(&c, EVENT_IPV6_RECEIVED, &data);
    return data[IPV6_HEADER_SIZE];
}

static void test_tun_waits(void)
{
    open_line();
    know(&a, &c);
    know(&c, &a);
    int ends[2];
    CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, ends) == 0);
    CHECK(tun_attach(&a.plane->tun, ends[0], 1400));
    struct link *link = plane_link(a.plane, 1);
    /* While the link has enough to do, packets wait, flow by flow; nothing goes to the queue that drops. */
    link->handed = WRITE_AHEAD_LIMIT;
    for (int i = 0; i < 7; i++)
        tun_brings(ends[1], 1, 1200);
    CHECK(a.plane->fair.count == 1 && !a.plane->tun.paused_until); /* QUIET_ALLOWANCE is six of them */
    CHECK(link->queue.count == 6);
    CHECK(a.plane->egress_at == a.plane->now + EGRESS_RETRY && plane_next_timer(a.plane) == a.plane->egress_at);
    tun_brings(ends[1], 1, 1200);
    tun_brings(ends[1], 2, 100); /* a quiet flow passes */
    CHECK(a.plane->fair.count == 2 && link->queue.count == 7);
    tun_brings(ends[1], 3, 1000); /* ... but not many bytes of them */
    CHECK(a.plane->fair.count == 3 && link->queue.count == 7);
    link->handed = 0;
    link_flush(link, a.plane->now);
    plane_settle(a.plane);
    CHECK(fair_is_empty(&a.plane->fair) && !link->queue.count && a.plane->egress_at == 0);
    carry();
    for (int i = 0; i < 6; i++)
        CHECK(port_received() == 1);
    CHECK(port_received() == 2 && port_received() == 3 && port_received() == 1 && port_received() == 1);
    expect_nothing(&c);
    /* A link that is gone lets go what waits for it: there is no way, and the control plane hears of it. */
    link->handed = WRITE_AHEAD_LIMIT;
    for (int i = 0; i < 9; i++)
        tun_brings(ends[1], 1, 1200);
    CHECK(a.plane->fair.count == 3);
    plane_remove_path(a.plane, c.key);
    plane_settle(a.plane);
    CHECK(fair_is_empty(&a.plane->fair));
    carry();
    for (int i = 0; i < 3; i++)
        expect(&a, EVENT_PATH_MISSING, NULL);
    CHECK(plane_set_path(a.plane, c.key, (const uint8_t *)"\1\2", 3));
    link->handed = 0;
    link_flush(link, a.plane->now);
    carry();
    while (buffer_size(&c.seen))
        expect(&c, EVENT_IPV6_RECEIVED, NULL);

    /* When all room is taken the TUN waits too, and only when that has lasted does the heaviest flow pay. */
    link->handed = WRITE_AHEAD_LIMIT;
    while (!a.plane->tun.paused_until)
        tun_brings(ends[1], 1, 1200);
    CHECK(fair_is_full(&a.plane->fair) && !a.plane->fair.dropped);
    CHECK(a.plane->tun.paused_until == a.plane->now + TUN_PAUSE_LIMIT);
    a.plane->now += TUN_PAUSE_LIMIT;
    plane_timers(a.plane);
    CHECK(a.plane->tun.paused_until == 0);
    size_t count = a.plane->fair.count;
    tun_brings(ends[1], 1, 1200);
    CHECK(a.plane->fair.dropped == 1 && a.plane->fair.count == count && a.plane->tun.paused_until);
    link->handed = 0;
    plane_settle(a.plane);
    CHECK(!a.plane->tun.paused_until && a.plane->fair.count < count);
    carry();
    while (!fair_is_empty(&a.plane->fair)) {
        link->handed = 0;
        plane_settle(a.plane);
        carry();
    }
    while (buffer_size(&c.seen))
        expect(&c, EVENT_IPV6_RECEIVED, NULL);

    /* The memory of a large one serves the next, and is given back when nothing waits any more. */
    c.plane->tun.mtu = 9000;
    link->handed = WRITE_AHEAD_LIMIT;
    tun_brings(ends[1], 1, 9000);
    CHECK(a.plane->fair.count == 1 && !a.plane->spares);
    link->handed = 0;
    plane_settle(a.plane);
    carry();
    CHECK(expect(&c, EVENT_IPV6_RECEIVED, NULL).size == 9000 && a.plane->spares == 1);
    link->handed = WRITE_AHEAD_LIMIT;
    const struct fair_packet *spare = a.plane->spare;
    tun_brings(ends[1], 1, 9000);
    CHECK(a.plane->fair.count == 1 && !a.plane->spares);
    link->handed = 0;
    plane_settle(a.plane);
    carry();
    CHECK(expect(&c, EVENT_IPV6_RECEIVED, NULL).size == 9000 && a.plane->spare == spare);
    a.plane->links_at = a.plane->now;
    plane_timers(a.plane);
    CHECK(!a.plane->spares && !a.plane->spare);

    /* A device that is gone is told of once, and everything else goes on. */
    close(ends[0]);
    plane_read_tun(a.plane);
    CHECK(a.plane->tun.error);
    plane_settle(a.plane);
    plane_settle(a.plane);
    CHECK(a.plane->tun.fd < 0 && a.plane->tun.mtu == DEFAULT_MTU && !a.plane->tun.error);
    link->handed = 1 << 20;
    carry();
    expect(&a, EVENT_TUN_FAILED, NULL);
    expect_nothing(&a);
    close(ends[1]);
    close_line();
}

int main(void)
{
    test_deep_tree();
    test_events_hold_up_a_link();
    test_ends();
    test_tun_waits();
    test_message();
    test_transit();
    test_malformed_traffic();
    test_ipv6();
    return 0;
}
