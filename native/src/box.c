/*
 * XSalsa20-Poly1305 for packets: see box.h.
 *
 * The first 32 bytes of the key stream are the key of the tag, the text takes the stream from there on. So the stream
 * does not meet the text on a block boundary, and a vector unit that makes many blocks at a time would waste most of
 * them on the key alone. Therefore one call makes the head of the stream, block 0 and all that a usual packet needs,
 * into memory; only what a longer text needs beyond that is made block by block in place.
 */
#include "box.h"

#include <stdlib.h>
#include <string.h>

#include <openssl/crypto.h>
#include <openssl/evp.h>

#include "salsa20.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

enum {
    HEAD_SIZE = SALSA20_MAX_BLOCKS * SALSA20_BLOCK_SIZE,
    TAG_KEY_SIZE = 32,
    CHUNK_SIZE = 16384, /* sealed and then tagged while it is in the first-level cache; whole blocks */
};

struct box_context {
    EVP_MAC_CTX *mac;
};

/* The head of one packet's stream and where it goes on. */
struct stream {
    _Alignas(64) uint8_t head[HEAD_SIZE];
    struct salsa20_state state;
    const struct salsa20 *cipher;
    size_t in_head; /* so many bytes of the text are served from the head */
};

void box_key_init(struct box_key *key, const uint8_t shared[BOX_KEY_SIZE])
{
    static const uint8_t start_of_nonce[16];

    hsalsa20(key->subkey, shared, start_of_nonce);
}

struct box_context *box_context_new(void)
{
    struct box_context *context = malloc(sizeof(*context));
    EVP_MAC *poly1305;

    if (context == NULL)
        return NULL;
    poly1305 = EVP_MAC_fetch(NULL, "POLY1305", NULL);
    context->mac = poly1305 == NULL ? NULL : EVP_MAC_CTX_new(poly1305);
    EVP_MAC_free(poly1305); /* the context holds a reference of its own */
    if (context->mac == NULL) {
        free(context);
        return NULL;
    }
    return context;
}

void box_context_free(struct box_context *context)
{
    if (context == NULL)
        return;
    EVP_MAC_CTX_free(context->mac);
    free(context);
}

static void stream_start(struct stream *stream, const struct box_key *key, uint64_t nonce, size_t size)
{
    uint8_t counter[SALSA20_NONCE_SIZE];
    size_t blocks = SALSA20_MAX_BLOCKS;

    for (int i = 0; i < SALSA20_NONCE_SIZE; i++)
        counter[i] = (uint8_t)(nonce >> (56 - 8 * i));
    stream->in_head = HEAD_SIZE - TAG_KEY_SIZE;
    if (size < stream->in_head) {
        stream->in_head = size;
        blocks = (TAG_KEY_SIZE + size + SALSA20_BLOCK_SIZE - 1) / SALSA20_BLOCK_SIZE;
    }
    stream->cipher = salsa20_get();
    salsa20_init(&stream->state, key->subkey, counter);
    stream->cipher->blocks(stream->head, blocks, &stream->state, 0);
}

/* The text that the head serves; the rest goes on at a block boundary of the stream. */
static void stream_mix_head(const struct stream *stream, uint8_t *text)
{
    stream->cipher->mix(text, stream->head + TAG_KEY_SIZE, stream->in_head);
}

/* Nothing of the stream stays on the stack: with it, an old packet could be read. */
static void stream_wipe(struct stream *stream)
{
    explicit_bzero(stream->head, TAG_KEY_SIZE + stream->in_head);
    explicit_bzero(&stream->state, sizeof(stream->state));
}

static void require(int success)
{
    if (!success)
        abort();
}

static void tag_start(struct box_context *context, const struct stream *stream)
{
    require(EVP_MAC_init(context->mac, stream->head, TAG_KEY_SIZE, NULL));
}

static void tag_add(struct box_context *context, const uint8_t *text, size_t size)
{
    require(EVP_MAC_update(context->mac, text, size));
}

#if defined(__x86_64__)
static __attribute__((noinline, target("avx"))) void clear_upper_halves(void)
{
    _mm256_zeroupper();
}
#endif

/*
 * OpenSSL's Poly1305 leaves the upper halves of the vector registers in use. Any SSE code that comes after, anywhere in
 * the thread, then has to keep them and takes up to twice its time.
 */
static void leave_vectors(void)
{
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx"))
        clear_upper_halves();
#endif
}

static void tag_finish(struct box_context *context, uint8_t tag[BOX_TAG_SIZE])
{
    size_t size;

    require(EVP_MAC_final(context->mac, tag, &size, BOX_TAG_SIZE) && size == BOX_TAG_SIZE);
    leave_vectors();
}

void box_seal(struct box_context *context, const struct box_key *key, uint64_t nonce, uint8_t tag[BOX_TAG_SIZE],
              uint8_t *text, size_t size)
{
    struct stream stream;
    uint32_t block = SALSA20_MAX_BLOCKS;

    stream_start(&stream, key, nonce, size);
    stream_mix_head(&stream, text);
    tag_start(context, &stream);
    tag_add(context, text, stream.in_head);
    for (size_t done = stream.in_head; done < size;) {
        const size_t part = size - done < CHUNK_SIZE ? size - done : CHUNK_SIZE;

        stream.cipher->crypt(text + done, part, &stream.state, block);
        tag_add(context, text + done, part);
        done += part;
        block += CHUNK_SIZE / SALSA20_BLOCK_SIZE;
    }
    tag_finish(context, tag);
    stream_wipe(&stream);
}

bool box_open(struct box_context *context, const struct box_key *key, uint64_t nonce, const uint8_t tag[BOX_TAG_SIZE],
              uint8_t *text, size_t size)
{
    struct stream stream;
    uint8_t expected[BOX_TAG_SIZE];
    bool genuine;

    stream_start(&stream, key, nonce, size);
    tag_start(context, &stream);
    tag_add(context, text, size);
    tag_finish(context, expected);
    genuine = CRYPTO_memcmp(tag, expected, BOX_TAG_SIZE) == 0;
    if (genuine) {
        stream_mix_head(&stream, text);
        if (size > stream.in_head)
            stream.cipher->crypt(text + stream.in_head, size - stream.in_head, &stream.state, SALSA20_MAX_BLOCKS);
    }
    stream_wipe(&stream);
    return genuine;
}

const char *box_implementation(void)
{
    return salsa20_get()->name;
}
