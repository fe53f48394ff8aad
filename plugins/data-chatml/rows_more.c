/* rows_more.c -- KTO rows and OpenAssistant trees.
 *
 * KTO: prompt and completion, or messages, with a label: true, this answer is wanted; false, it is
 * not.
 *
 * OpenAssistant (the *_trees.jsonl exports): a row is a tree, {"message_tree_id", "prompt": node};
 * a node has text, role (prompter or assistant), replies, and perhaps rank (0: the best of its
 * siblings) and deleted.  A conversation is a path from the root to an answer after which nobody
 * was answered any more.  `tree: best` takes one: of the answers to a prompt the best ranked
 * (unranked ones last, then the first), of the prompts that follow an answer the first that was
 * answered. `tree: all` takes every path, each a row of its own; they share the question and so the
 * side. */
#include <string.h>
#include "rows.h"

int row_kto(row_reader *r, const ft_json *v, data_row *out)
{
    const ft_json *label = ft_json_get(v, "label");
    if (!label || label->type != FT_JSON_BOOL)
        return row_fail(r, FT_EFORMAT, "label is missing or neither true nor false");
    out->label = label->truth ? FT_LABEL_GOOD : FT_LABEL_BAD;
    return ft_json_get(v, "messages") ? row_messages(r, v, out) : row_prompt_completion(r, v, out);
}

/* ---- trees ----------------------------------------------------------------------------------- */

enum { MAX_PATH = 250, MAX_BRANCHES = 256 }; /* of an even number the last is an answer */

typedef struct {
    row_reader *r;
    bool best;
    size_t seen;                     /* conversations met so far */
    const ft_json *path[MAX_PATH];
    size_t depth;
    const ft_json *found[MAX_PATH];  /* number r->branch of them */
    size_t n_found;
} tree_walk;

/* A node that is there to be used and is in this role. */
static bool is_node(const ft_json *node, const char *role)
{
    const ft_json *deleted = ft_json_get(node, "deleted");
    return !strcmp(ft_json_str(node, "role", ""), role) &&
           !(deleted && deleted->type == FT_JSON_BOOL && deleted->truth);
}

/* The replies of a node; a list of none where it has none. */
static ft_json replies_of(const ft_json *node)
{
    const ft_json *v = ft_json_get(node, "replies");
    return v && v->type == FT_JSON_ARRAY ? *v : (ft_json){ .type = FT_JSON_ARRAY };
}

/* The answer to a prompt that ranks best, or NULL. */
static const ft_json *best_answer(const ft_json *prompt)
{
    const ft_json list = replies_of(prompt), *best = NULL;
    int64_t best_rank = 0;
    for (size_t i = 0; i < list.len; i++) {
        int64_t rank = INT64_MAX;
        if (!is_node(&list.item[i], "assistant")) continue;
        if (!ft_json_as_int(ft_json_get(&list.item[i], "rank"), &rank)) rank = INT64_MAX;
        if (best && rank >= best_rank) continue;
        best = &list.item[i];
        best_rank = rank;
    }
    return best;
}

static int walk_prompt(tree_walk *w, const ft_json *node);

/* Down from an answer; when nothing follows it, a conversation ends here. */
static int walk_answer(tree_walk *w, const ft_json *node)
{
    const ft_json list = replies_of(node);
    bool goes_on = false;
    int code = 0;
    w->path[w->depth++] = node; /* behind a prompt there is room */
    for (size_t i = 0; i < list.len && !code && !(w->best && goes_on); i++) {
        if (!is_node(&list.item[i], "prompter") || !best_answer(&list.item[i])) continue;
        goes_on = true;
        code = walk_prompt(w, &list.item[i]);
    }
    if (!code && !goes_on && w->seen++ == w->r->branch) {
        memcpy(w->found, w->path, w->depth * sizeof *w->path);
        w->n_found = w->depth;
    }
    w->depth--;
    if (w->seen > MAX_BRANCHES)
        return row_fail(w->r, FT_EFORMAT, "the tree has more than 256 conversations");
    return code;
}

/* Down from a prompt to its answers, or to the best one. */
static int walk_prompt(tree_walk *w, const ft_json *node)
{
    const ft_json list = replies_of(node), *best = best_answer(node);
    int code = 0;
    if (w->depth == MAX_PATH)
        return row_fail(w->r, FT_EFORMAT, "a path of the tree has more than 250 messages");
    w->path[w->depth++] = node;
    if (w->best && best) code = walk_answer(w, best);
    for (size_t i = 0; !w->best && i < list.len && !code; i++) {
        if (is_node(&list.item[i], "assistant")) code = walk_answer(w, &list.item[i]);
    }
    w->depth--;
    return code;
}

int row_oasst(row_reader *r, const ft_json *v, data_row *out)
{
    const ft_json *root = ft_json_get(v, "prompt");
    message_list l = { 0 };
    tree_walk w = { .r = r, .best = !strcmp(r->tree, "best") };
    if (!root || root->type != FT_JSON_OBJECT)
        return row_fail(r, FT_EFORMAT,
                        ft_json_get(v, "parent_id") ? "this is a message of OpenAssistant's flat "
                                                      "form; use the file of trees"
                                                    : "prompt is not the root of a tree");
    if (!is_node(root, "prompter"))
        return row_fail(r, FT_EFORMAT, "the tree's root is no prompt or is deleted");
    int code = walk_prompt(&w, root);
    if (code) return code;
    if (!w.n_found)
        return row_fail(r, FT_EFORMAT, "nobody answered: the tree has no reply of the assistant");
    out->branches = w.seen;
    for (size_t i = 0; i < w.n_found && !code; i++) {
        const ft_json *text = ft_json_get(w.found[i], "text");
        if (!is_text(text))
            return row_fail(r, FT_EFORMAT, "message %zu of the tree has no text", i);
        code = add_text_message(r, &l, i % 2 ? "assistant" : "user", text);
    }
    out->n = 1;
    return code ? code : finish_dialog(r, &l, 0, &out->d[0]);
}
