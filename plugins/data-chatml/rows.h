/* rows.h -- the shapes of rows that people have, brought into one: a conversation or plain text. */
#ifndef CHATML_ROWS_H
#define CHATML_ROWS_H
#include "ft/data.h"
#include "pool.h"

typedef struct {
    /* a conversation: what the chat template is given … */
    const ft_json *message; /* objects with role and content */
    size_t n;
    bool *learn;            /* which messages may be trained on: replies of the assistant */
    /* … or text as it stands, when message is NULL */
    ft_json prompt, completion; /* strings */
} dialog;

typedef struct {
    dialog d[2];
    int n;                 /* 2: a preference pair, chosen and rejected */
    ft_json tools, documents, kwargs; /* null where there are none; kwargs: further variables */
    uint64_t group;
    uint8_t label;         /* FT_LABEL_* */
    size_t branches;       /* conversations in the row; only trees have more than one */
} data_row;

typedef struct {
    const ft_host *host;
    const ft_json_api *json;
    pool *mem;
    ft_json_doc **doc;     /* documents read on the way, to be freed with the row */
    size_t n_doc, cap_doc;
    const char *system;    /* put before conversations that have no system message; "" for none */
    const char *tree;      /* of trees "best" or "all" conversations */
    size_t branch;         /* which one to read, below data_row.branches */
    char error[1024];
} row_reader;

extern const char *const row_types[]; /* "auto", "messages", … NULL */

/* Reads a row of the named type.  0, or FT_E* with r->error set. */
int row_read(row_reader *r, const ft_json *v, const char *type, data_row *out);
/* Frees what row_read kept besides r->mem. */
void row_done(row_reader *r);
int row_fail(row_reader *r, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

int row_messages(row_reader *r, const ft_json *v, data_row *out);
/* rows_more.c */
int row_kto(row_reader *r, const ft_json *v, data_row *out);
int row_oasst(row_reader *r, const ft_json *v, data_row *out);
/* rows_other.c: the types that are not made of messages to begin with. */
int row_alpaca(row_reader *r, const ft_json *v, data_row *out);
int row_sharegpt(row_reader *r, const ft_json *v, data_row *out);
int row_prompt_completion(row_reader *r, const ft_json *v, data_row *out);
int row_text(row_reader *r, const ft_json *v, data_row *out);
int row_preference(row_reader *r, const ft_json *v, data_row *out);
/* Shared: messages of a row as a list under construction. */
typedef struct {
    ft_json *v;
    size_t n, cap;
} message_list;
int add_message(row_reader *r, message_list *l, const ft_json *m);
int add_text_message(row_reader *r, message_list *l, const char *role, const ft_json *content);
int add_turn(row_reader *r, message_list *l, const ft_json *turn); /* {"from", "value"} */
int add_instruction(row_reader *r, message_list *l, const ft_json *v);
int add_messages(row_reader *r, message_list *l, const ft_json *array);
/* The conversation of the list; replies before message `first` are not trained on. */
int finish_dialog(row_reader *r, message_list *l, size_t first, dialog *out);
/* Parses a string that holds JSON; the tree lives as long as the row. */
const ft_json *parse_inner(row_reader *r, const char *what, const ft_json *text);
int read_tools(row_reader *r, const ft_json *v, data_row *out);
bool is_text(const ft_json *v);   /* a string */
bool is_given(const ft_json *v);  /* there and not null */
uint64_t hash_text(uint64_t h, const char *p, size_t n);
enum { HASH_START = 0 };
#endif
