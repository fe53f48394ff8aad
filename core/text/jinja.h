/* jinja.h -- what the files of the template engine share: values, strings that know who wrote them,
 * the syntax tree and one rendering.
 *
 *   template text ── lexer ─► tokens ── parser ─► tree ── exec/eval ─► output pieces ─► ft_text
 *
 * Errors inside the engine unwind with longjmp to ftj_guard, which the functions of template.c
 * enter and leave within one call: no jump ever crosses another module.  All memory of a rendering
 * lies in its arena, so nothing is lost by a jump.  So no function here returns an error, and
 * no pointer returned is NULL unless its comment says so. */
#ifndef FT_TEXT_JINJA_H
#define FT_TEXT_JINJA_H
#include <setjmp.h>
#include "core/base/arena.h"
#include "core/base/err.h"
#include "ft/data.h"
#include "ft/json.h"

enum {
    FTJ_MAX_STEPS = 10 * 1000 * 1000, /* evaluations and copied blocks of a rendering */
    FTJ_MAX_OUTPUT = 16 << 20,        /* bytes of the output, and of any one string */
    FTJ_MAX_MEMORY = 256 << 20,       /* bytes of the arena of a rendering */
    FTJ_MAX_SOURCE = 4 << 20,         /* bytes of a template */
    FTJ_MAX_DEPTH = 900,              /* nested evaluations: expressions, statements, macros */
    FTJ_MAX_NEST = 200,               /* nested brackets and blocks of a template */
    FTJ_MAX_RANGE = 100000,           /* items of range(), as in Jinja's sandbox */
};

typedef struct ftj_run ftj_run;
typedef struct ftj_node ftj_node;
typedef struct ftj_scope ftj_scope;

/* ---- strings -------------------------------------------------------------------------------- */

/* A stretch of bytes with one history. */
typedef struct {
    uint32_t n;       /* bytes */
    int32_t turn;     /* message being rendered when the piece came into being; -1: none */
    int32_t origin;   /* message that the bytes come from; -1: none */
    uint32_t mark;    /* number of the {% generation %} block it was written in; 0: none */
    uint8_t from;     /* FT_FROM_* */
    bool content;     /* from the `content` of a message */
} ftj_piece;

/* Immutable text.  A concatenation stays a rope until someone needs its bytes (ftj_flat). */
typedef struct ftj_str ftj_str;
struct ftj_str {
    const char *p;          /* bytes, not zero-terminated; NULL: still left + right */
    uint32_t n, chars;      /* bytes; characters, UINT32_MAX while not counted */
    const ftj_piece *piece; /* their lengths add up to n */
    uint32_t n_piece;
    bool markup;            /* marked safe: `+` escapes what is added to it, as Markup does */
    const ftj_str *left, *right;
};

/* A string or the output under construction, in the arena. */
typedef struct {
    char *p;
    size_t n, cap;
    ftj_piece *piece;
    size_t n_piece, cap_piece;
    bool split; /* what comes next starts a piece of its own */
} ftj_out;

/* ---- values --------------------------------------------------------------------------------- */
typedef enum {
    FTJ_MISSING = 0, /* no value: an argument that was not given, a variable before its `set` */
    FTJ_UNDEF, FTJ_NONE, FTJ_BOOL, FTJ_INT, FTJ_BIG, FTJ_FLOAT, FTJ_STR, FTJ_LIST, FTJ_TUPLE,
    FTJ_DICT, FTJ_RANGE, FTJ_VIEW, FTJ_ITER, FTJ_SPACE, FTJ_MACRO, FTJ_METHOD, FTJ_GLOBAL, FTJ_LOOP
} ftj_type;

typedef struct ftj_list ftj_list;
typedef struct ftj_dict ftj_dict;
typedef struct ftj_range ftj_range;
typedef struct ftj_view ftj_view;
typedef struct ftj_iter ftj_iter;
typedef struct ftj_undef ftj_undef;
typedef struct ftj_macro ftj_macro;
typedef struct ftj_method ftj_method;
typedef struct ftj_loop ftj_loop;
typedef struct ftj_builtin ftj_builtin;

