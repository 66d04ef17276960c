/*
 * TLS over memory: our client and our server against each other, and each against OpenSSL, which sends tickets, asks
 * for new keys, or knows no more than TLS 1.2. Cipher text arrives in whatever pieces.
 */
#include <openssl/pem.h>
#include <openssl/ssl.h>

#include "certificate.h"
#include "check.h"
#include "record.h"
#include "tls.h"

enum { LARGE = 300000, ROOM = 1 << 17 };

/* One end: ours, or one of OpenSSL's own. */
struct end {
    struct tls *tls;
    SSL *ssl;
    struct buffer in, out;
};

static struct tls_context *client_context, *server_context;
static struct buffer certificate, private_key;
static char reason[TLS_REASON_SIZE];
static uint8_t text[LARGE], plain[ROOM];

static void start(struct end *end, bool server)
{
    *end = (struct end){.tls = tls_new(server ? server_context : client_context, "example.org", reason)};
    CHECK(end->tls);
}

/* An end of OpenSSL's that knows no version above this one and no other suite (NULL: any). */
static void start_raw(struct end *end, bool server, int version, const char *suite)
{
    SSL_CTX *context = SSL_CTX_new(server ? TLS_server_method() : TLS_client_method());
    CHECK(context && SSL_CTX_set_max_proto_version(context, version) == 1);
    CHECK(!suite || SSL_CTX_set_ciphersuites(context, suite) == 1);
    if (server) {
        BIO *bio = BIO_new_mem_buf(buffer_bytes(&certificate), (int)buffer_size(&certificate));
        X509 *x509 = PEM_read_bio_X509(bio, NULL, NULL, NULL);
        BIO_free(bio);
        bio = BIO_new_mem_buf(buffer_bytes(&private_key), (int)buffer_size(&private_key));
        EVP_PKEY *key = PEM_read_bio_PrivateKey(bio, NULL, NULL, NULL);
        BIO_free(bio);
        CHECK(SSL_CTX_use_certificate(context, x509) == 1 && SSL_CTX_use_PrivateKey(context, key) == 1);
        X509_free(x509);
        EVP_PKEY_free(key);
        CHECK(SSL_CTX_set_num_tickets(context, 2) == 1);
    }
    *end = (struct end){.ssl = SSL_new(context)};
    CHECK(end->ssl);
    SSL_CTX_free(context);
    BIO *in = BIO_new(BIO_s_mem()), *out = BIO_new(BIO_s_mem());
    BIO_set_mem_eof_return(in, -1);
    SSL_set_bio(end->ssl, in, out);
    if (server)
        SSL_set_accept_state(end->ssl);
    else
        SSL_set_connect_state(end->ssl);
}

static void stop(struct end *end)
{
    tls_free(end->tls);
    SSL_free(end->ssl);
    buffer_free(&end->in);
    buffer_free(&end->out);
}

static void stop_both(struct end *one, struct end *other)
{
    stop(one);
    stop(other);
}

/* Hands OpenSSL what has come for it. */
static void give_raw(struct end *end)
{
    while (buffer_size(&end->in)) {
        int count = BIO_write(SSL_get_rbio(end->ssl), buffer_bytes(&end->in), (int)buffer_size(&end->in));
        CHECK(count > 0);
        buffer_consume(&end->in, (size_t)count);
    }
}

static void take_raw(struct end *end)
{
    uint8_t piece[4096];
    for (int count; (count = BIO_read(SSL_get_wbio(end->ssl), piece, sizeof piece)) > 0;)
        CHECK(buffer_append(&end->out, piece, (size_t)count));
}

static enum tls_status shake(struct end *end)
{
    if (end->tls)
        return tls_handshake(end->tls, &end->in, &end->out);
    give_raw(end);
    int result = SSL_do_handshake(end->ssl);
    take_raw(end);
    if (result == 1)
        return TLS_OK;
    return SSL_get_error(end->ssl, result) == SSL_ERROR_WANT_READ ? TLS_MORE : TLS_FAILED;
}

