#include "client/cli/line_editor.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h> /* CTRL() too */
#include <termios.h>
#include <unistd.h>

#include <utf8proc.h>

#include "common/check.h"
#include "proto/envelope.h"

#define ESCAPE '\x1b'

void line_editor_free(line_editor *e)
{
    buffer_free(&e->text);
    for (size_t i = 0; i < e->history_count; i++)
        mem_free(e->history[i]);
    mem_free(e->draft);
    *e = (line_editor){0};
}

void line_editor_clear(line_editor *e)
{
    buffer_clear(&e->text);
    e->cursor = 0;
    e->pending_size = 0;
    e->history_at = e->history_count;
    mem_free(e->draft);
    e->draft = NULL;
}

static bool is_continuation(char byte)
{
    return ((unsigned char)byte & 0xc0) == 0x80;
}

static size_t before(const line_editor *e, size_t at)
{
    if (at == 0) return 0;
    do {
        at--;
    } while (at > 0 && is_continuation((char)e->text.data[at]));
    return at;
}

static size_t behind(const line_editor *e, size_t at)
{
    if (at == e->text.size) return at;
    do {
        at++;
    } while (at < e->text.size && is_continuation((char)e->text.data[at]));
    return at;
}

static void insert(line_editor *e, const char *bytes, size_t size)
{
    if (e->text.size + size > LINE_BYTES_MAX) return;
    size_t tail = e->text.size - e->cursor;
    buffer_append(&e->text, bytes, size); /* makes room */
    memmove(e->text.data + e->cursor + size, e->text.data + e->cursor, tail);
    memcpy(e->text.data + e->cursor, bytes, size);
    e->cursor += size;
}

static void remove_range(line_editor *e, size_t from, size_t to)
{
    if (from == to) return;
    memmove(e->text.data + from, e->text.data + to, e->text.size - to);
    e->text.size -= to - from;
    e->cursor = from;
}

static size_t word_start(const line_editor *e)
{
    size_t at = e->cursor;
    while (at > 0 && e->text.data[at - 1] == ' ')
        at--;
    while (at > 0 && e->text.data[at - 1] != ' ')
        at--;
    return at;
}

static void show(line_editor *e, const char *line)
{
    buffer_clear(&e->text);
    buffer_append(&e->text, line, strlen(line));
    e->cursor = e->text.size;
}

static void older(line_editor *e)
{
    if (e->history_at == 0) return;
    if (e->history_at == e->history_count)
        e->draft = mem_strndup((const char *)e->text.data, e->text.size);
    show(e, e->history[--e->history_at]);
}

static void newer(line_editor *e)
{
    if (e->history_at == e->history_count) return;
    if (++e->history_at < e->history_count) {
        show(e, e->history[e->history_at]);
        return;
    }
    show(e, e->draft);
    mem_free(e->draft);
    e->draft = NULL;
}

void line_editor_remember(line_editor *e, const char *line)
{
    if (line[0] == '\0') return;
    if (e->history_count > 0 && strcmp(e->history[e->history_count - 1], line) == 0) return;
    if (e->history_count == LINE_HISTORY_MAX) {
        mem_free(e->history[0]);
        memmove(e->history, e->history + 1, (LINE_HISTORY_MAX - 1) * sizeof e->history[0]);
        e->history_count--;
    }
    e->history[e->history_count++] = mem_strdup(line);
    e->history_at = e->history_count;
    mem_free(e->draft);
    e->draft = NULL;
}

/* ESC [ number ~ as the final byte of its other name; ' ' for a key that means nothing here. */
static char tilde_key(char number)
{
    switch (number) {
    case '1':
    case '7':
        return 'H';
    case '4':
    case '8':
        return 'F';
    case '3':
        return 'x';
    default:
        return ' ';
    }
}

/* ESC [ or ESC O, parameters, and a final byte. */
static void escape_sequence(line_editor *e)
{
    char final = e->pending[e->pending_size - 1];
    if (final == '~') final = tilde_key(e->pending[2]);
    switch (final) {
    case 'A':
        older(e);
        break;
    case 'B':
        newer(e);
        break;
    case 'C':
        e->cursor = behind(e, e->cursor);
        break;
    case 'D':
        e->cursor = before(e, e->cursor);
        break;
    case 'H':
        e->cursor = 0;
        break;
    case 'F':
        e->cursor = e->text.size;
        break;
    case 'x':
        remove_range(e, e->cursor, behind(e, e->cursor));
        break;
    default: /* a key that means nothing here */
        break;
    }
}

/* A byte that continues what is pending; the sequence or character ends where it must. */
static void feed_pending(line_editor *e, char byte)
{
    if (e->pending_size == sizeof e->pending) e->pending_size = 0; /* nonsense: drop it */
    e->pending[e->pending_size++] = byte;
    if (e->pending[0] == ESCAPE) {
        bool introduced = e->pending_size >= 2 && (e->pending[1] == '[' || e->pending[1] == 'O');
        if (e->pending_size == 1 || (introduced && e->pending_size == 2)) return;
        if (introduced && !(byte >= '@' && byte <= '~')) return;
        if (introduced) escape_sequence(e);
        e->pending_size = 0;
        return;
    }
    text_view view = {e->pending, e->pending_size};
    unsigned char lead = (unsigned char)e->pending[0];
    if (lead < 0xc2 || lead > 0xf4) e->pending_size = 0; /* begins no character */
    size_t wanted = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
    if (e->pending_size < wanted) return;
    if (text_character_size(view, 0) == wanted) insert(e, e->pending, wanted);
    e->pending_size = 0;
}

