/*
 * The record layer of TLS 1.3 after the handshake (RFC 8446, section 5), one direction at a time.
 *
 * OpenSSL does the handshake; then its secrets come here and the SSL object is freed. Records are sealed from where the
 * frames lie straight into the buffer that goes to the kernel, and opened from the buffer that the kernel filled straight
 * into the place where frames are parsed: no copy in between, and many records for one system call.
 */
#ifndef YGGPY_RECORD_H
#define YGGPY_RECORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <openssl/evp.h>

enum {
    RECORD_HEADER = 5,
    RECORD_MAX_PLAIN = 16384,
    RECORD_TAG = 16,
    RECORD_MAX_BODY = RECORD_MAX_PLAIN + 256, /* of a received one */
    RECORD_OVERHEAD = RECORD_HEADER + 1 + RECORD_TAG,
    RECORD_MAX_SECRET = 48,
};

enum record_type { RECORD_CHANGE_CIPHER = 20, RECORD_ALERT = 21, RECORD_HANDSHAKE = 22, RECORD_DATA = 23 };

/* The keys of one direction. */
struct record_half {
    EVP_CIPHER_CTX *context;
    const EVP_MD *digest;
    const EVP_CIPHER *cipher;
    uint8_t secret[RECORD_MAX_SECRET];
    size_t secret_size;
    uint8_t iv[12];
    uint64_t sequence;
    bool sealing;
};

/*
 * Begins with the traffic secret of the handshake. suite: the number of the TLS 1.3 cipher suite, such as 0x1301.
 * False: not a suite of TLS 1.3, or out of memory.
 */
bool record_init(struct record_half *half, uint16_t suite, const uint8_t *secret, size_t size, bool sealing);
void record_free(struct record_half *half);

/* Goes over to the next traffic secret (KeyUpdate). False: out of memory; the connection is then of no use. */
bool record_update(struct record_half *half);

/* True when so much went out under one key that the sender should update it. */
bool record_worn(const struct record_half *half);

/* Seals at most RECORD_MAX_PLAIN bytes into out, which takes size + RECORD_OVERHEAD bytes; returns that, 0: failed. */
size_t record_seal(struct record_half *half, enum record_type type, const uint8_t *data, size_t size, uint8_t *out);

/* Opens the body of a protected record into out (room for size - RECORD_TAG bytes). False: it does not open. */
bool record_open(struct record_half *half, const uint8_t header[RECORD_HEADER], const uint8_t *body, size_t size,
                 uint8_t *out, size_t *length, enum record_type *type);

#endif
