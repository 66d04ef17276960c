/* See buffer.h. */
#include "buffer.h"

#include <stdlib.h>
#include <string.h>

enum { LEAST_ROOM = 1024 };

uint8_t *buffer_reserve(struct buffer *buffer, size_t size)
{
    size_t held = buffer_size(buffer);
    if (buffer->room - buffer->end >= size && buffer->data)
        return buffer->data + buffer->end;
    if (buffer->room - held < size || !buffer->data) {
        size_t room = buffer->room ? buffer->room : LEAST_ROOM;
        while (room - held < size)
            room *= 2;
        uint8_t *data = malloc(room);
        if (!data)
            return NULL;
        if (held)
            memcpy(data, buffer_bytes(buffer), held);
        free(buffer->data);
        buffer->data = data;
        buffer->room = room;
    } else if (held) {
        memmove(buffer->data, buffer_bytes(buffer), held);
    }
    buffer->start = 0;
    buffer->end = held;
    return buffer->data + held;
}

bool buffer_append(struct buffer *buffer, const void *data, size_t size)
{
    uint8_t *place = buffer_reserve(buffer, size);
    if (!place)
        return false;
    if (size)
        memcpy(place, data, size);
    buffer->end += size;
    return true;
}

void buffer_free(struct buffer *buffer)
{
    free(buffer->data);
    *buffer = (struct buffer){0};
}
