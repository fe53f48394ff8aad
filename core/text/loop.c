/* loop.c -- for loops and the variable `loop`.
 *
 * A loop with a test, or over a generator, takes its items one by one as Python does: what the body
 * changes in a namespace is seen by the test of later items, and loop.last looks one ahead. */
#include <string.h>
#include "core/text/jinja.h"

/* The next item that passes the test; false at the end. */
static bool pull(ftj_run *run, ftj_loop *loop, ftj_val *out)
{
    const ftj_node *node = loop->node;
    while (ftj_next(run, &loop->cursor, out)) {
        if (!node->c || loop->tested) return true;
        ftj_scope *outer = run->scope;
        int32_t set_turn = run->set_turn;
        run->scope = ftj_new_scope(run, loop->scope);
        ftj_assign(run, node->a, *out);
        bool passes = ftj_truth(run, ftj_eval(run, node->c));
        run->scope = outer;
        run->set_turn = set_turn;
        if (passes) return true;
    }
    return false;
}

/* The item after the one at hand, MISSING at the end. */
static const ftj_val *peek(ftj_run *run, ftj_loop *loop)
{
    if (!loop->peeked) {
        loop->peeked = true;
        if (!pull(run, loop, &loop->after)) loop->after.type = FTJ_MISSING;
    }
    return &loop->after;
}

/* Goes to the next item. */
static bool advance(ftj_run *run, ftj_loop *loop)
{
    ftj_val next = *peek(run, loop);
    loop->peeked = false;
    if (next.type == FTJ_MISSING) return false;
    loop->index0++;
    loop->before = loop->current;
    loop->current = next;
    return true;
}

/* Without a length of its own the rest is read ahead. */
static int64_t length_of(ftj_run *run, ftj_loop *loop)
{
    if (loop->length >= 0) return loop->length;
    if (!loop->node->c && ftj_length(run, loop->cursor.over) >= 0)
        return loop->length = ftj_length(run, loop->cursor.over);
    ftj_list *rest = ftj_new_list(run, 8);
    ftj_val v;
    while (pull(run, loop, &v)) ftj_add(run, rest, v);
    bool one_more = loop->peeked && loop->after.type != FTJ_MISSING;
    loop->cursor = (ftj_cursor){ .over = ftj_of_list(rest) };
    loop->tested = true;
    return loop->length = (int64_t)rest->n + loop->index0 + 1 + one_more;
}

/* loop.cycle(a, b, …) */
static ftj_val m_cycle(ftj_run *run, ftj_val self, const ftj_val *a, const ftj_args *args)
{
    (void)a;
    if (!args->n) ftj_fail(run, "no items for cycling given");
    return args->v[(size_t)self.loop->index0 % args->n];
}

/* loop.changed(value, …): whether they differ from the last call's */
static ftj_val m_changed(ftj_run *run, ftj_val self, const ftj_val *a, const ftj_args *args)
{
    (void)a;
    ftj_list *now = ftj_new_list(run, args->n);
    for (size_t i = 0; i < args->n; i++) ftj_add(run, now, args->v[i]);
    ftj_list *last = self.loop->changed;
    if (last && ftj_equal(run, ftj_of_tuple(last), ftj_of_tuple(now))) return ftj_bool(false);
    self.loop->changed = now;
    return ftj_bool(true);
}

const ftj_builtin ftj_loop_methods[] = {
    { "cycle", m_cycle, NULL, 0 },
    { "changed", m_changed, NULL, 0 },
    { 0 },
};

/* loop.nextitem and loop.previtem */
static ftj_val neighbour(ftj_run *run, ftj_loop *loop, bool next)
{
    if (next) {
        const ftj_val *v = peek(run, loop);
        return v->type != FTJ_MISSING ? *v : ftj_undefined_hint(run, "there is no next item");
    }
    return loop->index0 > 0 ? loop->before : ftj_undefined_hint(run, "there is no previous item");
}

