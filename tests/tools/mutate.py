#!/usr/bin/env python3
"""Takes each rule out of a reader and sees whether its tests notice.

    tests/tools/mutate.py [--build build] [--all] [--list] [--only FILE:LINE] [--seconds 60] READER…

A rule is a condition that leads to a refusal: each part between || of the condition of an `if` whose statement
refuses, each part between && of `return CONDITION ? … : REFUSAL`, and so on.  A refusal is a call of something that
fails (fail, ft_errf, file_fail, …) or a text of blame; with --all also a plain false, NULL or -1, unless it only hands
on that something called has failed.  Refusals for want of memory, when an open file has no size, or
when a name cannot be given to what has been written are passed over: tests that let those fail are others.

All rules of a reader are switched in one build, a copy of the tree under BUILD/mutants: each condition asks
whether it is the one that is out.  A first run of every test function notes which rules it makes refuse; then each rule is taken
out in turn, and one of those tests must fail (a crash, or no end, is a failure).  A rule that no test makes
refuse, or that none misses, is printed; --seconds leaves out tests that take more processor time, such as those that damage
a file at every place.  The exit status is 1 when there are such rules.  Run `make all` and the tests first.
"""
import argparse
import collections
import glob
import os
import re
import resource
import shutil
import signal
import subprocess
import sys

READERS = {  # name: (sources, tests)
    "safetensors": ("core/io/safetensors.c core/io/tensors.c core/io/dtype.c core/io/shards.c core/io/source.c",
                    "unit/test_safetensors unit/test_shards unit/test_source"),
    "gguf": ("core/io/gguf.c core/io/blocks.c", "unit/test_gguf unit/test_blocks unit/test_source"),
    "json": ("core/base/json.c core/base/json_check.c core/base/utf8.c", "unit/test_json"),
    "config": ("core/config/*.c", "unit/test_config unit/test_config_text unit/test_options unit/test_contract"),
    "tokenizer": ("plugins/tokenizer-common/*.c plugins/tokenizer-bpe/m*.c plugins/tokenizer-bpe/scores.c "
                  "plugins/tokenizer-unigram/*.c plugins/tokenizer-wordpiece/*.c", "plugins/tokenizer-bpe_test plugins/tokenizer-bpe_hostile_test "
                  "plugins/tokenizer-unigram_test plugins/tokenizer-wordpiece_test"),
    "template": ("core/text/*.c", "unit/test_template unit/test_template_refused unit/test_cmd_render"),
    "rows": ("plugins/data-chatml/*.c", "plugins/data-chatml_test plugins/data-chatml_files_test plugins/data-chatml_packed_test unit/test_cmd_tokenize"),
    "parquet": ("plugins/data-parquet/*.c", "plugins/data-parquet_test plugins/data-parquet_made_test"),
    "tokens": ("plugins/data-tokens/data-tokens.c core/run/tokens.c", "plugins/data-tokens_test unit/test_data_stages"),
    "packed": ("plugins/quant-*/*.c", "plugins/quant-nf4_test plugins/nf4_open_test plugins/quant-mxfp4_test "
               "plugins/quant-int8_test plugins/quant-fp4_test"),
    "checkpoint": ("core/run/checkpoint.c", "unit/test_checkpoint"),
    "adapter": ("core/run/adapter_file.c core/run/lora_gguf.c core/run/method.c core/run/engine.c",
                "unit/test_adapter_refused unit/test_refused plugins/merge_refuse_test"),
    "model": ("plugins/decoder/config.c plugins/decoder/gguf.c plugins/decoder/experts.c plugins/decoder/model.c core/run/weights.c core/run/pieces.c "
              "include/ft/rope.h", "unit/test_pieces plugins/decoder_refused_test plugins/decoder_test plugins/export-gguf_experts_test"),
}

