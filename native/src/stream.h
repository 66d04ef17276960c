/*
 * An ordered, reliable byte stream to one peer: a connected non-blocking socket, plain or TLS; or none at all, when the
 * bytes are carried by somebody else (a feed).
 *
 * A stream has two lives. In the first the link handshake reads and writes it a few bytes at a time; what arrives beyond
 * is kept in `ahead`. In the second it is the engine's, which reads into memory that all streams share. Writing tries
 * the kernel when it is flushed; what the kernel does not take waits in `out`. A failed write is not an end by itself:
 * the peer's last words may still be in the kernel, so reading goes on until it ends.
 */
#ifndef YGGPY_STREAM_H
#define YGGPY_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "buffer.h"
#include "tls.h"

enum {
    STREAM_READ_SIZE = 1 << 18,           /* bytes asked of the kernel at once */
    STREAM_CIPHER_ROOM = STREAM_READ_SIZE + (1 << 15), /* ... and what a cut-off record may have left before */
};

enum stream_end { STREAM_GOES_ON, STREAM_EOF, STREAM_FAILED };

struct stream {
    int fd; /* -1: a feed */
    struct tls *tls;
    struct buffer ahead;   /* plain bytes that came before anybody wanted them */
    struct buffer cipher;  /* the beginning of a TLS record whose end has not come */
    struct buffer pending; /* plain bytes that are not worth a record yet */
    struct buffer out;     /* bytes for the kernel */
    uint64_t written;      /* bytes that the kernel has taken */
    int write_error;       /* errno of a failed write, else 0 */
    int read_error;        /* errno of what ended the reading, else 0; with TLS see tls_reason */
    bool failed_in_write;  /* the errno to report is that of a write */
};

/* Takes over a descriptor (-1 for a feed). */
void stream_init(struct stream *stream, int fd);

/* Goes one step on with the TLS handshake. TLS_MORE: read more when the socket is readable. */
enum tls_status stream_handshake(struct stream *stream);

/* In the first life: reads a little of what has arrived to `ahead`. */
enum stream_end stream_read_ahead(struct stream *stream);

/* Closes the descriptor and frees everything. close_notify is sent first where the connection is whole. */
void stream_free(struct stream *stream);

/*
 * Reads what has arrived, as plain text, to plain[0..room); room must be at least STREAM_CIPHER_ROOM. `scratch` has
 * STREAM_CIPHER_ROOM bytes and is used for cipher text only during the call. `got` counts with every result.
 */
enum stream_end stream_read(struct stream *stream, uint8_t *scratch, uint8_t *plain, size_t room, size_t *got);

/* Takes bytes to send, in order; they go out with stream_flush at the latest. False: out of memory, or TLS failed. */
bool stream_write(struct stream *stream, const uint8_t *data, size_t size);

/* Gives the kernel what it takes. */
void stream_flush(struct stream *stream);

/* Bytes that have been written and not yet been taken by the kernel. */
static inline size_t stream_buffered(const struct stream *stream)
{
    return buffer_size(&stream->pending) + buffer_size(&stream->out);
}

/* Gives back the memory of a stream that is idle. */
void stream_trim(struct stream *stream);

#endif