typedef struct {
    uint8_t type;   /* ftj_type */
    bool data;      /* a number, bool or None of a row */
    int32_t origin; /* the message it comes from, -1: none */
    union {
        bool b;
        int64_t i;
        double f;
        const ftj_str *s;  /* STR; BIG: the digits of an integer beyond 64 bits */
        ftj_list *l;       /* LIST, TUPLE */
        ftj_dict *d;       /* DICT, SPACE (a namespace) */
        ftj_range *range;
        ftj_view *view;
        ftj_iter *iter;
        ftj_undef *undef;
        ftj_macro *macro;
        ftj_method *method;
        const ftj_builtin *global;
        ftj_loop *loop;
    };
} ftj_val;

struct ftj_list {
    ftj_val *v;
    size_t n, cap;
    bool data;  /* an array of a row */
    bool group; /* a tuple of groupby: has .grouper and .list */
};

typedef struct { ftj_val k, v; } ftj_pair;
struct ftj_dict {
    ftj_pair *e;
    size_t n, cap;
    bool data;
    int32_t msg; /* index in `messages`; -1: no message */
};

struct ftj_range { int64_t start, stop, step, n; };
enum { FTJ_KEYS, FTJ_VALUES, FTJ_ITEMS };
struct ftj_view { ftj_dict *d; int kind; };

/* What Python's generators are: handed out once. */
struct ftj_iter { ftj_list *l; size_t at; const char *type; };

/* Why a value is undefined; the sentence is built when someone stumbles over it. */
struct ftj_undef {
    const char *hint;  /* the whole sentence, or NULL */
    const char *name;  /* the variable, or the attribute of `of` */
    size_t name_len;
    const char *of;    /* Python's name of the object's type; NULL: a variable */
    bool element;      /* subscript instead of attribute; name is its repr */
};

struct ftj_macro { const ftj_node *def; ftj_scope *scope; };

/* Arguments of a call as written: positions, then keywords. */
typedef struct { const char *name; ftj_val v; } ftj_keyword;
typedef struct {
    const ftj_val *v;
    size_t n;
    const ftj_keyword *kw;
    size_t n_kw;
} ftj_args;

enum { FTJ_MAX_ARGS = 8 };

/* A filter, test, method or global function.  `self` is what it is applied to (none for a global).
 * With `params` NULL the function reads `args` itself; else `a` holds one value a parameter,
 * MISSING where it was not given. */
struct ftj_builtin {
    const char *name;
    ftj_val (*fn)(ftj_run *, ftj_val self, const ftj_val *a, const ftj_args *args);
    const char *params; /* names, blank-separated; a leading '/' forbids keywords */
    int required;       /* how many of them must be given */
};

struct ftj_method { ftj_val self; const ftj_builtin *def; };

/* ---- the tree ------------------------------------------------------------------------------- */
typedef enum {
    /* statements */
    FTJ_N_DATA, FTJ_N_OUTPUT, FTJ_N_IF, FTJ_N_FOR, FTJ_N_SET, FTJ_N_SET_BLOCK, FTJ_N_MACRO,
    FTJ_N_GENERATION, FTJ_N_WITH, FTJ_N_FILTER_BLOCK, FTJ_N_BREAK, FTJ_N_CONTINUE,
    /* expressions */
    FTJ_N_CONST, FTJ_N_NAME, FTJ_N_SPACE_REF, FTJ_N_TUPLE, FTJ_N_LIST, FTJ_N_DICT, FTJ_N_PAIR,
    FTJ_N_AND, FTJ_N_OR, FTJ_N_NOT, FTJ_N_NEG, FTJ_N_POS, FTJ_N_BINARY, FTJ_N_CONCAT,
    FTJ_N_COMPARE, FTJ_N_OPERAND, FTJ_N_COND, FTJ_N_ATTR, FTJ_N_ITEM, FTJ_N_SLICE, FTJ_N_CALL,
    FTJ_N_FILTER, FTJ_N_TEST, FTJ_N_KEYWORD, FTJ_N_HOLE, FTJ_N_COUNT
} ftj_kind;

typedef enum {
    FTJ_ADD, FTJ_SUB, FTJ_MUL, FTJ_DIV, FTJ_FLOORDIV, FTJ_MOD, FTJ_POW,
    FTJ_EQ, FTJ_NE, FTJ_LT, FTJ_LE, FTJ_GT, FTJ_GE, FTJ_IN, FTJ_NOT_IN
} ftj_op;

