/* train_plan.c -- a training run before it is run: how many rows and steps it has, how large they
 * are, and what memory that takes (train.h). */
#include "core/run/train_plan.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { USUAL_MICRO = 512, MOST_EPOCHS = 1 << 20, MEASURED = 16 };

/* ---- how long the run is --------------------------------------------------------------------- */

/* Batches that a file has ready are taken in order. */
static bool shuffled(const ft_training *t)
{
    return t->setup.args->shuffle && !t->setup.tokens->rows_per_batch;
}

static ft_rows_args rows_args(const ft_training *t, int split, int64_t epoch)
{
    return (ft_rows_args){ .split = split, .seed = t->setup.seed, .epoch = epoch,
                           .shuffle = split == FT_SPLIT_TRAIN && shuffled(t),
                           .virtual_tokens = t->virtual_tokens };
}

int ft_training_rows(const ft_training *t, ft_row_plan *r, int split, int64_t epoch, ft_err *e)
{
    ft_rows_args a = rows_args(t, split, epoch);
    return ft_rows_make(r, t->setup.tokens, &a)
               ? ft_errf(e, FT_ENOMEM, "out of memory for the rows of an epoch")
               : 0;
}

static void measure_row(const ft_training *t, const ft_row_plan *r, int64_t i, ft_train_extent *x)
{
    int64_t n = ft_rows_tokens(r, t->setup.tokens, i, t->virtual_tokens),
            trained = ft_rows_trained(r, t->setup.tokens, i);
    if (n > x->row) x->row = n;
    if (trained > x->row_trained) x->row_trained = trained;
}

static void measure_epoch(const ft_training *t, const ft_row_plan *r, ft_train_extent *x)
{
    int64_t tokens = 0, trained = 0, per = t->plan.rows_per_step;
    for (int64_t i = 0; i < r->n_rows; i++) {
        if (i % per == 0) tokens = trained = 0;
        tokens += ft_rows_tokens(r, t->setup.tokens, i, t->virtual_tokens);
        trained += ft_rows_trained(r, t->setup.tokens, i);
        measure_row(t, r, i, x);
        if (tokens > x->tokens) x->tokens = tokens;
        if (trained > x->trained) x->trained = trained;
    }
}

/* Evaluation that was asked for must have something to look at. */
static int check_evaluation(const ft_training *t, ft_err *e)
{
    int64_t steps = t->setup.args->eval_steps;
    return steps <= 0 || t->plan.eval_tokens > 0
               ? 0
               : ft_errf(e, FT_EINVAL,
                         "eval_steps = %lld, but no rows are kept for evaluation; set val_size or "
                         "val_path of the data stage, or eval_steps: 0",
                         (long long)steps);
}

static int measure_evaluation(const ft_training *t, ft_train_extent *x, ft_err *e)
{
    ft_row_plan r;
    int code = check_evaluation(t, e);
    if (code || t->setup.args->eval_steps <= 0) return code;
    code = ft_training_rows(t, &r, FT_SPLIT_VAL, 0, e);
    if (code) return code;
    for (int64_t i = 0; i < r.n_rows; i++) measure_row(t, &r, i, x);
    ft_rows_free(&r);
    return 0;
}

int64_t ft_training_steps(int64_t rows, int64_t per_step) { return (rows + per_step - 1) / per_step; }

/* Goes through the epochs: rows, steps, extents.  Which rows meet in a step, and how documents are
 * packed, differs from epoch to epoch; after MEASURED of them the largest step that could be is
 * taken. */
static int measure(ft_training *t, ft_train_extent *x, ft_err *e)
{
    const ft_train_args *a = t->setup.args;
    ft_train_plan *p = &t->plan;
    int64_t batch = t->setup.tokens->rows_per_batch ? t->setup.tokens->rows_per_batch
                                                    : a->per_device_train_batch_size;
    p->rows_per_step = batch * a->gradient_accumulation_steps;
    int64_t whole = (int64_t)floor(a->num_train_epochs), target = a->max_steps;
    double rest = a->num_train_epochs - (double)whole;
    *x = (ft_train_extent){ 1, 1, 1, 1 };
    int known = measure_evaluation(t, x, e);
    if (known) return known;
    for (int64_t epoch = 0; epoch < MOST_EPOCHS; epoch++) {
        ft_row_plan r;
        bool last = target < 0 && (epoch > whole || (epoch == whole && rest <= 0));
        if (last || (target >= 0 && p->steps >= target)) break;
        int code = ft_training_rows(t, &r, FT_SPLIT_TRAIN, epoch, e);
        if (code) return code;
        int64_t steps = ft_training_steps(r.n_rows, p->rows_per_step);
        measure_epoch(t, &r, x);
        if (epoch == 0) p->rows = r.n_rows, p->steps_per_epoch = steps;
        ft_rows_free(&r);
        if (steps == 0)
            return ft_errf(e, FT_EFORMAT,
                           "there are no rows to train on; check the data stage and its val_size");
        p->steps += target < 0 && epoch == whole ? (int64_t)ceil(rest * (double)steps) : steps;
        bool guess = shuffled(t) && !t->setup.tokens->packing && epoch + 1 >= MEASURED,
             same = !shuffled(t) || guess;
        if (guess)
            x->tokens = x->trained = p->rows_per_step < (1 << 20) / x->row
                                         ? p->rows_per_step * x->row
                                         : 1 << 20;
        if (same && target >= 0) p->steps = target;
        if (same && target < 0) {
            p->steps = whole * steps + (int64_t)ceil(rest * (double)steps);
            break;
        }
    }
    if (target >= 0) p->steps = target;
    return p->steps > 0
               ? 0
               : ft_errf(e, FT_EINVAL, "the run has no steps: num_train_epochs %g, max_steps %lld",
                         a->num_train_epochs, (long long)a->max_steps);
}