ftj_val ftj_loop_attr(ftj_run *run, ftj_loop *loop, const char *name, size_t n)
{
    static const char *const names[] = { "index", "index0", "first", "last", "length", "revindex",
                                         "revindex0", "previtem", "nextitem", "depth", "depth0" };
    ftj_val v = { .type = FTJ_MISSING, .origin = -1 };
    size_t i = 0;
    while (i < 11 && (strlen(names[i]) != n || memcmp(names[i], name, n))) i++;
    switch (i) {
    case 0: return ftj_int(loop->index0 + 1);
    case 1: return ftj_int(loop->index0);
    case 2: return ftj_bool(loop->index0 == 0);
    case 3: return ftj_bool(peek(run, loop)->type == FTJ_MISSING);
    case 4: return ftj_int(length_of(run, loop));
    case 5: return ftj_int(length_of(run, loop) - loop->index0);
    case 6: return ftj_int(length_of(run, loop) - loop->index0 - 1);
    case 7: case 8: return neighbour(run, loop, i == 8);
    case 9: case 10: return ftj_int(i == 9);
    default: break;
    }
    const ftj_builtin *def = ftj_find(ftj_loop_methods, name, n);
    if (!def) return v;
    ftj_val self = { .type = FTJ_LOOP, .origin = -1 };
    self.loop = loop;
    v.type = FTJ_METHOD;
    v.method = ftj_alloc(run, sizeof *v.method);
    *v.method = (ftj_method){ self, def };
    return v;
}

/* ---- the statement -------------------------------------------------------------------------- */

/* Gives what this iteration wrote without knowing whose turn it is the only message that it
 * quotes, or the first one that it bound to a name. */
static void settle(ftj_run *run, size_t first)
{
    ftj_out *out = run->out;
    int32_t turn = ftj_sole_origin(out->piece + first, out->n_piece - first);
    if (turn < 0) turn = run->set_turn;
    for (size_t i = first; turn >= 0 && i < out->n_piece; i++) {
        if (out->piece[i].turn < 0) out->piece[i].turn = turn;
    }
}

/* The message that an item is, or (while none is at work) comes from; -1. */
static int32_t turn_of(const ftj_run *run, ftj_val item)
{
    if (item.type == FTJ_DICT && item.d->msg >= 0) return item.d->msg;
    return run->turn < 0 ? item.origin : -1;
}

/* One iteration, in a scope of its own, in the turn of its item. */
static ftj_flow exec_body(ftj_run *run, const ftj_node *node, ftj_loop *loop)
{
    int32_t turn = run->turn, set_turn = run->set_turn, own = turn_of(run, loop->current);
    ftj_val var = { .type = FTJ_LOOP, .origin = -1 };
    bool unsettled = own < 0 && turn < 0;
    size_t first = run->out->n_piece;
    var.loop = loop;
    run->scope = ftj_new_scope(run, loop->scope);
    if (unsettled) run->out->split = true;
    if (own >= 0) run->turn = own;
    run->set_turn = -1;
    ftj_set_var(run, run->scope, ftj_intern(run, "loop", 4, true), var);
    ftj_assign(run, node->a, loop->current);
    ftj_flow flow = ftj_exec(run, node->v, node->n_v);
    if (unsettled && first < run->out->n_piece) settle(run, first);
    if (unsettled) run->out->split = true;
    run->turn = turn;
    run->set_turn = set_turn;
    run->scope = loop->scope;
    return flow;
}

ftj_flow ftj_exec_for(ftj_run *run, const ftj_node *node)
{
    ftj_val over = ftj_eval(run, node->b);
    ftj_loop *loop = ftj_alloc(run, sizeof *loop);
    *loop = (ftj_loop){ .node = node, .scope = run->scope, .index0 = -1, .length = -1 };
    run->line = node->line;
    loop->cursor = ftj_iterate(run, over);
    bool whole = false; /* some iteration came to its end: Jinja then skips the else */
    while (advance(run, loop)) {
        ftj_flow flow = exec_body(run, node, loop);
        if (flow == FTJ_BROKE) break;
        whole = whole || flow == FTJ_DONE;
    }
    if (whole || !node->n_w) return FTJ_DONE;
    ftj_scope *outer = run->scope;
    run->scope = ftj_new_scope(run, outer);
    ftj_flow flow = ftj_exec(run, node->w, node->n_w);
    run->scope = outer;
    return flow;
}
