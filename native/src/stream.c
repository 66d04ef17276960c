/* See stream.h. */
#include "stream.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

enum {
    RECORD_WORTH = 1 << 14, /* plain bytes that fill a TLS record */
    AHEAD_SIZE = 1 << 12,   /* bytes asked of the kernel at once in the first life */
    COPY_WORTH = 1 << 12,   /* below this, joining costs less than a system call */
};

void stream_init(struct stream *stream, int fd)
{
    *stream = (struct stream){.fd = fd};
}

void stream_free(struct stream *stream)
{
    if (stream->fd >= 0) {
        if (stream->tls && *tls_description(stream->tls) && !stream_buffered(stream) && !stream->write_error) {
            tls_close(stream->tls, &stream->out);
            stream_flush(stream);
        }
        close(stream->fd);
    }
    tls_free(stream->tls);
    buffer_free(&stream->ahead);
    buffer_free(&stream->cipher);
    buffer_free(&stream->pending);
    buffer_free(&stream->out);
    stream_init(stream, -1);
}

static bool would_block(int error)
{
    return error == EAGAIN || error == EWOULDBLOCK || error == EINTR;
}

/* One recv. Returns the bytes, 0 when none are there or at an end, which *end then tells. */
static size_t receive(struct stream *stream, uint8_t *data, size_t size, enum stream_end *end)
{
    ssize_t count = recv(stream->fd, data, size, 0);
    if (count > 0)
        return (size_t)count;
    if (count == 0) {
        *end = STREAM_EOF;
    } else if (!would_block(errno)) {
        *end = STREAM_FAILED;
        stream->read_error = errno;
    } else if (stream->write_error) {
        *end = STREAM_FAILED;
        stream->read_error = stream->write_error;
        stream->failed_in_write = true;
    }
    return 0;
}

enum tls_status stream_handshake(struct stream *stream)
{
    enum stream_end end = STREAM_GOES_ON;
    for (;;) {
        enum tls_status status = tls_handshake(stream->tls, &stream->cipher, &stream->out);
        stream_flush(stream);
        if (status != TLS_MORE)
            return status;
        uint8_t *place = buffer_reserve(&stream->cipher, AHEAD_SIZE);
        size_t came = place ? receive(stream, place, AHEAD_SIZE, &end) : 0;
        stream->cipher.end += came;
        if (!place || end == STREAM_FAILED)
            return TLS_FAILED;
        if (end == STREAM_EOF)
            return TLS_EOF;
        if (!came)
            return TLS_MORE;
    }
}

enum stream_end stream_read_ahead(struct stream *stream)
{
    struct buffer *arriving = stream->tls ? &stream->cipher : &stream->ahead;
    enum stream_end end = STREAM_GOES_ON;
    uint8_t *place = buffer_reserve(arriving, AHEAD_SIZE);
    if (!place) {
        stream->read_error = ENOMEM;
        return STREAM_FAILED;
    }
    arriving->end += receive(stream, place, AHEAD_SIZE, &end);
    if (!stream->tls || !buffer_size(&stream->cipher))
        return end;
    size_t room = RECORD_WORTH + AHEAD_SIZE, used, got;
    place = buffer_reserve(&stream->ahead, room);
    if (!place) {
        stream->read_error = ENOMEM;
        return STREAM_FAILED;
    }
    enum tls_status status = tls_open(stream->tls, buffer_bytes(&stream->cipher), buffer_size(&stream->cipher), &used,
                                      place, room, &got, &stream->out);
    stream->ahead.end += got;
    buffer_consume(&stream->cipher, used);
    if (status == TLS_MORE)
        return end;
    buffer_free(&stream->pending);
    stream_flush(stream);
    return status == TLS_EOF ? STREAM_EOF : STREAM_FAILED;
}

