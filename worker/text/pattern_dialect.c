#define PCRE2_CODE_UNIT_WIDTH 8
#include "worker/text/pattern_dialect.h"

#include <ctype.h>
#include <pcre2.h>
#include <stdint.h>
#include <string.h>
#include <strings.h>

/* Ranges for the inside of a character class. */
#define CLASS_SPACE                                                                                \
    "\\x{9}-\\x{D}\\x{20}\\x{85}\\x{A0}\\x{1680}\\x{2000}-\\x{200A}\\x{2028}\\x{2029}"             \
    "\\x{202F}\\x{205F}\\x{3000}"
#define CLASS_NOT_SPACE "\\S\\x{180E}"
#define CLASS_WORD                                                                                 \
    "\\p{L}\\p{M}\\p{Nd}\\p{Nl}\\p{Pc}\\x{24B6}-\\x{24E9}\\x{1F130}-\\x{1F149}"                    \
    "\\x{1F150}-\\x{1F169}\\x{1F170}-\\x{1F189}"
/* Outside of classes Oniguruma asks another table for Latin-1, in which these are words too. */
#define BARE_WORD CLASS_WORD "\\x{B2}\\x{B3}\\x{B9}\\x{BC}-\\x{BE}"
#define CLASS_HEX "0-9A-Fa-f"

#define CASED_CLASS "an upper or lower case property in a class under (?i)"

#define GROUP_DEPTH_MAX 64u
#define CLASS_DEPTH_MAX 8u

typedef enum last_item {
    ITEM_NONE,
    ITEM_ATOM,
    ITEM_REPEAT,
    ITEM_INTERVAL,
    ITEM_FIXED_INTERVAL
} last_item;

typedef struct rewriter {
    const char *at, *end;
    buffer out;
    const char *where;
    error *err;
    size_t groups[GROUP_DEPTH_MAX]; /* where open groups begin in `out` */
    size_t group_count;
    bool caseless;                          /* (?i) holds here */
    bool caseless_outside[GROUP_DEPTH_MAX]; /* held where the group began */
    size_t atom;                            /* where the last quantifiable item begins in `out` */
    last_item last;
} rewriter;

static void put(rewriter *r, const char *text)
{
    buffer_append(&r->out, text, strlen(text));
}

static void put_bytes(rewriter *r, const char *bytes, size_t size)
{
    buffer_append(&r->out, bytes, size);
}

static status refuse(rewriter *r, const char *what)
{
    return error_set(r->err, ST_UNIMPLEMENTED, "%s: %s in a regular expression is not supported",
                     r->where, what);
}

static status broken(rewriter *r, const char *what)
{
    return error_set(r->err, ST_INVALID_ARGUMENT, "%s: not a regular expression: %s", r->where,
                     what);
}

static void insert(rewriter *r, size_t at, const char *text)
{
    size_t size = strlen(text);
    buffer_reserve(&r->out, size);
    memmove(r->out.data + at + size, r->out.data + at, r->out.size - at);
    memcpy(r->out.data + at, text, size);
    r->out.size += size;
}

static void begin_atom(rewriter *r)
{
    r->atom = r->out.size;
    r->last = ITEM_ATOM;
}

static bool is_script_name(const char *name, size_t size)
{
    char probe[64];
    if (size + sizeof "\\p{sc:}" > sizeof probe) return false;
    memcpy(probe, "\\p{sc:", 6);
    memcpy(probe + 6, name, size);
    memcpy(probe + 6 + size, "}", 2);
    int code;
    PCRE2_SIZE offset;
    pcre2_code *compiled =
        pcre2_compile((PCRE2_SPTR)probe, PCRE2_ZERO_TERMINATED, PCRE2_UTF, &code, &offset, NULL);
    pcre2_code_free(compiled);
    return compiled != NULL;
}

/* Properties that part upper from lower case. In a class under (?i) the
 * two dialects differ on them. */
static bool tells_case(const char *name, size_t size)
{
    static const char *const beginnings[] = {"lu", "ll", "lt", "upper", "lower", "title"};
    for (size_t i = 0; i < sizeof beginnings / sizeof *beginnings; i++) {
        size_t length = strlen(beginnings[i]);
        if (size >= length && strncasecmp(name, beginnings[i], length) == 0) return true;
    }
    return false;
}

/* \p{...} and \P{...}; `at` is behind the letter. Two-letter names are general categories and mean
 * the same in both. */
