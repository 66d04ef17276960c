/* What the tests share: a check that names its place, numbers that look random but are the same every time, keys. */
#ifndef YGGPY_CHECK_H
#define YGGPY_CHECK_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "session.h"
#include "wire.h"

#define CHECK(condition)                                                                                              \
    do {                                                                                                              \
        if (!(condition)) {                                                                                           \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);                                           \
            exit(1);                                                                                                  \
        }                                                                                                             \
    } while (0)

static inline uint64_t random_number(void)
{
    static uint64_t state = 0x2545f4914f6cdd1du;
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state * 0x9e3779b97f4a7c15u >> 16;
}

static inline size_t random_below(size_t limit)
{
    return (size_t)(random_number() % limit);
}

/* Fills with bytes that tell a shifted copy from a right one. */
static inline void pattern(uint8_t *data, size_t size, uint32_t seed)
{
    uint32_t state = seed * 2654435761u + 1;
    for (size_t i = 0; i < size; i++) {
        state = state * 1664525 + 1013904223;
        data[i] = (uint8_t)(state >> 24);
    }
}

static inline void make_key(uint8_t key[KEY_SIZE], uint32_t seed)
{
    pattern(key, KEY_SIZE, seed);
    key[0] |= 0x80; /* no leading zeros, so that addresses differ */
}

/*
 * Keys for two ends. What `one` seals is current for `other`; what `other` seals comes to `one` under its next key and
 * moves the session on, as after a handshake.
 */
static inline void make_sessions(struct session_keys *one, struct session_keys *other, uint32_t seed)
{
    memset(one, 0, sizeof *one);
    memset(other, 0, sizeof *other);
    one->local_key_seq = 1;
    other->local_key_seq = other->remote_key_seq = 1;
    pattern(one->send_shared, BOX_KEY_SIZE, seed);
    memcpy(other->recv_shared, one->send_shared, BOX_KEY_SIZE);
    pattern(other->send_shared, BOX_KEY_SIZE, seed + 1);
    memcpy(one->next_send_shared, other->send_shared, BOX_KEY_SIZE);
    pattern(one->recv_shared, BOX_KEY_SIZE, seed + 2);
    pattern(one->next_recv_shared, BOX_KEY_SIZE, seed + 3);
    pattern(other->next_send_shared, BOX_KEY_SIZE, seed + 4);
    pattern(other->next_recv_shared, BOX_KEY_SIZE, seed + 5);
    pattern(one->next_public, KEY_SIZE, seed + 6);
    pattern(other->next_public, KEY_SIZE, seed + 7);
}

#endif
