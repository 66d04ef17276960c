/* See tls.h. */
#include "tls.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>

#include "record.h"

enum {
    ALERT_CLOSE_NOTIFY = 0,
    ALERT_UNEXPECTED_MESSAGE = 10,
    ALERT_BAD_RECORD_MAC = 20,
    ALERT_RECORD_OVERFLOW = 22,
    HANDSHAKE_TICKET = 4,
    HANDSHAKE_KEY_UPDATE = 24,
    HANDSHAKE_HEADER = 4,
    MAX_HANDSHAKE = 65536, /* bytes of one message after the handshake; tickets have a few hundred */
    MAX_IDLE_RECORDS = 16, /* records and messages in a row that bring no data; as in Go */
};

struct secret {
    uint8_t bytes[RECORD_MAX_SECRET];
    size_t size;
};

struct tls_context {
    SSL_CTX *ssl;
    bool server;
};

struct tls {
    SSL *ssl; /* NULL once the records are ours */
    bool server;
    bool ours;
    struct record_half read, write;
    struct secret client_secret, server_secret;
    int idle_records; /* since the last data */
    bool update_owed; /* the other side has asked us to change our key */
    struct buffer messages; /* the beginning of a handshake message that continues in the next record */
    const uint8_t *in; /* what OpenSSL may read at the moment */
    size_t in_size;
    struct buffer *out; /* where OpenSSL's words go at the moment */
    char description[80];
    char reason[TLS_REASON_SIZE];
};

/* ---- OpenSSL reads and writes our memory ---- */

static int memory_read(BIO *bio, char *data, int size)
{
    struct tls *tls = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    if (!tls->in_size) {
        BIO_set_retry_read(bio);
        return -1;
    }
    size_t take = tls->in_size < (size_t)size ? tls->in_size : (size_t)size;
    memcpy(data, tls->in, take);
    tls->in += take;
    tls->in_size -= take;
    return (int)take;
}

static int memory_write(BIO *bio, const char *data, int size)
{
    struct tls *tls = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    return tls->out && buffer_append(tls->out, data, (size_t)size) ? size : -1;
}

static long memory_control(BIO *bio, int command, long number, void *pointer)
{
    (void)bio, (void)number, (void)pointer;
    return command == BIO_CTRL_FLUSH;
}

static BIO_METHOD *memory_method(void)
{
    static BIO_METHOD *method; /* made once, under the lock of the interpreter */
    if (!method) {
        method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "memory of a link");
        if (method) {
            BIO_meth_set_read(method, memory_read);
            BIO_meth_set_write(method, memory_write);
            BIO_meth_set_ctrl(method, memory_control);
        }
    }
    return method;
}

/* ---- errors ---- */

static void say(char reason[TLS_REASON_SIZE], const char *prefix, const char *text)
{
    snprintf(reason, TLS_REASON_SIZE, "%s%s", prefix, text);
    for (char *at = reason; *at; at++)
        *at = *at == ' ' ? '_' : (char)toupper((unsigned char)*at);
}

/* Says what OpenSSL has recorded first; that is the cause, what follows are its consequences. */
static void say_openssl(char reason[TLS_REASON_SIZE])
{
    const char *text = ERR_reason_error_string(ERR_get_error());
    say(reason, "", text ? text : "unknown error");
    ERR_clear_error();
}

const char *tls_reason(const struct tls *tls)
{
    return tls->reason;
}

/* ---- contexts ---- */

static struct secret *secret_for(struct tls *tls, const char *line)
{
    if (strncmp(line, "CLIENT_TRAFFIC_SECRET_0 ", 24) == 0)
        return &tls->client_secret;
    if (strncmp(line, "SERVER_TRAFFIC_SECRET_0 ", 24) == 0)
        return &tls->server_secret;
    return NULL;
}

/* OpenSSL tells the traffic secrets in no other way: a line "LABEL client-random secret", in hex. */
static void keep_secret(const SSL *ssl, const char *line)
{
    struct secret *secret = secret_for(SSL_get_app_data(ssl), line);
    const char *hex = strrchr(line, ' ');
    if (!secret || !hex)
        return;
    hex++;
    size_t size = strlen(hex) / 2;
    if (size > sizeof secret->bytes)
        return;
    for (size_t i = 0; i < size; i++) {
        unsigned byte;
        if (sscanf(hex + 2 * i, "%2x", &byte) != 1)
            return;
        secret->bytes[i] = (uint8_t)byte;
    }
    secret->size = size;
}