static status rewrite_property(rewriter *r, char letter, bool in_class)
{
    if (r->at == r->end || *r->at != '{') return refuse(r, "\\p without braces");
    const char *close = memchr(r->at, '}', (size_t)(r->end - r->at));
    if (close == NULL) return broken(r, "\\p{ is not closed");
    const char *name = r->at + 1;
    size_t size = (size_t)(close - name);
    bool caret = size > 0 && *name == '^';
    if (caret) {
        name++;
        size--;
    }
    if (in_class && r->caseless && tells_case(name, size)) return refuse(r, CASED_CLASS);
    char escape[3] = {'\\', caret ? (letter == 'p' ? 'P' : 'p') : letter, '\0'};
    put(r, escape);
    put(r, size > 2 && is_script_name(name, size) ? "{sc:" : "{");
    put_bytes(r, name, size);
    put(r, "}");
    r->at = close + 1;
    return ST_OK;
}

static status rewrite_code_point(rewriter *r)
{
    if (r->end - r->at < 4) return broken(r, "\\u needs four hexadecimal digits");
    for (int i = 0; i < 4; i++)
        if (!isxdigit((unsigned char)r->at[i]))
            return broken(r, "\\u needs four hexadecimal digits");
    put(r, "\\x{");
    put_bytes(r, r->at, 4);
    put(r, "}");
    r->at += 4;
    return ST_OK;
}

/* What follows a backslash, inside a class or outside. */
static status rewrite_escape(rewriter *r, bool in_class)
{
    if (r->at == r->end) return broken(r, "it ends with a backslash");
    char c = *r->at++;
    const char *open = in_class ? "" : "[";
    const char *close = in_class ? "" : "]";
    const char *class_body = NULL;
    switch (c) {
    case 's':
        class_body = CLASS_SPACE;
        break;
    case 'w':
        class_body = in_class ? CLASS_WORD : BARE_WORD;
        break;
    case 'h':
        class_body = CLASS_HEX;
        break;
    case 'S':
        class_body = CLASS_NOT_SPACE;
        break;
    case 'W':
    case 'H':
        if (in_class) return refuse(r, c == 'W' ? "\\W inside a class" : "\\H inside a class");
        put(r, c == 'W' ? "[^" BARE_WORD "]" : "[^" CLASS_HEX "]");
        return ST_OK;
    case 'b':
    case 'B':
        if (in_class) break;
        put(r, c == 'b' ? "(?:(?<=[" BARE_WORD "])(?![" BARE_WORD "])|(?<![" BARE_WORD
                          "])(?=[" BARE_WORD "]))"
                        : "(?:(?<=[" BARE_WORD "])(?=[" BARE_WORD "])|(?<![" BARE_WORD
                          "])(?![" BARE_WORD "]))");
        return ST_OK;
    case 'v':
        put(r, "\\x{B}");
        return ST_OK;
    case 'u':
        return rewrite_code_point(r);
    case 'p':
    case 'P':
        return rewrite_property(r, c, in_class);
    default:
        if (isalpha((unsigned char)c) && strchr("dDxntrfaeAzZGRXk", c) == NULL) {
            char what[3] = {'\\', c, '\0'};
            return refuse(r, what);
        }
        break;
    }
    if (class_body != NULL) {
        put(r, open);
        put(r, class_body);
        put(r, close);
    } else {
        put(r, "\\");
        put_bytes(r, &c, 1);
    }
    return ST_OK;
}

/* [:name:] inside a class; `at` is at "[:". */
static status rewrite_posix(rewriter *r)
{
    static const struct {
        const char *name, *class_body;
    } classes[] = {
        {"[:space:]", CLASS_SPACE},       {"[:word:]", CLASS_WORD},
        {"[:alpha:]", "\\p{Alphabetic}"}, {"[:alnum:]", "\\p{Alphabetic}\\p{Nd}"},
        {"[:upper:]", "\\p{Uppercase}"},  {"[:lower:]", "\\p{Lowercase}"},
        {"[:digit:]", "\\p{Nd}"},         {"[:punct:]", "\\p{P}\\p{S}"},
        {"[:cntrl:]", "\\p{Cc}"},         {"[:xdigit:]", CLASS_HEX},
    };
    for (size_t i = 0; i < sizeof classes / sizeof *classes; i++) {
        size_t size = strlen(classes[i].name);
        if ((size_t)(r->end - r->at) < size || memcmp(r->at, classes[i].name, size) != 0) continue;
        if (r->caseless && tells_case(classes[i].name + 2, size - 2)) return refuse(r, CASED_CLASS);
        put(r, classes[i].class_body);
        r->at += size;
        return ST_OK;
    }
    return refuse(r, "this [:class:]");
}

