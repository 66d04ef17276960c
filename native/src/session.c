/* See session.h. */
#include "session.h"

#include <string.h>

#include <openssl/crypto.h>

static const uint8_t *shared_of(const struct session_keys *keys, enum session_case which)
{
    switch (which) {
    case SESSION_NEXT_SEND:
        return keys->next_send_shared;
    case SESSION_NEXT_RECV:
        return keys->next_recv_shared;
    default:
        return keys->recv_shared;
    }
}

void session_install(struct session *session, const struct session_keys *keys)
{
    /*
     * Go starts to count again at 0 after an init or ack and then takes packets of a key that stayed a second time. An
     * honest sender never counts anew under the same key, so remembering hurts nobody.
     */
    uint64_t nonces[SESSION_CASES] = {keys->recv_nonce, 0, 0};
    if (session->installed) {
        for (enum session_case now = 0; now < SESSION_CASES; now++)
            for (enum session_case old = 0; old < SESSION_CASES; old++)
                if (session->nonces[old] > nonces[now] &&
                    CRYPTO_memcmp(shared_of(keys, now), shared_of(&session->keys, old), BOX_KEY_SIZE) == 0)
                    nonces[now] = session->nonces[old];
    }
    memcpy(session->nonces, nonces, sizeof nonces);
    session->keys = *keys;
    for (enum session_case which = 0; which < SESSION_CASES; which++)
        box_key_init(&session->recv[which], shared_of(keys, which));
    box_key_init(&session->send, keys->send_shared);
    if (!keys->keep_send_nonce)
        session->send_nonce = keys->send_nonce;
    session->installed = true;
}

void session_wipe(struct session *session)
{
    OPENSSL_cleanse(session, sizeof *session);
}

size_t session_head_size(const struct session *session)
{
    if (session->send_nonce == UINT64_MAX)
        return 0;
    return 1 + uvarint_size(session->keys.local_key_seq) + uvarint_size(session->keys.remote_key_seq) +
           uvarint_size(session->send_nonce + 1) + BOX_TAG_SIZE + KEY_SIZE;
}

void session_seal(struct session *session, struct box_context *context, uint8_t *message, size_t size)
{
    uint64_t nonce = ++session->send_nonce;
    uint8_t *text = message - KEY_SIZE;
    uint8_t *tag = text - BOX_TAG_SIZE;
    memcpy(text, session->keys.next_public, KEY_SIZE);
    box_seal(context, &session->send, nonce, tag, text, KEY_SIZE + size);
    uint8_t head[1 + 3 * MAX_UVARINT_SIZE] = {MESSAGE_TRAFFIC};
    size_t used = 1;
    used += uvarint_put(head + used, session->keys.local_key_seq);
    used += uvarint_put(head + used, session->keys.remote_key_seq);
    used += uvarint_put(head + used, nonce);
    memcpy(tag - used, head, used);
}

enum session_verdict session_open(struct session *session, struct box_context *context, uint8_t *packet, size_t size,
                                  struct session_opened *opened)
{
    if (size < SESSION_MIN_TRAFFIC)
        return SESSION_MALFORMED;
    uint64_t numbers[3]; /* sender's key, receiver's key, nonce */
    size_t at = 1;
    for (int i = 0; i < 3; i++) {
        int used = uvarint_get(packet + at, size - at, &numbers[i]);
        if (used <= 0)
            return SESSION_MALFORMED;
        at += (size_t)used;
    }
    const struct session_keys *keys = &session->keys;
    bool for_send = numbers[1] == keys->local_key_seq;
    bool for_recv = numbers[1] != UINT64_MAX && numbers[1] + 1 == keys->local_key_seq;
    enum session_case which;
    if (numbers[0] == keys->remote_key_seq && for_recv)
        which = SESSION_CURRENT;
    else if (keys->remote_key_seq == UINT64_MAX || numbers[0] != keys->remote_key_seq + 1)
        return SESSION_MISMATCH;
    else if (for_send)
        which = SESSION_NEXT_SEND;
    else if (for_recv)
        which = SESSION_NEXT_RECV;
    else
        return SESSION_MISMATCH;
    if (numbers[2] <= session->nonces[which])
        return SESSION_REPLAY;
    if (size - at < BOX_TAG_SIZE)
        return SESSION_MISMATCH;
    uint8_t *tag = packet + at;
    uint8_t *text = tag + BOX_TAG_SIZE;
    size_t length = size - at - BOX_TAG_SIZE;
    if (!box_open(context, &session->recv[which], numbers[2], tag, text, length))
        return SESSION_MISMATCH;
    if (length < KEY_SIZE)
        return SESSION_MALFORMED; /* stops a Go node; over-long numbers let it pass the length check */
    session->nonces[which] = numbers[2];
    *opened = (struct session_opened){which, numbers[2], text, text + KEY_SIZE, length - KEY_SIZE};
    return SESSION_OPENED;
}