static enum stream_end read_tls(struct stream *stream, uint8_t *scratch, uint8_t *plain, size_t room, size_t *got)
{
    enum stream_end end = STREAM_GOES_ON;
    size_t held = buffer_size(&stream->cipher);
    if (held) {
        memcpy(scratch, buffer_bytes(&stream->cipher), held);
        buffer_consume(&stream->cipher, held);
    }
    size_t asked = STREAM_CIPHER_ROOM - held < STREAM_READ_SIZE ? STREAM_CIPHER_ROOM - held : STREAM_READ_SIZE;
    size_t came = receive(stream, scratch + held, asked, &end);
    size_t used;
    enum tls_status status = tls_open(stream->tls, scratch, held + came, &used, plain, room, got, &stream->out);
    if (status == TLS_EOF)
        return STREAM_EOF;
    if (status == TLS_FAILED) {
        buffer_free(&stream->pending);
        stream_flush(stream); /* the alert that says why */
        return STREAM_FAILED;
    }
    if (used < held + came) {
        if (!buffer_append(&stream->cipher, scratch + used, held + came - used)) {
            stream->read_error = ENOMEM;
            return STREAM_FAILED;
        }
    } else if (stream->cipher.room) {
        buffer_free(&stream->cipher);
    }
    return end;
}

enum stream_end stream_read(struct stream *stream, uint8_t *scratch, uint8_t *plain, size_t room, size_t *got)
{
    *got = 0;
    if (stream->tls)
        return read_tls(stream, scratch, plain, room, got);
    enum stream_end end = STREAM_GOES_ON;
    size_t asked = room < STREAM_READ_SIZE ? room : STREAM_READ_SIZE;
    *got = receive(stream, plain, asked, &end);
    return end;
}

/* ---- writing ---- */

/* Tries to send parts in one call; returns the bytes that the kernel took. */
static size_t send_parts(struct stream *stream, struct iovec *parts, size_t count)
{
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = count};
    ssize_t sent = sendmsg(stream->fd, &message, MSG_NOSIGNAL);
    if (sent >= 0) {
        stream->written += (uint64_t)sent;
        return (size_t)sent;
    }
    if (!would_block(errno)) {
        stream->write_error = errno;
        buffer_free(&stream->out);
        buffer_free(&stream->pending);
    }
    return 0;
}

/* Sends what waits and then `data` without copying it, as far as the kernel takes it; the rest of it then waits. */
static bool write_plain(struct stream *stream, const uint8_t *data, size_t size)
{
    size_t held = buffer_size(&stream->out);
    if (size >= COPY_WORTH && held < COPY_WORTH) {
        struct iovec parts[2] = {{held ? buffer_bytes(&stream->out) : NULL, held}, {(void *)(uintptr_t)data, size}};
        size_t sent = send_parts(stream, parts, 2);
        if (stream->write_error)
            return true;
        size_t of_held = sent < held ? sent : held;
        buffer_consume(&stream->out, of_held);
        data += sent - of_held;
        size -= sent - of_held;
    }
    return buffer_append(&stream->out, data, size);
}

static bool seal_pending(struct stream *stream)
{
    size_t held = buffer_size(&stream->pending);
    if (!held)
        return true;
    bool sealed = tls_seal(stream->tls, buffer_bytes(&stream->pending), held, &stream->out);
    buffer_consume(&stream->pending, held);
    return sealed;
}

bool stream_write(struct stream *stream, const uint8_t *data, size_t size)
{
    if (stream->write_error)
        return true; /* the reader finds out */
    if (stream->fd < 0)
        return buffer_append(&stream->out, data, size);
    if (!stream->tls)
        return write_plain(stream, data, size);
    if (buffer_size(&stream->pending) + size < RECORD_WORTH)
        return buffer_append(&stream->pending, data, size);
    size_t held = buffer_size(&stream->pending);
    if (held && held + size < 2 * RECORD_WORTH) { /* fill the record up with the beginning of this frame */
        size_t fill = RECORD_WORTH - held;
        if (!buffer_append(&stream->pending, data, fill) || !seal_pending(stream))
            return false;
        data += fill;
        size -= fill;
        return buffer_append(&stream->pending, data, size);
    }
    return seal_pending(stream) && tls_seal(stream->tls, data, size, &stream->out);
}

void stream_flush(struct stream *stream)
{
    if (stream->fd < 0 || stream->write_error)
        return;
    if (stream->tls && !seal_pending(stream)) {
        stream->write_error = EPROTO;
        return;
    }
    while (buffer_size(&stream->out)) {
        struct iovec part = {buffer_bytes(&stream->out), buffer_size(&stream->out)};
        size_t sent = send_parts(stream, &part, 1);
        if (!sent)
            return;
        buffer_consume(&stream->out, sent);
    }
}

void stream_trim(struct stream *stream)
{
    if (!buffer_size(&stream->out))
        buffer_free(&stream->out);
    if (!buffer_size(&stream->pending))
        buffer_free(&stream->pending);
}
