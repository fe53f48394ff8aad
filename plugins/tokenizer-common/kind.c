/* kind.c -- which kind of tokenizer a model has, and which plugin reads it. */
#include "load.h"

/* What each plugin of this house reads, so that any of them can name the right one. */
static const struct { const char *plugin, *type, *ggml; int piece; } readers[] = {
    { "tokenizer-bpe", "BPE", " gpt2 llama ", 2 },
    { "tokenizer-unigram", "Unigram", " t5 ", 1 },
    { "tokenizer-wordpiece", "WordPiece", " bert ", 0 },
};

static const char *const piece_types[] = { NULL, "SentencePiece Unigram", "SentencePiece BPE",
                                           "SentencePiece word", "SentencePiece char" };

/* tokenizer.ggml.model, at most 31 bytes of it, or "". */
static void ggml_name(const ft_source *s, char name[32])
{
    const ft_meta *m = ft_source_meta(s, "tokenizer.ggml.model");
    const void *at = m ? m->data : NULL;
    const char *p;
    uint64_t n;
    *name = 0;
    if (!m || m->type != FT_META_STRING) return;
    ft_meta_next_str(&at, &p, &n);
    snprintf(name, 32, "%.*s", (int)(n < 31 ? n : 31), p);
}

/* Whether the list, with a blank before and behind each word, has this one. */
static bool has_word(const char *list, const char *word)
{
    size_t n = strlen(word);
    for (const char *p = list; (p = strstr(p, word)); p++) {
        if (p > list && p[-1] == ' ' && p[n] == ' ' && !strchr(word, ' ')) return true;
    }
    return false;
}

const char *tok_kind_of(const ft_source *s, const char **plugin, bool *ours)
{
    static _Thread_local char ggml[32];
    const ft_json *model = ft_json_get(s->tokenizer, "model");
    const char *type = ft_json_str(model, "type", NULL), *kind = type;
    int piece = 0;
    *plugin = NULL;
    *ours = false;
    if (s->gguf) {
        ggml_name(s, ggml);
        kind = *ggml ? ggml : NULL;
    } else if (!s->tokenizer && (piece = tok_spm_type(s))) {
        kind = piece_types[piece];
    } else if (!type && model && tok_this.untyped(model)) {
        *plugin = tok_this.plugin;
        *ours = true;
        return tok_this.type;
    }
    for (size_t i = 0; kind && i < sizeof readers / sizeof *readers; i++) {
        bool same = s->gguf ? has_word(readers[i].ggml, kind)
                    : piece ? readers[i].piece == piece
                            : !strcmp(readers[i].type, kind);
        if (same) *plugin = readers[i].plugin;
    }
    *ours = *plugin && !strcmp(*plugin, tok_this.plugin);
    return kind;
}