static size_t move(struct end *from, struct end *to, size_t most)
{
    size_t size = buffer_size(&from->out) < most ? buffer_size(&from->out) : most;
    if (size) {
        CHECK(buffer_append(&to->in, buffer_bytes(&from->out), size));
        buffer_consume(&from->out, size);
    }
    return size;
}

/* Carries pieces of that size until both are done; false when one of them fails. */
static bool handshake(struct end *one, struct end *other, size_t piece)
{
    enum tls_status first = TLS_MORE, second = TLS_MORE;
    for (int idle = 0; first != TLS_OK || second != TLS_OK;) {
        if (first == TLS_MORE)
            first = shake(one);
        size_t moved = move(one, other, piece);
        if (second == TLS_MORE)
            second = shake(other);
        moved += move(other, one, piece);
        idle = moved ? 0 : idle + 1;
        if (first == TLS_FAILED || second == TLS_FAILED)
            return false;
        CHECK(idle < 3);
    }
    return true;
}

static void write_to(struct end *end, const uint8_t *data, size_t size)
{
    if (end->tls) {
        CHECK(tls_seal(end->tls, data, size, &end->out));
        return;
    }
    CHECK(SSL_write(end->ssl, data, (int)size) == (int)size);
    take_raw(end);
}

/* Opens what has come; returns the status and adds to *got. */
static enum tls_status read_from(struct end *end, uint8_t *place, size_t room, size_t *got)
{
    if (end->tls) {
        size_t used, count;
        uint8_t *exact = malloc(buffer_size(&end->in) + 1); /* so that nothing beyond is looked at */
        CHECK(exact);
        size_t size = buffer_size(&end->in);
        if (size)
            memcpy(exact, buffer_bytes(&end->in), size);
        enum tls_status status = tls_open(end->tls, exact, size, &used, place, room, &count, &end->out);
        CHECK(used <= size && count <= room);
        free(exact);
        buffer_consume(&end->in, used);
        *got += count;
        return status;
    }
    give_raw(end);
    for (;;) {
        int count = SSL_read(end->ssl, place, (int)room);
        take_raw(end);
        if (count <= 0)
            return SSL_get_error(end->ssl, count) == SSL_ERROR_WANT_READ     ? TLS_MORE
                   : SSL_get_error(end->ssl, count) == SSL_ERROR_ZERO_RETURN ? TLS_EOF
                                                                              : TLS_FAILED;
        *got += (size_t)count;
        place += count;
        room -= (size_t)count;
    }
}

/* Sends text from one end to the other in pieces of random size. */
static void transfer(struct end *from, struct end *to, size_t size, size_t piece)
{
    size_t written = 0, read = 0;
    while (read < size) {
        size_t some = 1 + random_below(50000);
        if (some > size - written)
            some = size - written;
        if (some)
            write_to(from, text + written, some);
        written += some;
        do {
            move(from, to, piece);
            size_t got = 0;
            CHECK(read_from(to, plain, ROOM, &got) == TLS_MORE);
            CHECK(got <= size - read && !memcmp(plain, text + read, got));
            read += got;
        } while (buffer_size(&from->out));
        move(to, from, SIZE_MAX);
    }
}

static void test_ours(void)
{
    static const size_t PIECES[] = {1, 7, 1000, SIZE_MAX};
    for (size_t i = 0; i < 4; i++) {
        struct end client, server;
        start(&client, false);
        start(&server, true);
        CHECK(!*tls_description(client.tls));
        CHECK(handshake(&client, &server, PIECES[i]));
        CHECK(!strncmp(tls_description(client.tls), "TLSv1.3 TLS_", 12));
        CHECK(!strcmp(tls_description(client.tls), tls_description(server.tls)) && !*tls_reason(client.tls));
        size_t size = i ? LARGE : 3000;
        transfer(&client, &server, size, i == 2 ? 1777 : PIECES[i]);
        transfer(&server, &client, size, i == 2 ? 16500 : PIECES[i]);
        /* The last words come with the end, and an empty write says nothing. */
        write_to(&client, text, 0);
        CHECK(!buffer_size(&client.out));
        write_to(&client, text, 100);
        tls_close(client.tls, &client.out);
        move(&client, &server, SIZE_MAX);
        size_t got = 0;
        CHECK(read_from(&server, plain, ROOM, &got) == TLS_EOF && got == 100 && !memcmp(plain, text, 100));
        stop_both(&client, &server);
    }
}

