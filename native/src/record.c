/* See record.h. Sections named here are those of RFC 8446. */
#include "record.h"

#include <string.h>

#include <openssl/crypto.h>
#include <openssl/hmac.h>

/* After as many records the key is changed: 2^24.5 is the limit for AES-GCM (section 5.5), 2^48 none for ChaCha20. */
#define RECORDS_PER_KEY ((uint64_t)1 << 24)

enum { MAX_LABEL = 32 };

/* HKDF-Expand-Label (section 7.1) with an empty context, for outputs no longer than the digest: one HMAC does it. */
static bool expand(const struct record_half *half, const char *label, uint8_t *out, size_t size)
{
    uint8_t info[4 + 6 + MAX_LABEL + 1];
    size_t length = strlen(label), used = 0;
    info[used++] = (uint8_t)(size >> 8);
    info[used++] = (uint8_t)size;
    info[used++] = (uint8_t)(6 + length);
    memcpy(info + used, "tls13 ", 6);
    used += 6;
    memcpy(info + used, label, length);
    used += length;
    info[used++] = 0;
    info[used++] = 1;
    uint8_t block[EVP_MAX_MD_SIZE];
    unsigned block_size = 0;
    bool done = HMAC(half->digest, half->secret, (int)half->secret_size, info, used, block, &block_size) != NULL;
    if (done)
        memcpy(out, block, size);
    OPENSSL_cleanse(block, sizeof block);
    return done;
}

static bool set_keys(struct record_half *half)
{
    uint8_t key[EVP_MAX_KEY_LENGTH];
    bool done = expand(half, "key", key, (size_t)EVP_CIPHER_get_key_length(half->cipher)) &&
                expand(half, "iv", half->iv, sizeof half->iv) &&
                EVP_CipherInit_ex(half->context, half->cipher, NULL, key, half->iv, half->sealing) == 1;
    OPENSSL_cleanse(key, sizeof key);
    half->sequence = 0;
    return done;
}

bool record_init(struct record_half *half, uint16_t suite, const uint8_t *secret, size_t size, bool sealing)
{
    *half = (struct record_half){.sealing = sealing, .secret_size = size};
    switch (suite) {
    case 0x1301:
        half->cipher = EVP_aes_128_gcm();
        half->digest = EVP_sha256();
        break;
    case 0x1302:
        half->cipher = EVP_aes_256_gcm();
        half->digest = EVP_sha384();
        break;
    case 0x1303:
        half->cipher = EVP_chacha20_poly1305();
        half->digest = EVP_sha256();
        break;
    default:
        return false;
    }
    if (size != (size_t)EVP_MD_get_size(half->digest))
        return false;
    memcpy(half->secret, secret, size);
    half->context = EVP_CIPHER_CTX_new();
    if (!half->context || !set_keys(half)) {
        record_free(half);
        return false;
    }
    return true;
}

void record_free(struct record_half *half)
{
    EVP_CIPHER_CTX_free(half->context);
    OPENSSL_cleanse(half, sizeof *half);
}

bool record_update(struct record_half *half)
{
    uint8_t next[RECORD_MAX_SECRET];
    if (!expand(half, "traffic upd", next, half->secret_size))
        return false;
    memcpy(half->secret, next, half->secret_size);
    OPENSSL_cleanse(next, sizeof next);
    return set_keys(half);
}

bool record_worn(const struct record_half *half)
{
    return half->sequence >= RECORDS_PER_KEY;
}

/* The nonce of a record is its number, padded and mixed with the static iv (section 5.3). */
static bool next_nonce(struct record_half *half)
{
    uint8_t nonce[sizeof half->iv];
    memcpy(nonce, half->iv, sizeof nonce);
    for (int i = 0; i < 8; i++)
        nonce[sizeof nonce - 1 - (size_t)i] ^= (uint8_t)(half->sequence >> (8 * i));
    half->sequence++;
    return EVP_CipherInit_ex(half->context, NULL, NULL, NULL, nonce, half->sealing) == 1;
}

size_t record_seal(struct record_half *half, enum record_type type, const uint8_t *data, size_t size, uint8_t *out)
{
    size_t body = size + 1 + RECORD_TAG;
    out[0] = RECORD_DATA;
    out[1] = out[2] = 3;
    out[3] = (uint8_t)(body >> 8);
    out[4] = (uint8_t)body;
    uint8_t inner = (uint8_t)type;
    uint8_t *text = out + RECORD_HEADER;
    int used;
    if (!next_nonce(half) || EVP_CipherUpdate(half->context, NULL, &used, out, RECORD_HEADER) != 1 ||
        (size && EVP_CipherUpdate(half->context, text, &used, data, (int)size) != 1) ||
        EVP_CipherUpdate(half->context, text + size, &used, &inner, 1) != 1 ||
        EVP_CipherFinal_ex(half->context, text + size + 1, &used) != 1 ||
        EVP_CIPHER_CTX_ctrl(half->context, EVP_CTRL_AEAD_GET_TAG, RECORD_TAG, text + size + 1) != 1)
        return 0;
    return RECORD_HEADER + body;
}

bool record_open(struct record_half *half, const uint8_t header[RECORD_HEADER], const uint8_t *body, size_t size,
                 uint8_t *out, size_t *length, enum record_type *type)
{
    if (size < RECORD_TAG + 1)
        return false;
    size_t text = size - RECORD_TAG;
    uint8_t tag[RECORD_TAG];
    memcpy(tag, body + text, RECORD_TAG);
    int used;
    if (!next_nonce(half) || EVP_CIPHER_CTX_ctrl(half->context, EVP_CTRL_AEAD_SET_TAG, RECORD_TAG, tag) != 1 ||
        EVP_CipherUpdate(half->context, NULL, &used, header, RECORD_HEADER) != 1 ||
        EVP_CipherUpdate(half->context, out, &used, body, (int)text) != 1 ||
        EVP_CipherFinal_ex(half->context, out + text, &used) != 1)
        return false;
    /* The true type is the last byte that is not padding (section 5.4). */
    while (text && !out[text - 1])
        text--;
    if (!text || text - 1 > RECORD_MAX_PLAIN)
        return false;
    *type = (enum record_type)out[text - 1];
    *length = text - 1;
    return true;
}
