/*
 * Two engines with threads of their own, joined by a socket, plain or TLS, while this thread calls in from above as the
 * control plane does: it sends, takes events, changes tables, closes links, attaches a TUN (a pair of datagram sockets
 * here) and frees engines in the middle of all that.
 */
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "certificate.h"
#include "check.h"
#include "engine.h"

struct node {
    struct engine *engine;
    int wake;
    uint8_t key[KEY_SIZE], address[ADDRESS_SIZE], subnet[SUBNET_SIZE];
    uint32_t messages, last, frames; /* received; the number of the last message */
    struct event ended;
    bool has_ended;
};

static struct node one, two;
static struct tls_context *client_context, *server_context;

static double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static void open_node(struct node *node, uint32_t seed)
{
    *node = (struct node){.wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
    make_key(node->key, seed);
    address_for_key(node->key, node->address);
    memcpy(node->subnet, node->address, SUBNET_SIZE);
    node->subnet[0] = SUBNET_PREFIX;
    node->engine = engine_new(node->key, node->address, node->subnet, true, 1000, node->wake);
    CHECK(node->wake >= 0 && node->engine);
}

static void close_node(struct node *node)
{
    engine_free(node->engine);
    close(node->wake);
}

static struct plane *enter(struct node *node)
{
    if (engine_try_lock(node->engine))
        return node->engine->plane;
    return engine_lock(node->engine);
}

static void leave(struct node *node)
{
    plane_settle(node->engine->plane);
    engine_note_timers(node->engine);
    engine_unlock(node->engine);
}

/* Takes what waits, at most so long after nothing does. */
static void take(struct node *node, int milliseconds)
{
    struct pollfd ready = {.fd = node->wake, .events = POLLIN};
    if (poll(&ready, 1, milliseconds) != 1)
        return;
    struct buffer batch;
    enter(node);
    events_take(&node->engine->plane->events, &batch);
    plane_events_taken(node->engine->plane);
    engine_unlock(node->engine);
    struct event event;
    const uint8_t *data;
    while (events_next(&batch, &event, &data)) {
        switch (event.type) {
        case EVENT_MESSAGE_RECEIVED: {
            static uint8_t expected[2000];
            uint32_t number;
            CHECK(event.size >= 5 && event.size <= sizeof expected && data[0] == INNER_PROTO);
            memcpy(&number, data + 1, sizeof number);
            pattern(expected, event.size, number);
            CHECK(!memcmp(data + 5, expected + 5, event.size - 5));
            CHECK(number > node->last); /* never twice, never overtaken */
            node->last = number;
            node->messages++;
            break;
        }
        case EVENT_PROTOCOL_FRAME:
            CHECK(event.number == FRAME_SIG_REQ && event.size == 3 && !memcmp(data, "abc", 3));
            node->frames++;
            break;
        case EVENT_LINK_ENDED:
            CHECK(event.link_id == 1 && !node->has_ended);
            node->ended = event;
            node->has_ended = true;
            break;
        default:
            CHECK(event.type == EVENT_SESSION_RATCHET);
        }
    }
    buffer_free(&batch);
}

static void send_to(struct node *from, const struct node *to, uint32_t number)
{
    uint8_t message[2000];
    size_t size = 5 + number * 37 % 1200;
    pattern(message, size, number);
    message[0] = INNER_PROTO;
    memcpy(message + 1, &number, sizeof number);
    plane_send_message(enter(from), to->key, message, size);
    leave(from);
}

static void attach(struct node *node, const struct node *other, struct stream *stream)
{
    struct plane *plane = enter(node);
    CHECK(plane_add_link(plane, 1, other->key, stream));
    plane_read_link(plane, plane_link(plane, 1));
    leave(node);
}

static void set_tables(struct node *node, const struct node *other, const char *own, const char *path,
                       const struct session_keys *keys)
{
    struct fib *fib = fib_new((const uint8_t *)own, strlen(own) + 1);
    CHECK(fib && fib_add(fib, 1, other->key, (const uint8_t *)path, strlen(path) + 1, 1, 0, 0));
    struct plane *plane = enter(node);
    uint64_t generation;
    plane_set_fib(plane, fib);
    CHECK(plane_set_path(plane, other->key, (const uint8_t *)path, strlen(path) + 1));
    CHECK(plane_set_address(plane, other->key, other->address, other->subnet));
    CHECK(!keys || plane_set_session(plane, other->key, keys, &generation));
    leave(node);
}

/* Makes two engines with a link between them. */
static void open_pair(bool tls)
{
    open_node(&one, 1);
    open_node(&two, 2);
    int ends[2];
    char reason[TLS_REASON_SIZE];
    CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends) == 0);
    struct stream client, server;
    stream_init(&client, ends[0]);
    stream_init(&server, ends[1]);
    if (tls) {
        client.tls = tls_new(client_context, "two", reason);
        server.tls = tls_new(server_context, NULL, reason);
        CHECK(client.tls && server.tls);
        enum tls_status first = TLS_MORE, second = TLS_MORE;
        while (first != TLS_OK || second != TLS_OK) {
            if (first == TLS_MORE)
                first = stream_handshake(&client);
            if (second == TLS_MORE)
                second = stream_handshake(&server);
            CHECK((first == TLS_OK || first == TLS_MORE) && (second == TLS_OK || second == TLS_MORE));
        }
    }
    /* One is the root, two its child. */
    struct session_keys for_one, for_two;
    make_sessions(&for_one, &for_two, 50);
    set_tables(&one, &two, "", "\1", &for_one);
    set_tables(&two, &one, "\1", "", &for_two);
    attach(&one, &two, &client);
    attach(&two, &one, &server);
}