CALL = r"(?:\w+(?:->|\.))*\w*(?:fail|errf|refuse|error|bad|ended|wrong|misfit)\w*\("
REFUSES = re.compile(rf"(?:^|[{{;=]|\breturn)\s*(?:\(void\))?{CALL}|\bbad = \"|\breturn (?:\"|false;|-1;|NULL;|FT_E\w+;)")
HANDS_ON = re.compile(r"!?\w[\w.>-]*(?:\(.*\))?(?: < 0)?")  # a call or a variable alone
ENDS = re.compile(r"\breturn \w*(?:ended|instance_error)\(.*, code\b.*\);")  # hands on as well
MEMORY = re.compile(r"ENOMEM|memory|oom\b|no_room|no_space|fstat\(|rename\(")
HEAD = """#ifndef RULE_IS_OUT
#define RULE_IS_OUT
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
static inline int rule_is_out(int k)
{
    static char told[%d];
    const char *out = getenv("RULE_OUT"), *trace = getenv("RULE_TRACE");
    if (trace && !told[k]) {
        char line[20];
        int n = snprintf(line, sizeof line, "%%d\\n", k), was = errno, fd;
        told[k] = 1;
        fd = open(trace, O_WRONLY | O_APPEND | O_CREAT, 0644);
        if (fd >= 0 && write(fd, line, (size_t)n) == n) told[k] = 2;
        if (fd >= 0) close(fd);
        errno = was;
    }
    return out && atoi(out) == k;
}
#endif
#line 1
"""

TEST_HEAD = """#include <stdio.h>
#include <stdlib.h>
#include <string.h>
static inline int test_is_asked_for(const char *name)
{
    const char *asked = getenv("RULE_TEST");
    return !asked || !strcmp(asked, name);
}
#line 1
"""
ADDS_TEST = re.compile(r"\b(tcase_add_(?:loop_)?test\(\w+,\s*(\w+))")

Rule = collections.namedtuple("Rule", "file line text start end form")


def masked(text):
    """The same length, with comments and what stands between quotes blanked."""
    def blank(m):
        s = m.group()
        inside = s[1:-1] if s[0] in "\"'" else s
        blanks = "".join(c if c == "\n" else " " for c in inside)
        return s[0] + blanks + s[-1] if s[0] in "\"'" else blanks
    return re.sub(r"/\*.*?\*/|//[^\n]*|\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'", blank, text, flags=re.S)


def closing(m, i):
    """Behind the bracket that closes the one at i."""
    pairs, depth = {"(": 1, "[": 1, "{": 1, ")": -1, "]": -1, "}": -1}, 0
    while True:
        depth += pairs.get(m[i], 0)
        i += 1
        if not depth: return i


def parts(m, start, end, by):
    """The spans of m[start:end] between the operators `by` that stand outside of brackets."""
    i = at = start
    while i < end:
        if m[i] in "([{": i = closing(m, i); continue
        if m.startswith(by, i): yield at, i; i += len(by); at = i; continue
        i += 1
    yield at, end


def statement(m, i):
    """The span of the statement at i; none where it holds conditions of its own."""
    while m[i].isspace(): i += 1
    end = closing(m, i) if m[i] == "{" else next(j for j in range(i, len(m)) if m[j] == ";") + 1
    nested = re.search(r"\b(if|for|while|switch) \(", m[i:end])
    return (i, end) if not nested or re.search(r"\{\s*if \(!\S+bad\) \S+bad = ", m[i:end]) else None


