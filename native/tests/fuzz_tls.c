/*
 * Random conversations of tls.c with OpenSSL, in random pieces: both roles, TLS 1.3 in its three suites and 1.2, key
 * updates in both directions, tickets, the end. The same numbers give the same run: fuzz_tls [rounds [seed]].
 *
 * Honest rounds must bring every byte, in both directions. In spoilt ones a byte of the wire changes or is lost; forged
 * ones end in records that are sealed well but say anything. Then what comes must still be the beginning of what was
 * sent. All cipher and plain text lies in memory of exactly its size, so that a sanitizer sees every byte too far.
 */
#include <openssl/pem.h>
#include <openssl/ssl.h>

#include "certificate.h"
#include "check.h"
#include "record.h"
#include "tls.h"

enum { HONEST, SPOILT, FORGED, KINDS };
enum { LEAST_ROOM = RECORD_MAX_BODY, MAX_WRITE = 40000, STEPS = 40 };

static uint64_t state;

static uint32_t roll(uint32_t sides)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (uint32_t)(state >> 32) % sides;
}

/* The byte at a place of a stream: any gap, repetition or shift shows. */
static uint8_t byte_at(size_t place)
{
    return (uint8_t)(place * 31 + (place >> 8) * 7 + (place >> 16));
}

static struct {
    int kind;
    struct tls *tls;
    SSL *peer;
    struct buffer to_us, to_peer; /* on the wire */
    struct buffer held;           /* cipher text that we have and could not use yet */
    size_t sent, received, peer_sent, peer_received;
    bool over; /* we take no more */
    uint8_t secret[RECORD_MAX_SECRET];
    size_t secret_size;
} talk;

static uint8_t scratch[MAX_WRITE];

static const uint8_t *fill(size_t place, size_t size)
{
    for (size_t i = 0; i < size; i++)
        scratch[i] = byte_at(place + i);
    return scratch;
}

static void keep_secret(const SSL *ssl, const char *line)
{
    const char *ours = SSL_is_server(ssl) ? "SERVER_TRAFFIC_SECRET_0 " : "CLIENT_TRAFFIC_SECRET_0 ";
    if (strncmp(line, ours, strlen(ours)) != 0)
        return;
    const char *hex = strrchr(line, ' ') + 1;
    talk.secret_size = strlen(hex) / 2;
    CHECK(talk.secret_size <= sizeof talk.secret);
    for (size_t i = 0; i < talk.secret_size; i++) {
        unsigned byte;
        CHECK(sscanf(hex + 2 * i, "%2x", &byte) == 1);
        talk.secret[i] = (uint8_t)byte;
    }
}

/* ---- the peer ---- */

static void carry_from_peer(void)
{
    char *data;
    long size = BIO_get_mem_data(SSL_get_wbio(talk.peer), &data);
    if (size > 0)
        CHECK(buffer_append(&talk.to_us, data, (size_t)size));
    (void)BIO_reset(SSL_get_wbio(talk.peer));
}

/* Gives the peer a piece of what we have sent. */
static void carry_to_peer(void)
{
    size_t size = buffer_size(&talk.to_peer);
    if (roll(3))
        size = size ? 1 + roll((uint32_t)size) : 0;
    if (size)
        CHECK(BIO_write(SSL_get_rbio(talk.peer), buffer_bytes(&talk.to_peer), (int)size) == (int)size);
    buffer_consume(&talk.to_peer, size);
}

static int peer_reads(void)
{
    uint8_t data[5000];
    int count;
    while ((count = SSL_read(talk.peer, data, (int)sizeof data)) > 0)
        for (int i = 0; i < count; i++)
            CHECK(data[i] == byte_at(talk.peer_received++));
    carry_from_peer();
    return SSL_get_error(talk.peer, count);
}

static void peer_writes(void)
{
    size_t size = 1 + roll(roll(3) ? 300 : MAX_WRITE - 1);
    bool modern = SSL_version(talk.peer) == TLS1_3_VERSION;
    if (modern && !roll(4))
        CHECK(SSL_key_update(talk.peer, roll(2) ? SSL_KEY_UPDATE_REQUESTED : SSL_KEY_UPDATE_NOT_REQUESTED) == 1);
    else if (modern && SSL_is_server(talk.peer) && !roll(10))
        CHECK(SSL_new_session_ticket(talk.peer) == 1);
    if (SSL_write(talk.peer, fill(talk.peer_sent, size), (int)size) == (int)size)
        talk.peer_sent += size;
    else
        CHECK(talk.kind != HONEST);
    carry_from_peer();
}

/* ---- our side ---- */

static uint8_t *exact(const void *data, size_t size)
{
    uint8_t *copy = malloc(size + !size);
    CHECK(copy);
    if (size)
        memcpy(copy, data, size);
    return copy;
}