/* A hyphen behind something that became several ranges must not make one more. */
static void rewrite_hyphen(rewriter *r)
{
    if (r->at == r->end || *r->at != '-') return;
    put(r, "\\-");
    r->at++;
}

static status rewrite_class_items(rewriter *r, unsigned depth, bool *more);

/* A class inside a class adds what is in it; `at` is at its opening bracket. */
static status rewrite_inner_class(rewriter *r, unsigned depth)
{
    if (r->end - r->at >= 2 && r->at[1] == ':') return rewrite_posix(r);
    if (depth == CLASS_DEPTH_MAX || r->out.data[r->out.size - 1] == '-' ||
        (r->end - r->at >= 2 && (r->at[1] == '^' || r->at[1] == ']')))
        return refuse(r, "this kind of class inside a class");
    r->at++;
    return rewrite_class_items(r, depth + 1, NULL);
}

/* What stands in a class, up to and with the closing bracket, which is not put out; or up to "&&",
 * and *more says that one side of an intersection is done. `more` NULL: it has none. */
static status rewrite_class_items(rewriter *r, unsigned depth, bool *more)
{
    size_t start = r->out.size;
    status st;
    while (r->at < r->end) {
        char c = *r->at++;
        if (c == ']') return ST_OK;
        if (c == '\\') {
            bool many = r->at < r->end && strchr("swhS", *r->at) != NULL;
            if ((st = rewrite_escape(r, true)) != ST_OK) return st;
            if (many) rewrite_hyphen(r);
        } else if (c == '[') {
            r->at--;
            if ((st = rewrite_inner_class(r, depth)) != ST_OK) return st;
            rewrite_hyphen(r);
        } else if (c == '&' && r->at < r->end && *r->at == '&') {
            if (more == NULL || r->out.size == start)
                return refuse(r, "this kind of class intersection (&&)");
            r->at++;
            *more = true;
            return ST_OK;
        } else {
            put_bytes(r, &c, 1);
        }
    }
    return broken(r, "a class is not closed");
}

/* The right side of "&&": items, or one class with a "^". */
static status rewrite_right_side(rewriter *r, bool *more)
{
    status st;
    *more = false;
    put(r, "[");
    if (r->end - r->at >= 2 && r->at[0] == '[' && r->at[1] == '^') {
        put(r, "^");
        r->at += 2;
        st = rewrite_class_items(r, 1, NULL);
        if (st != ST_OK) return st;
        if (r->at < r->end && *r->at == ']') {
            r->at++;
        } else {
            *more = r->end - r->at >= 2 && memcmp(r->at, "&&", 2) == 0;
            if (!*more) return refuse(r, "this kind of class inside a class");
            r->at += 2;
        }
    } else {
        if (r->at < r->end && (*r->at == ']' || *r->at == '^'))
            return refuse(r, "this kind of class intersection (&&)");
        st = rewrite_class_items(r, 0, more);
    }
    put(r, "]");
    return st;
}

/* A character class; `at` is behind the opening bracket. "[ab&&cd]" becomes
 * "(?:(?=[ab])[cd])", and what is not in it one character that does not begin so. */
static status rewrite_class(rewriter *r)
{
    begin_atom(r);
    bool negated = r->at < r->end && *r->at == '^', more = false;
    size_t side = r->out.size;
    put(r, "[");
    if (negated) r->at++;
    if (r->at < r->end && *r->at == ']') {
        put(r, "\\]");
        r->at++;
    }
    status st = rewrite_class_items(r, 0, &more);
    put(r, "]");
    if (!more) {
        if (negated) insert(r, side + 1, "^");
        return st;
    }
    while (st == ST_OK && more) {
        insert(r, side, "(?=");
        put(r, ")");
        side = r->out.size;
        st = rewrite_right_side(r, &more);
    }
    insert(r, r->atom, negated ? "(?:(?!" : "(?:");
    put(r, negated ? ")(?s:.))" : ")");
    return st;
}

/* What follows "(?" up to the group's body. *closed: it was "(?i)", which has none. */
static status rewrite_group_head(rewriter *r, bool *closed)
{
    put(r, "?");
    if (r->at == r->end) return broken(r, "a group is not closed");
    bool off = false;
    char c = *r->at;
    if (c == '<' && r->end - r->at >= 2 && (r->at[1] == '=' || r->at[1] == '!')) {
        put_bytes(r, r->at, 2);
        r->at += 2;
        return ST_OK;
    }
    if (c == '<') {
        const char *close = memchr(r->at, '>', (size_t)(r->end - r->at));
        if (close == NULL) return broken(r, "a group's name is not closed");
        put_bytes(r, r->at, (size_t)(close + 1 - r->at));
        r->at = close + 1;
        return ST_OK;
    }
    if (c != '\0' && strchr(":=!>", c) != NULL) {
        put_bytes(r, r->at++, 1);
        return ST_OK;
    }
    for (; r->at < r->end; r->at++) {
        c = *r->at;
        if (c == ':' || c == ')') {
            put_bytes(r, r->at++, 1);
            *closed = c == ')';
            return ST_OK;
        }
        if (c == 'm')
            put(r, "s");
        else if (c == 'i' || c == '-')
            put_bytes(r, &c, 1);
        else
            break;
        if (c == '-') off = true;
        if (c == 'i') r->caseless = !off;
    }
    return refuse(r, "this kind of group or option");
}

