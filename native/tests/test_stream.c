/*
 * A stream over a socket pair, plain and TLS: what is written arrives whatever the kernel takes at once, ends and
 * errors are told apart, what came early is handed over, and a TLS peer (OpenSSL here) that only talks about keys is
 * shown out.
 */
#include <errno.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "certificate.h"
#include "check.h"
#include "record.h"
#include "stream.h"

enum { LARGE = 3000000 };

static struct tls_context *client_context, *server_context;
static uint8_t text[LARGE], plain[STREAM_CIPHER_ROOM], scratch[STREAM_CIPHER_ROOM];
static char reason[TLS_REASON_SIZE];

static void open_sockets(int ends[2])
{
    CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends) == 0);
}

static void shake_hands(struct stream *client, struct stream *server)
{
    enum tls_status first = TLS_MORE, second = TLS_MORE;
    while (first != TLS_OK || second != TLS_OK) {
        if (first == TLS_MORE)
            first = stream_handshake(client);
        if (second == TLS_MORE)
            second = stream_handshake(server);
        CHECK((first == TLS_OK || first == TLS_MORE) && (second == TLS_OK || second == TLS_MORE));
    }
}

static void open_pair(struct stream *client, struct stream *server, bool tls)
{
    int ends[2];
    open_sockets(ends);
    stream_init(client, ends[0]);
    stream_init(server, ends[1]);
    if (!tls)
        return;
    client->tls = tls_new(client_context, NULL, reason);
    server->tls = tls_new(server_context, NULL, reason);
    CHECK(client->tls && server->tls);
    shake_hands(client, server);
}

static enum stream_end read_some(struct stream *stream, size_t *got)
{
    return stream_read(stream, scratch, plain, sizeof plain, got);
}

static void test_transfer(bool tls)
{
    struct stream client, server;
    open_pair(&client, &server, tls);
    size_t written = 0, read = 0, jams = 0, got;
    while (read < LARGE) {
        /* Frames of all sizes, several of them before each flush. */
        for (int i = 0; i < 5 && written < LARGE && stream_buffered(&client) < 400000; i++) {
            size_t size = random_below(4) ? random_below(1500) : random_below(130000);
            if (size > LARGE - written)
                size = LARGE - written;
            CHECK(stream_write(&client, text + written, size));
            written += size;
        }
        stream_flush(&client);
        jams += stream_buffered(&client) != 0;
        if (random_below(3) || written == LARGE) {
            CHECK(read_some(&server, &got) == STREAM_GOES_ON);
            CHECK(got <= written - read && !memcmp(plain, text + read, got));
            read += got;
        }
    }
    CHECK(jams > 3 && !stream_buffered(&client) && read_some(&server, &got) == STREAM_GOES_ON && !got);
    stream_trim(&client);
    CHECK(!client.out.room && !client.pending.room);
    /* The last words come before the end. */
    CHECK(stream_write(&client, text, 1000));
    stream_flush(&client);
    stream_free(&client);
    CHECK(client.fd == -1);
    enum stream_end end = read_some(&server, &got);
    CHECK(got == 1000 && !memcmp(plain, text, 1000));
    if (end == STREAM_GOES_ON)
        end = read_some(&server, &got);
    CHECK(end == STREAM_EOF && !server.read_error);
    stream_free(&server);
}

static void test_full_kernel(void)
{
    /* Not one byte more is taken: what waits and what comes after it stay in order. */
    struct stream client, server;
    open_pair(&client, &server, false);
    size_t before = 0, read = 0, got;
    for (ssize_t size; (size = send(client.fd, text, 1000, 0)) > 0;)
        before += (size_t)size;
    CHECK(stream_write(&client, text + 50000, 100) && stream_write(&client, text, 10000));
    CHECK(stream_write(&client, text + 10000, 10000) && stream_buffered(&client) == 20100);
    stream_flush(&client);
    for (; read < before; read += got)
        CHECK(stream_read(&server, scratch, plain, before - read, &got) == STREAM_GOES_ON && got);
    CHECK(stream_buffered(&client) == 20100);
    stream_flush(&client);
    CHECK(read_some(&server, &got) == STREAM_GOES_ON && got == 20100);
    CHECK(!memcmp(plain, text + 50000, 100) && !memcmp(plain + 100, text, 20000));
    stream_free(&client);
    stream_free(&server);
}

static void test_failed_write(bool tls)
{
    struct stream client, server;
    open_pair(&client, &server, tls);
    CHECK(stream_write(&server, text, 500));
    stream_flush(&server);
    CHECK(shutdown(server.fd, SHUT_RD) == 0);
    /* Our writing fails; what the peer still had to say is read, and only then the failure is told. */
    CHECK(stream_write(&client, text, 20000));
    stream_flush(&client);
    CHECK(client.write_error == EPIPE && !stream_buffered(&client));
    CHECK(stream_write(&client, text, 20000) && !stream_buffered(&client)); /* without effect */
    stream_flush(&client);
    size_t got;
    CHECK(read_some(&client, &got) == STREAM_GOES_ON && got == 500);
    CHECK(read_some(&client, &got) == STREAM_FAILED && got == 0);
    CHECK(client.failed_in_write && client.read_error == EPIPE);
    stream_free(&client);
    stream_free(&server);
}

