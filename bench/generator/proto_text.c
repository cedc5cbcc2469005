/* The protocols of one text line a message: IRC, and the plain one of our own reference servers. */
#define _GNU_SOURCE
#include "generator.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HAS(line, size, text) (memmem(line, size, text, sizeof(text) - 1) != NULL)

/* Calls `line` with each whole line, without its end. */
static size_t each_line(struct conn *c, char *data, size_t size, void (*line)(struct conn *, char *, size_t))
{
    char *at = data, *end = data + size, *newline;
    while (c->phase != DEAD && (newline = memchr(at, '\n', (size_t)(end - at)))) {
        line(c, at, (size_t)(newline - at));
        at = newline + 1;
    }
    return (size_t)(at - data);
}

/* A message begins with '^' and its tag; anything else in these protocols has no '^'. */
static bool tagged(struct conn *c, char *line, size_t size)
{
    char *tag = memchr(line, '^', size);
    if (!tag || line + size - tag <= TAG)
        return false;
    delivered(c, tag + 1);
    return true;
}

static void put_body(struct conn *c, const char *tag)
{
    put(c, "^", 1);
    put(c, tag, TAG);
    put(c, padding, (size_t)options.payload - TAG - 1);
}

static bool no_setup(void)
{
    return true;
}

/* --- the reference servers' own:  J ROOM | S ROOM SLOT BODY  →  J | M ROOM SEQ BODY | A SLOT SEQ ------------------- */

static void plain_greet(struct conn *c)
{
    logged_in(c); /* no accounts there */
}

static void plain_enter(struct conn *c)
{
    put_format(c, "J %d\n", c->room);
}

static void plain_line(struct conn *c, char *line, size_t size)
{
    if (line[0] == 'M')
        tagged(c, line, size);
    else if (line[0] == 'A')
        acknowledged((uint32_t)strtoul(line + 2, NULL, 10));
    else if (line[0] == 'J' && c->phase == ENTERING)
        entered(c);
}

static size_t plain_input(struct conn *c, char *data, size_t size)
{
    return each_line(c, data, size, plain_line);
}

static void plain_send(struct conn *c, const char *tag)
{
    put_format(c, "S %d %u ", c->room, slot_of(tag));
    put_body(c, tag);
    put(c, "\n", 1);
}

const struct protocol plain = {.name = "plain",
                               .acknowledges = true,
                               .setup = no_setup,
                               .greet = plain_greet,
                               .enter = plain_enter,
                               .input = plain_input,
                               .send = plain_send};

/* --- IRC ---------------------------------------------------------------------------------------------------------- */

static void irc_greet(struct conn *c)
{
    put_format(c, "NICK n%d\r\nUSER u%d 0 * :bench\r\n", c->index, c->index);
}

static void irc_enter(struct conn *c)
{
    put_format(c, "JOIN #r%d\r\n", c->room);
}

/* The number of a numeric reply, the second word of its line; 0 for other lines. */
static int irc_number(const char *line, size_t size)
{
    const char *blank = line[0] == ':' ? memchr(line, ' ', size) : NULL;
    if (!blank || line + size - blank < 5 || blank[4] != ' ')
        return 0;
    return atoi(blank + 1);
}

static void irc_keep_alive(struct conn *c)
{
    put_text(c, "PING :bench\r\n");
}

static void irc_line(struct conn *c, char *line, size_t size)
{
    int number = irc_number(line, size);
    if (c->phase == PRESENT && tagged(c, line, size))
        return;
    if (size > 5 && !memcmp(line, "PING ", 5)) {
        put(c, "PONG ", 5);
        put(c, line + 5, size - 5);
        put(c, "\n", 1);
    } else if (number >= 400 && number != 422) { /* 422: there is no message of the day */
        failed(c, line, size);
    } else if (size > 6 && !memcmp(line, "ERROR ", 6)) {
        failed(c, line, size);
    } else if (c->phase == LOGGING_IN && (number == 376 || number == 422)) {
        logged_in(c); /* behind the message of the day, or the lack of one */
    } else if (c->phase == ENTERING && number == 366) {
        entered(c); /* behind the list of names */
    }
}

static size_t irc_input(struct conn *c, char *data, size_t size)
{
    return each_line(c, data, size, irc_line);
}

static void irc_send(struct conn *c, const char *tag)
{
    put_format(c, "PRIVMSG #r%d :", c->room);
    put_body(c, tag);
    put(c, "\r\n", 2);
}

