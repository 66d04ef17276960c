/* The node's TLS certificate (protocol section 14.5): self-signed, made in memory at start, never verified by anyone. */
#ifndef YGGPY_CERTIFICATE_H
#define YGGPY_CERTIFICATE_H

#include <stdbool.h>
#include <stdint.h>

#include "buffer.h"

/*
 * Appends the certificate of an ed25519 key, given by its seed of 32 bytes, and the key itself, both PEM. common_name:
 * the public key in hex. False: out of memory, or OpenSSL comes without ed25519; the caller frees the buffers.
 */
bool certificate_make(const uint8_t seed[32], const char *common_name, struct buffer *certificate_pem,
                      struct buffer *key_pem);

#endif
