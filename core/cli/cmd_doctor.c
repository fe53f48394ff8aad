/* cmd_doctor.c -- `pipeline doctor`: what the machine has, what is missing, and what to do about
 * it.
 *
 * A line a thing: ok, warn (it works, but slower or for less) or bad (something needed is broken:
 * exit status 1).  No GPU is fine.  Reads /proc and /sys of Linux; what cannot be read is left out.
 * Not here: measurements of speed. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include <gnu/libc-version.h>
#include <pcre2.h>
#include <sys/statvfs.h>
#include <sys/utsname.h>
#include <unistd.h>
#include <utf8proc.h>
#include <yaml.h>
#include "core/base/file.h"
#include "core/base/json.h"
#include "core/base/pool.h"
#include "core/cli/options.h"
#include "core/run/machine.h"

typedef enum { OK, WARN, BAD } status;
static const char *const status_names[] = { "ok", "warn", "bad" };

enum { MOST_PROC = 8 << 20 };
static const double GIB = 1 << 30;

typedef struct {
    ft_cli *cli;
    ft_registry *registry; /* NULL: the folders could not be read */
    bool json;
    ft_buf out;
    int lines, count[3];
} doctor;

/* One line: thing, how it is, and what to do (NULL: nothing). */
static void say(doctor *d, const char *what, status s, const char *remedy, const char *fmt, ...)
    __attribute__((format(printf, 5, 6)));
static void say(doctor *d, const char *what, status s, const char *remedy, const char *fmt, ...)
{
    ft_buf text = { 0 };
    va_list ap;
    va_start(ap, fmt);
    ft_buf_vprintf(&text, fmt, ap);
    va_end(ap);
    const char *value = text.p ? text.p : "";
    d->count[s]++;
    if (d->json) {
        ft_buf_printf(&d->out, "%s\n  {\"name\": \"%s\", \"status\": \"%s\", \"value\": ",
                      d->lines ? "," : "", what, status_names[s]);
        ft_json_quote(&d->out, value, strlen(value));
        if (remedy) {
            ft_buf_puts(&d->out, ", \"remedy\": ");
            ft_json_quote(&d->out, remedy, strlen(remedy));
        }
        ft_buf_putc(&d->out, '}');
    } else {
        ft_buf_printf(&d->out, "%-5s %-16s %s\n", status_names[s], what, value);
        if (remedy) ft_buf_printf(&d->out, "%-22s → %s\n", "", remedy);
    }
    d->lines++;
    ft_buf_free(&text);
}

/* ---- small files of the kernel --------------------------------------------------------------- */

/* False where there is no such file. */
static bool slurp(ft_buf *b, const char *path)
{
    FILE *f = fopen(path, "re");
    char part[4096];
    size_t n;
    b->n = 0;
    while (f && b->n < MOST_PROC && (n = fread(part, 1, sizeof part, f)) > 0)
        ft_buf_add(b, part, n);
    if (f) fclose(f);
    ft_buf_puts(b, "");
    return f && b->n && !b->oom;
}

/* The value of the first line "key : value" of /proc/cpuinfo, /proc/meminfo; "" when there is
 * none. */
static void field(char *out, size_t size, const char *text, const char *key)
{
    size_t k = strlen(key);
    *out = 0;
    for (const char *p = text; p && *p; p = strchr(p, '\n') ? strchr(p, '\n') + 1 : NULL) {
        if (strncmp(p, key, k) || !strchr(" \t:", p[k])) continue;
        p += k + strspn(p + k, " \t:");
        snprintf(out, size, "%.*s", (int)strcspn(p, "\n"), p);
        return;
    }
}

static double meminfo(const char *text, const char *key)
{
    char v[64];
    field(v, sizeof v, text, key);
    return strtod(v, NULL) * 1024;
}

/* ---- processor ------------------------------------------------------------------------------- */

static bool has_flag(const char *flags, const char *name)
{
    size_t n = strlen(name);
    for (const char *p = flags; (p = strstr(p, name)); p += n) {
        if ((p == flags || p[-1] == ' ') && (p[n] == ' ' || !p[n])) return true;
    }
    return false;
}

static void look_at_cpu(doctor *d)
{
    static const char *const sets[] = { "avx2",     "fma",      "f16c",     "avx512f",
                                        "avx512bw", "avx512vl", "avx512dq", "avx512_bf16",
                                        "amx_bf16", "amx_tile", "asimd",    "bf16",
                                        "sve" };
    ft_buf text = { 0 };
    struct utsname u;
    char model[200] = "", flags[8192] = "", found[200] = "";
    if (slurp(&text, "/proc/cpuinfo")) {
        field(model, sizeof model, text.p, "model name");
        field(flags, sizeof flags, text.p, "flags");
        if (!*flags) field(flags, sizeof flags, text.p, "Features");
    }
    for (size_t i = 0, at = 0; i < sizeof sets / sizeof *sets; i++) {
        if (has_flag(flags, sets[i]))
            at += (size_t)snprintf(found + at, sizeof found - at, "%s%s", at ? " " : "", sets[i]);
    }
    if (uname(&u)) snprintf(u.machine, sizeof u.machine, "?");
    say(d, "processor", OK, NULL, "%s (%s)", *model ? model : "unnamed", u.machine);
    int usable = ft_cpu_count();
    long online = sysconf(_SC_NPROCESSORS_ONLN);
    say(d, "cores", OK, NULL, "%d usable of %ld online", usable, online);
    say(d, "instruction sets", OK, NULL, "%s",
        *found ? found : "none of those that the kernels use");
    ft_buf_free(&text);
}

