/* config_test.h -- parameter tables in the manner of real plugins, and configurations opened with
 * them. */
#ifndef FT_TESTS_CONFIG_TEST_H
#define FT_TESTS_CONFIG_TEST_H
#include <math.h>
#include <unistd.h>
#include "core/base/json.h"
#include "core/config/canon.h"
#include "core/config/config.h"
#include "core/config/value.h"
#include "tests/harness.h"

#define DATA "tests/data/config/"

/* ---- tables in the manner of real plugins --------------------------------------------------- */
typedef struct {
    int64_t r, lora_alpha;
    double lora_dropout;
    ft_list target_modules, modules_to_save;
    const char *bias, *init_adapter;
    bool use_rslora;
    ft_ints layers_to_transform;
    ft_map rank_pattern;
} lora;
static const ft_param lora_params[] = {
    { "r", FT_INT, offsetof(lora, r), "8", 1, 65536, 0, "rank" },
    { "lora_alpha", FT_INT, offsetof(lora, lora_alpha), "8", 1, 1e6, 0, "scale times rank" },
    { "lora_dropout", FT_REAL, offsetof(lora, lora_dropout), "0.0", 0, 1, 0, "dropout" },
    { "target_modules", FT_STR_OR_LIST, offsetof(lora, target_modules), "all-linear", 0, 0, 0,
      "where" },
    { "modules_to_save", FT_LIST, offsetof(lora, modules_to_save), "", 0, 0, 0, "trained whole" },
    { "bias", FT_STR, offsetof(lora, bias), "none", 0, 0,
      (const char *const[]){ "none", "all", "lora_only", 0 }, "biases" },
    { "init_adapter", FT_PATH, offsetof(lora, init_adapter), "", 0, 0, 0, "start" },
    { "use_rslora", FT_BOOL, offsetof(lora, use_rslora), "false", 0, 0, 0, "scale by sqrt(r)" },
    { "layers_to_transform", FT_INTS, offsetof(lora, layers_to_transform), "", 0, 4096, 0,
      "layers" },
    { "rank_pattern", FT_MAP, offsetof(lora, rank_pattern), "", 0, 65536, 0, "ranks by name" },
    { 0 },
};
typedef struct {
    int64_t max_steps, per_device_train_batch_size;
    double learning_rate, num_train_epochs, weight_decay;
    const char *lr_scheduler_type, *gradient_checkpointing, *note;
    bool shuffle;
} train;
static const ft_param train_params[] = {
    { "per_device_train_batch_size", FT_INT, offsetof(train, per_device_train_batch_size), "8", 1,
      4096, 0, "rows" },
    { "max_steps", FT_INT, offsetof(train, max_steps), "-1", -1, 1e15, 0, "steps" },
    { "learning_rate", FT_REAL, offsetof(train, learning_rate), "2e-5", 0, 1e3, 0, "rate" },
    { "num_train_epochs", FT_REAL, offsetof(train, num_train_epochs), "3", 0, 1e6, 0, "epochs" },
    { "weight_decay", FT_REAL, offsetof(train, weight_decay), "0", 0, 1e3, 0, "decay" },
    { "lr_scheduler_type", FT_STR, offsetof(train, lr_scheduler_type), "linear", 0, 0,
      (const char *const[]){ "constant", "linear", "cosine", 0 }, "schedule" },
    { "gradient_checkpointing", FT_STR, offsetof(train, gradient_checkpointing), "auto", 0, 0,
      (const char *const[]){ "auto", "true", "false", 0 }, "recompute" },
    { "note", FT_STR, offsetof(train, note), "", 0, 0, 0, "free text" },
    { "shuffle", FT_BOOL, offsetof(train, shuffle), "true", 0, 0, 0, "order" },
    { 0 },
};
typedef struct { const char *path; } data;
static const ft_param data_params[] = {
    { "path", FT_PATH, offsetof(data, path), NULL, 0, 0, 0, "the rows" },
    { 0 },
};
static const struct { const char *name; const ft_param *params; size_t size; } plugins[] = {
    { "lora", lora_params, sizeof(lora) },
    { "train-sft", train_params, sizeof(train) },
    { "data-chatml", data_params, sizeof(data) },
};

/* What ft_bind_stages does, without shared objects. */
static inline void bind(ft_config *c, ft_diags *d)
{
    for (size_t i = 0; i < c->n_stages; i++) {
        for (size_t k = 0; k < 3; k++) {
            if (strcmp(plugins[k].name, c->stage[i].use)) continue;
            c->stage[i].params = plugins[k].params;
            c->stage[i].config_size = plugins[k].size;
        }
        if (!c->stage[i].params) ft_diag(d, c->stage[i].use_at, "no plugin \"%s\"",
            c->stage[i].use);
    }
}

static inline int open_with(ft_config *c, const char *path, const char *const *over, size_t n,
                            ft_diags *d)
{
    *c = (ft_config){ 0 };
    ft_config_load(c, path, over, n, d);
    bind(c, d);
    return ft_config_type(c, 0, d);
}

/* Writes text to a file of the given name in a fresh folder, and returns the path. */
static inline const char *temp_file(const char *name, const char *text, size_t n)
{
    static char path[4200], dir[64];
    snprintf(dir, sizeof dir, "/tmp/ft-config-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/%s", dir, name);
    ft_err e = { 0 };
    ck_assert_msg(!ft_file_write(path, text, n, &e), "%s", e.msg);
    return path;
}
static inline void temp_done(const char *path)
{
    char dir[4200];
    snprintf(dir, sizeof dir, "%s", path);
    *strrchr(dir, '/') = 0;
    ft_remove_tree(dir, NULL);
}

/* Opens `text` as a file with overrides; the printed errors ("" when there are none) in out. */
static inline void open_text(ft_config *c, ft_buf *out, const char *text, const char *const *over,
    size_t n)
{
    ft_diags d = { 0 };
    const char *path = temp_file("t.yaml", text, strlen(text));
    open_with(c, path, over, n, &d);
    ft_buf_puts(out, "");
    ft_diags_write(out, &d);
    ft_diags_free(&d);
    temp_done(path);
}

#endif
