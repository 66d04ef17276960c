/*
 * The ends of one session: what one seals the other opens, under each of the three keys; what is old, foreign or cut
 * short is refused, and a refusal changes neither the packet nor the memory of nonces.
 */
#include "check.h"

enum { ROOM = 512 };

static struct box_context *box;
static struct session one, other;
static uint8_t memory[SESSION_MAX_HEAD + ROOM];

static void start(struct session_keys *a, struct session_keys *b)
{
    make_sessions(a, b, 10);
    memset(&one, 0, sizeof one);
    memset(&other, 0, sizeof other);
    session_install(&one, a);
    session_install(&other, b);
}

/* Seals a message of that size in exactly the memory it needs; returns the packet, which the caller frees. */
static uint8_t *seal(struct session *from, size_t size, size_t *total)
{
    size_t head = session_head_size(from);
    uint8_t *packet = malloc(head + size);
    CHECK(packet && head && head <= SESSION_MAX_HEAD);
    pattern(packet + head, size, 99);
    session_seal(from, box, packet + head, size);
    *total = head + size;
    CHECK(packet[0] == MESSAGE_TRAFFIC);
    return packet;
}

static enum session_verdict pass(struct session *from, struct session *to, size_t size, struct session_opened *opened)
{
    size_t total;
    uint8_t *packet = seal(from, size, &total);
    enum session_verdict verdict = session_open(to, box, packet, total, opened);
    if (verdict == SESSION_OPENED) {
        uint8_t expected[ROOM];
        pattern(expected, size, 99);
        CHECK(opened->size == size && !memcmp(opened->message, expected, size));
        CHECK(!memcmp(opened->next_public, from->keys.next_public, KEY_SIZE));
        CHECK(opened->message == packet + total - size);
        CHECK(opened->nonce == from->send_nonce);
    }
    free(packet);
    return verdict;
}

static void test_cases(void)
{
    struct session_keys a, b;
    struct session_opened opened;
    start(&a, &b);
    for (size_t size = 0; size < 200; size += 33) {
        CHECK(pass(&one, &other, size, &opened) == SESSION_OPENED && opened.which == SESSION_CURRENT);
        CHECK(pass(&other, &one, size, &opened) == SESSION_OPENED && opened.which == SESSION_NEXT_SEND);
    }
    /* Under our receiving key and the sender's next one: case C. */
    b.remote_key_seq = 0;
    memcpy(b.send_shared, a.next_recv_shared, BOX_KEY_SIZE);
    session_install(&other, &b);
    CHECK(pass(&other, &one, 20, &opened) == SESSION_OPENED && opened.which == SESSION_NEXT_RECV);
    /* Each case counts for itself. */
    CHECK(one.nonces[SESSION_CURRENT] == 0 && one.nonces[SESSION_NEXT_SEND] == 7 && one.nonces[SESSION_NEXT_RECV] == 1);
}

static void test_sequence_numbers(void)
{
    /* Of all pairs of numbers near ours, three are a case and the rest a mismatch. */
    for (int sender = 0; sender < 5; sender++) {
        for (int receiver = 0; receiver < 5; receiver++) {
            struct session_keys a, b;
            struct session_opened opened;
            make_sessions(&a, &b, 3);
            memset(&one, 0, sizeof one);
            memset(&other, 0, sizeof other);
            b.remote_key_seq = b.local_key_seq = 2;
            memcpy(b.next_send_shared, a.send_shared, BOX_KEY_SIZE);
            memcpy(b.next_recv_shared, a.send_shared, BOX_KEY_SIZE);
            a.local_key_seq = (uint64_t)sender;
            a.remote_key_seq = (uint64_t)receiver;
            session_install(&one, &a);
            session_install(&other, &b);
            enum session_verdict verdict = pass(&one, &other, 9, &opened);
            if (sender == 2 && receiver == 1)
                CHECK(verdict == SESSION_OPENED && opened.which == SESSION_CURRENT);
            else if (sender == 3 && receiver == 2)
                CHECK(verdict == SESSION_OPENED && opened.which == SESSION_NEXT_SEND);
            else if (sender == 3 && receiver == 1)
                CHECK(verdict == SESSION_OPENED && opened.which == SESSION_NEXT_RECV);
            else
                CHECK(verdict == SESSION_MISMATCH);
        }
    }
    /* The numbers do not wrap around: the next of 2^64 - 1 is not 0. */
    struct session_keys a, b;
    struct session_opened opened;
    start(&a, &b);
    a.local_key_seq = 0;
    a.remote_key_seq = UINT64_MAX;
    b.remote_key_seq = UINT64_MAX;
    b.local_key_seq = 0;
    memcpy(b.next_send_shared, a.send_shared, BOX_KEY_SIZE);
    memcpy(b.next_recv_shared, a.send_shared, BOX_KEY_SIZE);
    session_install(&one, &a);
    session_install(&other, &b);
    CHECK(pass(&one, &other, 9, &opened) == SESSION_MISMATCH);
}

