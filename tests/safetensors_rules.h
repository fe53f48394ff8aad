/* safetensors_rules.h -- a file for every rule of the format (the numbers are those of the list in
 * core/io/safetensors.c's sources), what is to be refused with the words for it, and what is
 * not. */
#ifndef FT_TESTS_SAFETENSORS_RULES_H
#define FT_TESTS_SAFETENSORS_RULES_H
#include <string.h>
#include "ft/buf.h"

/* A header and n bytes of data 0, 1, 2 …; the length field is `length`, or the true one. */
static inline ft_buf file_of(const char *header, size_t header_n, size_t data_n, int64_t length)
{
    ft_buf b = { 0 };
    uint64_t n = length < 0 ? header_n : (uint64_t)length;
    ft_buf_add(&b, &n, 8);
    ft_buf_add(&b, header, header_n);
    for (size_t i = 0; i < data_n; i++) ft_buf_putc(&b, (char)i);
    return b;
}

typedef struct {
    const char *rule, *header;
    size_t data;      /* bytes of data */
    const char *says; /* NULL: accepted; else part of the message */
} rule;

#define F32(shape, at) "{\"dtype\":\"F32\",\"shape\":" shape ",\"data_offsets\":" at "}"

static const rule rules[] = {
    { "4 not UTF-8", "{\"\xff\":" F32("[1]", "[0,4]") "}", 4, "UTF-8" },
    { "4 overlong", "{\"\xc0\xaf\":" F32("[1]", "[0,4]") "}", 4, "UTF-8" },
    { "5 not JSON", "this is not JSON", 0, "object must stand" },
    { "5 an array", "[]", 0, "object must stand" },
    { "5 empty", "", 0, "object must stand" },
    { "5 something follows", "{}x", 0, "nothing may follow" },
    { "5 two objects", "{}{}", 0, "nothing may follow" },
    { "5 a zero byte follows", "{} \\0", 0, "nothing may follow" },
    { "5 does not end", "{\"a\":" F32("[1]", "[0,4]"), 4, "does not end" },
    { "5 trailing comma", "{\"a\":" F32("[1]", "[0,4]") ",}", 4, "quotes" },
    { "5 byte order mark", "\xef\xbb\xbf{}", 0, "object must stand" },
    { "6 trailing blanks", "{\"a\":" F32("[1]", "[0,4]") "}  \n\t\r ", 4, NULL },
    { "7 leading blanks", "  {\"a\":" F32("[1]", "[0,4]") "}", 4, NULL },
    { "8 metadata", "{\"__metadata__\":{\"a\":\"b\",\"c\":\"\"}}", 0, NULL },
    { "8 metadata empty", "{\"__metadata__\":{}}", 0, NULL },
    { "8 metadata number", "{\"__metadata__\":{\"a\":1}}", 0, "plain text" },
    { "8 metadata nested", "{\"__metadata__\":{\"a\":{}}}", 0, "plain text" },
    { "8 metadata null", "{\"__metadata__\":null}", 0, "not an object" },
    { "8 metadata list", "{\"__metadata__\":[]}", 0, "not an object" },
    { "8 metadata key with a zero byte", "{\"__metadata__\":{\"x\\u0000y\":\"a\"}}", 0,
      "plain text" },
    { "8 metadata zero byte", "{\"__metadata__\":{\"a\":\"x\\u0000y\"}}", 0, "plain text" },
    { "9 metadata twice", "{\"__metadata__\":{},\"__metadata__\":{}}", 0, "twice" },
    { "9 dtype twice",
      "{\"a\":{\"dtype\":\"F32\",\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4,
      "duplicate key" },
    { "9 shape twice",
      "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"shape\":[1],\"data_offsets\":[0,4]}}", 4,
      "duplicate key" },
    { "10 name twice", "{\"a\":" F32("[1]", "[0,4]") ",\"a\":" F32("[1]", "[4,8]") "}", 8,
      "twice" },
    { "10 name twice, escaped",
      "{\"a\":" F32("[1]", "[0,4]") ",\"\\u0061\":" F32("[1]", "[4,8]") "}", 8, "twice" },
    { "11 metadata key twice", "{\"__metadata__\":{\"a\":\"1\",\"a\":\"2\"}}", 0, "duplicate key" },
    { "12 unknown field",
      "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4],\"more\":1}}", 4, NULL },
    { "12 no dtype", "{\"a\":{\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "dtype" },
    { "12 no shape", "{\"a\":{\"dtype\":\"F32\",\"data_offsets\":[0,4]}}", 4, "shape" },
    { "12 no offsets", "{\"a\":{\"dtype\":\"F32\",\"shape\":[1]}}", 4, "data_offsets" },
    { "12 a list", "{\"a\":[\"F32\",[1],[0,4]]}", 4, "not an object" },
    { "12 null", "{\"a\":null}", 0, "not an object" },
    { "13 unknown dtype", "{\"a\":{\"dtype\":\"F33\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4,
      "not known" },
    { "13 lower case", "{\"a\":{\"dtype\":\"f32\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4,
      "not known" },
    { "13 dtype null", "{\"a\":{\"dtype\":null,\"shape\":[1],\"data_offsets\":[0,4]}}", 4,
      "dtype" },
    { "13 dtype with a zero byte",
      "{\"a\":{\"dtype\":\"F32\\u0000\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "dtype" },
    { "14 fraction", "{\"a\":" F32("[1.0]", "[0,4]") "}", 4, "integers" },
    { "14 exponent", "{\"a\":" F32("[1e0]", "[0,4]") "}", 4, "integers" },
    { "14 negative", "{\"a\":" F32("[-1]", "[0,4]") "}", 4, "integers" },
    { "14 minus zero", "{\"a\":" F32("[-0]", "[0,0]") "}", 0, "integers" },
    { "14 text", "{\"a\":" F32("[\"1\"]", "[0,4]") "}", 4, "integers" },
    { "14 leading zero", "{\"a\":" F32("[01]", "[0,4]") "}", 4, "start with 0" },
    { "14 a number for the list", "{\"a\":" F32("1", "[0,4]") "}", 4, "not a list" },
    { "14 2^64", "{\"a\":" F32("[18446744073709551616]", "[0,4]") "}", 4, "integers" },
    { "15 one offset", "{\"a\":" F32("[1]", "[0]") "}", 4, "two integers" },
    { "15 three offsets", "{\"a\":" F32("[1]", "[0,4,4]") "}", 4, "two integers" },
    { "15 an object of two", "{\"a\":" F32("[1]", "{\"begin\":0,\"end\":4}") "}", 4,
      "two integers" },
    { "15 fraction", "{\"a\":" F32("[1]", "[0,4.0]") "}", 4, "two integers" },
    { "15 negative", "{\"a\":" F32("[1]", "[-4,0]") "}", 4, "two integers" },
    { "15 backwards", "{\"a\":" F32("[1]", "[4,0]") "}", 4, "ends before it begins" },
    { "16 hole", "{\"a\":" F32("[1]", "[0,4]") ",\"b\":" F32("[1]", "[8,12]") "}", 12, "hole" },
    { "16 first hole", "{\"a\":" F32("[1]", "[4,8]") "}", 8, "hole" },
    { "16 overlap", "{\"a\":" F32("[2]", "[0,8]") ",\"b\":" F32("[1]", "[4,8]") "}", 8, "overlap" },
    { "16 one range twice", "{\"a\":" F32("[1]", "[0,4]") ",\"b\":" F32("[1]", "[0,4]") "}", 4,
      "overlap" },
    { "16 any order in the header", "{\"a\":" F32("[1]", "[4,8]") ",\"b\":" F32("[1]", "[0,4]") "}",
      8, NULL },
    { "17 shape overflows", "{\"a\":" F32("[4294967296,4294967296]", "[0,0]") "}", 0, "64 bits" },
    { "17 wraps to 4",
      "{\"a\":{\"dtype\":\"U8\",\"shape\":[4194305,4194305,211106198978564],"
      "\"data_offsets\":[0,4]}}",
      4, "64 bits" },
    { "17 bits overflow", "{\"a\":" F32("[1152921504606846976]", "[0,0]") "}", 0, "64 bits" },
    { "17 overflow before a zero", "{\"a\":" F32("[4294967296,4294967296,0]", "[0,0]") "}", 0,
      "64 bits" },
    { "17 overflow after a zero", "{\"a\":" F32("[0,4294967296,4294967296]", "[0,0]") "}", 0,
      "64 bits" },
    { "18 FP4 pairs", "{\"a\":{\"dtype\":\"F4\",\"shape\":[4],\"data_offsets\":[0,2]}}", 2, NULL },
    { "18 FP4 odd", "{\"a\":{\"dtype\":\"F4\",\"shape\":[3],\"data_offsets\":[0,2]}}", 2,
      "whole bytes" },
    { "18 FP6 fours", "{\"a\":{\"dtype\":\"F6_E2M3\",\"shape\":[4],\"data_offsets\":[0,3]}}", 3,
      NULL },
    { "18 FP6 odd", "{\"a\":{\"dtype\":\"F6_E3M2\",\"shape\":[5],\"data_offsets\":[0,4]}}", 4,
      "whole bytes" },
    { "19 too few bytes", "{\"a\":" F32("[2]", "[0,4]") "}", 4, "make 8" },
    { "19 too many bytes", "{\"a\":" F32("[1]", "[0,8]") "}", 8, "make 4" },
    { "20 a byte missing", "{\"a\":" F32("[1]", "[0,4]") "}", 3, "cut off" },
    { "20 a byte follows", "{\"a\":" F32("[1]", "[0,4]") "}", 5, "follow the last" },
    { "20 data without tensors", "{}", 1, "follow the last" },
    { "21 zero-size", "{\"a\":" F32("[0]", "[0,0]") ",\"b\":" F32("[1]", "[0,4]") "}", 4, NULL },
    { "21 zero-size in the middle",
      "{\"a\":" F32("[1]", "[0,4]") ",\"b\":" F32("[3,0]", "[4,4]") ",\"c\":" F32("[1]",
                                                                                  "[4,8]") "}",
      8, NULL },
    { "21 zero-size inside another",
      "{\"a\":" F32("[2]", "[0,8]") ",\"b\":" F32("[0]", "[4,4]") "}", 8, "overlap" },
    { "22 scalar", "{\"a\":" F32("[]", "[0,4]") "}", 4, NULL },
    { "22 no tensors", "{}", 0, NULL },
    { "25 zero byte in a name", "{\"a\\u0000b\":" F32("[1]", "[0,4]") "}", 4, "zero byte" },
    { "25 empty name", "{\"\":" F32("[1]", "[0,4]") "}", 4, "is empty" },
    { "26 lone high surrogate", "{\"\\ud800\":" F32("[1]", "[0,4]") "}", 4, "surrogate" },
    { "26 lone low surrogate", "{\"\\udc00\":" F32("[1]", "[0,4]") "}", 4, "surrogate" },
    { "26 a pair", "{\"\\ud83d\\ude00\":" F32("[1]", "[0,4]") "}", 4, NULL },
    { "8 dimensions", "{\"a\":" F32("[1,1,1,1,1,1,1,1]", "[0,4]") "}", 4, NULL },
    { "9 dimensions", "{\"a\":" F32("[1,1,1,1,1,1,1,1,1]", "[0,4]") "}", 4, "9 dimensions" },
};
enum { N_RULES = sizeof rules / sizeof *rules };

#endif