/* What a, b, c, v and w are, by kind:
 *   OUTPUT v children            IF a test, v body, w else        FOR a target, b iter, c test, v,w
 *   SET a target, b value        SET_BLOCK a target, b filters, v  MACRO name, w params, v body
 *   WITH w pairs (SET), v body   FILTER_BLOCK a filters, v body    GENERATION v body
 *   CONST, DATA value            NAME name                        SPACE_REF name, b: attribute
 *   TUPLE, LIST v                DICT v (PAIR a key, b value)      AND, OR, BINARY a, b
 *   COMPARE a, v (OPERAND op, a) COND a test, b then, c else       ATTR a, name
 *   ITEM a, b                    SLICE a, b, c (each may be NULL)  HOLE: what was captured
 *   CALL a, v args, w keywords, b *args, c **kwargs;  FILTER, TEST the same, with name and def */
struct ftj_node {
    uint8_t kind, op;
    bool flag;             /* MACRO: takes varargs */
    bool flag2;            /* MACRO: takes kwargs */
    uint32_t line;
    const char *name;      /* interned: equal names are equal pointers */
    const ftj_builtin *def;
    ftj_node *a, *b, *c;
    ftj_node **v, **w;
    uint32_t n_v, n_w;
    ftj_val value;
};

/* ---- a rendering (or a parse, which needs constants) ---------------------------------------- */
typedef struct { const char *name; ftj_val v; } ftj_var;
struct ftj_scope {
    ftj_scope *outer;
    ftj_var *var;
    uint32_t n, cap;
};

typedef struct {
    ftj_val over;
    size_t at;
} ftj_cursor;

struct ftj_loop {
    const ftj_node *node;
    ftj_scope *scope;     /* around the loop; its test runs in a child of it */
    ftj_cursor cursor;    /* what comes after `after` */
    bool tested;          /* the rest has passed the test already */
    bool peeked;          /* `after` is the next item, MISSING: there is none */
    ftj_val after, current, before;
    ftj_list *changed;    /* arguments of the last loop.changed(); NULL: none yet */
    int64_t index0, length; /* length -1: not known yet */
};

/* Every name that a template uses, once: names are equal when their pointers are. */
typedef struct {
    const char **slot;   /* open addressing; NULL: free */
    uint32_t n, cap;     /* cap is a power of two */
} ftj_names;

struct ftj_run {
    jmp_buf trap;
    ft_err *err;
    ft_arena *arena;
    ftj_names *names;
    const char *what;       /* "chat template", for messages */
    uint32_t line;          /* of the statement or expression at work */
    int64_t steps;
    int depth;
    ftj_scope *globals, *scope; /* the template's variables; the innermost scope */
    ftj_out *out;           /* where output goes: `root`, or a macro's or block's */
    ftj_out *root;
    int32_t turn;           /* message being rendered, -1: none */
    int32_t set_turn;       /* first message bound by `set` in this iteration, -1: none */
    uint32_t mark, n_mark;  /* {% generation %} at work; how many there were */
    uint32_t *empty_mark;   /* where blocks stood that wrote nothing */
    uint32_t n_empty, cap_empty;
    const ftj_str *filtered; /* HOLE */
};

/* Runs fn(run, arg); 0, or the code of the error recorded in run->err. */
int ftj_guard(ftj_run *run, void (*fn)(ftj_run *, void *), void *arg);
/* Records "chat template line N: …" and unwinds. */
_Noreturn void ftj_fail(ftj_run *run, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* The same with another code (FT_ENOMEM, FT_EUNSUP). */
_Noreturn void ftj_fail_code(ftj_run *run, int code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* Zeroed memory of the rendering. */
void *ftj_alloc(ftj_run *run, size_t n);
void *ftj_array(ftj_run *run, size_t count, size_t size);
/* Doubles an array of *cap items of `size` bytes when it holds n of them already. */
void *ftj_grow(ftj_run *run, void *p, size_t n, uint32_t *cap, size_t size);
/* Counts `cost` units of work against FTJ_MAX_STEPS. */
void ftj_work(ftj_run *run, uint64_t cost);
/* Text that lives as long as the rendering. */
const char *ftj_printf(ftj_run *run, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* The one copy of a name; NULL when the template has no such name and `add` is false. */
const char *ftj_intern(ftj_run *run, const char *name, size_t n, bool add);
void ftj_enter(ftj_run *run); /* one level deeper */
void ftj_leave(ftj_run *run);

#include "core/text/value.h"
#endif