static void test_replay(void)
{
    struct session_keys a, b;
    struct session_opened opened;
    start(&a, &b);
    size_t total, total2;
    uint8_t *first = seal(&one, 30, &total), *second = seal(&one, 30, &total2);
    uint8_t again[ROOM], early[ROOM];
    memcpy(again, second, total2);
    memcpy(early, first, total);
    CHECK(session_open(&other, box, second, total2, &opened) == SESSION_OPENED);
    CHECK(session_open(&other, box, again, total2, &opened) == SESSION_REPLAY);
    CHECK(session_open(&other, box, early, total, &opened) == SESSION_REPLAY);
    CHECK(!memcmp(early, first, total)); /* not decrypted */
    free(first);
    free(second);
}

static void test_tampered(void)
{
    struct session_keys a, b;
    struct session_opened opened;
    start(&a, &b);
    size_t total;
    uint8_t *packet = seal(&one, 40, &total);
    for (size_t at = 4; at < total; at++) {
        uint8_t copy[ROOM], before[ROOM];
        memcpy(copy, packet, total);
        copy[at] ^= (uint8_t)(1 << at % 8);
        memcpy(before, copy, total);
        CHECK(session_open(&other, box, copy, total, &opened) == SESSION_MISMATCH);
        CHECK(!memcmp(copy, before, total));
    }
    CHECK(other.nonces[SESSION_CURRENT] == 0);
    /* Cut anywhere, in memory that ends there. */
    for (size_t size = 0; size < total; size++) {
        uint8_t *copy = malloc(size + !size);
        CHECK(copy);
        memcpy(copy, packet, size);
        enum session_verdict verdict = session_open(&other, box, copy, size, &opened);
        CHECK(verdict == (size < SESSION_MIN_TRAFFIC ? SESSION_MALFORMED : SESSION_MISMATCH));
        free(copy);
    }
    packet[0] = 0; /* somebody else has judged the type */
    CHECK(session_open(&other, box, packet, total, &opened) == SESSION_OPENED);
    free(packet);
}

/* Puts a number in the longest form that means the same; returns its size. */
static size_t put_long(uint8_t *out, uint64_t value, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        out[i] = (uint8_t)((value & 0x7f) | (i + 1 < size ? 0x80 : 0));
        value >>= 7;
    }
    return size;
}

static void test_long_numbers(void)
{
    struct session_keys a, b;
    struct session_opened opened;
    start(&a, &b);
    for (size_t digits = 1; digits <= MAX_UVARINT_SIZE; digits++) {
        for (size_t text = 0; text <= KEY_SIZE + 4; text++) {
            uint64_t nonce = digits * 1000 + text;
            uint8_t body[KEY_SIZE + 4], tag[BOX_TAG_SIZE];
            pattern(body, text, 5);
            box_seal(box, &one.send, nonce, tag, body, text);
            uint8_t *at = memory;
            *at++ = MESSAGE_TRAFFIC;
            at += put_long(at, 1, digits);
            at += put_long(at, 0, digits);
            size_t nonce_digits = digits < 3 ? 3 : digits;
            at += put_long(at, nonce, nonce_digits);
            memcpy(at, tag, sizeof tag);
            at += sizeof tag;
            memcpy(at, body, text);
            at += text;
            enum session_verdict verdict = session_open(&other, box, memory, (size_t)(at - memory), &opened);
            if ((size_t)(at - memory) < SESSION_MIN_TRAFFIC || text < KEY_SIZE)
                CHECK(verdict == SESSION_MALFORMED);
            else
                CHECK(verdict == SESSION_OPENED && opened.size == text - KEY_SIZE && opened.nonce == nonce);
        }
    }
    /* Numbers of more than 64 bits, and numbers that never end, wherever they stand. */
    for (int place = 0; place < 3; place++) {
        memset(memory, 0, sizeof memory);
        memory[0] = MESSAGE_TRAFFIC;
        memset(memory + 1 + place, 0xff, 9);
        memory[1 + place + 9] = 2;
        CHECK(session_open(&other, box, memory, 100, &opened) == SESSION_MALFORMED);
        memset(memory + 1 + place, 0xff, 100);
        CHECK(session_open(&other, box, memory, 100, &opened) == SESSION_MALFORMED);
    }
    /* So long that not even a tag is left. */
    uint8_t *at = memory;
    *at++ = MESSAGE_TRAFFIC;
    at += put_long(at, 1, 10);
    at += put_long(at, 0, 10);
    at += put_long(at, 99999999, 10);
    CHECK(session_open(&other, box, memory, (size_t)(at - memory) + BOX_TAG_SIZE - 1, &opened) == SESSION_MALFORMED);
    CHECK(session_open(&other, box, memory, (size_t)(at - memory) + 21, &opened) == SESSION_MISMATCH);
}

