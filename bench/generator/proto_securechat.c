/* SecureChat: a real login with a proof over the greeting, and well-formed packages of both shapes.
 *
 * Accounts come from a file, a line each, fields separated by blanks; "-" stands for none:
 *
 *     user token seed dev list_number list_digest room room_id head lives th0 chain join
 *
 * `token` resumes a session; `seed` is that of the device's Ed25519 key, in hex; `lives` is in how many conversations
 * the account is, `th0` where the room's transcript begins; `join` is SIGNED,SIG of the event that enters the room, or
 * "-" where the account is a member already. For shape v1 a second file has a line a room: its audience's digest and
 * the text of `"kids":{…},"encrypted_keys":{…}`. The server checks all of a header but not its signature and not
 * whether anybody can open the package, so these stay the same and cost the generator nothing.
 */
#define _GNU_SOURCE
#include "generator.h"

#include <openssl/evp.h>
#include <openssl/sha.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { ID_RESUME = 1, ID_SYNC = 2, ID_JOIN = 3, ID_FIRST_SEND = 100, SIGNATURE = 64, HEX = 2 * SHA256_DIGEST_LENGTH };

struct account {
    char *user, *token, *dev, *list_digest, *room, *room_id, *head, *th0, *chain, *join;
    int list_number, lives;
    unsigned char seed[32];
    unsigned long sent; /* `ctr` of the newest message */
    char previous[HEX + 1];
    const char *audience, *keys; /* of the room; shape v1 alone */
};

static const char no_signature[] =
    "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA==";
static unsigned long long started; /* milliseconds since 1970: the `at` of all messages */

/* --- files ---------------------------------------------------------------------------------------------------------- */

static char *word(char **rest)
{
    return strsep(rest, " \n");
}

static bool read_accounts(void)
{
    FILE *file = fopen(options.accounts, "r");
    char *line = NULL;
    size_t capacity = 0;
    if (!file)
        return false;
    for (int i = 0; i < options.clients; i++) {
        if (getline(&line, &capacity, file) < 0) {
            fprintf(stderr, "%s has %d accounts, not %d\n", options.accounts, i, options.clients);
            return false;
        }
        char *rest = strdup(line);
        struct account *a = conns[i].account = calloc(1, sizeof *a);
        a->user = word(&rest);
        a->token = word(&rest);
        char *seed = word(&rest);
        for (int j = 0; j < 32; j++)
            sscanf(seed + 2 * j, "%2hhx", &a->seed[j]);
        a->dev = word(&rest);
        a->list_number = atoi(word(&rest));
        a->list_digest = word(&rest);
        a->room = word(&rest);
        a->room_id = word(&rest);
        a->head = word(&rest);
        a->lives = atoi(word(&rest));
        a->th0 = word(&rest);
        a->chain = word(&rest);
        a->join = word(&rest);
    }
    free(line);
    fclose(file);
    return true;
}

static bool read_keys(void)
{
    FILE *file = options.keys ? fopen(options.keys, "r") : NULL;
    if (!file)
        return false;
    for (int room = 0; room < options.rooms; room++) {
        char *line = NULL, *rest;
        size_t capacity = 0;
        if (getline(&line, &capacity, file) < 0)
            return false;
        rest = line;
        const char *audience = word(&rest);
        rest[strcspn(rest, "\n")] = 0;
        for (int i = 0; i < options.clients; i++)
            if (conns[i].room == room) {
                conns[i].account->audience = audience;
                conns[i].account->keys = rest;
            }
    }
    fclose(file);
    return true;
}

static bool setup(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    started = (unsigned long long)t.tv_sec * 1000 + (unsigned long long)t.tv_nsec / 1000000;
    return read_accounts() && (options.protocol != &securechat_v1 || read_keys());
}

/* --- the project's hashes (PacketDiagram.md): H(label, parts…) and signatures with a label -------------------------- */

static size_t put_vector(unsigned char *to, const void *data, size_t size)
{
    size_t head = 0;
    if (size < 64) {
        to[head++] = (unsigned char)size;
    } else {
        to[head++] = (unsigned char)(0x40 | size >> 8);
        to[head++] = (unsigned char)size;
    }
    memcpy(to + head, data, size);
    return head + size;
}

static void hex(char *to, const unsigned char *data, size_t size)
{
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < size; i++) {
        to[2 * i] = digits[data[i] >> 4];
        to[2 * i + 1] = digits[data[i] & 15];
    }
    to[2 * size] = 0;
}

static void message_id(char *to, const char *header, size_t size, const unsigned char bound[SHA256_DIGEST_LENGTH])
{
    unsigned char content[4096], digest[SHA256_DIGEST_LENGTH];
    size_t used = put_vector(content, "id", 2);
    used += put_vector(content + used, header, size);
    used += put_vector(content + used, bound, SHA256_DIGEST_LENGTH);
    SHA256(content, used, digest);
    hex(to, digest, sizeof digest);
}