line_result line_editor_feed(line_editor *e, char byte)
{
    /* A character that is cut short is dropped; the byte that cuts it counts. */
    if (e->pending_size > 0 && e->pending[0] != ESCAPE && !is_continuation(byte))
        e->pending_size = 0;
    if (e->pending_size > 0 || byte == ESCAPE || (unsigned char)byte >= 0x80) {
        feed_pending(e, byte);
        return LINE_MORE;
    }
    switch (byte) {
    case '\r':
    case '\n':
        return LINE_DONE;
    case CTRL('C'):
        line_editor_clear(e);
        return LINE_INTERRUPTED;
    case CTRL('D'):
        if (e->text.size == 0) return LINE_END;
        remove_range(e, e->cursor, behind(e, e->cursor));
        break;
    case CTRL('H'):
    case 0x7f:
        remove_range(e, before(e, e->cursor), e->cursor);
        break;
    case CTRL('A'):
        e->cursor = 0;
        break;
    case CTRL('E'):
        e->cursor = e->text.size;
        break;
    case CTRL('B'):
        e->cursor = before(e, e->cursor);
        break;
    case CTRL('F'):
        e->cursor = behind(e, e->cursor);
        break;
    case CTRL('K'):
        remove_range(e, e->cursor, e->text.size);
        break;
    case CTRL('U'):
        remove_range(e, 0, e->cursor);
        break;
    case CTRL('W'):
        remove_range(e, word_start(e), e->cursor);
        break;
    case CTRL('P'):
        older(e);
        break;
    case CTRL('N'):
        newer(e);
        break;
    case '\t':
        insert(e, " ", 1);
        break;
    default:
        if (byte >= ' ') insert(e, &byte, 1);
    }
    return LINE_MORE;
}

static size_t width(const line_editor *e, size_t from, size_t to)
{
    size_t columns = 0;
    while (from < to) {
        utf8proc_int32_t character;
        utf8proc_ssize_t size =
            utf8proc_iterate(e->text.data + from, (utf8proc_ssize_t)(to - from), &character);
        if (size <= 0) break;
        columns += (size_t)utf8proc_charwidth(character);
        from += (size_t)size;
    }
    return columns;
}

void line_editor_view(const line_editor *e, size_t columns, size_t *from, size_t *to,
                      size_t *cursor)
{
    *from = 0;
    while (*from < e->cursor && width(e, *from, e->cursor) >= columns)
        *from = behind(e, *from);
    *cursor = width(e, *from, e->cursor);
    *to = e->cursor;
    size_t used = *cursor;
    while (*to < e->text.size) {
        size_t next = behind(e, *to);
        used += width(e, *to, next);
        if (used >= columns) break;
        *to = next;
    }
}

/* -- the terminal ------------------------------------------------------------------------ */

static void draw(const line_editor *e, const char *prompt)
{
    struct winsize size = {0};
    ioctl(STDERR_FILENO, TIOCGWINSZ, &size);
    size_t columns = size.ws_col > 0 ? size.ws_col : 80, taken = strlen(prompt);
    size_t from, to, cursor;
    line_editor_view(e, columns > taken + 1 ? columns - taken : 1, &from, &to, &cursor);
    const char *text = e->text.data != NULL ? (const char *)e->text.data + from : "";
    fprintf(stderr, "\r%s%.*s\x1b[K\r", prompt, (int)(to - from), text);
    if (taken + cursor > 0) fprintf(stderr, "\x1b[%zuC", taken + cursor);
    fflush(stderr);
}

static line_result line_from_terminal(line_editor *e, const char *prompt,
                                      const struct termios *cooked)
{
    struct termios raw = *cooked;
    raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO | ISIG | IEXTEN);
    raw.c_iflag &= ~(tcflag_t)(IXON | ICRNL | INLCR);
    raw.c_cc[VMIN] = 1;
    raw.c_cc[VTIME] = 0;
    tcsetattr(STDIN_FILENO, TCSADRAIN, &raw);
    line_result result = LINE_MORE;
    while (result == LINE_MORE) {
        draw(e, prompt);
        char byte;
        result = read(STDIN_FILENO, &byte, 1) == 1 ? line_editor_feed(e, byte) : LINE_END;
    }
    tcsetattr(STDIN_FILENO, TCSADRAIN, cooked);
    fputc('\n', stderr);
    return result;
}

static line_result line_from_pipe(char **line)
{
    char *text = NULL;
    size_t capacity = 0;
    ssize_t size = getline(&text, &capacity, stdin);
    if (size >= 0) *line = mem_strndup(text, strcspn(text, "\r\n"));
    free(text);
    return size >= 0 ? LINE_DONE : LINE_END;
}

line_result line_read(line_editor *e, const char *prompt, char **line)
{
    struct termios cooked;
    if (!isatty(STDIN_FILENO) || !isatty(STDERR_FILENO) || tcgetattr(STDIN_FILENO, &cooked) != 0)
        return line_from_pipe(line);
    line_editor_clear(e);
    line_result result = line_from_terminal(e, prompt, &cooked);
    if (result != LINE_DONE) return result;
    *line = mem_strndup((const char *)e->text.data, e->text.size);
    line_editor_remember(e, *line);
    return LINE_DONE;
}