/* ---- programs -------------------------------------------------------------------------------- */

static ft_program_args program_args(const ft_training *t, ft_purpose purpose)
{
    const ft_train_setup *s = &t->setup;
    return (ft_program_args){ .purpose = purpose,
                              .model = s->model->vt,
                              .model_self = s->model->self,
                              .method = s->method,
                              .trainer = ft_instance_vtable(s->trainer),
                              .trainer_self = ft_instance_self(s->trainer),
                              .compute = t->plan.compute,
                              .max_tokens = t->plan.micro_tokens,
                              .max_trained = t->plan.micro_trained,
                              .remat = t->plan.recomputed_layers ? G_RECOMPUTE : G_KEEP,
                              .recompute_layers = t->plan.recomputed_layers };
}

static int plan_program(ft_training *t, ft_program *p, ft_purpose purpose, ft_err *e)
{
    ft_program_args a = program_args(t, purpose);
    int code = ft_program_plan(p, &a, t->setup.weights, &t->setup.machine->kernels,
                               t->setup.machine->threads, e);
    return code ? ft_instance_error(t->setup.trainer, code, e) : 0;
}

bool ft_training_evaluates(const ft_training *t)
{
    return t->setup.args->eval_steps > 0;
}

/* Bytes of frozen matrices that a node reads where they lie. */
static uint64_t read_by(const ft_training *t, const g_node *n, bool *seen)
{
    const ft_g *g = t->train.g;
    uint64_t bytes = 0;
    for (int k = 0; k < n->n_in; k++) {
        const g_value *v = g_value_at(g, n->in[k]);
        bool matrix = v->source == G_WEIGHT && v->desc.shape.ndim >= 2;
        if (!matrix || (seen && seen[v->index])) continue;
        if (seen) seen[v->index] = true;
        bytes += ft_weights_bytes(t->setup.weights, g->weight[v->index].name);
    }
    return bytes;
}

/* Bytes of the checkpoint that are mapped at a time: all matrices, or those of one node. */
static int mapped_weights(ft_training *t, ft_err *e)
{
    const g_plan *p = &t->train.plan;
    bool *seen = calloc(t->train.g->n_weight + 1, sizeof *seen);
    t->plan.weights_bytes = t->plan.paged_bytes = 0;
    if (!seen) return ft_errf(e, FT_ENOMEM, "out of memory while planning");
    for (uint32_t i = 0; i < p->start[P_N_PHASES]; i++) {
        const g_node *n = g_node_at(t->train.g, p->node[i]);
        bool page = t->plan.page_weights;
        uint64_t bytes = read_by(t, n, page ? NULL : seen), *all = &t->plan.weights_bytes;
        if (!page) *all += bytes;
        else if (bytes > *all) *all = bytes;
        if (page) t->plan.paged_bytes += bytes;
    }
    free(seen);
    return 0;
}

/* What a process has besides its region and its weights: program and libraries; a thread's stack
 * and what it begins with; tokens; nodes with their buffers and calls, and the names of weights in
 * files.  As measured, and checked by test_memory. */
static uint64_t process_bytes(const ft_training *t)
{
    const ft_token_set *s = t->setup.tokens;
    const ft_weights *w = t->setup.weights;
    uint64_t nodes = t->train.g->n_node + (ft_training_evaluates(t) ? t->eval.g->n_node : 0),
             packed = w->planned || w->packed ? 6 * (uint64_t)t->train.g->n_weight : 0,
             threads = (uint64_t)t->setup.machine->threads;
    return (6 << 20) + (threads << 16) * 3 / 4 + (uint64_t)s->n_tokens * 8 +
           (uint64_t)s->n_docs * 17 + nodes * 1100 + packed * 250;
}