static void close_pair(void)
{
    close_node(&one);
    close_node(&two);
}

static void test_exchange(bool tls)
{
    enum { COUNT = 3000, WINDOW = 60 }; /* so few on their way that no queue drops any */
    open_pair(tls);
    double end = seconds() + 60;
    uint32_t sent = 0;
    while (one.messages < COUNT || two.messages < COUNT) {
        CHECK(seconds() < end);
        if (sent < COUNT && sent < one.messages + WINDOW && sent < two.messages + WINDOW) {
            sent++;
            send_to(&one, &two, sent);
            send_to(&two, &one, sent);
            if (sent % 700 == 0) { /* tables change under the traffic; the kept payload goes out again */
                set_tables(&one, &two, "", "\1", NULL);
                set_tables(&two, &one, "\1", "", NULL);
            }
            if (sent % 4)
                continue;
        }
        take(&one, 0);
        take(&two, one.messages < sent ? 0 : 1);
    }
    CHECK(one.messages == COUNT && two.messages == COUNT && !one.has_ended && !two.has_ended);
    const struct link *link = plane_link(enter(&one), 1);
    CHECK(link && link->sent > COUNT * 600 && link->received > COUNT * 600);
    leave(&one);

    /* One end goes; the other learns of it. */
    plane_close_link(enter(&one), 1);
    leave(&one);
    while (!two.has_ended) {
        CHECK(seconds() < end);
        take(&two, 10);
    }
    CHECK(two.ended.number == LINK_EOF && !one.has_ended);
    close_pair();
}

static void test_busy_end(bool tls)
{
    /* Everything at once, and the link or an engine goes in the middle of it. What arrives is whole, in order. */
    for (int round = 0; round < 6; round++) {
        open_pair(tls);
        for (uint32_t i = 1; i < 400; i++) {
            send_to(&one, &two, i);
            send_to(&two, &one, i);
            if (i % 50 == 0) {
                take(&one, 0);
                take(&two, 0);
            }
            if (i == 300 && round % 3 == 1) {
                plane_close_link(enter(&one), 1);
                leave(&one);
            }
            if (i == 300 && round % 3 == 2) {
                engine_free(one.engine);
                break;
            }
        }
        if (round % 3 == 2) {
            double end = seconds() + 20;
            while (!two.has_ended && seconds() < end)
                take(&two, 10);
            CHECK(two.has_ended);
            close(one.wake);
            close_node(&two);
        } else {
            close_pair();
        }
    }
}

static void test_keepalive(void)
{
    /* A frame is handed up, and answered after a second of silence, by the clock of the engine. */
    open_pair(true);
    double begin = seconds();
    struct plane *plane = enter(&one);
    link_send_direct(plane_link(plane, 1), FRAME_SIG_REQ, (const uint8_t *)"abc", 3, plane->now);
    leave(&one);
    uint64_t received = 0;
    while (!received) {
        CHECK(seconds() < begin + 10);
        take(&two, 20);
        const struct link *link = plane_link(enter(&one), 1);
        CHECK(link && (link->read_by != 0) == !link->received);
        received = link->received;
        leave(&one);
    }
    CHECK(two.frames == 1 && received == 2 && seconds() - begin >= KEEPALIVE_DELAY * 0.99);
    close_pair();
}