static enum tls_status we_open(size_t piece)
{
    CHECK(buffer_append(&talk.held, piece ? buffer_bytes(&talk.to_us) : NULL, piece));
    buffer_consume(&talk.to_us, piece);
    for (;;) {
        size_t size = buffer_size(&talk.held), room = LEAST_ROOM + roll(20000), used, got;
        uint8_t *data = exact(buffer_bytes(&talk.held), size), *plain = malloc(room);
        CHECK(plain);
        enum tls_status status = tls_open(talk.tls, data, size, &used, plain, room, &got, &talk.to_peer);
        CHECK(used <= size && got <= room && status != TLS_OK);
        for (size_t i = 0; i < got; i++)
            CHECK(plain[i] == byte_at(talk.received++));
        CHECK(talk.received <= talk.peer_sent);
        free(data);
        free(plain);
        buffer_consume(&talk.held, used);
        talk.over = status != TLS_MORE;
        CHECK(status != TLS_FAILED || *tls_reason(talk.tls));
        if (talk.over || !got)
            return status;
    }
}

static void we_read(void)
{
    size_t size = buffer_size(&talk.to_us);
    if (size && roll(3))
        size = 1 + roll((uint32_t)size);
    if (talk.kind == SPOILT && size && !roll(6)) {
        if (roll(2))
            buffer_bytes(&talk.to_us)[roll((uint32_t)size)] ^= (uint8_t)(1 << roll(8));
        else
            buffer_consume(&talk.to_us, 1 + roll((uint32_t)size)), size = 0;
    }
    enum tls_status status = we_open(size);
    CHECK(talk.kind != HONEST || status == TLS_MORE);
}

static void we_write(void)
{
    size_t size = roll(roll(3) ? 300 : MAX_WRITE);
    uint8_t *data = exact(fill(talk.sent, size), size);
    CHECK(tls_seal(talk.tls, data, size, &talk.to_peer));
    free(data);
    talk.sent += size;
}

/* Records that only somebody with the keys can make: tickets, updates, alerts, nothing at all, and what is no TLS. */
static void forge(void)
{
    struct record_half half;
    uint16_t suite = SSL_CIPHER_get_protocol_id(SSL_get_current_cipher(talk.peer));
    CHECK(record_init(&half, suite, talk.secret, talk.secret_size, true));
    for (int i = 0; i < 30; i++) {
        uint8_t body[600], record[sizeof body + RECORD_OVERHEAD];
        static const uint8_t types[] = {RECORD_DATA, RECORD_HANDSHAKE, RECORD_HANDSHAKE, RECORD_ALERT, 20, 0, 99};
        enum record_type type = (enum record_type)types[roll(roll(3) ? 3 : 7)];
        size_t size = roll(4) ? roll(40) : roll(sizeof body);
        bool update = false;
        for (size_t at = 0; at < size; at++)
            body[at] = (uint8_t)(roll(3) ? 0 : roll(256));
        if (type == RECORD_DATA) {
            memcpy(body, fill(talk.peer_sent, size), size);
            talk.peer_sent += size;
        } else if (type == RECORD_HANDSHAKE && roll(4)) {
            update = roll(2);
            size = update ? 5 : size < 4 ? 4 : size;
            memcpy(body, update ? "\x18\0\0\1" : "\4\0\0", 4);
            body[3] = update ? 1 : (uint8_t)(roll(4) ? size - 4 : roll(256));
            body[4] = (uint8_t)roll(2);
        }
        size_t sealed = record_seal(&half, type, body, size, record);
        CHECK(sealed == size + RECORD_OVERHEAD);
        if (update)
            CHECK(record_update(&half));
        CHECK(buffer_append(&talk.to_us, record, sealed));
    }
    record_free(&half);
    while (buffer_size(&talk.to_us) && !talk.over)
        we_open(1 + roll((uint32_t)buffer_size(&talk.to_us)));
}

/* ---- a conversation ---- */

static void shake_hands(void)
{
    enum tls_status status = TLS_MORE;
    bool peer_done = false;
    for (int i = 0; status != TLS_OK || !peer_done; i++) {
        CHECK(i < 100000);
        size_t piece = buffer_size(&talk.to_us);
        if (piece && roll(2))
            piece = 1 + roll((uint32_t)piece);
        if (status == TLS_MORE) {
            CHECK(buffer_append(&talk.held, piece ? buffer_bytes(&talk.to_us) : NULL, piece));
            buffer_consume(&talk.to_us, piece);
            status = tls_handshake(talk.tls, &talk.held, &talk.to_peer);
            CHECK(status == TLS_OK || status == TLS_MORE);
        }
        carry_to_peer();
        peer_done = SSL_do_handshake(talk.peer) == 1;
        carry_from_peer();
    }
    CHECK(*tls_description(talk.tls));
}

