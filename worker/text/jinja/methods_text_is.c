/* str.isdigit() and the others that ask about every character. */
#include "worker/text/jinja/members.h"

/* Not empty, and every character is one. */
static value all(interp *in, value self, bool (*is)(uint32_t c))
{
    const text *t = self.as.text;
    interp_spend_characters(in, t->size);
    for (size_t at = 0; at < t->size;)
        if (!is(text_next(t, &at))) return value_bool(false);
    return value_bool(t->size > 0);
}

static bool is_alnum_character(uint32_t c)
{
    return character_is_alpha(c) || character_is_numeric(c) || character_is_digit(c);
}

static value isalnum_(interp *in, value self, const value *given)
{
    (void)given;
    return all(in, self, is_alnum_character);
}

static value isalpha_(interp *in, value self, const value *given)
{
    (void)given;
    return all(in, self, character_is_alpha);
}

static value isdecimal_(interp *in, value self, const value *given)
{
    (void)given;
    return all(in, self, character_is_decimal);
}

static value isdigit_(interp *in, value self, const value *given)
{
    (void)given;
    return all(in, self, character_is_digit);
}

static value isnumeric_(interp *in, value self, const value *given)
{
    (void)given;
    return all(in, self, character_is_numeric);
}

static value isspace_(interp *in, value self, const value *given)
{
    (void)given;
    return all(in, self, character_is_space);
}

static value isprintable_(interp *in, value self, const value *given)
{
    (void)given;
    return value_bool(self.as.text->size == 0 || all(in, self, character_is_printable).as.boolean);
}

static value isascii_(interp *in, value self, const value *given)
{
    (void)given;
    return value_bool(text_ascii(in, self.as.text));
}

static value isidentifier_(interp *in, value self, const value *given)
{
    (void)given;
    size_t at = 0;
    if (self.as.text->size == 0 || !character_starts_name(text_next(self.as.text, &at)))
        return value_bool(false);
    return all(in, self, character_continues_name);
}

static value islower_(interp *in, value self, const value *given)
{
    (void)given;
    return value_bool(text_is_cased(in, self.as.text, false));
}

static value isupper_(interp *in, value self, const value *given)
{
    (void)given;
    return value_bool(text_is_cased(in, self.as.text, true));
}

static value istitle_(interp *in, value self, const value *given)
{
    (void)given;
    const text *t = self.as.text;
    bool found = false, after_cased = false;
    interp_spend_characters(in, t->size);
    for (size_t at = 0; at < t->size;) {
        uint32_t c = text_next(t, &at);
        bool capital = character_is_upper(c) || character_is_title(c);
        bool small = character_is_lower(c);
        if (capital && after_cased) return value_bool(false);
        if (small && !capital && !after_cased) return value_bool(false);
        after_cased = capital || small;
        found = found || after_cased;
    }
    return value_bool(found);
}

const method_row text_questions[] = {
    {"isalnum", isalnum_, "", 0, NULL},
    {"isalpha", isalpha_, "", 0, NULL},
    {"isascii", isascii_, "", 0, NULL},
    {"isdecimal", isdecimal_, "", 0, NULL},
    {"isdigit", isdigit_, "", 0, NULL},
    {"isidentifier", isidentifier_, "", 0, NULL},
    {"islower", islower_, "", 0, NULL},
    {"isnumeric", isnumeric_, "", 0, NULL},
    {"isprintable", isprintable_, "", 0, NULL},
    {"isspace", isspace_, "", 0, NULL},
    {"istitle", istitle_, "", 0, NULL},
    {"isupper", isupper_, "", 0, NULL},
    {0},
};
