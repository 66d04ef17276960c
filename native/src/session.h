/*
 * Sealing and opening the traffic of one session (protocol section 9.4).
 *
 *     0x03 || uvarint sender's key number || uvarint receiver's || uvarint nonce || box(next public key[32] || message)
 *
 * A session decides nothing: four keys, the numbers that choose among them and the nonces are installed from above.
 * Both directions work in place, on a buffer that has room for the headers in front of the message.
 */
#ifndef YGGPY_SESSION_H
#define YGGPY_SESSION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "box.h"
#include "wire.h"

enum {
    SESSION_MAX_HEAD = 1 + 3 * MAX_UVARINT_SIZE + BOX_TAG_SIZE + KEY_SIZE, /* bytes in front of a sealed message */
    SESSION_MIN_TRAFFIC = 1 + 3 + BOX_TAG_SIZE + KEY_SIZE,
    MAX_MESSAGE = MAX_TRAFFIC_PAYLOAD - SESSION_MIN_TRAFFIC - 27,
};

/* What is installed: the shared keys as X25519 made them; see SessionKeys in yggpy/sessions/traffic.py. */
struct session_keys {
    uint64_t remote_key_seq;
    uint64_t local_key_seq;
    uint8_t recv_shared[BOX_KEY_SIZE];      /* case A */
    uint8_t send_shared[BOX_KEY_SIZE];      /* what we seal with */
    uint8_t next_send_shared[BOX_KEY_SIZE]; /* case B */
    uint8_t next_recv_shared[BOX_KEY_SIZE]; /* case C */
    uint8_t next_public[KEY_SIZE];          /* put into every packet */
    uint64_t recv_nonce;                    /* the last one accepted under recv_shared */
    uint64_t send_nonce;                    /* the last one used */
    bool keep_send_nonce;                   /* let the counter go on instead */
};

enum session_case { SESSION_CURRENT, SESSION_NEXT_SEND, SESSION_NEXT_RECV, SESSION_CASES };

struct session {
    struct session_keys keys;
    struct box_key recv[SESSION_CASES]; /* by case */
    struct box_key send;
    uint64_t nonces[SESSION_CASES]; /* the last one accepted */
    uint64_t send_nonce;
    bool installed;      /* there were keys before */
    uint64_t generation; /* its owner's: which keys a late answer from above is about */
};

/* Makes a session out of zeroed memory, or goes over to new keys; a receiving key that stays keeps its last nonce. */
void session_install(struct session *session, const struct session_keys *keys);

/* Wipes the keys. */
void session_wipe(struct session *session);

/* Bytes that session_seal would put in front of a message now; 0: the send counter is used up. */
size_t session_head_size(const struct session *session);

/*
 * Seals the message of `size` bytes in place and writes session_head_size() bytes directly in front of it.
 * The counter must not be used up.
 */
void session_seal(struct session *session, struct box_context *context, uint8_t *message, size_t size);

enum session_verdict {
    SESSION_OPENED,
    SESSION_REPLAY,    /* a nonce that is not new: dropped silently */
    SESSION_MISMATCH,  /* fits none of our keys: the sender needs to be told */
    SESSION_MALFORMED, /* dropped silently */
};

struct session_opened {
    enum session_case which;
    uint64_t nonce;
    const uint8_t *next_public; /* inside the packet */
    uint8_t *message;           /* inside the packet, decrypted in place */
    size_t size;
};

/* Opens a traffic packet, whose first byte is not looked at. `opened` is set only with SESSION_OPENED. */
enum session_verdict session_open(struct session *session, struct box_context *context, uint8_t *packet, size_t size,
                                  struct session_opened *opened);

#endif
