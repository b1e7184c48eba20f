#include "client/cli/fleet_text.h"

#include <inttypes.h>
#include <stdio.h>
#include <utf8proc.h>

#include "proto/envelope.h"

void fleet_name(buffer *out, const char *text, size_t width)
{
    text_view view = text_of(text);
    size_t used = 0;
    size_t kept_used = 0, kept_size = out->size; /* with a column left for the '~' */
    for (size_t at = 0, step; at < view.size; at += step) {
        utf8proc_int32_t c = '?';
        step = text_character_size(view, at);
        bool is_shown = step > 0;
        if (is_shown)
            utf8proc_iterate((const utf8proc_uint8_t *)view.data + at, (utf8proc_ssize_t)step, &c);
        else
            step = 1;
        if (c < 0x20 || (c >= 0x7f && c < 0xa0) || utf8proc_charwidth(c) < 1) is_shown = false;
        size_t columns = is_shown ? (size_t)utf8proc_charwidth(c) : 1;
        if (width > 0 && used + columns > width) {
            out->size = kept_size;
            used = kept_used + 1;
            buffer_append(out, "~", 1);
            break;
        }
        if (is_shown)
            buffer_append(out, view.data + at, step);
        else
            buffer_append(out, "?", 1);
        used += columns;
        if (used < width) {
            kept_used = used;
            kept_size = out->size;
        }
    }
    for (; used < width; used++)
        buffer_append(out, " ", 1);
}

const char *fleet_state(const gaggle_worker_report *w)
{
    static const char *const breakers[] = {"up", "open", "trial"};
    if (!w->connected) return "lost";
    if (w->draining) return "drain";
    return breakers[w->breaker <= 2 ? w->breaker : 0];
}

char *fleet_lease(char out[FLEET_TEXT_SIZE], uint32_t left_ms)
{
    unsigned seconds = left_ms / 1000;
    if (left_ms == 0)
        snprintf(out, FLEET_TEXT_SIZE, "-");
    else if (seconds >= 86400)
        snprintf(out, FLEET_TEXT_SIZE, "%ud%02uh", seconds / 86400, seconds / 3600 % 24);
    else if (seconds >= 3600)
        snprintf(out, FLEET_TEXT_SIZE, "%uh%02um", seconds / 3600, seconds / 60 % 60);
    else if (seconds >= 60)
        snprintf(out, FLEET_TEXT_SIZE, "%um%02us", seconds / 60, seconds % 60);
    else
        snprintf(out, FLEET_TEXT_SIZE, "%us", seconds);
    return out;
}

char *fleet_rtt(char out[FLEET_TEXT_SIZE], uint32_t rtt_us)
{
    if (rtt_us == 0)
        snprintf(out, FLEET_TEXT_SIZE, "-");
    else if (rtt_us < 99950)
        snprintf(out, FLEET_TEXT_SIZE, "%.1fms", rtt_us / 1e3);
    else if (rtt_us < 9999500)
        snprintf(out, FLEET_TEXT_SIZE, "%.0fms", rtt_us / 1e3);
    else
        snprintf(out, FLEET_TEXT_SIZE, "%.0fs", rtt_us / 1e6);
    return out;
}

char *fleet_kv(char out[FLEET_TEXT_SIZE], const gaggle_worker_report *w)
{
    uint32_t used = w->kv_blocks > w->kv_blocks_free ? w->kv_blocks - w->kv_blocks_free : 0;
    snprintf(out, FLEET_TEXT_SIZE, "%.0f%%", w->kv_blocks > 0 ? 100.0 * used / w->kv_blocks : 0.0);
    return out;
}

char *fleet_rate(char out[FLEET_TEXT_SIZE], uint64_t per_s)
{
    if (per_s == 0)
        snprintf(out, FLEET_TEXT_SIZE, "-");
    else if (per_s < 10000)
        snprintf(out, FLEET_TEXT_SIZE, "%" PRIu64, per_s);
    else if (per_s < 999500)
        snprintf(out, FLEET_TEXT_SIZE, "%.*fk", per_s < 99950 ? 1 : 0, (double)per_s / 1e3);
    else
        snprintf(out, FLEET_TEXT_SIZE, "%.1fM", (double)per_s / 1e6);
    return out;
}

char *fleet_slots(char out[FLEET_TEXT_SIZE], const gaggle_worker_report *w)
{
    if (w->waiting > 0)
        snprintf(out, FLEET_TEXT_SIZE, "%u+%u/%u", w->running % 10000, w->waiting % 10000,
                 w->slots % 10000);
    else
        snprintf(out, FLEET_TEXT_SIZE, "%u/%u", w->running % 10000, w->slots % 10000);
    return out;
}