int ft_training_replan(ft_training *t, ft_err *e)
{
    ft_program_free(&t->train);
    ft_program_free(&t->eval);
    ft_weights_unbind(t->setup.weights);
    int code = plan_program(t, &t->train, FT_FOR_TRAINING, e);
    if (!code && ft_training_evaluates(t)) code = plan_program(t, &t->eval, FT_FOR_SCORING, e);
    if (code) return code;
    t->engine = (ft_engine){ .machine = t->setup.machine,
                             .program = { &t->train, &t->eval },
                             .n_programs = ft_training_evaluates(t) ? 2 : 1,
                             .paged = t->plan.page_weights ? t->setup.weights : NULL,
                             .state_dir = t->plan.map_state ? t->setup.dir : NULL,
                             .optimizer_states =
                                 t->optim.vt->states(ft_instance_self(t->optim.optimizer)) };
    ft_engine_size(&t->engine);
    code = mapped_weights(t, e);
    t->plan.arena_bytes = t->engine.bytes;
    t->plan.process_bytes = process_bytes(t) +
                            (t->plan.map_state ? ft_optim_paged_bytes(&t->engine) : 0);
    t->plan.peak_rss_bytes = t->engine.bytes + t->plan.weights_bytes + t->plan.process_bytes;
    return code;
}

/* ---- opening --------------------------------------------------------------------------------- */

/* Also how trained weights are kept: in full fine-tuning matrices may have 16 bits.  What a step
 * adds is then rounded to the nearest, so steps of less than 1/512 of a weight are lost; weights
 * that an adapter trains beside itself (modules_to_save) stay in fp32. */
static int choose_compute(ft_training *t, ft_err *e)
{
    const char *c = t->setup.args->compute_dtype;
    if (!strcmp(c, "fp16"))
        return ft_errf(e, FT_EUNSUP,
                       "compute_dtype: fp16 is not offered by the CPU kernels; use bf16 or fp32");
    t->plan.compute = ft_machine_compute(t->setup.machine, c);
    const char *w = t->setup.args->weights_dtype;
    bool narrow = !strcmp(w, "bf16") || (!strcmp(w, "auto") && t->plan.compute == FT_BF16);
    t->setup.method->answers.matrices = t->setup.method->full && narrow ? FT_BF16 : FT_NO_DTYPE;
    return 0;
}

static int check_tokens(const ft_training *t, ft_err *e)
{
    const ft_token_set *s = t->setup.tokens;
    int64_t vocab = t->setup.model->info.vocab, context = t->setup.model->info.context,
            positions = 0;
    for (int64_t i = 0; i < s->n_tokens; i++) {
        if (s->ids[i] >= vocab || s->labels[i] >= vocab)
            return ft_errf(e, FT_EFORMAT,
                           "token id %d is outside of the model's vocabulary of %lld", s->ids[i],
                           (long long)vocab);
    }
    for (int64_t d = 0; d < s->n_docs; d++) {
        if (s->start[d + 1] - s->start[d] > positions) positions = s->start[d + 1] - s->start[d];
    }
    if (positions + t->virtual_tokens > context)
        return ft_errf(e, FT_EINVAL,
                       "a row has %lld tokens, the model's context is %lld; set max_length",
                       (long long)positions, (long long)context);
    return 0;
}

int ft_train_args_check(const ft_train_args *a, ft_err *e)
{
    return a->early_stopping_patience <= 0 || a->eval_steps > 0
               ? 0
               : ft_errf(e, FT_EINVAL,
                         "early_stopping_patience = %lld counts evaluations, and eval_steps is 0; "
                         "set eval_steps",
                         (long long)a->early_stopping_patience);
}

int ft_training_open(ft_training *t, const ft_train_setup *s, ft_err *e)
{
    ft_train_extent x;
    *t = (ft_training){ .setup = *s };
    t->virtual_tokens = ft_method_virtual_tokens(s->method);
    ft_token_counts train = ft_tokens_count(s->tokens, FT_SPLIT_TRAIN),
                    val = ft_tokens_count(s->tokens, FT_SPLIT_VAL);
    t->plan.tokens = train.tokens;
    t->plan.trained_tokens = train.trained;
    t->plan.eval_tokens = val.trained;
    int code = choose_compute(t, e);
    if (!code) code = check_tokens(t, e);
    if (!code) code = measure(t, &x, e);
    if (!code) code = ft_optim_open(&t->optim, s->args, s->registry, s->offer, &t->arena, e);
    if (!code) code = ft_optim_length(&t->optim, t->plan.steps, e);
    if (code) return code;
    int64_t room = x.row > USUAL_MICRO ? x.row : USUAL_MICRO;
    t->plan.micro_tokens = x.tokens < room ? (x.tokens > x.row ? x.tokens : x.row) : room;
    t->plan.micro_trained = x.trained < t->plan.micro_tokens
                                ? (x.trained > x.row_trained ? x.trained : x.row_trained)
                                : t->plan.micro_tokens;
    code = ft_training_fit(t, &x, e);
    if (code) return code;
    ft_method_row rows[64];
    ft_method_table(t->train.g, rows, 64, &t->plan.trainable, &t->plan.parameters);
    if (t->plan.trainable == 0)
        return ft_errf(e, FT_EINVAL, "nothing is trained: the adapter has no trained parameters");
    return 0;
}

void ft_training_close(ft_training *t)
{
    ft_program_free(&t->train);
    ft_program_free(&t->eval);
    ft_engine_stop(&t->engine);
    ft_optim_close(&t->optim);
    ft_arena_free(&t->arena);
    *t = (ft_training){ .virtual_tokens = 0 };
}

