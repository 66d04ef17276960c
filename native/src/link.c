/* See link.h. */
#include "link.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool is_quiet(enum frame_type type)
{
    return type == FRAME_DUMMY || type == FRAME_KEEPALIVE;
}

struct link *link_new(uint64_t id, const uint8_t key[KEY_SIZE], struct stream *stream, const struct link_owner *owner)
{
    struct link *link = calloc(1, sizeof *link);
    if (!link)
        return NULL;
    link->id = id;
    memcpy(link->key, key, KEY_SIZE);
    link->stream = *stream;
    stream_init(stream, -1);
    link->owner = owner;
    return link;
}

void link_free(struct link *link)
{
    stream_free(&link->stream);
    buffer_free(&link->partial);
    queue_clear(&link->queue);
    free(link);
}

bool link_wants_input(const struct link *link)
{
    return !link->closed && link->event_bytes < MAX_LINK_EVENTS;
}

bool link_wants_output(const struct link *link)
{
    /* A write that failed is found out by reading until nothing is left to read, and writability is always there. */
    return !link->closed &&
           (buffer_size(&link->stream.out) != 0 || (link->stream.write_error && link_wants_input(link)));
}

static void update_watch(struct link *link)
{
    if (link->stream.fd >= 0 && (link->watching_output != link_wants_output(link) ||
                                 link->watching_input != link_wants_input(link)))
        link->owner->watch(link->owner->self, link);
}

static void mark_dirty(struct link *link)
{
    if (link->dirty)
        return;
    link->dirty = true;
    link->owner->dirty(link->owner->self, link);
}

void link_close(struct link *link, enum link_reason reason, int error, const char *text)
{
    if (link->closed)
        return;
    link->closed = true;
    mark_dirty(link);
    link->reason = reason;
    link->error = error;
    snprintf(link->text, sizeof link->text, "%s", text ? text : "");
}

/* ---- liveness ---- */

static void arm(struct link *link, double at)
{
    if (link->timer_at != 0 && at >= link->timer_at)
        return;
    link->timer_at = at;
    link->owner->armed(link->owner->self, at);
}

static void note_sent(struct link *link, enum frame_type type, double now)
{
    link->keepalive_at = 0;
    if (link->read_by == 0 && !is_quiet(type)) {
        link->read_by = now + READ_TIMEOUT;
        arm(link, link->read_by);
    }
}

void link_timer(struct link *link, double now)
{
    if (link->closed || link->timer_at == 0 || now < link->timer_at)
        return;
    double due = link->timer_at;
    link->timer_at = 0;
    bool overdue = link->read_by != 0 && now >= link->read_by;
    /* What has arrived while we stood still, or while we did not want to read, gets its chance to be read first. */
    if (overdue && (now - due > STALL_GRACE || !link_wants_input(link))) {
        link->read_by = now + STALL_GRACE;
        overdue = false;
    }
    if (overdue) {
        char text[LINK_ERROR_SIZE];
        snprintf(text, sizeof text, "no answer for %g s (read deadline passed)", READ_TIMEOUT);
        link_close(link, LINK_ERROR, 0, text);
        return;
    }
    if (link->keepalive_at != 0 && now >= link->keepalive_at)
        link_send_direct(link, FRAME_KEEPALIVE, NULL, 0, now);
    if (link->read_by != 0)
        arm(link, link->read_by);
    if (link->keepalive_at != 0)
        arm(link, link->keepalive_at);
    if (!link->dirty)
        stream_trim(&link->stream);
}

/* ---- outbound ---- */

static void close_backlog(struct link *link)
{
    char text[LINK_ERROR_SIZE];
    snprintf(text, sizeof text, "peer does not read: more than %d bytes wait", (int)MAX_DIRECT_BACKLOG);
    link_close(link, LINK_ERROR, 0, text);
}

static void emit(struct link *link, enum frame_type type, const uint8_t *data, size_t size, double now)
{
    if (!stream_write(&link->stream, data, size)) {
        link_close(link, LINK_ERROR, 0, "sending failed: out of memory or TLS is broken");
        return;
    }
    link->sent += size;
    note_sent(link, type, now);
    mark_dirty(link);
}

void link_send_direct(struct link *link, enum frame_type type, const uint8_t *payload, size_t size, double now)
{
    if (link->closed)
        return;
    if (stream_buffered(&link->stream) + link->handed > MAX_DIRECT_BACKLOG) {
        close_backlog(link);
        return;
    }
    uint8_t head[MAX_FRAME_HEAD];
    size_t used = uvarint_put(head, size + 1);
    head[used++] = (uint8_t)type;
    emit(link, type, head, used, now);
    if (size && !link->closed)
        emit(link, type, payload, size, now);
}

static bool has_room(const struct link *link)
{
    return stream_buffered(&link->stream) + link->handed < WRITE_AHEAD_LIMIT;
}

bool link_send_queued(struct link *link, const uint8_t *frame, size_t size, size_t payload_size,
                      const uint8_t source[KEY_SIZE], const uint8_t dest[KEY_SIZE], double now)
{
    if (link->closed)
        return true;
    if (!link->queue.count && has_room(link)) {
        emit(link, FRAME_TRAFFIC, frame, size, now);
        if (!has_room(link))
            stream_flush(&link->stream);
        return true;
    }
    queue_push(&link->queue, frame, size, payload_size, source, dest);
    return false;
}

static bool has_enough_to_do(struct link *link, double now)
{
    if (link->queue.count || !has_room(link))
        return true;
    return link->stream.fd >= 0 && !pace_allows(&link->pace, link->stream.fd, link->stream.written, now);
}

