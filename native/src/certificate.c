/*
 * See certificate.h. It looks like the one that Go makes, because that is what firewalls and monitoring have seen so far.
 *
 * The data plane in Python has its own way to the same certificate (yggpy/datapath/certificate.py), by a library that
 * would be a fifth of the memory of a node that needs it for nothing else.
 */
#include "certificate.h"

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#define NEVER_EXPIRES "99991231235959Z" /* RFC 5280, section 4.1.2.5 */

enum { SERIAL_NUMBER = 1, VERSION_3 = 2 };

static bool add_extension(X509 *certificate, int kind, const char *value)
{
    X509V3_CTX context;
    X509V3_set_ctx(&context, certificate, certificate, NULL, NULL, 0);
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, &context, kind, value);
    bool added = extension && X509_add_ext(certificate, extension, -1) == 1;
    X509_EXTENSION_free(extension);
    return added;
}

static bool fill(X509 *certificate, EVP_PKEY *key, const char *common_name)
{
    X509_NAME *name = X509_get_subject_name(certificate);
    return X509_set_version(certificate, VERSION_3) == 1 &&
           ASN1_INTEGER_set(X509_get_serialNumber(certificate), SERIAL_NUMBER) == 1 &&
           X509_NAME_add_entry_by_NID(name, NID_commonName, MBSTRING_UTF8, (const unsigned char *)common_name, -1, -1,
                                      0) == 1 &&
           X509_set_issuer_name(certificate, name) == 1 &&
           X509_gmtime_adj(X509_getm_notBefore(certificate), 0) != NULL &&
           ASN1_TIME_set_string(X509_getm_notAfter(certificate), NEVER_EXPIRES) == 1 &&
           X509_set_pubkey(certificate, key) == 1 &&
           add_extension(certificate, NID_key_usage, "critical,digitalSignature,keyEncipherment") &&
           add_extension(certificate, NID_ext_key_usage, "serverAuth") &&
           add_extension(certificate, NID_basic_constraints, "critical,CA:FALSE") &&
           X509_sign(certificate, key, NULL) > 0;
}

static bool take_text(BIO *text, struct buffer *out)
{
    char *data;
    long size = BIO_get_mem_data(text, &data);
    return size > 0 && buffer_append(out, data, (size_t)size);
}

bool certificate_make(const uint8_t seed[32], const char *common_name, struct buffer *certificate_pem,
                      struct buffer *key_pem)
{
    EVP_PKEY *key = EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL, seed, 32);
    X509 *certificate = X509_new();
    BIO *certificate_text = BIO_new(BIO_s_mem()), *key_text = BIO_new(BIO_s_secmem());
    bool made = key && certificate && certificate_text && key_text && fill(certificate, key, common_name) &&
                PEM_write_bio_X509(certificate_text, certificate) == 1 &&
                PEM_write_bio_PKCS8PrivateKey(key_text, key, NULL, NULL, 0, NULL, NULL) == 1 &&
                take_text(certificate_text, certificate_pem) && take_text(key_text, key_pem);
    if (!made)
        ERR_clear_error();
    BIO_free(certificate_text);
    BIO_free(key_text);
    X509_free(certificate);
    EVP_PKEY_free(key);
    return made;
}
