/*
 * The box that seals the traffic of a session (protocol section 9.1): NaCl's crypto_box after the key agreement, which
 * is XSalsa20-Poly1305.
 *
 * The nonce of 24 bytes is 16 zero bytes and a counter of 8 bytes, big-endian. XSalsa20 makes a key of the shared key
 * and the first 16 bytes, and as these never change here it is made once for each shared key (box_key_init). What is
 * left for each packet is one Salsa20 stream and one Poly1305.
 */
#ifndef YGGPY_BOX_H
#define YGGPY_BOX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { BOX_KEY_SIZE = 32, BOX_TAG_SIZE = 16 };

/* A key ready for use. It is a secret: the owner wipes it when it is done with. */
struct box_key {
    uint8_t subkey[32];
};

/* Prepares the key. shared: what both ends have agreed on (crypto_box_beforenm). */
void box_key_init(struct box_key *key, const uint8_t shared[BOX_KEY_SIZE]);

/* What one thread needs to compute tags. It is reused for every packet; two threads must not share one. */
struct box_context;

/* NULL: out of memory, or OpenSSL comes without Poly1305. */
struct box_context *box_context_new(void);

/* Accepts NULL. */
void box_context_free(struct box_context *context);

/*
 * Encrypts `size` bytes of `text` in place (at most 2^37) and writes their tag, which must not overlap `text`. The box
 * on the wire is the tag and then the text. One key must never seal two packets with the same nonce.
 *
 * It cannot fail for the caller. OpenSSL could refuse to compute a tag only when memory has run out; as nobody could do
 * anything sensible with a packet without a tag, and least of all send it, the process aborts then.
 */
void box_seal(struct box_context *context, const struct box_key *key, uint64_t nonce, uint8_t tag[BOX_TAG_SIZE],
              uint8_t *text, size_t size);

/*
 * Decrypts `size` bytes of `text` in place. False: this tag does not belong to this text, key and nonce; the text is
 * then as it was. How long the comparison takes does not tell where the tags differ. Aborts when box_seal would.
 */
bool box_open(struct box_context *context, const struct box_key *key, uint64_t nonce, const uint8_t tag[BOX_TAG_SIZE],
              uint8_t *text, size_t size);

/* The Salsa20 in use: "avx512", "avx2" or "portable". */
const char *box_implementation(void);

#endif