const struct protocol irc = {.name = "irc",
                             .setup = no_setup,
                             .greet = irc_greet,
                             .enter = irc_enter,
                             .input = irc_input,
                             .send = irc_send,
                             .keep_alive = irc_keep_alive};

/* --- NATS: its messages span lines, so tags are looked for in the stream -------------------------------------------- */

static void nats_greet(struct conn *c)
{
    put_text(c, "CONNECT {\"verbose\":false,\"pedantic\":false}\r\nPING\r\n");
}

static void nats_enter(struct conn *c)
{
    put_format(c, "SUB r%d 1\r\nPING\r\n", c->room);
}

/* Everything up to the last tag whose end may still come. */
static size_t tags_in_stream(struct conn *c, char *data, size_t size)
{
    char *at = data, *end = data + size;
    while ((at = memchr(at, '^', (size_t)(end - at)))) {
        if (end - at <= TAG)
            return (size_t)(at - data);
        delivered(c, at + 1);
        at += TAG + 1;
    }
    return size;
}

static size_t nats_input(struct conn *c, char *data, size_t size)
{
    if (c->phase == PRESENT) {
        if (HAS(data, size < 64 ? size : 64, "PING\r\n"))
            put_text(c, "PONG\r\n");
        if (HAS(data, size < 64 ? size : 64, "-ERR"))
            failed(c, data, size);
        return tags_in_stream(c, data, size);
    }
    if (HAS(data, size, "-ERR"))
        failed(c, data, size);
    if (!HAS(data, size, "PONG\r\n"))
        return size < 40 ? 0 : size - 40; /* the answer may have come in halves */
    if (c->phase == LOGGING_IN)
        logged_in(c);
    else
        entered(c);
    return size;
}

static void nats_send(struct conn *c, const char *tag)
{
    put_format(c, "PUB r%d %d\r\n", c->room, options.payload);
    put_body(c, tag);
    put(c, "\r\n", 2);
}

const struct protocol nats = {.name = "nats",
                              .echoes = true,
                              .setup = no_setup,
                              .greet = nats_greet,
                              .enter = nats_enter,
                              .input = nats_input,
                              .send = nats_send};

/* --- XMPP: multi-user chat, anonymous logins ------------------------------------------------------------------------ */

static const char xmpp_stream[] = "<?xml version='1.0'?><stream:stream to='localhost' xmlns='jabber:client' "
                                  "xmlns:stream='http://etherx.jabber.org/streams' version='1.0'>";

static void xmpp_greet(struct conn *c)
{
    put_text(c, xmpp_stream);
}

static void xmpp_enter(struct conn *c)
{
    put_format(c,
               "<presence to='r%d@conference.localhost/n%d'><x xmlns='http://jabber.org/protocol/muc'>"
               "<history maxstanzas='0'/></x></presence>",
               c->room, c->index);
}

/* What a login waits for, and says next. */
static const struct {
    const char *wait, *say;
} xmpp_login[] = {
    {"</stream:features>", "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='ANONYMOUS'/>"},
    {"<success", xmpp_stream},
    {"</stream:features>", "<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>"},
    {"</bind>", NULL},
};

static size_t xmpp_input(struct conn *c, char *data, size_t size)
{
    if (c->phase == PRESENT)
        return tags_in_stream(c, data, size);
    if (HAS(data, size, "<failure") || HAS(data, size, "<stream:error") || HAS(data, size, "type='error'"))
        failed(c, data, size);
    if (c->phase == LOGGING_IN) {
        const char *wait = xmpp_login[c->step].wait, *say = xmpp_login[c->step].say;
        if (!memmem(data, size, wait, strlen(wait)))
            return 0;
        c->step++;
        if (say)
            put_text(c, say);
        else
            logged_in(c);
        return size;
    }
    if (c->phase == ENTERING && HAS(data, size, "code='110'")) {
        entered(c); /* its own presence came back */
        return size;
    }
    return size < 40 ? 0 : size - 40;
}

static void xmpp_send(struct conn *c, const char *tag)
{
    put_format(c, "<message to='r%d@conference.localhost' type='groupchat' id='%.8s'><body>", c->room, tag + 16);
    put_body(c, tag);
    put_text(c, "</body></message>");
}

const struct protocol xmpp = {.name = "xmpp",
                              .echoes = true,
                              .setup = no_setup,
                              .greet = xmpp_greet,
                              .enter = xmpp_enter,
                              .input = xmpp_input,
                              .send = xmpp_send};
