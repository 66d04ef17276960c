/*
 * A byte buffer that is filled at its end and emptied at its start.
 *
 * It grows to what it once had to hold and is given back when its owner falls idle (buffer_free), so that a node with
 * many quiet links stays small.
 */
#ifndef YGGPY_BUFFER_H
#define YGGPY_BUFFER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct buffer {
    uint8_t *data;
    size_t start, end;
    size_t room;
};

/* Makes room for `size` more bytes and returns where they go; NULL: out of memory, nothing has changed. */
uint8_t *buffer_reserve(struct buffer *buffer, size_t size);

/* Copies `size` bytes to the end. False: out of memory. */
bool buffer_append(struct buffer *buffer, const void *data, size_t size);

/* Frees the memory; the buffer is then empty and can be used again. */
void buffer_free(struct buffer *buffer);

static inline size_t buffer_size(const struct buffer *buffer)
{
    return buffer->end - buffer->start;
}

static inline uint8_t *buffer_bytes(const struct buffer *buffer)
{
    return buffer->data + buffer->start;
}

/* Takes `size` bytes, which must be there, from the start. */
static inline void buffer_consume(struct buffer *buffer, size_t size)
{
    buffer->start += size;
    if (buffer->start == buffer->end)
        buffer->start = buffer->end = 0;
}

#endif