static void test_failed_read(void)
{
    struct stream client, server;
    open_pair(&client, &server, false);
    CHECK(stream_write(&client, text, 10));
    stream_flush(&client);
    stream_free(&server); /* with something unread: the other side is told of a reset */
    size_t got;
    CHECK(read_some(&client, &got) == STREAM_FAILED && !client.failed_in_write && client.read_error == ECONNRESET);
    stream_free(&client);
}

static void test_read_ahead(bool tls)
{
    struct stream client, server;
    open_pair(&client, &server, tls);
    CHECK(stream_read_ahead(&server) == STREAM_GOES_ON && !buffer_size(&server.ahead));
    CHECK(stream_write(&client, text, 100));
    stream_flush(&client);
    CHECK(stream_read_ahead(&server) == STREAM_GOES_ON && buffer_size(&server.ahead) == 100);
    /* The second life begins in the middle of something. */
    CHECK(stream_write(&client, text + 100, 50000));
    stream_flush(&client);
    for (int i = 0; i < 3; i++)
        CHECK(stream_read_ahead(&server) == STREAM_GOES_ON);
    size_t early = buffer_size(&server.ahead), got;
    CHECK(early < 50100 && !memcmp(buffer_bytes(&server.ahead), text, early));
    CHECK(tls ? buffer_size(&server.cipher) > 0 : early == 100 + 3 * 4096);
    CHECK(read_some(&server, &got) == STREAM_GOES_ON && got == 50100 - early && !memcmp(plain, text + early, got));
    /* The end in the first life. */
    stream_free(&client);
    enum stream_end end = stream_read_ahead(&server);
    CHECK(end == STREAM_EOF && buffer_size(&server.ahead) == early);
    stream_free(&server);
}

static void test_early_records(void)
{
    /* What the client sends with the last words of its handshake is not lost in between. */
    int ends[2];
    open_sockets(ends);
    struct stream client, server;
    stream_init(&client, ends[0]);
    stream_init(&server, ends[1]);
    client.tls = tls_new(client_context, NULL, reason);
    server.tls = tls_new(server_context, NULL, reason);
    CHECK(client.tls && server.tls);
    CHECK(stream_handshake(&client) == TLS_MORE && stream_handshake(&server) == TLS_MORE);
    CHECK(stream_handshake(&client) == TLS_OK);
    CHECK(stream_write(&client, text, 200));
    stream_flush(&client);
    CHECK(stream_handshake(&server) == TLS_OK && buffer_size(&server.cipher) > 200);
    CHECK(stream_read_ahead(&server) == STREAM_GOES_ON && buffer_size(&server.ahead) == 200);
    CHECK(!memcmp(buffer_bytes(&server.ahead), text, 200));
    stream_free(&client);
    stream_free(&server);
}

static void test_failed_handshake(void)
{
    for (int end = 0; end < 2; end++) {
        int ends[2];
        open_sockets(ends);
        struct stream server;
        stream_init(&server, ends[0]);
        server.tls = tls_new(server_context, NULL, reason);
        CHECK(server.tls && stream_handshake(&server) == TLS_MORE);
        if (end) {
            close(ends[1]);
            CHECK(stream_handshake(&server) == TLS_EOF);
        } else {
            CHECK(send(ends[1], "meta is not a record", 20, 0) == 20);
            CHECK(stream_handshake(&server) == TLS_FAILED && !strcmp(tls_reason(server.tls), "WRONG_VERSION_NUMBER"));
            close(ends[1]);
        }
        stream_free(&server);
    }
}

/* Joins ours, a client, to a server of OpenSSL's. */
static SSL *open_raw(struct stream *client)
{
    int ends[2];
    open_sockets(ends);
    stream_init(client, ends[0]);
    client->tls = tls_new(client_context, NULL, reason);
    struct buffer certificate = {0}, key = {0};
    uint8_t seed[32] = {9};
    CHECK(client->tls && certificate_make(seed, "raw", &certificate, &key));
    SSL_CTX *context = SSL_CTX_new(TLS_server_method());
    BIO *bio = BIO_new_mem_buf(buffer_bytes(&certificate), (int)buffer_size(&certificate));
    X509 *x509 = PEM_read_bio_X509(bio, NULL, NULL, NULL);
    BIO_free(bio);
    bio = BIO_new_mem_buf(buffer_bytes(&key), (int)buffer_size(&key));
    EVP_PKEY *private_key = PEM_read_bio_PrivateKey(bio, NULL, NULL, NULL);
    BIO_free(bio);
    CHECK(SSL_CTX_use_certificate(context, x509) == 1 && SSL_CTX_use_PrivateKey(context, private_key) == 1);
    X509_free(x509);
    EVP_PKEY_free(private_key);
    SSL *ssl = SSL_new(context);
    SSL_CTX_free(context);
    CHECK(ssl && SSL_set_fd(ssl, ends[1]) == 1);
    SSL_set_accept_state(ssl);
    enum tls_status status = TLS_MORE;
    while (SSL_do_handshake(ssl) != 1 || status != TLS_OK)
        if (status == TLS_MORE)
            status = stream_handshake(client);
    buffer_free(&certificate);
    buffer_free(&key);
    return ssl;
}

