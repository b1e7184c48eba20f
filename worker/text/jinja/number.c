#include "worker/text/jinja/number.h"

#include <ctype.h>
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* -- float to text ----------------------------------------------------------------------------- */

/* `digits` and a decimal exponent as repr() lays them out. */
static void lay_out(char *out, bool negative, const char *digits, int count, int exponent)
{
    if (negative) *out++ = '-';
    if (exponent < -4 || exponent >= 16) {
        *out++ = digits[0];
        if (count > 1) {
            *out++ = '.';
            memcpy(out, digits + 1, (size_t)count - 1);
            out += count - 1;
        }
        snprintf(out, 16, "e%c%02d", exponent < 0 ? '-' : '+', abs(exponent));
        return;
    }
    if (exponent < 0) {
        *out++ = '0';
        *out++ = '.';
        for (int i = -1; i > exponent; i--)
            *out++ = '0';
        memcpy(out, digits, (size_t)count);
        out[count] = '\0';
        return;
    }
    for (int i = 0; i <= exponent; i++)
        *out++ = i < count ? digits[i] : '0';
    *out++ = '.';
    if (count <= exponent + 1) {
        *out++ = '0';
    } else {
        memcpy(out, digits + exponent + 1, (size_t)(count - exponent - 1));
        out += count - exponent - 1;
    }
    *out = '\0';
}

/* Add one in the last place. False when a digit would have to be added. */
static bool count_up(char *digits, int count)
{
    for (int i = count - 1; i >= 0; i--) {
        if (digits[i] != '9') {
            digits[i]++;
            return true;
        }
        digits[i] = '0';
    }
    return false;
}

static double read_back(const char *digits, int count, int exponent)
{
    char number[48];
    snprintf(number, sizeof number, "%c.%.*se%d", digits[0], count - 1, digits + 1, exponent);
    return strtod(number, NULL);
}

void number_repr(double d, char out[NUMBER_TEXT_SIZE])
{
    if (!isfinite(d)) {
        snprintf(out, NUMBER_TEXT_SIZE, "%s", isnan(d) ? "nan" : d < 0 ? "-inf" : "inf");
        return;
    }
    if (d == 0) {
        snprintf(out, NUMBER_TEXT_SIZE, "%s", signbit(d) ? "-0.0" : "0.0");
        return;
    }
    double magnitude = fabs(d);
    int binary_exponent;
    bool power_of_two = frexp(magnitude, &binary_exponent) == 0.5;
    for (int precision = 0;; precision++) {
        char printed[40], digits[20];
        snprintf(printed, sizeof printed, "%.*e", precision, magnitude);
        int count = precision + 1;
        digits[0] = printed[0];
        memcpy(digits + 1, printed + 2, (size_t)precision);
        int exponent = atoi(strchr(printed, 'e') + 1);
        bool found =
            precision >= DBL_DECIMAL_DIG - 1 || read_back(digits, count, exponent) == magnitude;
        /* The gap above a power of two is twice the gap below, so the nearest decimal may fail
         * where the next one up does not. */
        if (!found && power_of_two)
            found = count_up(digits, count) && read_back(digits, count, exponent) == magnitude;
        if (!found) continue;
        while (count > 1 && digits[count - 1] == '0')
            count--;
        lay_out(out, signbit(d), digits, count, exponent);
        return;
    }
}

/* -- text to number ---------------------------------------------------------------------------- */

/* White space off, decimal digits of any script to ASCII, a NUL behind; NULL where something is
 * left that no number has. */
static char *plain_number(interp *in, const text *t)
{
    interp_spend_bytes(in, t->size);
    char *plain = interp_alloc(in, t->size + 1);
    size_t size = 0;
    for (size_t at = 0; at < t->size;) {
        uint32_t c = text_next(t, &at);
        int digit = character_decimal_value(c);
        if (digit >= 0)
            plain[size++] = (char)('0' + digit);
        else if (c < 0x80 && c != 0)
            plain[size++] = (char)c;
        else if (character_is_space(c))
            plain[size++] = ' ';
        else
            return NULL;
    }
    while (size > 0 && isspace((unsigned char)plain[size - 1]))
        plain[--size] = '\0';
    while (isspace((unsigned char)*plain))
        plain++;
    return plain;
}

static int digit_value(char c)
{
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'z') return c - 'a' + 10;
    if (c >= 'A' && c <= 'Z') return c - 'A' + 10;
    return 99;
}

static int prefix_base(const char *p)
{
    if (p[0] != '0') return 0;
    switch (p[1]) {
    case 'x':
    case 'X':
        return 16;
    case 'o':
    case 'O':
        return 8;
    case 'b':
    case 'B':
        return 2;
    default:
        return 0;
    }
}