/* The base64 field of that name, decoded: 32 bytes. */
static bool field_32(const char *line, size_t size, const char *name, unsigned char *to)
{
    unsigned char decoded[48];
    char *at = memmem(line, size, name, strlen(name));
    if (!at || EVP_DecodeBlock(decoded, (unsigned char *)at + strlen(name), 44) != 33)
        return false;
    memcpy(to, decoded, 32);
    return true;
}

/* Signs label "login" over H("login", lk, exporter, nonce, user). */
static bool prove(struct conn *c, const unsigned char *lk, const unsigned char *nonce, unsigned char *signature)
{
    static const char exporter_label[] = "EXPORTER-SecureChat-1", label[] = "SecureChat 1 login";
    unsigned char exporter[32], content[256], digest[SHA256_DIGEST_LENGTH], whole[128];
    size_t exported = c->tls ? sizeof exporter : 0, size = SIGNATURE;
    if (c->tls && SSL_export_keying_material(c->tls, exporter, sizeof exporter, exporter_label,
                                             sizeof exporter_label - 1, NULL, 0, 0) != 1)
        return false;
    size_t used = put_vector(content, "login", 5);
    used += put_vector(content + used, lk, 32);
    used += put_vector(content + used, exporter, exported);
    used += put_vector(content + used, nonce, 32);
    used += put_vector(content + used, c->account->user, strlen(c->account->user));
    SHA256(content, used, digest);
    used = put_vector(whole, label, sizeof label - 1);
    used += put_vector(whole + used, digest, sizeof digest);
    EVP_PKEY *key = EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL, c->account->seed, 32);
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    bool good = EVP_DigestSignInit(context, NULL, NULL, NULL, key) == 1 &&
                EVP_DigestSign(context, signature, &size, whole, used) == 1;
    EVP_MD_CTX_free(context);
    EVP_PKEY_free(key);
    return good;
}

/* --- lines ---------------------------------------------------------------------------------------------------------- */

static void greet(struct conn *c)
{
    (void)c; /* the server speaks first */
}

static void hello(struct conn *c, char *line, size_t size)
{
    unsigned char lk[32], nonce[32], signature[SIGNATURE];
    char proof[SIGNATURE * 2];
    if (!field_32(line, size, "\"lk\":\"", lk) || !field_32(line, size, "\"nonce\":\"", nonce) ||
        !prove(c, lk, nonce, signature)) {
        failed(c, line, size);
        return;
    }
    EVP_EncodeBlock((unsigned char *)proof, signature, SIGNATURE);
    put_format(c, "{\"cmd\":\"resume\",\"id\":%d,\"token\":\"%s\",\"proof\":\"%s\"}\n", ID_RESUME, c->account->token,
               proof);
}

static void enter(struct conn *c)
{
    struct account *a = c->account;
    char *comma = strchr(a->join, ',');
    if (!comma) {
        entered(c);
        return;
    }
    put_format(c, "{\"cmd\":\"act\",\"id\":%d,\"room\":\"%s\",\"signed\":\"%.*s\",\"sig\":\"%s\"}\n", ID_JOIN, a->room,
               (int)(comma - a->join), a->join, comma + 1);
}

static void reply(struct conn *c, char *line, size_t size)
{
    char *id = memmem(line, size, "\"id\":", 5);
    if (!id || !memmem(line, size, "\"status\":\"ok\"", 13)) {
        failed(c, line, size);
        return;
    }
    unsigned long number = strtoul(id + 5, NULL, 10);
    if (number == ID_RESUME) {
        put_format(c, "{\"cmd\":\"sync\",\"id\":%d}\n", ID_SYNC);
    } else if (number == ID_SYNC) {
        if (!c->account->lives)
            logged_in(c);
    } else if (number == ID_JOIN) {
        entered(c);
    } else if (number >= ID_FIRST_SEND) {
        acknowledged((uint32_t)(number - ID_FIRST_SEND));
    }
}

static void line(struct conn *c, char *text, size_t size)
{
    static const char message[] = "{\"event\":\"message\"", live[] = "{\"event\":\"live\"", event[] = "{\"event\":\"";
    if (size > sizeof message && !memcmp(text, message, sizeof message - 1)) {
        char *mid = memmem(text, size < 512 ? size : 512, "\"mid\":\"", 7);
        if (mid)
            delivered(c, mid + 7);
        else
            failed(c, text, size);
    } else if (size < sizeof event || memcmp(text, event, sizeof event - 1)) {
        reply(c, text, size);
    } else if (!memcmp(text, live, sizeof live - 1)) {
        if (c->phase == LOGGING_IN && ++c->step >= c->account->lives)
            logged_in(c);
    } else if (!memcmp(text + sizeof event - 1, "hello", 5)) {
        hello(c, text, size);
    } else if (!memcmp(text + sizeof event - 1, "bye", 3)) {
        failed(c, text, size);
    }
}