bool link_takes_own(struct link *link, size_t size, bool quiet, double now)
{
    if (!link->closed && has_enough_to_do(link, now)) {
        if (!quiet || link->let_by + size > QUIET_ALLOWANCE)
            return false;
        link->let_by += size;
        return true;
    }
    link->let_by = 0;
    return true;
}

void link_note_own(struct link *link, size_t size)
{
    if (link->stream.fd >= 0)
        pace_given(&link->pace, size, link->stream.written + stream_buffered(&link->stream));
}

static void give_to_carrier(struct link *link)
{
    struct buffer *out = &link->stream.out;
    size_t size = buffer_size(out);
    if (size) {
        link->handed += size;
        link->owner->output(link->owner->self, link, buffer_bytes(out), size);
        buffer_consume(out, size);
    }
}

static void refill(struct link *link, double now)
{
    while (has_room(link)) {
        struct queued_packet *packet = queue_pop(&link->queue);
        if (!packet)
            return;
        emit(link, FRAME_TRAFFIC, packet->frame, packet->frame_size, now);
        free(packet);
    }
}

void link_flush(struct link *link, double now)
{
    while (!link->closed) {
        if (link->stream.fd < 0)
            give_to_carrier(link);
        else
            stream_flush(&link->stream);
        if (!link->queue.count || !has_room(link))
            break;
        refill(link, now);
    }
    update_watch(link);
}

/* ---- inbound ---- */

/* Handles all whole frames of data[0..size) and keeps the beginning of the next. */
static void parse(struct link *link, uint8_t *data, size_t size, double now)
{
    size_t at = 0;
    char text[LINK_ERROR_SIZE];
    link->holding = false;
    link->wanted = 0;
    while (at < size && !link->closed) {
        if (link->event_bytes >= MAX_LINK_EVENTS) {
            link->holding = true;
            break;
        }
        uint64_t length;
        int used = uvarint_get(data + at, size - at, &length);
        if (used == UVARINT_SHORT)
            break;
        if (used == UVARINT_OVERFLOW) {
            link_close(link, LINK_ERROR, 0, "oversized message, its length overflows 64 bits");
            return;
        }
        if (length > MAX_FRAME_SIZE) {
            snprintf(text, sizeof text, "oversized message of %llu bytes, at most %d are allowed",
                     (unsigned long long)length, (int)MAX_FRAME_SIZE);
            link_close(link, LINK_ERROR, 0, text);
            return;
        }
        if (!length) {
            link_close(link, LINK_ERROR, 0, "empty message");
            return;
        }
        uint8_t *body = data + at + used;
        if (size - at - (size_t)used < length) {
            link->wanted = (size_t)used + (size_t)length;
            break;
        }
        if (body[0] >= FRAME_TYPES) {
            snprintf(text, sizeof text, "unrecognised message type %d", body[0]);
            link_close(link, LINK_ERROR, 0, text);
            return;
        }
        enum frame_type type = (enum frame_type)body[0];
        link->read_by = 0;
        if (!is_quiet(type)) {
            if (link->keepalive_at == 0) {
                link->keepalive_at = now + KEEPALIVE_DELAY;
                arm(link, link->keepalive_at);
            }
            const char *refusal =
                link->owner->frame(link->owner->self, link, type, data + at, body + 1, (size_t)length - 1);
            if (refusal) {
                link_close(link, LINK_ERROR, 0, refusal);
                return;
            }
        }
        at += (size_t)used + (size_t)length;
    }
    if (link->closed)
        return;
    if (at == size) {
        if (link->partial.room)
            buffer_free(&link->partial);
    } else if (!buffer_append(&link->partial, data + at, size - at)) {
        link_close(link, LINK_ERROR, 0, "out of memory");
    }
}

/* Handles `got` bytes that lie in plain behind room for the kept beginning of a frame. */
static void take(struct link *link, uint8_t *plain, size_t got, double now)
{
    size_t held = buffer_size(&link->partial);
    if (held && held + got < link->wanted) { /* a large frame in small pieces is not copied for each of them */
        if (!buffer_append(&link->partial, plain + held, got))
            link_close(link, LINK_ERROR, 0, "out of memory");
        return;
    }
    if (held) {
        memcpy(plain, buffer_bytes(&link->partial), held);
        buffer_consume(&link->partial, held);
    }
    parse(link, plain, held + got, now);
}

void link_feed(struct link *link, const uint8_t *data, size_t size, uint8_t *plain, double now)
{
    link->received += size;
    if (buffer_size(&link->partial) + size > LINK_PLAIN_ROOM) { /* only while frames are held up */
        link_close(link, LINK_ERROR, 0, "more arrives than this node can take");
        return;
    }
    memcpy(plain + buffer_size(&link->partial), data, size);
    take(link, plain, size, now);
}

void link_resume(struct link *link, uint8_t *plain, double now)
{
    take(link, plain, 0, now);
}

void link_read(struct link *link, uint8_t *scratch, uint8_t *plain, double now)
{
    struct stream *stream = &link->stream;
    size_t held = buffer_size(&link->partial), got;
    enum stream_end end = stream_read(stream, scratch, plain + held, LINK_PLAIN_ROOM - held, &got);
    link->received += got;
    if (got)
        take(link, plain, got, now);
    if (stream_buffered(stream) + link->handed > MAX_DIRECT_BACKLOG) /* answers that TLS asks for, and nobody reads */
        close_backlog(link);
    else if (end == STREAM_EOF)
        link_close(link, LINK_EOF, 0, "EOF");
    else if (end == STREAM_FAILED && stream->read_error)
        link_close(link, stream->failed_in_write ? LINK_WRITE_FAILED : LINK_READ_FAILED, stream->read_error, NULL);
    else if (end == STREAM_FAILED)
        link_close(link, LINK_TLS_FAILED, 0, tls_reason(stream->tls));
    update_watch(link);
}