def spans(text, plain_too):
    """(start, end, form) of every rule; form: how the condition is written with the rule out."""
    m = masked(text)
    shown = lambda a, b: text[a:b]
    for f in re.finditer(r"\bif \(", m):
        end = closing(m, f.end() - 1)
        body = statement(m, end)
        if not body: continue
        s = shown(*body)
        quiet = re.sub(r"\"(?:\\.|[^\"\\])*\"", lambda x: '"' if len(x[0]) > 2 else "", s)
        if not REFUSES.search(quiet) or MEMORY.search(s) or MEMORY.search(shown(f.end(), end)): continue
        plain = ENDS.search(quiet) or not re.search(rf"{CALL}|\"", quiet)
        for a, b in parts(m, f.end(), end - 1, "||"):
            if plain and (not plain_too or HANDS_ON.fullmatch(" ".join(shown(a, b).split()))): continue
            yield a, b, "out"
    for f in re.finditer(r"\breturn ", m):
        end = m.index(";", f.end())
        at = f.end()
        while True:
            q = [a for a in parts(m, at, end, "?")]
            if len(q) < 2: break
            condition = q[0]
            c = next((p for p in parts(m, condition[1] + 1, end, ":")), None)
            then, other = c, (c[1] + 1, end)
            call = re.compile(rf"\s*(?:\(void\))?{CALL}")
            chain = len(list(parts(m, *other, "?"))) > 1
            if not MEMORY.search(shown(at, end)):
                if call.match(m[slice(*then)]):
                    for a, b in parts(m, *condition, "||"): yield a, b, "out"
                elif not chain and call.match(m[slice(*other)]):
                    for a, b in parts(m, *condition, "&&"): yield a, b, "in"
            if not chain: break
            at = other[0]


def rules_of(files, plain_too):
    found = []
    for f in files:
        text = open(f, encoding="utf-8").read()
        for a, b, form in sorted(spans(text, plain_too)):
            line = text.count("\n", 0, a + len(text[a:b]) - len(text[a:b].lstrip())) + 1
            found.append(Rule(f, line, " ".join(text[a:b].split()), a, b, form))
    return found


def rewrite(tree, found):
    """The files of the tree with every rule asking whether it is out."""
    for file in {r.file for r in found}:
        text = open(file, encoding="utf-8").read()
        for k, r in sorted(enumerate(found), key=lambda x: -x[1].start):
            if r.file != file: continue
            form = f"(({text[r.start:r.end]}) && !rule_is_out({k}))" if r.form == "out" else \
                   f"(({text[r.start:r.end]}) || rule_is_out({k}))"
            text = text[:r.start] + form + text[r.end:]
        with open(os.path.join(tree, file), "w", encoding="utf-8") as f: f.write(HEAD % len(found) + text)


def make_tree(build):
    """A copy of the sources and of what is built, so that neither is touched, beside the same neighbours."""
    home = os.path.join(build, "mutants")
    tree = os.path.join(home, "tree")
    shutil.rmtree(home, ignore_errors=True)
    os.makedirs(os.path.join(tree, "build"))
    if os.path.exists("../shared"): os.symlink(os.path.abspath("../shared"), os.path.join(home, "shared"))
    subprocess.check_call(f"git ls-files -co --exclude-standard -z | tar --null -cT - | tar -xC {tree}", shell=True)
    for part in ["obj", "plugins", "tests", "libft.a", "pipeline"]:
        if os.path.exists(os.path.join(build, part)): subprocess.check_call(["cp", "-a", os.path.join(build, part), os.path.join(tree, "build")])
    return tree


def limited(seconds):
    """For preexec_fn: bounds of memory and of processor time, which no other process's work shortens."""
    def limit():
        resource.setrlimit(resource.RLIMIT_AS, (32 << 30, 32 << 30))
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 5))
    return limit


def cpu_seconds():
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


class Test:
    """One test function of a Check program, or a whole program of another kind."""
    def __init__(self, tree, program, name):
        self.tree, self.program, self.name, self.seconds = tree, program, name, 60

    def run(self, **env):
        env = {**os.environ, "BUILD": "build", **env}
        if self.name: env["RULE_TEST"] = self.name
        before = cpu_seconds()
        p = subprocess.Popen([self.program], cwd=self.tree, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                             stdin=subprocess.DEVNULL, preexec_fn=limited(int(max(20, 10 * self.seconds))), start_new_session=True)
        try:
            output = p.communicate(timeout=max(600, 60 * self.seconds))[0]
            self.output, passed = output.decode("utf-8", "replace"), p.returncode == 0
        except subprocess.TimeoutExpired:
            os.killpg(p.pid, signal.SIGKILL)  # with what it has forked
            p.communicate()
            passed = False
        self.seconds = cpu_seconds() - before if "RULE_TRACE" in env else self.seconds
        return passed