/* Kernel variants, each by its self-test, and the one that a run would take. */
static void look_at_kernels(doctor *d)
{
    ft_machine m;
    ft_err e = { 0 };
    ft_buf tested = { 0 };
    if (!d->registry) return;
    if (ft_machine_open(&m, d->registry, d->cli->threads, &e)) {
        say(d, "kernels", BAD,
            getenv("PIPELINE_ISA")
                ? "unset PIPELINE_ISA, or name one of avx512, avx512fma, avx2, plain"
                : "build again with `make`, or install the whole of it with `make install`",
            "%s", e.msg);
        return;
    }
    bool all = true;
    for (const char *const *v = m.backend->variants(); *v; v++) {
        bool good = m.backend->self_test(*v);
        all &= good;
        ft_buf_printf(&tested, "%s%s %s", tested.n ? ", " : "", *v, good ? "passes" : "FAILS");
    }
    const char *remedy =
        !m.exact ? "results may differ from other machines: build again with this machine's "
                   "compiler and run `make check`"
        : !all   ? "a faster variant does not keep its promises on this processor and is not used"
                 : NULL;
    say(d, "kernels",
        !m.exact ? BAD
        : !all   ? WARN
                 : OK,
        remedy, "%s chosen, %d threads; self-test: %s", m.kernels.variant, m.threads,
        tested.p ? tested.p : "none");
    ft_buf_free(&tested);
    ft_machine_close(&m);
}

/* ---- memory ---------------------------------------------------------------------------------- */

static void look_at_memory(doctor *d)
{
    ft_buf text = { 0 };
    if (slurp(&text, "/proc/meminfo")) {
        double total = meminfo(text.p, "MemTotal"), free_ram = meminfo(text.p, "MemAvailable"),
               swap = meminfo(text.p, "SwapFree");
        bool low = free_ram < 1 * GIB;
        say(d, "memory", low ? WARN : OK,
            low ? "close other programs; `pipeline check` tells what a run needs, memory_limit: "
                  "keeps it below a size"
                : NULL,
            "%.1f GiB available of %.1f GiB, %.1f GiB of swap free", free_ram / GIB, total / GIB,
            swap / GIB);
    }
    ft_buf_free(&text);
}

/* The first line of a file of this process's control group or, in a container, of the root. */
static bool cgroup_line(char *out, size_t size, const char *group, const char *name)
{
    ft_buf b = { 0 };
    char path[4600];
    snprintf(path, sizeof path, "/sys/fs/cgroup%s/%s", group, name);
    bool good = slurp(&b, path);
    if (!good) {
        snprintf(path, sizeof path, "/sys/fs/cgroup/%s", name);
        good = slurp(&b, path);
    }
    if (good) snprintf(out, size, "%.*s", (int)strcspn(b.p, "\n"), b.p);
    ft_buf_free(&b);
    return good;
}

/* Limits of a container or of systemd (version 2; of version 1 the memory's). */
static void look_at_limits(doctor *d)
{
    ft_buf own = { 0 };
    char group[4096] = "", text[128];
    double quota, period;
    int found = 0;
    if (slurp(&own, "/proc/self/cgroup")) {
        const char *p = strstr(own.p, "0::/");
        if (p) snprintf(group, sizeof group, "%.*s", (int)strcspn(p + 3, "\n"), p + 3);
    }
    if (cgroup_line(text, sizeof text, group, "memory.max") ||
        cgroup_line(text, sizeof text, group, "memory/memory.limit_in_bytes")) {
        double most = strtod(text, NULL);
        if (most > 0 && most < 1e15) {
            bool low = most < 1 * GIB;
            say(d, "memory limit", low ? WARN : OK,
                low ? "give the container more memory, or set memory_limit: below it" : NULL,
                "this control group may use %.2f GiB", most / GIB);
            found++;
        }
    }
    if (cgroup_line(text, sizeof text, group, "cpu.max") &&
        sscanf(text, "%lf %lf", &quota, &period) == 2 && quota > 0 && period > 0) {
        bool fewer = quota / period < ft_cpu_count() - 0.01;
        say(d, "processor limit", fewer ? WARN : OK,
            fewer ? "more threads than that only wait for each other: set --threads, or "
                    "PIPELINE_THREADS"
                  : NULL,
            "this control group may use %.2f processors", quota / period);
        found++;
    }
    if (!found) say(d, "limits", OK, NULL, "no control group limits memory or processors");
    ft_buf_free(&own);
}