static size_t input(struct conn *c, char *data, size_t size)
{
    char *at = data, *end = data + size, *newline;
    while (c->phase != DEAD && (newline = memchr(at, '\n', (size_t)(end - at)))) {
        line(c, at, (size_t)(newline - at));
        at = newline + 1;
    }
    return (size_t)(at - data);
}

/* --- messages ------------------------------------------------------------------------------------------------------- */

/* The fields that both shapes begin with; answers their length. `mid` is the tag and the client's number. */
static size_t begin_header(struct conn *c, const char *tag, int shape, char *to, size_t room)
{
    struct account *a = c->account;
    return (size_t)snprintf(to, room,
                            "{\"t\":\"sc/%d\",\"room\":\"%s\",\"from\":\"%s\",\"dev\":\"%s\",\"dl\":[%d,\"%s\"],"
                            "\"ctr\":%lu,\"prev\":\"%s\",\"mid\":\"%.24s%08x\",\"head\":\"%s\",",
                            shape, a->room_id, a->user, a->dev, a->list_number, a->list_digest, ++a->sent,
                            a->previous, tag, (unsigned)c->index, a->head);
}

/* As many characters of base64url as a payload has, beginning with `first` and the tag. */
static void ciphertext(char *to, const char *first, const char *tag)
{
    size_t used = strlen(first);
    memcpy(to, first, used);
    memcpy(to + used, tag, TAG);
    memcpy(to + used + TAG, padding, (size_t)options.payload - used - TAG);
    to[options.payload] = 0;
}

static void send_v1(struct conn *c, const char *tag)
{
    struct account *a = c->account;
    unsigned char hash[SHA256_DIGEST_LENGTH];
    static const unsigned char bind[SHA256_DIGEST_LENGTH]; /* zeros: for the readers to check */
    char header[2048], encoded[4096], token[options.payload + 1], token_hash[HEX + 1];
    ciphertext(token, "gAAAAAAAAAAA", tag);
    SHA256((unsigned char *)token, (size_t)options.payload, hash);
    hex(token_hash, hash, sizeof hash);
    size_t size = begin_header(c, tag, 1, header, sizeof header);
    size += (size_t)snprintf(header + size, sizeof header - size,
                             "\"rcp\":\"%s\",\"mh\":\"%s\",\"th\":[0,\"%s\"],\"at\":%llu}", a->audience, token_hash,
                             a->th0, started);
    message_id(a->previous, header, size, bind);
    EVP_EncodeBlock((unsigned char *)encoded, (unsigned char *)header, (int)size);
    put_format(c, "{\"cmd\":\"send\",\"id\":%u,\"room\":\"%s\",\"package\":{\"encrypted_message\":\"%s\",",
               slot_of(tag) + ID_FIRST_SEND, a->room, token);
    put_text(c, a->keys);
    put_format(c, ",\"hdr\":\"%s\",\"bind\":\"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\",\"sig\":\"%s\"}}\n", encoded,
               no_signature);
}

static void send_v2(struct conn *c, const char *tag)
{
    struct account *a = c->account;
    unsigned char bytes[options.payload], hash[SHA256_DIGEST_LENGTH];
    char header[2048], encoded[4096], text[options.payload + 1];
    ciphertext(text, "", tag); /* hex digits and letters: base64 of some bytes, without padding */
    EVP_DecodeBlock(bytes, (unsigned char *)text, options.payload);
    SHA256(bytes, (size_t)options.payload / 4 * 3, hash);
    size_t size = begin_header(c, tag, 2, header, sizeof header);
    size += (size_t)snprintf(header + size, sizeof header - size,
                             "\"th\":[0,\"%s\"],\"at\":%llu,\"cid\":\"%s\",\"gen\":%lu,\"rg\":\"%.8s\"}", a->th0,
                             started, a->chain, a->sent - 1, a->chain);
    message_id(a->previous, header, size, hash);
    EVP_EncodeBlock((unsigned char *)encoded, (unsigned char *)header, (int)size);
    put_format(c, "{\"cmd\":\"send\",\"id\":%u,\"room\":\"%s\",\"package\":{\"hdr\":\"%s\",\"ct\":\"%s\",\"sig\":\"%s\"}}\n",
               slot_of(tag) + ID_FIRST_SEND, a->room, encoded, text, no_signature);
}

static void keep_alive(struct conn *c)
{
    put_text(c, "{\"cmd\":\"ping\",\"id\":0}\n");
}

const struct protocol securechat_v1 = {.name = "v1",
                                       .acknowledges = true,
                                       .setup = setup,
                                       .greet = greet,
                                       .enter = enter,
                                       .input = input,
                                       .send = send_v1,
                                       .keep_alive = keep_alive};
const struct protocol securechat_v2 = {.name = "v2",
                                       .acknowledges = true,
                                       .setup = setup,
                                       .greet = greet,
                                       .enter = enter,
                                       .input = input,
                                       .send = send_v2,
                                       .keep_alive = keep_alive};
