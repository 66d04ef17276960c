/*
 * What a plane knows of remote nodes: records that live as long as a table has the node, the payload that is kept and
 * sent again when a path changes, the memory that all kept payloads may take; and the questions that come up when
 * something is not known.
 */
#include "mesh.h"

static void test_questions(void)
{
    open_line();
    const uint8_t *data;
    uint8_t message[200], packet[300];
    pattern(message, sizeof message, 1);
    message[0] = INNER_PROTO;
    /* No session: the message comes back as it was. */
    plane_remove_session(a.plane, c.key);
    CHECK(remote_get(&a.plane->remotes, c.key)); /* there still is a path */
    plane_send_message(a.plane, c.key, message, sizeof message);
    carry();
    struct event event = expect(&a, EVENT_SESSION_MISSING, &data);
    CHECK(event.size == sizeof message && !memcmp(data, message, event.size) && !memcmp(event.key, c.key, KEY_SIZE));
    know(&a, &c);
    size_t size = make_packet(packet, a.address, c.address, 50);
    plane_send_ipv6(a.plane, packet, size);
    carry();
    event = expect(&a, EVENT_SESSION_MISSING, &data);
    CHECK(event.size == size + 1 && data[0] == INNER_TRAFFIC && !memcmp(data + 1, packet, size));
    /* No path: what comes up is sealed already, and can be sent as it is when there is one. */
    give_session(&a, &c, 300);
    plane_remove_path(a.plane, c.key);
    plane_send_message(a.plane, c.key, message, sizeof message);
    carry();
    event = expect(&a, EVENT_PATH_MISSING, &data);
    CHECK(event.size == sizeof message + SESSION_MIN_TRAFFIC && !memcmp(event.key, c.key, KEY_SIZE));
    uint8_t sealed[400];
    memcpy(sealed, data, event.size);
    plane_send_payload(a.plane, c.key, sealed, event.size);
    carry();
    CHECK(expect(&a, EVENT_PATH_MISSING, &data).size == event.size && !memcmp(data, sealed, event.size));
    path_to(&a, &c, "\1\2");
    plane_send_payload(a.plane, c.key, sealed, event.size);
    carry();
    event = expect(&c, EVENT_MESSAGE_RECEIVED, &data);
    CHECK(event.size == sizeof message && !memcmp(data, message, sizeof message));
    /* The counter used up: nothing more is sealed. */
    remote_get(&a.plane->remotes, c.key)->session.send_nonce = UINT64_MAX;
    plane_send_message(a.plane, c.key, message, sizeof message);
    carry();
    event = expect(&a, EVENT_NONCE_EXHAUSTED, &data);
    CHECK(event.size == sizeof message && !memcmp(data, message, event.size));
    /* Nobody nearer: what would have been sent comes up as the payload of a frame. */
    give_session(&a, &c, 500);
    place(&a, "");
    plane_send_message(a.plane, c.key, message, sizeof message);
    carry();
    event = expect(&a, EVENT_TRAFFIC_UNROUTABLE, &data);
    CHECK(!memcmp(data, "\1\2\0", 4) && !memcmp(data + 4, a.key, KEY_SIZE) && !memcmp(data + 36, c.key, KEY_SIZE));
    uint64_t mark;
    CHECK(uvarint_get(data + 68, MAX_UVARINT_SIZE, &mark) == MAX_UVARINT_SIZE && mark == MAX_WATERMARK);
    CHECK(event.size == 68 + MAX_UVARINT_SIZE + SESSION_MIN_TRAFFIC + sizeof message);
    expect_nothing(&a);
    expect_nothing(&b);
    expect_nothing(&c);
    close_line();
}

static void test_strangers(void)
{
    open_line();
    const uint8_t *data;
    uint8_t payload[100] = {MESSAGE_TRAFFIC, 9, 9, 9};
    /* b has no session with a. */
    plane_send_payload(a.plane, b.key, payload, sizeof payload);
    carry();
    CHECK(!memcmp(expect(&b, EVENT_SESSION_UNKNOWN, NULL).key, a.key, KEY_SIZE));
    /* c has one, that these do not fit. */
    plane_send_payload(a.plane, c.key, payload, sizeof payload);
    carry();
    CHECK(!memcmp(expect(&c, EVENT_SESSION_MISMATCH, NULL).key, a.key, KEY_SIZE));
    for (uint8_t type = 0; type < 10; type++) {
        payload[0] = type;
        plane_send_payload(a.plane, c.key, payload, type == MESSAGE_TRAFFIC ? 10 : sizeof payload);
        carry();
        if (type == MESSAGE_INIT || type == MESSAGE_ACK) {
            struct event event = expect(&c, EVENT_SESSION_MESSAGE, &data);
            CHECK(event.size == sizeof payload && data[0] == type && !memcmp(event.key, a.key, KEY_SIZE));
        }
        expect_nothing(&c); /* all else, and traffic too short, is dropped silently */
    }
    plane_send_payload(a.plane, c.key, payload, 0);
    carry();
    expect_nothing(&c);
    /* To ourselves: it never leaves. */
    path_to(&a, &a, "");
    payload[0] = MESSAGE_INIT;
    plane_send_payload(a.plane, a.key, payload, sizeof payload);
    CHECK(carry() == 0 && !memcmp(expect(&a, EVENT_SESSION_MESSAGE, NULL).key, a.key, KEY_SIZE));
    expect_nothing(&a);
    expect_nothing(&b);
    expect_nothing(&c);
    close_line();
}

