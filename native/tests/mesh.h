/*
 * Three planes in a line, a - b - c, joined by their feeds: what one gives to the carrier of a link is handed to the
 * other. The clock of each stands until a test moves it.
 */
#ifndef YGGPY_MESH_H
#define YGGPY_MESH_H

#include "check.h"
#include "plane.h"

struct node {
    struct plane *plane;
    uint8_t key[KEY_SIZE], address[ADDRESS_SIZE], subnet[SUBNET_SIZE];
    struct buffer seen; /* events other than output, as they came */
};

static struct node a, b, c;
static uint8_t last_frame[MAX_FRAME_SIZE + MAX_FRAME_HEAD]; /* that was carried */
static size_t last_size;

static inline void open_node(struct node *node, uint32_t seed)
{
    *node = (struct node){0};
    make_key(node->key, seed);
    address_for_key(node->key, node->address);
    memcpy(node->subnet, node->address, SUBNET_SIZE);
    node->subnet[0] = SUBNET_PREFIX;
    node->plane = plane_new(node->key, node->address, node->subnet);
    CHECK(node->plane);
    node->plane->now = 1000;
}

static inline void close_node(struct node *node)
{
    buffer_free(&node->seen);
    plane_free(node->plane);
}

static inline void join(struct node *node, uint64_t id, const struct node *other)
{
    struct stream feed;
    stream_init(&feed, -1);
    CHECK(plane_add_link(node->plane, id, other->key, &feed));
}

static inline void path_to(struct node *node, const struct node *dest, const char *path)
{
    CHECK(plane_set_path(node->plane, dest->key, (const uint8_t *)path, strlen(path) + 1));
}

static inline void place(struct node *node, const char *path)
{
    struct fib *fib = fib_new((const uint8_t *)path, strlen(path) + 1);
    CHECK(fib);
    plane_set_fib(node->plane, fib);
}

static inline void neighbour(struct node *node, uint64_t id, const struct node *other, const char *path)
{
    CHECK(fib_add(node->plane->fib, id, other->key, (const uint8_t *)path, strlen(path) + 1, 1, 0, id));
}

static inline void give_session(struct node *one, struct node *other, uint32_t seed)
{
    struct session_keys for_one, for_other;
    uint64_t generation;
    make_sessions(&for_one, &for_other, seed);
    CHECK(plane_set_session(one->plane, other->key, &for_one, &generation) && generation);
    CHECK(plane_set_session(other->plane, one->key, &for_other, &generation) && generation);
}

static inline void know(struct node *one, const struct node *other)
{
    CHECK(plane_set_address(one->plane, other->key, other->address, other->subnet));
}

/* a is the root with link 1 to b, whose link 2 goes to c: coordinates "", "1" and "1 2". */
static inline void open_line(void)
{
    open_node(&a, 1);
    open_node(&b, 2);
    open_node(&c, 3);
    join(&a, 1, &b);
    join(&b, 1, &a);
    join(&b, 2, &c);
    join(&c, 2, &b);
    place(&a, "");
    place(&b, "\1");
    place(&c, "\1\2");
    neighbour(&a, 1, &b, "\1");
    neighbour(&b, 1, &a, "");
    neighbour(&b, 2, &c, "\1\2");
    neighbour(&c, 2, &b, "\1");
    path_to(&a, &c, "\1\2");
    path_to(&c, &a, "");
    path_to(&a, &b, "\1");
    path_to(&b, &a, "");
    give_session(&a, &c, 100);
}

static inline void close_line(void)
{
    close_node(&a);
    close_node(&b);
    close_node(&c);
}

static inline struct node *peer_of(const struct node *node, uint64_t link_id)
{
    if (node == &b)
        return link_id == 1 ? &a : &c;
    return &b;
}

/* Carries all bytes until nothing moves; the other events stay with the node. Returns the pieces carried. */
static inline int carry(void)
{
    struct node *nodes[] = {&a, &b, &c};
    int moved = 0;
    for (bool again = true; again;) {
        again = false;
        for (int i = 0; i < 3; i++) {
            struct plane *plane = nodes[i]->plane;
            if (!plane)
                continue;
            plane_settle(plane);
            struct buffer batch;
            struct event event;
            const uint8_t *data;
            events_take(&plane->events, &batch);
            plane_events_taken(plane);
            while (events_next(&batch, &event, &data)) {
                if (event.type != EVENT_LINK_OUTPUT) {
                    CHECK(buffer_append(&nodes[i]->seen, &event, sizeof event));
                    CHECK(buffer_append(&nodes[i]->seen, data, event.size));
                    continue;
                }
                again = true;
                moved++;
                if (event.size <= sizeof last_frame)
                    memcpy(last_frame, data, last_size = event.size);
                struct plane *other = peer_of(nodes[i], event.link_id)->plane;
                struct link *link = plane_link(other, event.link_id);
                if (link)
                    plane_feed_link(other, link, data, event.size);
                link = plane_link(plane, event.link_id);
                if (link) {
                    CHECK(link->handed >= event.size);
                    link->handed -= event.size;
                    link_flush(link, plane->now);
                }
            }
            buffer_free(&batch);
        }
    }
    return moved;
}

/* Takes the next event, which must be of this type. */
static inline struct event expect(struct node *node, enum event_type type, const uint8_t **data)
{
    struct event event;
    const uint8_t *bytes;
    CHECK(events_next(&node->seen, &event, &bytes));
    CHECK(event.type == type);
    if (data)
        *data = bytes;
    return event;
}

static inline void expect_nothing(struct node *node)
{
    CHECK(!buffer_size(&node->seen));
    buffer_free(&node->seen);
}

static inline size_t make_packet(uint8_t *out, const uint8_t *source, const uint8_t *dest, size_t payload)
{
    memset(out, 0, IPV6_HEADER_SIZE);
    out[0] = 0x60;
    out[4] = (uint8_t)(payload >> 8);
    out[5] = (uint8_t)payload;
    out[6] = 59; /* no next header */
    out[7] = 64;
    memcpy(out + 8, source, ADDRESS_SIZE);
    memcpy(out + 24, dest, ADDRESS_SIZE);
    pattern(out + IPV6_HEADER_SIZE, payload, 8);
    return IPV6_HEADER_SIZE + payload;
}

#endif