static struct tls_context *new_context(const SSL_METHOD *method, bool server, char reason[TLS_REASON_SIZE])
{
    ERR_clear_error();
    struct tls_context *context = calloc(1, sizeof *context);
    if (context)
        context->ssl = SSL_CTX_new(method);
    if (!context || !context->ssl || !memory_method()) {
        say_openssl(reason);
        tls_context_free(context);
        return NULL;
    }
    context->server = server;
    SSL_CTX_set_verify(context->ssl, SSL_VERIFY_NONE, NULL);
    SSL_CTX_set_session_cache_mode(context->ssl, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_keylog_callback(context->ssl, keep_secret);
    SSL_CTX_set_options(context->ssl, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
    SSL_CTX_set_mode(context->ssl, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_AUTO_RETRY);
    return context;
}

struct tls_context *tls_client_context(char reason[TLS_REASON_SIZE])
{
    struct tls_context *context = new_context(TLS_client_method(), false, reason);
    if (context)
        SSL_CTX_set_min_proto_version(context->ssl, TLS1_2_VERSION);
    return context;
}

struct tls_context *tls_server_context(const char *certificate_pem, size_t certificate_size, const char *key_pem,
                                       size_t key_size, char reason[TLS_REASON_SIZE])
{
    struct tls_context *context = new_context(TLS_server_method(), true, reason);
    if (!context)
        return NULL;
    SSL_CTX_set_min_proto_version(context->ssl, TLS1_3_VERSION);
    SSL_CTX_set_num_tickets(context->ssl, 0); /* nobody resumes, and the first record of ours has number 0 */
    BIO *certificate_text = BIO_new_mem_buf(certificate_pem, (int)certificate_size);
    BIO *key_text = BIO_new_mem_buf(key_pem, (int)key_size);
    X509 *certificate = certificate_text ? PEM_read_bio_X509(certificate_text, NULL, NULL, NULL) : NULL;
    EVP_PKEY *key = key_text ? PEM_read_bio_PrivateKey(key_text, NULL, NULL, NULL) : NULL;
    bool usable = certificate && key && SSL_CTX_use_certificate(context->ssl, certificate) == 1 &&
                  SSL_CTX_use_PrivateKey(context->ssl, key) == 1;
    if (!usable)
        say_openssl(reason);
    X509_free(certificate);
    EVP_PKEY_free(key);
    BIO_free(certificate_text);
    BIO_free(key_text);
    if (usable)
        return context;
    tls_context_free(context);
    return NULL;
}

void tls_context_free(struct tls_context *context)
{
    if (context) {
        SSL_CTX_free(context->ssl);
        free(context);
    }
}

/* ---- connections ---- */

struct tls *tls_new(struct tls_context *context, const char *server_name, char reason[TLS_REASON_SIZE])
{
    ERR_clear_error();
    struct tls *tls = calloc(1, sizeof *tls);
    BIO *bio = BIO_new(memory_method());
    if (tls)
        tls->ssl = SSL_new(context->ssl);
    if (!tls || !bio || !tls->ssl) {
        say_openssl(reason);
        BIO_free(bio);
        tls_free(tls);
        return NULL;
    }
    tls->server = context->server;
    BIO_set_data(bio, tls);
    BIO_set_init(bio, 1);
    SSL_set_bio(tls->ssl, bio, bio);
    SSL_set_app_data(tls->ssl, tls);
    if (tls->server) {
        SSL_set_accept_state(tls->ssl);
    } else {
        SSL_set_connect_state(tls->ssl);
        if (server_name && SSL_set_tlsext_host_name(tls->ssl, server_name) != 1)
            ERR_clear_error(); /* no legal server name: none is sent */
    }
    return tls;
}

static void forget_secrets(struct tls *tls)
{
    OPENSSL_cleanse(&tls->client_secret, sizeof tls->client_secret);
    OPENSSL_cleanse(&tls->server_secret, sizeof tls->server_secret);
}

void tls_free(struct tls *tls)
{
    if (!tls)
        return;
    SSL_free(tls->ssl);
    record_free(&tls->read);
    record_free(&tls->write);
    buffer_free(&tls->messages);
    forget_secrets(tls);
    free(tls);
}

const char *tls_description(const struct tls *tls)
{
    return tls->description;
}

/* After a handshake of TLS 1.3 nothing has been sent or read under the traffic secrets yet: both counts begin at 0. */
static bool take_over(struct tls *tls)
{
    if (SSL_version(tls->ssl) != TLS1_3_VERSION || SSL_has_pending(tls->ssl))
        return true;
    uint16_t suite = SSL_CIPHER_get_protocol_id(SSL_get_current_cipher(tls->ssl));
    const struct secret *ours = tls->server ? &tls->server_secret : &tls->client_secret;
    const struct secret *theirs = tls->server ? &tls->client_secret : &tls->server_secret;
    if (!record_init(&tls->write, suite, ours->bytes, ours->size, true) ||
        !record_init(&tls->read, suite, theirs->bytes, theirs->size, false)) {
        say(tls->reason, "", "no keys for this cipher suite");
        return false;
    }
    tls->ours = true;
    SSL_free(tls->ssl);
    tls->ssl = NULL;
    return true;
}

enum tls_status tls_handshake(struct tls *tls, struct buffer *in, struct buffer *out)
{
    if (tls->ours)
        return TLS_OK;
    ERR_clear_error();
    size_t held = buffer_size(in);
    tls->in = held ? buffer_bytes(in) : NULL;
    tls->in_size = held;
    tls->out = out;
    int result = SSL_do_handshake(tls->ssl);
    tls->out = NULL;
    buffer_consume(in, held - tls->in_size);
    tls->in_size = 0;
    if (result == 1) {
        snprintf(tls->description, sizeof tls->description, "%s %s", SSL_get_version(tls->ssl),
                 SSL_get_cipher_name(tls->ssl));
        bool taken = take_over(tls);
        forget_secrets(tls);
        return taken ? TLS_OK : TLS_FAILED;
    }
    if (SSL_get_error(tls->ssl, result) == SSL_ERROR_WANT_READ)
        return TLS_MORE;
    say_openssl(tls->reason);
    return TLS_FAILED;
}

/* ---- records of ours ---- */

static bool seal_one(struct tls *tls, enum record_type type, const uint8_t *data, size_t size, struct buffer *out)
{
    uint8_t *place = buffer_reserve(out, size + RECORD_OVERHEAD);
    size_t sealed = place ? record_seal(&tls->write, type, data, size, place) : 0;
    out->end += sealed;
    return sealed != 0;
}

static enum tls_status fail(struct tls *tls, uint8_t alert, const char *reason, struct buffer *out)
{
    uint8_t message[2] = {2, alert};
    seal_one(tls, RECORD_ALERT, message, sizeof message, out);
    say(tls->reason, "", reason);
    return TLS_FAILED;
}

static bool send_key_update(struct tls *tls, struct buffer *out)
{
    static const uint8_t message[] = {HANDSHAKE_KEY_UPDATE, 0, 0, 1, 0};
    return seal_one(tls, RECORD_HANDSHAKE, message, sizeof message, out) && record_update(&tls->write);
}

static enum tls_status on_alert(struct tls *tls, const uint8_t *data, size_t size, struct buffer *out)
{
    if (size != 2)
        return fail(tls, ALERT_UNEXPECTED_MESSAGE, "bad alert", out);
    if (data[1] == ALERT_CLOSE_NOTIFY)
        return TLS_EOF;
    say(tls->reason, "TLSV13_ALERT_", SSL_alert_desc_string_long(data[1]));
    return TLS_FAILED;
}

/* Tickets, which Go sends and nobody here resumes with, and changes of key. */
static enum tls_status on_handshake(struct tls *tls, const uint8_t *data, size_t size, struct buffer *out)
{
    if (!buffer_append(&tls->messages, data, size))
        return fail(tls, ALERT_UNEXPECTED_MESSAGE, "out of memory", out);
    while (buffer_size(&tls->messages) >= HANDSHAKE_HEADER) {
        const uint8_t *message = buffer_bytes(&tls->messages);
        size_t length = (size_t)message[1] << 16 | (size_t)message[2] << 8 | message[3];
        if (length > MAX_HANDSHAKE)
            return fail(tls, ALERT_UNEXPECTED_MESSAGE, "excessive message size", out);
        if (buffer_size(&tls->messages) < HANDSHAKE_HEADER + length)
            return TLS_OK;
        bool ticket = message[0] == HANDSHAKE_TICKET && !tls->server;
        bool update = message[0] == HANDSHAKE_KEY_UPDATE && length == 1 && message[4] <= 1;
        bool asked = update && message[4] == 1;
        buffer_consume(&tls->messages, HANDSHAKE_HEADER + length);
        if (!ticket && !update)
            return fail(tls, ALERT_UNEXPECTED_MESSAGE, "unexpected message", out);
        if (update && buffer_size(&tls->messages)) /* RFC 8446, section 5.1 */
            return fail(tls, ALERT_UNEXPECTED_MESSAGE, "not on record boundary", out);
        if (update && !record_update(&tls->read))
            return fail(tls, ALERT_UNEXPECTED_MESSAGE, "key update failed", out);
        tls->update_owed = tls->update_owed || asked;
        if (ticket && ++tls->idle_records > MAX_IDLE_RECORDS)
            return fail(tls, ALERT_UNEXPECTED_MESSAGE, "too many non advancing records", out);
    }
    if (!buffer_size(&tls->messages))
        buffer_free(&tls->messages);
    return TLS_OK;
}

static enum tls_status open_ours(struct tls *tls, const uint8_t *data, size_t size, size_t *used, uint8_t *plain,
                                 size_t room, size_t *got, struct buffer *out)
{
    while (size - *used >= RECORD_HEADER) {
        const uint8_t *header = data + *used;
        size_t body = (size_t)header[3] << 8 | header[4];
        if (body > RECORD_MAX_BODY)
            return fail(tls, ALERT_RECORD_OVERFLOW, "packet length too long", out);
        if (size - *used - RECORD_HEADER < body || room - *got < body)
            break;
        if (header[0] != RECORD_DATA)
            return fail(tls, ALERT_UNEXPECTED_MESSAGE, "unexpected record", out);
        size_t length;
        enum record_type type;
        if (!record_open(&tls->read, header, header + RECORD_HEADER, body, plain + *got, &length, &type))
            return fail(tls, ALERT_BAD_RECORD_MAC, "decryption failed or bad record mac", out);
        *used += RECORD_HEADER + body;
        tls->idle_records = type == RECORD_DATA && length ? 0 : tls->idle_records + 1;
        if (tls->idle_records > MAX_IDLE_RECORDS)
            return fail(tls, ALERT_UNEXPECTED_MESSAGE, "too many non advancing records", out);
        enum tls_status status = TLS_OK;
        if (type == RECORD_DATA)
            *got += length;
        else if (type == RECORD_ALERT)
            status = on_alert(tls, plain + *got, length, out);
        else if (type == RECORD_HANDSHAKE && length)
            status = on_handshake(tls, plain + *got, length, out);
        else
            status = fail(tls, ALERT_UNEXPECTED_MESSAGE, "unexpected record", out);
        if (status != TLS_OK)
            return status;
    }
    return TLS_MORE;
}

/* ---- records of OpenSSL ---- */

static enum tls_status open_theirs(struct tls *tls, const uint8_t *data, size_t size, size_t *used, uint8_t *plain,
                                   size_t room, size_t *got, struct buffer *out)
{
    ERR_clear_error();
    tls->in = data;
    tls->in_size = size;
    tls->out = out;
    enum tls_status status = TLS_MORE;
    while (*got < room) {
        size_t most = room - *got < RECORD_MAX_PLAIN ? room - *got : RECORD_MAX_PLAIN;
        int count = SSL_read(tls->ssl, plain + *got, (int)most);
        if (count > 0) {
            *got += (size_t)count;
            continue;
        }
        int error = SSL_get_error(tls->ssl, count);
        if (error == SSL_ERROR_ZERO_RETURN) {
            status = TLS_EOF;
        } else if (error != SSL_ERROR_WANT_READ) {
            say_openssl(tls->reason);
            status = TLS_FAILED;
        }
        break;
    }
    *used = size - tls->in_size;
    tls->in_size = 0;
    tls->out = NULL;
    return status;
}

/* ---- both ---- */

enum tls_status tls_open(struct tls *tls, const uint8_t *data, size_t size, size_t *used, uint8_t *plain, size_t room,
                         size_t *got, struct buffer *out)
{
    *used = *got = 0;
    return tls->ours ? open_ours(tls, data, size, used, plain, room, got, out)
                     : open_theirs(tls, data, size, used, plain, room, got, out);
}

bool tls_seal(struct tls *tls, const uint8_t *data, size_t size, struct buffer *out)
{
    if (!tls->ours) {
        ERR_clear_error();
        tls->out = out;
        bool done = !size || SSL_write(tls->ssl, data, (int)size) == (int)size;
        tls->out = NULL;
        if (!done)
            say_openssl(tls->reason);
        return done;
    }
    /* One answer serves any number of requests, and goes with the next data: nobody can make us send more than we do. */
    if ((tls->update_owed || record_worn(&tls->write)) && !send_key_update(tls, out))
        return false;
    tls->update_owed = false;
    /* One reservation for all: growing record by record would copy what is there again and again. */
    if (!buffer_reserve(out, size + (size / RECORD_MAX_PLAIN + 1) * RECORD_OVERHEAD))
        return false;
    while (size) {
        size_t piece = size < RECORD_MAX_PLAIN ? size : RECORD_MAX_PLAIN;
        if (!seal_one(tls, RECORD_DATA, data, piece, out))
            return false;
        data += piece;
        size -= piece;
    }
    return true;
}

void tls_close(struct tls *tls, struct buffer *out)
{
    static const uint8_t message[2] = {1, ALERT_CLOSE_NOTIFY};
    if (tls->ours) {
        seal_one(tls, RECORD_ALERT, message, sizeof message, out);
        return;
    }
    ERR_clear_error();
    tls->out = out;
    SSL_shutdown(tls->ssl);
    tls->out = NULL;
    ERR_clear_error();
}