static void test_room(void)
{
    /* Records that find no room stay where they are. */
    struct end client, server;
    start(&client, false);
    start(&server, true);
    CHECK(handshake(&client, &server, SIZE_MAX));
    write_to(&client, text, 100000);
    move(&client, &server, SIZE_MAX);
    size_t total = 0, calls = 0;
    while (total < 100000) {
        size_t got = 0;
        uint8_t *room = malloc(RECORD_MAX_BODY + 100);
        CHECK(room && read_from(&server, room, RECORD_MAX_BODY + 100, &got) == TLS_MORE && got);
        CHECK(!memcmp(room, text + total, got));
        free(room);
        total += got;
        calls++;
    }
    CHECK(calls == 7 && !buffer_size(&server.in));
    stop_both(&client, &server);
}

static void test_tampered(void)
{
    static const struct {
        size_t at;
        uint8_t change;
        const char *reason, *alert;
    } cases[] = {
        {0, 1, "UNEXPECTED_RECORD", "TLSV13_ALERT_UNEXPECTED_MESSAGE"},
        {3, 0x80, "PACKET_LENGTH_TOO_LONG", "TLSV13_ALERT_RECORD_OVERFLOW"},
        {2, 1, "DECRYPTION_FAILED_OR_BAD_RECORD_MAC", "TLSV13_ALERT_BAD_RECORD_MAC"},
        {5, 1, "DECRYPTION_FAILED_OR_BAD_RECORD_MAC", "TLSV13_ALERT_BAD_RECORD_MAC"},
        {5 + 50, 1, "DECRYPTION_FAILED_OR_BAD_RECORD_MAC", "TLSV13_ALERT_BAD_RECORD_MAC"},
        {5 + 66, 0x40, "DECRYPTION_FAILED_OR_BAD_RECORD_MAC", "TLSV13_ALERT_BAD_RECORD_MAC"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct end client, server;
        start(&client, false);
        start(&server, true);
        CHECK(handshake(&client, &server, SIZE_MAX));
        write_to(&client, text, 70); /* whole, and handed over before the end */
        write_to(&client, text, 50);
        buffer_bytes(&client.out)[70 + RECORD_OVERHEAD + cases[i].at] ^= cases[i].change;
        move(&client, &server, SIZE_MAX);
        size_t got = 0;
        CHECK(read_from(&server, plain, ROOM, &got) == TLS_FAILED && got == 70);
        CHECK(!strcmp(tls_reason(server.tls), cases[i].reason));
        move(&server, &client, SIZE_MAX);
        CHECK(read_from(&client, plain, ROOM, &got) == TLS_FAILED && got == 70);
        CHECK(!strcmp(tls_reason(client.tls), cases[i].alert));
        stop_both(&client, &server);
    }
}

static void test_openssl_server(void)
{
    /* Each suite; two tickets, which arrive as our first records and are not text. */
    static const char *const SUITES[] = {"TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384",
                                         "TLS_CHACHA20_POLY1305_SHA256"};
    for (int i = 0; i < 3; i++) {
        for (size_t piece = 3; piece; piece = piece == 3 ? SIZE_MAX : 0) {
            struct end client, server;
            start(&client, false);
            start_raw(&server, true, TLS1_3_VERSION, SUITES[i]);
            CHECK(handshake(&client, &server, piece));
            CHECK(!strncmp(tls_description(client.tls), "TLSv1.3 ", 8));
            CHECK(!strcmp(tls_description(client.tls) + 8, SUITES[i]));
            CHECK(!strcmp(SSL_get_servername(server.ssl, TLSEXT_NAMETYPE_host_name), "example.org"));
            transfer(&server, &client, 50000, piece);
            transfer(&client, &server, 50000, piece);
            /* New keys of theirs, then also of ours because they ask for it; ours come before our next words. */
            for (int round = 0; round < 4; round++) {
                int kind = round % 2 ? SSL_KEY_UPDATE_REQUESTED : SSL_KEY_UPDATE_NOT_REQUESTED;
                CHECK(SSL_key_update(server.ssl, kind) == 1 && SSL_do_handshake(server.ssl) == 1);
                take_raw(&server);
                transfer(&server, &client, 20000, piece);
                transfer(&client, &server, 20000, piece);
            }
            SSL_shutdown(server.ssl);
            take_raw(&server);
            move(&server, &client, SIZE_MAX);
            size_t got = 0;
            CHECK(read_from(&client, plain, ROOM, &got) == TLS_EOF && !got);
            stop_both(&client, &server);
        }
    }
}

static void test_openssl_client(void)
{
    struct end client, server;
    start_raw(&client, false, TLS1_3_VERSION, NULL);
    start(&server, true);
    CHECK(handshake(&client, &server, 11));
    transfer(&client, &server, LARGE, SIZE_MAX);
    CHECK(SSL_key_update(client.ssl, SSL_KEY_UPDATE_REQUESTED) == 1 && SSL_do_handshake(client.ssl) == 1);
    take_raw(&client);
    transfer(&client, &server, 1000, 5);
    transfer(&server, &client, LARGE, 333);
    tls_close(server.tls, &server.out);
    move(&server, &client, SIZE_MAX);
    size_t got = 0;
    CHECK(read_from(&client, plain, ROOM, &got) == TLS_EOF && !got);
    stop_both(&client, &server);
}

static void test_tls12(void)
{
    for (size_t piece = 1; piece; piece = piece == 1 ? SIZE_MAX : 0) {
        struct end client, server;
        start(&client, false);
        start_raw(&server, true, TLS1_2_VERSION, NULL);
        CHECK(handshake(&client, &server, piece));
        CHECK(!strncmp(tls_description(client.tls), "TLSv1.2 ", 8));
        size_t size = piece == 1 ? 5000 : LARGE;
        transfer(&client, &server, size, piece);
        transfer(&server, &client, size, piece);
        write_to(&server, text, 60);
        SSL_shutdown(server.ssl);
        take_raw(&server);
        move(&server, &client, SIZE_MAX);
        size_t got = 0;
        CHECK(read_from(&client, plain, ROOM, &got) == TLS_EOF && got == 60);
        tls_close(client.tls, &client.out);
        CHECK(buffer_size(&client.out));
        stop_both(&client, &server);
    }
    /* Our server does not stoop to it, and says so to the client. */
    struct end client, server;
    start_raw(&client, false, TLS1_2_VERSION, NULL);
    start(&server, true);
    CHECK(!handshake(&client, &server, SIZE_MAX));
    CHECK(!strcmp(tls_reason(server.tls), "UNSUPPORTED_PROTOCOL") && !*tls_description(server.tls));
    stop_both(&client, &server);
}

static void test_no_tls(void)
{
    for (int server = 0; server < 2; server++) {
        struct end end;
        start(&end, server);
        shake(&end);
        CHECK(buffer_append(&end.in, "meta\0\0\0\0 and more that is no TLS", 31));
        CHECK(shake(&end) == TLS_FAILED && !strcmp(tls_reason(end.tls), "WRONG_VERSION_NUMBER"));
        stop(&end);
    }
    CHECK(!tls_server_context("nonsense", 8, "nonsense", 8, reason) && *reason);
}

int main(void)
{
    uint8_t seed[32];
    pattern(seed, sizeof seed, 3);
    pattern(text, sizeof text, 4);
    CHECK(certificate_make(seed, "node", &certificate, &private_key));
    client_context = tls_client_context(reason);
    server_context =
        tls_server_context((const char *)buffer_bytes(&certificate), buffer_size(&certificate),
                           (const char *)buffer_bytes(&private_key), buffer_size(&private_key), reason);
    CHECK(client_context && server_context);
    test_ours();
    test_room();
    test_tampered();
    test_openssl_server();
    test_openssl_client();
    test_tls12();
    test_no_tls();
    tls_context_free(client_context);
    tls_context_free(server_context);
    buffer_free(&certificate);
    buffer_free(&private_key);
    return 0;
}
