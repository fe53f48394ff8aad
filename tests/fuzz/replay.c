/* replay.c -- gives a harness its seeds without libFuzzer: each as it is, cut at up to 64 places,
 * and with a bit flipped at up to 256.  A sanitizer, a signal or fuzz_must says what is wrong.
 *
 *   NAME [FILE|FOLDER]…      default: tests/fuzz/seeds/NAME */
#include <dirent.h>
#include "tests/fuzz/fuzz.h"

enum { CUTS = 64, FLIPS = 256 };

/* From a block of exactly n bytes, so that a byte read past it is caught. */
static void give(const char *p, size_t n)
{
    uint8_t *exact = malloc(n ? n : 1);
    fuzz_must(exact != NULL, "no memory");
    if (n) memcpy(exact, p, n);
    LLVMFuzzerTestOneInput(exact, n);
    free(exact);
}

static int replay(const char *path)
{
    ft_buf b = { 0 };
    ft_err e = { 0 };
    if (ft_file_read(&b, path, 1 << 22, &e)) {
        fprintf(stderr, "%s\n", e.msg);
        exit(1);
    }
    give(b.p, b.n);
    for (size_t i = 0; i < CUTS && i < b.n; i++)
        give(b.p, b.n < CUTS ? i : b.n * i / CUTS + i % 7 * (b.n / CUTS > 7));
    for (size_t i = 0; i < FLIPS && i < b.n; i++) {
        size_t at = b.n < FLIPS ? i : b.n * i / FLIPS;
        b.p[at] = (char)(b.p[at] ^ 1 << i % 8);
        give(b.p, b.n);
        b.p[at] = (char)(b.p[at] ^ 1 << i % 8);
    }
    ft_buf_free(&b);
    return 1;
}

static int replay_folder(const char *dir)
{
    struct dirent **x;
    int n = scandir(dir, &x, NULL, alphasort), files = 0;
    for (int i = 0; i < n; i++) {
        char path[600];
        snprintf(path, sizeof path, "%s/%s", dir, x[i]->d_name);
        if (*x[i]->d_name != '.') files += replay(path);
        free(x[i]);
    }
    if (n >= 0) free(x);
    return files;
}

int main(int argc, char **argv)
{
    const char *slash = strrchr(argv[0], '/');
    char seeds[300];
    int files = 0;
    snprintf(seeds, sizeof seeds, "tests/fuzz/seeds/%s", slash ? slash + 1 : argv[0]);
    if (argc < 2) files = replay_folder(seeds);
    for (int i = 1; i < argc; i++)
        files += ft_is_dir(argv[i]) ? replay_folder(argv[i]) : replay(argv[i]);
    printf("%d%%: Checks: %d seeds of %s, cut and damaged\n", files ? 100 : 0, files, seeds);
    return files == 0;
}
