/*
 * TLS as the Go node does it (protocol section 2.6): a self-signed certificate that proves nothing, 1.2 or 1.3 as
 * client, 1.3 as server.
 *
 * No sockets here: cipher text comes in as memory and goes out into a buffer. OpenSSL does the handshake; after one of
 * TLS 1.3 the record layer is ours (record.h). TLS 1.2, which a proxy in front of a node may speak, stays with OpenSSL.
 */
#ifndef YGGPY_TLS_H
#define YGGPY_TLS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "buffer.h"

enum { TLS_REASON_SIZE = 96 };

struct tls;
struct tls_context;

/* Make what all connections of one role share. NULL: `reason` says why. Contexts are counted: see tls_context_free. */
struct tls_context *tls_client_context(char reason[TLS_REASON_SIZE]);
struct tls_context *tls_server_context(const char *certificate_pem, size_t certificate_size, const char *key_pem,
                                       size_t key_size, char reason[TLS_REASON_SIZE]);
void tls_context_free(struct tls_context *context);

/* Begins a connection; server_name may be NULL. NULL: `reason` says why. */
struct tls *tls_new(struct tls_context *context, const char *server_name, char reason[TLS_REASON_SIZE]);
void tls_free(struct tls *tls);

enum tls_status {
    TLS_OK,
    TLS_MORE,   /* cannot go on before more cipher text arrives */
    TLS_EOF,    /* the other side has said that this is the end */
    TLS_FAILED, /* see tls_reason */
};

/* What went wrong, in OpenSSL's words with underscores, such as WRONG_VERSION_NUMBER; "" when nothing did. */
const char *tls_reason(const struct tls *tls);

/*
 * Goes on with the handshake: takes cipher text from `in`, appends to `out`. TLS_OK: it is done. What is then left in
 * `in` belongs to the records after it. After TLS_FAILED `out` may hold an alert for the other side.
 */
enum tls_status tls_handshake(struct tls *tls, struct buffer *in, struct buffer *out);

/*
 * Opens the records in data[0..size) into plain[0..room). `used` tells how much cipher text was taken, `got` how much
 * plain text came; both are valid with every status. TLS_MORE is the usual status: all whole records are open, or the
 * room is used up. An answer that the protocol asks for goes to `out`.
 */
enum tls_status tls_open(struct tls *tls, const uint8_t *data, size_t size, size_t *used, uint8_t *plain, size_t room,
                         size_t *got, struct buffer *out);

/* Seals plain text into records at the end of `out`. False: out of memory or TLS failed; the connection is over. */
bool tls_seal(struct tls *tls, const uint8_t *data, size_t size, struct buffer *out);

/* Appends the record that says that this is the end. */
void tls_close(struct tls *tls, struct buffer *out);

/* "TLSv1.3 TLS_AES_128_GCM_SHA256", for tests and logs. */
const char *tls_description(const struct tls *tls);

#endif