static status rewrite_group(rewriter *r)
{
    if (r->group_count == GROUP_DEPTH_MAX) return refuse(r, "nesting deeper than 64 groups");
    if (r->at < r->end && *r->at == '*') return refuse(r, "(*");
    size_t start = r->out.size;
    bool caseless = r->caseless;
    put(r, "(");
    r->last = ITEM_NONE;
    if (r->at < r->end && *r->at == '?') {
        r->at++;
        bool closed = false;
        status st = rewrite_group_head(r, &closed);
        if (st == ST_OK && closed && start > 0)
            return refuse(r, "an option behind the beginning"); /* its reach differs */
        if (st != ST_OK || closed) return st;
    }
    r->caseless_outside[r->group_count] = caseless;
    r->groups[r->group_count++] = start;
    return ST_OK;
}

static void wrap_last_atom(rewriter *r)
{
    insert(r, r->atom, "(?:");
    put(r, ")");
}

/* {n} {n,} {n,m} {,m}; anything else is a brace like any other character. */
static void rewrite_brace(rewriter *r)
{
    const char *p = r->at;
    while (p < r->end && isdigit((unsigned char)*p))
        p++;
    size_t low = (size_t)(p - r->at);
    bool comma = p < r->end && *p == ',';
    const char *high_at = comma ? ++p : p;
    while (comma && p < r->end && isdigit((unsigned char)*p))
        p++;
    size_t high = (size_t)(p - high_at);
    if (p == r->end || *p != '}' || (low == 0 && high == 0) || r->last == ITEM_NONE) {
        begin_atom(r);
        put(r, "\\{");
        return;
    }
    if (r->last == ITEM_INTERVAL || r->last == ITEM_FIXED_INTERVAL || r->last == ITEM_REPEAT)
        wrap_last_atom(r);
    put(r, low == 0 ? "{0" : "{");
    put_bytes(r, r->at, (size_t)(p + 1 - r->at));
    r->last = comma ? ITEM_INTERVAL : ITEM_FIXED_INTERVAL;
    r->at = p + 1;
}

static void rewrite_repeat(rewriter *r, char c)
{
    bool repeats_interval =
        (c == '+' && r->last == ITEM_INTERVAL) || (c != '*' && r->last == ITEM_FIXED_INTERVAL);
    if (repeats_interval) wrap_last_atom(r);
    put_bytes(r, &c, 1);
    r->last = ITEM_REPEAT;
}

static status rewrite_all(rewriter *r)
{
    status st = ST_OK;
    while (st == ST_OK && r->at < r->end) {
        char c = *r->at++;
        switch (c) {
        case '\\':
            begin_atom(r);
            st = rewrite_escape(r, false);
            break;
        case '[':
            st = rewrite_class(r);
            break;
        case '(':
            st = rewrite_group(r);
            break;
        case ')':
            if (r->group_count == 0) return broken(r, "a closing bracket too many");
            put(r, ")");
            r->atom = r->groups[--r->group_count];
            r->caseless = r->caseless_outside[r->group_count];
            r->last = ITEM_ATOM;
            break;
        case '{':
            rewrite_brace(r);
            break;
        case '*':
        case '+':
        case '?':
            rewrite_repeat(r, c);
            break;
        case '|':
            put(r, "|");
            r->last = ITEM_NONE;
            break;
        default:
            begin_atom(r);
            put_bytes(r, &c, 1);
            /* One character may be several bytes; they are one atom. */
            while (r->at < r->end && ((unsigned char)*r->at & 0xC0) == 0x80)
                put_bytes(r, r->at++, 1);
            break;
        }
    }
    return st;
}

status pattern_rewrite(buffer *out, const char *source, size_t size, const char *where, error *err)
{
    rewriter r = {.at = source, .end = source + size, .where = where, .err = err};
    status st = rewrite_all(&r);
    if (st == ST_OK)
        *out = r.out;
    else
        buffer_free(&r.out);
    return st;
}