static void close_raw(SSL *ssl)
{
    close(SSL_get_fd(ssl));
    SSL_free(ssl);
}

static void test_key_updates(void)
{
    struct stream client;
    SSL *ssl = open_raw(&client);
    size_t got;
    CHECK(read_some(&client, &got) == STREAM_GOES_ON && !got); /* tickets */
    /* Any number of them with data in between; they are answered once, in front of our next data. */
    for (int i = 0; i < 100; i++) {
        CHECK(SSL_key_update(ssl, SSL_KEY_UPDATE_REQUESTED) == 1 && SSL_do_handshake(ssl) == 1);
        CHECK(SSL_write(ssl, text, 10) == 10);
        CHECK(read_some(&client, &got) == STREAM_GOES_ON && got == 10);
        CHECK(stream_buffered(&client) == 0);
    }
    for (int i = 0; i < 3; i++) {
        struct buffer out = {0};
        CHECK(tls_seal(client.tls, text, 300, &out));
        size_t update = RECORD_OVERHEAD + 5, size = buffer_size(&out);
        CHECK(size == 300 + RECORD_OVERHEAD + (i ? 0 : update));
        CHECK(send(client.fd, buffer_bytes(&out), size, 0) == (ssize_t)size);
        buffer_free(&out);
        CHECK(SSL_read(ssl, plain, sizeof plain) == 300 && !memcmp(plain, text, 300));
    }
    /* Nothing but that, again and again: this is not a peer to keep. */
    enum stream_end end = STREAM_GOES_ON;
    for (int i = 0; i < 40 && end == STREAM_GOES_ON; i++) {
        CHECK(SSL_key_update(ssl, SSL_KEY_UPDATE_REQUESTED) == 1 && SSL_do_handshake(ssl) == 1);
        end = read_some(&client, &got);
        CHECK(!got && stream_buffered(&client) < 100);
    }
    CHECK(end == STREAM_FAILED && !client.read_error);
    CHECK(!strcmp(tls_reason(client.tls), "TOO_MANY_NON_ADVANCING_RECORDS"));
    stream_free(&client);
    /* It is told so before the connection ends. */
    CHECK(SSL_read(ssl, plain, sizeof plain) <= 0);
    CHECK(ERR_GET_REASON(ERR_get_error()) == SSL_R_SSLV3_ALERT_UNEXPECTED_MESSAGE);
    close_raw(ssl);
}

static void test_cut_off(void)
{
    /* An end without close_notify is an end: Go takes it so, and frames have lengths of their own. */
    struct stream client;
    SSL *ssl = open_raw(&client);
    size_t got;
    CHECK(SSL_write(ssl, text, 10) == 10);
    close_raw(ssl);
    CHECK(read_some(&client, &got) == STREAM_GOES_ON && got == 10);
    CHECK(read_some(&client, &got) == STREAM_EOF && got == 0);
    stream_free(&client);
}

static void test_feed(void)
{
    struct stream stream;
    stream_init(&stream, -1);
    CHECK(stream_write(&stream, text, 100) && stream_write(&stream, text + 100, 200000));
    stream_flush(&stream);
    CHECK(stream_buffered(&stream) == 200100 && !memcmp(buffer_bytes(&stream.out), text, 200100));
    stream_free(&stream);
}

int main(void)
{
    uint8_t seed[32] = {7};
    struct buffer certificate = {0}, key = {0};
    pattern(text, sizeof text, 1);
    CHECK(certificate_make(seed, "node", &certificate, &key));
    client_context = tls_client_context(reason);
    server_context = tls_server_context((const char *)buffer_bytes(&certificate), buffer_size(&certificate),
                                        (const char *)buffer_bytes(&key), buffer_size(&key), reason);
    CHECK(client_context && server_context);
    buffer_free(&certificate);
    buffer_free(&key);
    for (int tls = 0; tls < 2; tls++) {
        test_transfer(tls);
        test_failed_write(tls);
        test_read_ahead(tls);
    }
    test_full_kernel();
    test_failed_read();
    test_early_records();
    test_failed_handshake();
    test_key_updates();
    test_cut_off();
    test_feed();
    tls_context_free(client_context);
    tls_context_free(server_context);
    return 0;
}