number_parse number_parse_int(interp *in, const text *t, int64_t base, int64_t *out)
{
    char *p = plain_number(in, t);
    if (p == NULL || base < 0 || base == 1 || base > 36) return NUMBER_MALFORMED;
    bool negative = *p == '-';
    if (*p == '-' || *p == '+') p++;
    bool zero_only = false;
    bool after_prefix = false;
    if (prefix_base(p) != 0 && (base == 0 || base == prefix_base(p))) {
        base = prefix_base(p);
        p += 2;
        after_prefix = true;
    } else if (base == 0) {
        base = 10;
        zero_only = *p == '0'; /* "0_0" is a number, "012" is not */
    }
    if (after_prefix && *p == '_') p++;
    bool overflow = false, digit_before = false;
    __int128 number = 0;
    for (;; p++) {
        if (*p == '_' && digit_before) {
            digit_before = false;
            continue;
        }
        int digit = digit_value(*p);
        if (digit >= base) break;
        digit_before = true;
        if (zero_only && digit != 0) return NUMBER_MALFORMED;
        if (!overflow) number = number * base + digit;
        overflow = overflow || number > (__int128)INT64_MAX + 1;
    }
    if (*p != '\0' || !digit_before) return NUMBER_MALFORMED;
    if (negative) number = -number;
    if (overflow || number > INT64_MAX || number < INT64_MIN) return NUMBER_TOO_LARGE;
    *out = (int64_t)number;
    return NUMBER_OK;
}

static bool one_of_ignoring_case(const char *p, const char *a, const char *b)
{
    return strcasecmp(p, a) == 0 || (b != NULL && strcasecmp(p, b) == 0);
}

number_parse number_parse_float(interp *in, const text *t, double *out)
{
    char *p = plain_number(in, t);
    if (p == NULL) return NUMBER_MALFORMED;
    const char *body = *p == '-' || *p == '+' ? p + 1 : p;
    if (one_of_ignoring_case(body, "inf", "infinity")) {
        *out = *p == '-' ? -INFINITY : INFINITY;
        return NUMBER_OK;
    }
    if (one_of_ignoring_case(body, "nan", NULL)) {
        *out = NAN;
        return NUMBER_OK;
    }
    /* What is left must be of digits, one point and an exponent; strtod() would also take
     * hexadecimal, and would not take '_'. */
    size_t kept = 0;
    bool digit = false, point = false, exponent = false;
    for (char *c = p; *c != '\0'; c++) {
        bool sign_may_stand = c == p || c[-1] == 'e' || c[-1] == 'E';
        if (*c >= '0' && *c <= '9') {
            digit = true;
        } else if (*c == '_') {
            if (c == p || !isdigit((unsigned char)c[-1]) || !isdigit((unsigned char)c[1]))
                return NUMBER_MALFORMED;
            continue;
        } else if (*c == '.' && !point && !exponent) {
            point = true;
        } else if ((*c == 'e' || *c == 'E') && digit && !exponent) {
            exponent = true;
            digit = false;
        } else if ((*c != '+' && *c != '-') || !sign_may_stand) {
            return NUMBER_MALFORMED;
        }
        p[kept++] = *c;
    }
    if (!digit) return NUMBER_MALFORMED;
    p[kept] = '\0';
    *out = strtod(p, NULL);
    return NUMBER_OK;
}

/* -- arithmetic -------------------------------------------------------------------------------- */

double number_round(double d, int64_t digits)
{
    if (!isfinite(d) || d == 0 || digits > 323) return d;
    if (digits < -308) return copysign(0, d);
    char printed[400];
    if (digits >= 0) {
        if (digits > 60 && fabs(d) > 1) return d; /* a double has no such digit */
        snprintf(printed, sizeof printed, "%.*f", (int)digits, d);
        return strtod(printed, NULL);
    }
    /* Round to significant digits; a number below half of the unit becomes zero. */
    snprintf(printed, sizeof printed, "%.17e", d);
    int exponent = atoi(strchr(printed, 'e') + 1);
    int precision = exponent + (int)digits;
    if (precision < -1) return copysign(0, d);
    if (precision == -1) {
        double unit = pow(10, exponent + 1);
        return fabs(d) > unit / 2 ? copysign(unit, d) : copysign(0, d);
    }
    snprintf(printed, sizeof printed, "%.*e", precision, d);
    return strtod(printed, NULL);
}

static int bits_of(uint64_t n)
{
    return n == 0 ? 0 : 64 - __builtin_clzll(n);
}

double number_divide(int64_t a, int64_t b)
{
    uint64_t numerator = a < 0 ? 0 - (uint64_t)a : (uint64_t)a;
    uint64_t denominator = b < 0 ? 0 - (uint64_t)b : (uint64_t)b;
    if (numerator == 0) return b < 0 ? -0.0 : 0.0;
    /* At least 55 bits of quotient, the lowest of them sticky, round like the exact one. */
    int shift = 55 + bits_of(denominator) - bits_of(numerator);
    if (shift < 0) shift = 0;
    unsigned __int128 shifted = (unsigned __int128)numerator << shift;
    uint64_t quotient = (uint64_t)(shifted / denominator);
    if (shifted % denominator != 0) quotient |= 1;
    double magnitude = ldexp((double)quotient, -shift);
    return (a < 0) != (b < 0) ? -magnitude : magnitude;
}

bool number_truncate(double d, int64_t *out)
{
    if (!(d >= -0x1p63 && d < 0x1p63)) return false;
    *out = (int64_t)d;
    return true;
}

int number_compare(int64_t i, double d)
{
    if (d >= 0x1p63) return -1;
    if (d < -0x1p63) return 1;
    int64_t whole = (int64_t)d;
    if (i != whole) return i < whole ? -1 : 1;
    double rest = d - (double)whole;
    return rest > 0 ? -1 : rest < 0;
}
