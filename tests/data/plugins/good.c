/* good.c -- a valid plugin whose parameters are of every kind, and which does on demand what
 * plugins may do and what they must not: fail, log, allocate, crash, exit, sleep. */
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "ft/data.h"

typedef struct {
    int64_t rows;
    double part;
    bool fast;
    const char *what, *file;
    ft_list names, places;
    ft_ints layers;
    ft_map ranks;
} config;

static const char *const choices[] = { "nothing", "fail", "silent", "log", "segv", "abort", "fpe",
                                       "ill", "null-call", "libc", "exit", "wait", "memory", "open",
                                       "stack", NULL };
static const ft_param params[] = {
    { "rows", FT_INT, offsetof(config, rows), "3", 1, 1000, 0, "rows there are" },
    { "part", FT_REAL, offsetof(config, part), "0.5", 0, 1, 0, "a part of them" },
    { "fast", FT_BOOL, offsetof(config, fast), "false", 0, 0, 0, "whether to hurry" },
    { "what", FT_STR, offsetof(config, what), "nothing", 0, 0, choices, "what to do" },
    { "file", FT_PATH, offsetof(config, file), "", 0, 0, 0, "a file" },
    { "names", FT_LIST, offsetof(config, names), "[a, b]", 0, 0, 0, "names" },
    { "places", FT_STR_OR_LIST, offsetof(config, places), "all", 0, 0, 0, "places" },
    { "layers", FT_INTS, offsetof(config, layers), "[0, 1]", 0, 100, 0, "layers" },
    { "ranks", FT_MAP, offsetof(config, ranks), "{q: 2}", 0, 100, 0, "ranks" },
    { 0 },
};

typedef struct {
    const ft_host *host;
    const config *c;
    char *kept;
} self;

static int open_(void *me, const ft_host *host, const void *conf)
{
    self *s = me;
    s->host = host;
    s->c = conf;
    if (!strcmp(s->c->what, "open")) return host->fail(host, FT_EFORMAT, "rows = %d is odd", 3);
    s->kept = host->alloc(host, 100000);
    return s->kept ? 0 : host->fail(host, FT_ENOMEM, "no memory");
}

static volatile int zero;
static int deep(int n)
{
    volatile char room[4096];
    room[0] = (char)n;
    return n < 0 ? 0 : deep(n + 1) + room[0];
}

static int misbehave(self *s, const char *what)
{
    void (*volatile nowhere)(void) = NULL;
    char *volatile bad = (char *)16; /* not NULL: UBSan would be there first */
    if (!strcmp(what, "fail")) {
        s->host->fail(s->host, FT_ESHAPE, "rows = %d exceeds %d", 7, 6);
        return s->host->fail(s->host, FT_EINVAL, "a second message");
    }
    if (!strcmp(what, "silent")) return FT_EIO;
    if (!strcmp(what, "log")) s->host->log(s->host, FT_WARN, "%d rows", 3);
    if (!strcmp(what, "segv")) *bad = 1;
    if (!strcmp(what, "abort")) abort();
    if (!strcmp(what, "fpe")) raise(SIGFPE);
    if (!strcmp(what, "ill")) __builtin_trap();
    if (!strcmp(what, "null-call")) nowhere();
    if (!strcmp(what, "libc")) memset(bad, 1, (size_t)1000 + (size_t)zero);
    if (!strcmp(what, "exit")) exit(0);
    if (!strcmp(what, "stack")) return deep(1);
    if (!strcmp(what, "memory")) memset(s->host->alloc(s->host, 64 << 20), 1, 64 << 20);
    if (strcmp(what, "wait")) return 0;
    for (int i = 0;; i++) {
        int code = s->host->progress(s->host, "rows", i, 0);
        if (code) return code;
        usleep(1000);
    }
}

static int shape(void *me, int64_t *batches, int64_t *rows_per_batch, int64_t *row_tokens)
{
    self *s = me;
    *batches = s->c->rows;
    *rows_per_batch = *row_tokens = 1;
    return misbehave(s, s->c->what);
}

static int row(void *me, int64_t i, ft_token_row *out)
{
    const self *s = me;
    const ft_json_api *json = s->host->get(s->host, "ft.json/1");
    static int64_t ids[1];
    if (!json || s->host->get(s->host, "ft.nobody/1")) return FT_EUNSUP;
    ft_json_doc *d = json->parse(s->host, "row", i ? "[" : "[7]", i ? 1 : 3);
    if (!d) return FT_EFORMAT;
    if (!json->to_int(&json->root(d)->item[0], ids)) ids[0] = -1;
    json->done(d);
    *out = (ft_token_row){ .n = 1, .ids = ids };
    return 0;
}

static const ft_token_source vtable = { sizeof(ft_token_source), shape, row };
static const ft_plugin plugin = {
    .abi = FT_ABI_INIT, .role = "ft.tokens/1", .name = "good", .version = "1.2.3",
    .summary = "does what it is told", .params = params, .config_size = sizeof(config),
    .instance_size = sizeof(self), .open = open_, .vtable = &vtable,
};
FT_PLUGIN(plugin, "good");