static void test_bounded_questions(void)
{
    /* Strangers and applications can ask as much as they want; what waits for an answer is bounded. */
    open_line();
    static uint8_t message[60000];
    plane_remove_session(a.plane, c.key);
    for (int i = 0; i < 100; i++)
        plane_send_message(a.plane, c.key, message, sizeof message);
    CHECK(a.plane->events.asking <= EVENTS_ASK_BYTES && a.plane->events.dropped == 100 - 17);
    carry();
    for (int i = 0; i < 17; i++)
        expect(&a, EVENT_SESSION_MISSING, NULL);
    expect_nothing(&a);
    plane_send_message(a.plane, c.key, message, sizeof message); /* taken: there is room again */
    carry();
    expect(&a, EVENT_SESSION_MISSING, NULL);
    expect_nothing(&a);
    close_line();
}

static void expect_many(struct node *node, enum event_type type, size_t count)
{
    for (size_t i = 0; i < count; i++)
        expect(node, type, NULL);
    expect_nothing(node);
}

static void test_bounded_strangers(void)
{
    /* What comes in one batch from somebody without a session, or in another's name, is told of a few times. */
    open_line();
    uint8_t payload[100] = {MESSAGE_TRAFFIC, 9, 9, 9};
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < 100; i++)
            plane_send_payload(a.plane, b.key, payload, sizeof payload);
        carry();
        expect_many(&b, EVENT_SESSION_UNKNOWN, MAX_UNOPENED);
        for (int i = 0; i < 100; i++)
            plane_send_payload(a.plane, c.key, payload, sizeof payload);
        carry();
        expect_many(&c, EVENT_SESSION_MISMATCH, MAX_UNOPENED);
    }
    /* Packets that cannot go on: a few; those with endless paths, which cost most to look at: never. */
    path_to(&a, &c, "\1\3");
    for (int i = 0; i < 100; i++)
        plane_send_payload(a.plane, c.key, payload, sizeof payload);
    carry();
    expect_many(&b, EVENT_TRAFFIC_UNROUTABLE, MAX_UNROUTABLE);
    plane_remove_path(a.plane, c.key);
    char path[MAX_TOLD_PATHS + 1];
    memset(path, 3, sizeof path);
    path[0] = 1;
    for (size_t depth = MAX_TOLD_PATHS - 2; depth <= MAX_TOLD_PATHS; depth++) { /* a's own path takes a byte, too */
        path[depth] = 0;
        plane_remove_path(a.plane, c.key);
        path_to(&a, &c, path);
        plane_send_payload(a.plane, c.key, payload, sizeof payload);
        carry();
        expect_many(&b, EVENT_TRAFFIC_UNROUTABLE, depth + 2 <= MAX_TOLD_PATHS);
        path[depth] = 3;
    }
    expect_nothing(&a);
    close_line();
}

static void test_kept(void)
{
    open_line();
    const uint8_t *data;
    static uint8_t message[20000];
    pattern(message, sizeof message, 1);
    message[0] = INNER_PROTO;
    /* The way c is said to lie leads nowhere at b; when the path is known, what was sent last goes there. */
    path_to(&a, &c, "\1\3");
    for (size_t size = 20; size <= sizeof message; size *= 3) {
        plane_send_message(a.plane, c.key, message, 10);
        plane_send_message(a.plane, c.key, message, size);
    }
    carry();
    for (int i = 0; i < 14; i++)
        expect(&b, EVENT_TRAFFIC_UNROUTABLE, NULL);
    expect_nothing(&b);
    path_to(&a, &c, "\1\2");
    carry();
    struct event event = expect(&c, EVENT_MESSAGE_RECEIVED, &data);
    CHECK(event.size == 20 * 729 && !memcmp(data, message, event.size));
    path_to(&a, &c, "\1\2"); /* again: it is sent again, and c knows it for a replay */
    CHECK(carry() == 2);
    expect_nothing(&c);
    /* A path that is gone takes its payload with it. */
    plane_remove_path(a.plane, c.key);
    CHECK(a.plane->remotes.kept_bytes == 0);
    path_to(&a, &c, "\1\2");
    CHECK(carry() == 0);
    expect_nothing(&a);
    expect_nothing(&c);
    close_line();
}