static void test_install(void)
{
    struct session_keys a, b;
    struct session_opened opened;
    start(&a, &b);
    for (int i = 0; i < 5; i++)
        CHECK(pass(&other, &one, 10, &opened) == SESSION_OPENED && opened.which == SESSION_NEXT_SEND);
    CHECK(one.nonces[SESSION_NEXT_SEND] == 5 && one.installed);
    /* The ratchet moves: the key of case B becomes the current one, whose count goes on; the others begin anew. */
    struct session_keys next = a;
    memcpy(next.recv_shared, a.next_send_shared, BOX_KEY_SIZE);
    pattern(next.next_send_shared, BOX_KEY_SIZE, 70);
    pattern(next.next_recv_shared, BOX_KEY_SIZE, 71);
    next.recv_nonce = 3; /* the control plane knows less than we do */
    next.remote_key_seq = 1;
    next.local_key_seq = 2;
    session_install(&one, &next);
    CHECK(one.nonces[SESSION_CURRENT] == 5 && one.nonces[SESSION_NEXT_SEND] == 0);
    CHECK(one.nonces[SESSION_NEXT_RECV] == 0);
    other.send_nonce = 4;
    CHECK(pass(&other, &one, 10, &opened) == SESSION_REPLAY);
    CHECK(pass(&other, &one, 10, &opened) == SESSION_OPENED && opened.which == SESSION_CURRENT);
    /* ... or it knows more. */
    next.recv_nonce = 100;
    session_install(&one, &next);
    CHECK(one.nonces[SESSION_CURRENT] == 100);
    /* The send counter is given, or goes on. */
    next.send_nonce = 77;
    session_install(&one, &next);
    CHECK(one.send_nonce == 77);
    next.send_nonce = 5;
    next.keep_send_nonce = true;
    session_install(&one, &next);
    CHECK(one.send_nonce == 77);
    session_wipe(&one);
    for (size_t i = 0; i < sizeof one; i++)
        CHECK(!((const uint8_t *)&one)[i]);
}

static void test_counter(void)
{
    struct session_keys a, b;
    struct session_opened opened;
    start(&a, &b);
    CHECK(session_head_size(&one) == SESSION_MIN_TRAFFIC);
    one.send_nonce = 126;
    CHECK(session_head_size(&one) == SESSION_MIN_TRAFFIC);
    one.send_nonce = 127;
    CHECK(session_head_size(&one) == SESSION_MIN_TRAFFIC + 1);
    CHECK(pass(&one, &other, 50, &opened) == SESSION_OPENED && opened.nonce == 128);
    one.send_nonce = UINT64_MAX - 1;
    CHECK(session_head_size(&one) == SESSION_MIN_TRAFFIC + 9);
    CHECK(pass(&one, &other, 50, &opened) == SESSION_OPENED && opened.nonce == UINT64_MAX);
    CHECK(session_head_size(&one) == 0);
    /* The longest head there is. */
    a.local_key_seq = a.remote_key_seq = UINT64_MAX;
    a.send_nonce = UINT64_MAX - 1;
    session_install(&one, &a);
    CHECK(session_head_size(&one) == SESSION_MAX_HEAD);
    size_t total;
    free(seal(&one, 1, &total));
    CHECK(total == SESSION_MAX_HEAD + 1);
}

int main(void)
{
    box = box_context_new();
    CHECK(box);
    test_cases();
    test_sequence_numbers();
    test_replay();
    test_tampered();
    test_long_numbers();
    test_install();
    test_counter();
    box_context_free(box);
    return 0;
}