static void converse(void)
{
    shake_hands();
    if (talk.kind == FORGED) {
        if (SSL_version(talk.peer) == TLS1_3_VERSION && !buffer_size(&talk.to_us) && !buffer_size(&talk.held))
            forge();
        return;
    }
    for (int i = 0; i < STEPS && !talk.over; i++) {
        peer_writes();
        if (roll(2))
            we_read();
        if (!talk.over && roll(2))
            we_write();
        carry_to_peer();
        peer_reads();
    }
    if (talk.kind != HONEST)
        return;
    tls_close(talk.tls, &talk.to_peer);
    int error = SSL_ERROR_WANT_READ;
    while (buffer_size(&talk.to_peer)) {
        carry_to_peer();
        error = peer_reads();
    }
    CHECK(error == SSL_ERROR_ZERO_RETURN && talk.peer_received == talk.sent);
    SSL_shutdown(talk.peer);
    carry_from_peer();
    CHECK(we_open(buffer_size(&talk.to_us)) == TLS_EOF && talk.received == talk.peer_sent);
}

/* A stranger who talks no TLS, or begins well and goes on badly. */
static void babble(struct tls_context *context)
{
    char reason[TLS_REASON_SIZE];
    struct tls *tls = tls_new(context, NULL, reason);
    CHECK(tls);
    struct buffer in = {0}, out = {0};
    static const uint8_t hello[] = {22, 3, 1, 0, 60, 1, 0, 0, 56, 3, 3};
    if (roll(2))
        CHECK(buffer_append(&in, hello, sizeof hello));
    enum tls_status status = TLS_MORE;
    for (int i = 0; i < 20 && status == TLS_MORE; i++) {
        for (uint32_t left = roll(300); left; left--) {
            uint8_t byte = (uint8_t)(roll(3) ? roll(4) : roll(256));
            CHECK(buffer_append(&in, &byte, 1));
        }
        status = tls_handshake(tls, &in, &out);
        CHECK(status != TLS_OK);
    }
    buffer_free(&in);
    buffer_free(&out);
    tls_free(tls);
}

int main(int argc, char **argv)
{
    long rounds = argc > 1 ? atol(argv[1]) : 40;
    state = argc > 2 ? strtoull(argv[2], NULL, 0) * 2 + 1 : 0x9e3779b97f4a7c15;
    struct buffer certificate = {0}, key = {0};
    static const uint8_t seed[32] = "any";
    char reason[TLS_REASON_SIZE];
    CHECK(certificate_make(seed, "test", &certificate, &key));
    struct tls_context *server = tls_server_context((char *)buffer_bytes(&certificate), buffer_size(&certificate),
                                                    (char *)buffer_bytes(&key), buffer_size(&key), reason);
    struct tls_context *client = tls_client_context(reason);
    CHECK(server && client);
    BIO *text = BIO_new_mem_buf(buffer_bytes(&certificate), (int)buffer_size(&certificate));
    X509 *x509 = PEM_read_bio_X509(text, NULL, NULL, NULL);
    BIO_free(text);
    text = BIO_new_mem_buf(buffer_bytes(&key), (int)buffer_size(&key));
    EVP_PKEY *pkey = PEM_read_bio_PrivateKey(text, NULL, NULL, NULL);
    BIO_free(text);
    CHECK(x509 && pkey);
    size_t bytes = 0;
    for (long round = 0; round < rounds; round++) {
        static const char *const suites[] = {"TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384",
                                             "TLS_CHACHA20_POLY1305_SHA256"};
        bool serving = roll(2), old = !serving && !roll(4);
        SSL_CTX *context = SSL_CTX_new(TLS_method());
        CHECK(context && SSL_CTX_set_ciphersuites(context, suites[roll(3)]) == 1);
        CHECK(SSL_CTX_use_certificate(context, x509) == 1 && SSL_CTX_use_PrivateKey(context, pkey) == 1);
        SSL_CTX_set_keylog_callback(context, keep_secret);
        if (old)
            SSL_CTX_set_max_proto_version(context, TLS1_2_VERSION);
        if (roll(2))
            SSL_CTX_set_num_tickets(context, roll(4));
        memset(&talk, 0, sizeof talk);
        talk.kind = (int)roll(KINDS);
        if (talk.kind == FORGED)
            SSL_CTX_set_num_tickets(context, 0);
        talk.peer = SSL_new(context);
        talk.tls = tls_new(serving ? server : client, roll(2) ? "example.org" : NULL, reason);
        CHECK(talk.peer && talk.tls);
        SSL_set_bio(talk.peer, BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
        if (serving)
            SSL_set_connect_state(talk.peer);
        else
            SSL_set_accept_state(talk.peer);
        converse();
        bytes += talk.received + talk.peer_received;
        tls_free(talk.tls);
        SSL_free(talk.peer);
        SSL_CTX_free(context);
        buffer_free(&talk.to_us);
        buffer_free(&talk.to_peer);
        buffer_free(&talk.held);
        babble(roll(2) ? server : client);
    }
    tls_context_free(server);
    tls_context_free(client);
    X509_free(x509);
    EVP_PKEY_free(pkey);
    buffer_free(&certificate);
    buffer_free(&key);
    printf("%ld rounds, %zu bytes\n", rounds, bytes);
    return 0;
}