static void test_tun(void)
{
    enum { COUNT = 500, SIZE = 600 };
    open_pair(true);
    int first[2], second[2];
    CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, first) == 0);
    CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, second) == 0);
    enter(&one);
    CHECK(engine_attach_tun(one.engine, first[0], 1400));
    leave(&one);
    enter(&two);
    CHECK(engine_attach_tun(two.engine, second[0], 1400));
    leave(&two);
    uint8_t packet[SIZE] = {0x60, [4] = (SIZE - 40) >> 8, [5] = (SIZE - 40) & 0xff, [6] = 59, [7] = 64}, got[2000];
    memcpy(packet + 8, one.address, ADDRESS_SIZE);
    memcpy(packet + 24, two.address, ADDRESS_SIZE);
    double end = seconds() + 30;
    for (uint32_t sent = 0, came = 0; came < COUNT;) {
        CHECK(seconds() < end);
        if (sent < COUNT && sent < came + 20) {
            memcpy(packet + 40, &sent, sizeof sent);
            pattern(packet + 44, SIZE - 44, sent);
            sent += send(first[1], packet, SIZE, 0) == SIZE;
        }
        if (sent % 10 == 0) /* this thread calls in now and then */
            take(&two, 0);
        ssize_t size = recv(second[1], got, sizeof got, 0);
        if (size < 0)
            continue;
        uint8_t expected[SIZE - 44];
        pattern(expected, sizeof expected, came);
        CHECK(size == SIZE && !memcmp(got, packet, 40) && !memcmp(got + 40, &came, sizeof came));
        CHECK(!memcmp(got + 44, expected, sizeof expected));
        came++;
    }
    /* Taken away, it is not touched any more; the MTU is the least one again. */
    enter(&one);
    engine_detach_tun(one.engine);
    CHECK(one.engine->plane->tun.mtu == DEFAULT_MTU);
    leave(&one);
    CHECK(send(first[1], packet, SIZE, 0) == SIZE);
    take(&one, 20);
    CHECK(recv(first[0], got, sizeof got, 0) == SIZE && recv(second[1], got, sizeof got, 0) < 0);
    close_pair(); /* with the other one still there */
    for (int i = 0; i < 2; i++) {
        close(first[i]);
        close(second[i]);
    }
}

static void test_without_thread(void)
{
    /* For simulations: nobody touches it but the caller, who also tells the time. */
    uint8_t key[KEY_SIZE] = {1}, address[ADDRESS_SIZE] = {2}, subnet[SUBNET_SIZE] = {3};
    struct engine *engine = engine_new(key, address, subnet, false, 0, -1);
    CHECK(engine);
    struct plane *plane = engine_lock(engine);
    CHECK(plane->now == 0 && !engine_try_lock(engine));
    plane->now = 5;
    struct stream feed;
    stream_init(&feed, -1);
    CHECK(plane_add_link(plane, 1, key, &feed));
    link_send_direct(plane_link(plane, 1), FRAME_SIG_REQ, key, 3, plane->now);
    plane_settle(plane);
    engine_note_timers(engine);
    CHECK(plane_timers(plane) == 5 + READ_TIMEOUT);
    plane->now = 5 + READ_TIMEOUT;
    CHECK(plane_timers(plane) == 0 && !plane_link(plane, 1));
    engine_unlock(engine);
    CHECK(engine_try_lock(engine) && plane->now == 5 + READ_TIMEOUT);
    engine_unlock(engine);
    engine_free(engine);
    engine_free(NULL);
}

int main(void)
{
    uint8_t seed[32] = {7};
    char reason[TLS_REASON_SIZE];
    struct buffer certificate = {0}, key = {0};
    CHECK(certificate_make(seed, "node", &certificate, &key));
    client_context = tls_client_context(reason);
    server_context = tls_server_context((const char *)buffer_bytes(&certificate), buffer_size(&certificate),
                                        (const char *)buffer_bytes(&key), buffer_size(&key), reason);
    CHECK(client_context && server_context);
    buffer_free(&certificate);
    buffer_free(&key);
    test_exchange(false);
    test_exchange(true);
    test_busy_end(false);
    test_busy_end(true);
    test_keepalive();
    test_tun();
    test_without_thread();
    tls_context_free(client_context);
    tls_context_free(server_context);
    return 0;
}