static void test_kept_bound(void)
{
    enum { NODES = 300, SIZE = 60000 };
    struct remotes remotes;
    remotes_init(&remotes);
    static uint8_t payload[SIZE];
    for (uint32_t i = 0; i < NODES; i++) {
        uint8_t key[KEY_SIZE];
        make_key(key, i);
        struct remote *remote = remote_make(&remotes, key);
        CHECK(remote && remote_set_path(remote, (const uint8_t *)"\1", 2));
        pattern(payload, SIZE, i);
        if (i % 2) {
            remote_keep(&remotes, remote, payload, SIZE);
        } else {
            uint8_t *memory = malloc(PACKET_ROOM), *before = memory;
            CHECK(memory);
            memcpy(memory + 77, payload, SIZE);
            CHECK(remote_keep_memory(&remotes, remote, &memory, PACKET_ROOM, 77, SIZE) && memory != before);
            memset(memory, 0, PACKET_ROOM);
            /* Once more: now the record's own memory is what comes back. */
            uint8_t *first = memory;
            memcpy(memory + 5, payload, SIZE);
            CHECK(remote_keep_memory(&remotes, remote, &memory, PACKET_ROOM, 5, SIZE) && memory == before);
            CHECK(remote->kept == first && remote->kept_start == 5);
            free(memory);
        }
        CHECK(remotes.kept_bytes <= MAX_KEPT_BYTES);
    }
    /* The longest kept were forgotten; of the others none is damaged, and the account is right. */
    size_t sum = 0, keeping = 0;
    for (uint32_t i = 0; i < NODES; i++) {
        uint8_t key[KEY_SIZE];
        make_key(key, i);
        struct remote *remote = remote_get(&remotes, key);
        CHECK(remote && (!keeping || remote->kept));
        if (!remote->kept)
            continue;
        keeping++;
        sum += remote->kept_room;
        pattern(payload, SIZE, i);
        CHECK(remote->kept_size == SIZE && !memcmp(remote->kept + remote->kept_start, payload, SIZE));
    }
    CHECK(sum == remotes.kept_bytes && keeping > 100 && keeping < 150);
    /* Small payloads do not hold large memory for ever. */
    for (struct remote *remote; (remote = remotes.first_kept);) {
        remote_keep(&remotes, remote, payload, 10);
        CHECK(remote->kept_size == 10 && !memcmp(remote->kept, payload, 10));
        CHECK(remote->kept_room <= 4 * (10 + 1024 + 1));
        remote->has_path = false;
        remote_release(&remotes, remote);
    }
    CHECK(remotes.kept_bytes == 0 && !remotes.last_kept && remotes.by_key.count == NODES - keeping);
    remotes_free(&remotes);
}

static void test_addresses(void)
{
    struct remotes remotes;
    remotes_init(&remotes);
    struct node one, two;
    open_node(&one, 1);
    open_node(&two, 2);
    struct remote *first = remote_make(&remotes, one.key), *second = remote_make(&remotes, two.key);
    CHECK(first && second && remote_make(&remotes, one.key) == first);
    CHECK(!memcmp(first->address, one.address, ADDRESS_SIZE) && !memcmp(first->subnet, one.subnet, SUBNET_SIZE));
    /* Two keys with one address: the later one has it, and the earlier one's end does not take it away. */
    CHECK(remote_set_address(&remotes, first, one.address, one.subnet));
    CHECK(remote_set_address(&remotes, second, one.address, one.subnet));
    CHECK(table_get(&remotes.by_address, one.address) == second && table_get(&remotes.by_subnet, one.subnet) == second);
    remote_remove_address(&remotes, first);
    remote_release(&remotes, first);
    CHECK(table_get(&remotes.by_address, one.address) == second && table_get(&remotes.by_subnet, one.subnet) == second);
    CHECK(!remote_get(&remotes, one.key));
    /* A new address in place of the old one. */
    CHECK(remote_set_address(&remotes, second, two.address, two.subnet));
    CHECK(!table_get(&remotes.by_address, one.address) && !table_get(&remotes.by_subnet, one.subnet));
    CHECK(table_get(&remotes.by_address, two.address) == second);
    remote_release(&remotes, second); /* not while it has an address */
    CHECK(remote_get(&remotes, two.key) == second);
    remotes_free(&remotes);
    close_node(&one);
    close_node(&two);

    /* From the protocol: leading ones are counted in the inverted key. */
    uint8_t key[KEY_SIZE] = {0}, address[ADDRESS_SIZE];
    address_for_key(key, address);
    CHECK(address[0] == 2 && address[1] == 0 && !address[2]); /* 256 leading zeros do not fit a byte */
    key[2] = 0x35;                                             /* 18 zeros, a one, then 1 0101 0000 ... */
    address_for_key(key, address);
    CHECK(address[0] == 2 && address[1] == 18 && address[2] == (uint8_t)~0xa8 && address[3] == 0xff);
    CHECK(address[15] == 0xff);
    memset(key, 0xff, sizeof key);
    address_for_key(key, address);
    CHECK(address[1] == 0 && !address[2] && !address[15]);
}

int main(void)
{
    test_questions();
    test_strangers();
    test_bounded_questions();
    test_bounded_strangers();
    test_kept();
    test_kept_bound();
    test_addresses();
    return 0;
}