/* ---- disk, plugins, libraries, GPU ----------------------------------------------------------- */

static void look_at_disk(doctor *d, const char *what, const char *path)
{
    struct statvfs v;
    if (statvfs(path, &v)) {
        say(d, what, BAD, "make the folder, or point the variable elsewhere", "%s: %s", path,
            ft_errno_text(errno));
        return;
    }
    double left = (double)v.f_bavail * (double)v.f_frsize;
    bool closed = access(path, W_OK) != 0;
    status s = left < GIB / 16 ? BAD : left < 2 * GIB || closed ? WARN : OK;
    say(d, what, s,
        s == OK  ? NULL
        : closed ? "it cannot be written to: set output_dir: to a folder that can"
                 : "remove old runs, or set output_dir: elsewhere",
        "%.1f GiB free at %s", left / GIB, path);
}

static void look_at_plugins(doctor *d)
{
    static const struct { const char *role, *what;
    } needed[] = {
        { "ft.backend/1", "kernels" },
        { "ft.model/1", "model" },
        { "ft.tokenizer/1", "tokenizer" },
        { "ft.trainer/1", "training" },
    };
    const ft_listed *all;
    size_t n, loaded = 0;
    ft_err e = { 0 };
    d->registry = ft_cli_plugins(d->cli, &e);
    if (!d->registry || ft_registry_list(d->registry, &all, &n, &e)) {
        say(d, "plugins", BAD,
            "--plugin-dir and PIPELINE_PLUGIN_PATH name folders that only their owner may write to",
            "%s", e.msg);
        return;
    }
    bool have[sizeof needed / sizeof *needed] = { false };
    for (size_t i = 0; i < n; i++) {
        if (!all[i].plugin && !all[i].hidden)
            say(d, "plugin", WARN, "build it again against these headers, or remove the file",
                "%s is refused: %s", all[i].name, all[i].why);
        if (!all[i].plugin) continue;
        loaded++;
        for (size_t k = 0; k < sizeof needed / sizeof *needed; k++)
            have[k] |= !strcmp(all[i].plugin->desc.role, needed[k].role);
    }
    say(d, "plugins", OK, NULL, "%zu loaded of %zu found", loaded, n);
    for (size_t k = 0; k < sizeof needed / sizeof *needed; k++) {
        if (!have[k])
            say(d, "plugins", BAD, "build with `make`; plugins lie in plugins/ beside the program",
                "there is no %s plugin (role %s)", needed[k].what, needed[k].role);
    }
}

static void look_at_libraries(doctor *d)
{
    char pcre[64] = "?";
    if (pcre2_config(PCRE2_CONFIG_VERSION, NULL) < (int)sizeof pcre)
        pcre2_config(PCRE2_CONFIG_VERSION, pcre);
    say(d, "libraries", OK, NULL, "glibc %s, libyaml %s, PCRE2 %s, utf8proc %s",
        gnu_get_libc_version(), yaml_get_version_string(), pcre, utf8proc_version());
}

static void look_at_gpu(doctor *d)
{
    bool there = ft_file_exists("/dev/nvidia0");
    say(d, "GPU", OK, NULL, "%s",
        there ? "one is there; this build computes on the CPU" : "none found; the CPU is used");
}

int cmd_doctor(ft_cli *cli, int argc, char **argv)
{
    const char *json = NULL, *cache = getenv("PIPELINE_CACHE");
    const ft_option table[] = { { .name = "--json", .value = &json, .is_switch = true },
                                { .name = NULL } };
    int code = ft_options(cli, argc, argv, table, NULL, 0);
    if (code) return code;
    doctor d = { .cli = cli, .json = json != NULL };
    if (d.json) ft_buf_puts(&d.out, "{\"checks\": [");
    say(&d, "program", OK, NULL, "pipeline %s, plugin ABI %d.%d", FT_VERSION, FT_ABI_MAJOR,
        FT_ABI_MINOR);
    look_at_cpu(&d);
    look_at_memory(&d);
    look_at_limits(&d);
    look_at_disk(&d, "disk", ".");
    if (cache && *cache) look_at_disk(&d, "PIPELINE_CACHE", cache);
    look_at_plugins(&d);
    look_at_kernels(&d);
    look_at_libraries(&d);
    look_at_gpu(&d);
    if (d.json)
        ft_buf_printf(&d.out, "\n], \"ok\": %d, \"warn\": %d, \"bad\": %d}\n", d.count[OK],
                      d.count[WARN], d.count[BAD]);
    else
        ft_buf_printf(&d.out, "%d ok, %d to look at, %d bad\n", d.count[OK], d.count[WARN],
                      d.count[BAD]);
    code = ft_cli_put(&d.out);
    return code ? code : d.count[BAD] ? FT_EXIT_FAILED : FT_EXIT_OK;
}