def tests_of(tree, program):
    """The program's test functions; its source is changed so that each can be run alone."""
    kind, name = program.split("/")[-2:]
    source = glob.glob(os.path.join(tree, "tests/unit" if kind == "unit" else "plugins/*" if kind == "plugins" else "tests/fuzz", name + ".c"))[0]
    text = open(source, encoding="utf-8").read()
    names = [m[2] for m in ADDS_TEST.finditer(text)]
    if names:
        with open(source, "w", encoding="utf-8") as f: f.write(TEST_HEAD + ADDS_TEST.sub(r'if (test_is_asked_for("\2")) \1', text))
    return [Test(tree, program, n) for n in names or [None]]


def trace(tests, n):
    """The tests that make each of n rules refuse, quickest first."""
    told = [[] for _ in range(n)]
    for t in tests:
        path = os.path.abspath(os.path.join(t.tree, "trace"))
        if os.path.exists(path): os.remove(path)
        if not t.run(RULE_TRACE=path):
            print(f"{t.program} {t.name}: fails with all rules in place:\n{t.output[-2000:]}", file=sys.stderr)
            continue
        for k in sorted({int(x) for x in open(path)} if os.path.exists(path) else []): told[k].append(t)
    for of_rule in told: of_rule.sort(key=lambda t: t.seconds)
    return told


def judge(name, a):
    files = sorted(f for p in READERS[name][0].split() for f in glob.glob(p) if not f.endswith("_test.c"))
    programs = [f"build/tests/{t}" for t in READERS[name][1].split()]
    found = rules_of(files, a.all)
    tree = make_tree(a.build)
    rewrite(tree, found)
    tests = [t for p in programs for t in tests_of(tree, p)]
    plugins = [f"build/plugins/{os.path.basename(p)}" for p in glob.glob(f"{a.build}/plugins/*.so")]
    made = subprocess.run(["make", "-s", "BUILD=build", f"CC={os.environ.get('CC', 'gcc')} -w", "build/pipeline", *plugins, *programs], cwd=tree)
    if made.returncode: sys.exit("the changed sources do not build")
    told = [[t for t in ts if t.seconds <= a.seconds] for ts in trace(tests, len(found))]
    left = collections.Counter()
    for k, r in enumerate(found):
        if a.only and a.only != f"{r.file}:{r.line}": continue
        if any(not t.run(RULE_OUT=str(k)) for t in told[k]): continue
        left[r.file] += 1
        print(f"{r.file}:{r.line}: {'no test misses' if told[k] else 'no test meets'}: {r.text}", flush=True)
    for f in files:
        n = sum(r.file == f for r in found)
        if n: print(f"{f}: {n} rules, {n - left[f]} that a test misses, {left[f]} that none does")
    print(f"{name}: {len(found)} rules, {len(found) - left.total()} that a test misses, {left.total()} that none does")
    return left.total()


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("readers", nargs="*", default=list(READERS), metavar="READER", help=", ".join(READERS))
    p.add_argument("--build", default="build")
    p.add_argument("--only")
    p.add_argument("--seconds", type=float, default=60)
    p.add_argument("--all", action="store_true")
    p.add_argument("--list", action="store_true")
    a = p.parse_args()
    os.chdir(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
    if not a.list: return 1 if sum(judge(r, a) for r in a.readers) else 0
    for r in a.readers:
        files = sorted(f for p in READERS[r][0].split() for f in glob.glob(p) if not f.endswith("_test.c"))
        print("".join(f"{x.file}:{x.line}: {x.text}\n" for x in rules_of(files, a.all)), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
