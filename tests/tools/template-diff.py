#!/usr/bin/env python3
"""Compares our chat template engine with jinja2 on random templates.

    tests/tools/template-diff.py [--program build/pipeline] [--cases 5000] [--seed 0] [--kind expr]

Each case is a random template (an expression over typed values, a tree of statements with random
white space, or a soup of tokens) rendered over a few rows by both.  What counts as a difference:
another text, or one side rendering what the other refuses.  What we refuse by name as not supported
("is not supported", integers beyond 64 bits …) is counted apart and listed by reason.  Exits 1 when
there is any difference.  Needs jinja2; a case is reproduced with its printed seed and --cases 1.
"""
import argparse
import collections
import json
import os
import random
import re
import subprocess
import sys
import tempfile
from datetime import datetime, timezone

import jinja2
import jinja2.ext
import jinja2.sandbox

EPOCH = 1741064767


class Generation(jinja2.ext.Extension):
    """{% generation %}: renders its body as a call block does, as transformers' tracker."""
    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("_body"), [], [], body).set_lineno(line)

    def _body(self, caller):
        return caller()


class Namespace(jinja2.utils.Namespace):
    """No attributes with a leading underscore, as transformers has it."""
    def __init__(*args, **kwargs):
        for name in dict(*args[1:], **kwargs):
            Namespace._check(name)
        jinja2.utils.Namespace.__init__(args[0], *args[1:], **kwargs)

    def __setitem__(self, name, value):
        Namespace._check(name)
        jinja2.utils.Namespace.__setitem__(self, name, value)

    @staticmethod
    def _check(name):
        if isinstance(name, str) and name.startswith("_"):
            raise jinja2.exceptions.SecurityError(name)


def environment():
    env = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols])

    def raise_exception(message):
        raise jinja2.TemplateError(message)

    def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators,
                          sort_keys=sort_keys)

    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    env.globals["namespace"] = Namespace
    env.globals["strftime_now"] = lambda f: datetime.fromtimestamp(
        EPOCH, timezone.utc).replace(tzinfo=None).strftime(f)
    return env


ENV = environment()

# ---- values and rows ---------------------------------------------------------------------------
TEXTS = ["", " ", "abc", "Hello World", "  pad \n", "a,b,,c", "x=1;y=2", "ÄÖß straße", "日本語 テキスト",
         "ΑΣ ΟΔΟΣ.", "e\u0301 \U0001F600", "<b>&'\"</b>", "line1\nline2\r\n\nline3", "42", "-7", "3.50",
         "1e3", "0x1f", "tab\there", "ǆ ŉ ﬁ", "UPPER lower", "<think>\nx\n</think>\n\ny", "100%", "{}",
         "\u00a0nbsp\u2003", "a" * 40, "İstanbul", "\x1f\x7f"]
NUMBERS = [0, 1, -1, 2, 3, 7, 10, 255, -3, 1.0, 0.5, -2.5, 1e20, 1e-7, 3.14159, 2.675, 1234567.891,
           9007199254740993, -0.0, 100]


def rows(rng):
    text = lambda: rng.choice(TEXTS)
    number = lambda: rng.choice(NUMBERS)
    out = []
    for _ in range(3):
        messages = [{"role": rng.choice(["system", "user", "assistant", "tool", "critic"]),
                     "content": text()} for _ in range(rng.randint(0, 4))]
        if messages and rng.random() < 0.3:
            messages[-1]["tool_calls"] = [{"type": "function", "function":
                                           {"name": "f", "arguments": {"a": number(), "ü": text()}}}]
        out.append({
            "messages": messages, "add_generation_prompt": rng.random() < 0.5, "bos_token": "<s>",
            "eos_token": "</s>", "kwargs": {
                "s": text(), "t": text(), "n": number(), "m": number(), "b": rng.random() < 0.5,
                "none_": None, "l": [text() for _ in range(rng.randint(0, 4))],
                "nums": [number() for _ in range(rng.randint(0, 5))],
                "d": {text() or "k": number() for _ in range(rng.randint(0, 3))},
                "dd": {"a": text(), "b": number(), "c": [1, text()], "items": 5, "n": None},
                "ld": [{"k": text(), "v": number()} for _ in range(rng.randint(0, 3))],
                "mixed": [1, "1", 1.0, True, None, [1], {"a": 1}]}})
    return out


# ---- expressions -------------------------------------------------------------------------------
def quote(s):
    return "'" + s.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n").replace(
        "\r", "\\r") + "'"


class Expressions:
    def __init__(self, rng):
        self.rng = rng
        self.names = []

    def pick(self, *options):
        return self.rng.choice(options)

    def int_(self):
        return str(self.rng.choice([0, 1, 2, 3, 5, -1, -2, 4, 10]))

    def text(self, d):
        r, e = self.rng, self.any
        if d <= 0:
            return self.pick("s", "t", quote(r.choice(TEXTS)), "dd.a", "messages[0].content",
                             "'a'", "l[0]", "ld[0].k", "eos_token")
        t = lambda: self.text(d - 1)
        return self.pick(
            lambda: f"{t()} + {t()}", lambda: f"{e(d-1)} ~ {e(d-1)}", lambda: f"({t()} * {self.int_()})",
            lambda: f"{t()}[{self.int_()}:{self.pick('', self.int_())}]",
            lambda: f"{t()}[{self.pick('', self.int_())}:{self.pick('', self.int_())}:{self.pick('-1', '2', '-2', '0')}]",
            lambda: f"({t()})[{self.int_()}]",
            lambda: f"({t()}).{self.pick('upper', 'lower', 'title', 'capitalize', 'swapcase', 'strip', 'lstrip', 'rstrip')}()",
            lambda: f"({t()}).{self.pick('strip', 'lstrip', 'rstrip')}({t()})",
            lambda: f"({t()}).{self.pick('removeprefix', 'removesuffix')}({t()})",
            lambda: f"({t()}).replace({t()}, {t()}{self.pick('', ', 1', ', 2')})",
            lambda: f"({t()}).{self.pick('ljust', 'rjust', 'center')}({self.int_()}{self.pick('', ', %r' % '*')})",
            lambda: f"({t()}).zfill({self.int_()})", lambda: f"({t()}).join({self.seq(d-1)})",
            lambda: f"({t()}|{self.pick('upper', 'lower', 'title', 'capitalize', 'trim', 'string', 'e', 'safe', 'escape', 'forceescape')})",
            lambda: f"({e(d-1)}|{self.pick('string', 'tojson', 'upper', 'title', 'tojson(indent=2)', 'tojson(sort_keys=true)', 'tojson(ensure_ascii=true)', 'tojson(separators=[%r, %r])' % (',', ':'))})",
            lambda: f"({self.seq(d-1)}|join({self.pick('', t())}))",
            lambda: f"({t()}|replace({t()}, {t()}))", lambda: f"({t()}|trim({t()}))",
            lambda: f"({t()}|indent({self.pick('', '2', 'first=true', '3, true, true', t())}))",
            lambda: f"({t()}|truncate({self.pick('5', '7, true', '4, false, %r' % '', '6, true, %r, 0' % '.')}))",
            lambda: f"({t()}|center({self.int_()}))", lambda: f"({t()}|reverse)",
            lambda: f"({self.pick('%r' % '%s|%5.2f|%-4d|%x', '%r' % '%s %r', '%r' % '%03d%%', '%r' % '%(a)s', '%r' % '%c', t())} % {self.pick('(s, n, m, 255)', '(s, t)', 'n', 'dd', '(n,)', t())})",
            lambda: f"({self.pick('%r' % '{} {}', '%r' % '{0}{1}{0}', '%r' % '{:>8}|{:<5}', '%r' % '{:^9.3f}|{!r}', '%r' % '{:05d}{:x}', '%r' % '{:,}|{:+}', '%r' % '{x.a}', t())}).format({self.pick('s, t', 'n, m', 's, n', 'n, s, x=dd', 'm, t, x=1')})",
            lambda: f"strftime_now({self.pick('%r' % '%Y-%m-%d', '%r' % '%d %b %Y %H:%M:%S', '%r' % '%A %j %%', '%r' % '%f%z')})",
            lambda: f"dd.get({t()}, {t()})", lambda: f"({t()} if {self.any(d-1)} else {t()})",
            lambda: f"({t()}|format({e(d-1)}))", lambda: f"({t()}|first)", lambda: f"({t()}|last)",
            lambda: f"({e(d-1)}|default({t()}{self.pick('', ', true')}))")()

    def number(self, d):
        if d <= 0:
            return self.pick("n", "m", self.int_(), "1.5", "nums[0]", "dd.b", "true", "0b101", "1_000",
                             "0x1F", "2.5e3")
        n = lambda: self.number(d - 1)
        t = lambda: self.text(d - 1)
        return self.pick(
            lambda: f"({n()} {self.pick('+', '-', '*', '/', '//', '%')} {n()})",
            lambda: f"({n()} ** {self.pick('2', '0', '-1', '0.5', '3')})",
            lambda: f"(-{n()})", lambda: f"(+{n()})", lambda: f"-{n()}|abs",
            lambda: f"({n()}|{self.pick('abs', 'int', 'float', 'round', 'round(2)', 'round(1, %r)' % 'floor', 'round(0, %r)' % 'ceil', 'round(-1)')})",
            lambda: f"({t()}|int{self.pick('', '(5)', '(0, 16)', '(7, 0)')})", lambda: f"({t()}|float{self.pick('', '(1.5)')})",
            lambda: f"({self.any(d-1)}|{self.pick('length', 'count')})", lambda: f"({t()}|wordcount)",
            lambda: f"({self.seq(d-1)}|{self.pick('sum', 'min', 'max', 'first', 'last', 'length')})",
            lambda: f"({t()}).{self.pick('find', 'rfind', 'count', 'index', 'rindex')}({t()}{self.pick('', ', 1', ', 1, -1')})",
            lambda: f"ld|sum(attribute='v')", lambda: f"{self.seq(d-1)}.index({self.any(d-1)})",
            lambda: f"mixed.count({self.any(d-1)})")()

    def seq(self, d):
        if d <= 0:
            return self.pick("l", "nums", "ld", "mixed", "messages", "range(4)", "(1, 2)", "[]", "d",
                             "['b', 'A', 'c']", "'xyz'", "dd.c", "{'x': n, 'y': [2]}", "undefined_")
        q = lambda: self.seq(d - 1)
        t = lambda: self.text(d - 1)
        return self.pick(
            lambda: f"[{self.any(d-1)}, {self.any(d-1)}]", lambda: f"({self.any(d-1)}, {self.any(d-1)})",
            lambda: f"({q()}|list)", lambda: f"({q()}|{self.pick('sort', 'sort(reverse=true)', 'sort(case_sensitive=true)')})",
            lambda: f"({q()}|reverse|list)", lambda: f"({q()}|unique|list)", lambda: f"{q()}[{self.pick('1:', '::-1', ':-1', '::2', '-2:', ':1')}]",
            lambda: f"({t()}).{self.pick('split', 'rsplit')}({self.pick('', t(), t() + ', 1', 'none, 1', 'maxsplit=2')})",
            lambda: f"({t()}).splitlines({self.pick('', 'true')})", lambda: f"({t()}).{self.pick('partition', 'rpartition')}({t()})",
            lambda: f"({q()}|map({self.pick(repr('upper'), repr('string'), repr('length'), repr('default') + ', 1', 'attribute=' + repr('k'), 'attribute=' + repr('v') + ', default=3', 'attribute=' + repr('a.0'))})|list)",
            lambda: f"({q()}|{self.pick('select', 'reject')}({self.pick('', repr('string'), repr('number'), repr('==') + ', 1', repr('in') + ', [1, 2]', repr('defined'), repr('odd'), repr('gt') + ', 1')})|list)",
            lambda: f"({self.pick('ld', 'messages', q())}|{self.pick('selectattr', 'rejectattr')}({self.pick(repr('k'), repr('role') + ', ' + repr('equalto') + ', ' + repr('user'), repr('v') + ', ' + repr('gt') + ', 1')})|list)",
            lambda: f"({q()}|batch({self.pick('2', '3, 0')})|list)", lambda: f"({q()}|slice({self.pick('2', '3, 0')})|list)",
            lambda: f"({self.pick('d', 'dd', q())}|dictsort{self.pick('', '(true)', '(false, %r)' % 'value', '(reverse=true)')})",
            lambda: f"({self.pick('d', 'dd', q())}|items|list)", lambda: f"{self.pick('d', 'dd')}.{self.pick('keys', 'values', 'items')}()|list",
            lambda: f"(ld|groupby({self.pick(repr('v'), repr('k'))})|list)", lambda: f"range({self.int_()}, {self.int_()}{self.pick('', ', 2', ', -1')})",
            lambda: f"({q()} + {q()})", lambda: f"({q()} * 2)", lambda: f"dict({self.pick('', 'a=1', 'd', 'dd, z=2')})",
            lambda: f"({q()} if {self.any(d-1)} else {q()})")()

    def truth(self, d):
        a = lambda: self.any(d - 1)
        if d <= 0:
            return self.pick("b", "true", "false", "none_", "not b", "undefined_ is defined", "s is string")
        return self.pick(
            lambda: f"({a()} {self.pick('==', '!=', '<', '<=', '>', '>=', 'in', 'not in')} {a()})",
            lambda: f"({self.number(d-1)} {self.pick('<', '>=', '==')} {self.number(d-1)} {self.pick('<', '!=')} {self.number(d-1)})",
            lambda: f"({a()} {self.pick('and', 'or')} {a()})", lambda: f"(not {a()})",
            lambda: f"({a()} is {self.pick('', 'not ')}{self.pick('defined', 'undefined', 'none', 'string', 'mapping', 'number', 'integer', 'float', 'boolean', 'iterable', 'sequence', 'true', 'false', 'lower', 'upper', 'callable', 'odd', 'even', 'divisibleby 2', 'divisibleby(3)', 'eq 1', 'in [1, s]', 'sameas none', 'escaped', 'ge(1)')})",
            lambda: f"({self.text(d-1)}).{self.pick('startswith', 'endswith')}({self.pick(self.text(d-1), '(s, %r)' % 'a', self.text(d-1) + ', 1')})",
            lambda: f"({self.text(d-1)}).{self.pick('isalpha', 'isdigit', 'isalnum', 'isspace', 'isupper', 'islower', 'istitle', 'isnumeric', 'isdecimal', 'isascii', 'isprintable')}()",
            lambda: f"({self.text(d-1)} in {self.text(d-1)})")()

    def any(self, d):
        kind = self.rng.random()
        if kind < 0.1:
            return self.pick("undefined_", "dd.missing", "none_", "dd['items']", "dd.n", "l[9]",
                             "messages[0].tool_calls", "messages[-1]", "mixed[5]", "d", *self.names or ["s"])
        f = self.text if kind < 0.4 else self.number if kind < 0.6 else self.seq if kind < 0.8 else self.truth
        return f(d)


# ---- statements --------------------------------------------------------------------------------
class Statements:
    def __init__(self, rng):
        self.rng = rng
        self.e = Expressions(rng)
        self.loops = 0

    def tag(self, body):
        a, b = self.rng.choice(["", "", "-", "+"]), self.rng.choice(["", "", "-", "+"])
        return "{%" + a + " " + body + " " + b + "%}"

    def text(self):
        return self.rng.choice(["", " ", "\n", "\n\n", "  \n  ", "x", " y ", "a\n", "\n  b", "{", "}}", "é\n",
                                "\t", "\r\n", "z\n\n\n"])

    def output(self):
        a, b = self.rng.choice(["", "", "-", "+"]), self.rng.choice(["", "", "-"])
        return "{{" + a + " " + self.e.any(self.rng.randint(0, 2)) + " " + b + "}}"

    def name(self):
        return self.rng.choice(["x", "y", "z", "item"])  # none of the rows' variables

    def block(self, d):
        r = self.rng
        out = ""
        for _ in range(r.randint(0, 3)):
            out += self.text() + (self.statement(d) if d > 0 and r.random() < 0.6 else self.output())
        return out + self.text()

    def statement(self, d):
        r, t, e = self.rng, self.tag, self.e.any
        kind = r.randint(0, 13)
        if kind <= 1:
            out = t("if " + e(1)) + self.block(d - 1)
            if r.random() < 0.4:
                out += t("elif " + e(1)) + self.block(d - 1)
            if r.random() < 0.5:
                out += t("else") + self.block(d - 1)
            return out + t("endif")
        if kind <= 4:
            target = r.choice([self.name(), self.name(), "x, y"])
            over = self.e.seq(1) if target != "x, y" else r.choice(["d.items()", "dd|items", "d|dictsort", "[(1, 2), (3, 4)]", "ld"])
            test = " if " + e(1) if r.random() < 0.3 else ""
            self.loops += 1
            self.e.names += ["loop.index", "loop.last", "loop.first", "x", "loop.length", "loop.previtem", "loop.nextitem", "loop.revindex", "loop.cycle('o', 'e')", "loop.changed(x)"]
            body = self.block(d - 1)
            if r.random() < 0.2:
                body += t("if " + e(1)) + t(r.choice(["break", "continue"])) + t("endif") + self.text()
            self.loops -= 1
            out = t(f"for {target} in {over}{test}") + body
            if r.random() < 0.3:
                out += t("else") + self.block(d - 1)
            return out + t("endfor")
        if kind <= 6:
            return t(f"set {self.name()} = {e(2)}")
        if kind == 7:
            return t(f"set {r.choice(['x, y'])} = {r.choice(['(1, s)', 'l[:2]', 's, t'])}")
        if kind == 8:
            flt = r.choice(["", "|upper", "|trim", "|replace('a', 'b')"])
            return t(f"set {self.name()}{flt}") + self.block(d - 1) + t("endset")
        if kind == 9:
            return (t("set ns = namespace(a=0, b='')") + t("for i in range(3)") + t(f"set ns.a = ns.a + {r.choice(['1', 'i', 'loop.index'])}")
                    + t("set ns.b = ns.b ~ i") + t("endfor") + "{{ ns.a }}|{{ ns.b }}|{{ ns.c }}")
        if kind == 10:
            sig = r.choice(["a", "a, b=2", "a, b=a", "", "a='q', b=s"])
            call = r.choice(["f()", "f(1)", "f(s, t)", "f(b=3)", "f(1, b=none)", "f(a=x)"])
            out = t(f"macro f({sig})") + self.block(d - 1) + "{{ a }}-{{ b }}" + t("endmacro")
            return out + "{{ " + call + r.choice(["", "|length", "|upper", " ~ 'k'"]) + " }}"
        if kind == 11:
            return t(r.choice(["filter upper", "filter trim|replace('x', 'yy')"])) + self.block(d - 1) + t("endfilter")
        if kind == 12:
            return t("generation") + self.block(d - 1) + t("endgeneration")
        return r.choice(["{# c #}", "{#- c -#}", "{#+ {{ x }} #}\n", t("raw") + " {{ raw }} " + t("endraw"),
                         t(f"with x = {e(1)}, y = 2") + self.block(d - 1) + t("endwith"), t("print s, 1")])


SOUP = ["{{", "}}", "{%", "%}", "{#", "#}", "-", "+", "if", "endif", "for", "in", "endfor", "x", "s", "1", "1.5", "'a'", "(",
        ")", "[", "]", "{", "}", ",", ":", ".", "|", "upper", "is", "defined", "not", "and", "or", "==", "~", "*", "**", "//",
        "set", "=", "else", " ", "\n", "raw", "endraw", "%", "\"", "'", "\\", "text", "loop", "1e", "0x", "_", "none", "true"]


def soup(rng):
    return "".join(rng.choice(SOUP) + rng.choice(["", " ", " "]) for _ in range(rng.randint(1, 12)))


def make(rng, kind):
    if kind == "expr":
        return "{{ " + Expressions(rng).any(rng.randint(1, 4)) + " }}"
    if kind == "stmt":
        return Statements(rng).block(3)
    return soup(rng)


# ---- comparison --------------------------------------------------------------------------------
REFUSAL = re.compile(r"not supported|beyond 64 bits|more than 64 bits|complex number|add \|list|prints a |"
                     r"marked safe|is not a message|a precision without a type|grouping together with|"
                     r"only the conversions|tojson: indent|width or precision exceeds|pads to|repeats something")


def theirs(template, row):
    variables = {"tools": None, "documents": None, **row["kwargs"],
                 **{k: v for k, v in row.items() if k != "kwargs"}}
    try:
        text = template.render(**variables)
        text.encode()
        return text, None
    except RecursionError:
        return None, "recursion"
    except Exception as error:  # any Python error is a refusal
        return None, f"{type(error).__name__}: {error}"


def ours(program, source, all_rows, folder):
    path, data = os.path.join(folder, "t.jinja"), os.path.join(folder, "rows.jsonl")
    with open(path, "w", encoding="utf-8", newline="") as f:
        f.write(source)
    with open(data, "w", encoding="utf-8") as f:
        f.writelines(json.dumps(r) + "\n" for r in all_rows)
    p = subprocess.run([program, "render", "--template", path, data], capture_output=True,
                       env={**os.environ, "SOURCE_DATE_EPOCH": str(EPOCH)}, timeout=60)
    if p.returncode == 1 and not p.stdout:
        return [(None, p.stderr.decode())] * len(all_rows)
    if p.returncode:
        sys.exit(f"{program} ended with status {p.returncode}: {p.stderr.decode()}\n{source}")
    lines = [json.loads(x) for x in p.stdout.decode().split("\n") if x]
    return [(x.get("text"), x.get("error")) for x in lines]


def compare(program, seed, kind, folder, tally, refusals):
    rng = random.Random(f"{seed}/{kind}")
    source, all_rows = make(rng, kind), rows(rng)
    try:
        template = ENV.from_string(source)
        expected = [theirs(template, r) for r in all_rows]
    except Exception as error:
        expected = [(None, f"{type(error).__name__}: {error}")] * len(all_rows)
    for row, want, got in zip(all_rows, expected, ours(program, source, all_rows, folder)):
        if want[0] is not None and re.search(r" at 0x[0-9a-f]+>", want[0]):
            tally["prints an address"] += 1
        elif want[0] == got[0] and want[0] is not None:
            tally["same text"] += 1
        elif want[0] is None and got[0] is None:
            tally["both refuse"] += 1
        elif got[0] is None and REFUSAL.search(got[1]):
            tally["not supported"] += 1
            refusals[re.sub(r"^.*line \d+: |^.*:\d+:\d+: |\d+|'.*'", "", got[1])[:70].strip()] += 1
        else:
            print(f"--- seed {seed} kind {kind}\n{source}\nrow  {json.dumps(row, ensure_ascii=False)}\n"
                  f"want {want!r}\ngot  {got!r}")
            tally["DIFFERENT"] += 1
            return


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--program", default="build/pipeline")
    parser.add_argument("--cases", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kind", choices=["expr", "stmt", "soup"])
    args = parser.parse_args()
    tally, refusals = collections.Counter(), collections.Counter()
    kinds = [args.kind] if args.kind else ["expr", "expr", "stmt", "stmt", "soup"]
    with tempfile.TemporaryDirectory() as folder:
        for i in range(args.cases):
            compare(args.program, args.seed + i, kinds[i % len(kinds)], folder, tally, refusals)
    print(f"{args.cases} templates: " + ", ".join(f"{k} {n}" for k, n in tally.most_common()))
    for reason, n in refusals.most_common(20):
        print(f"  {n:5} {reason}")
    return 1 if tally["DIFFERENT"] else 0


if __name__ == "__main__":
    sys.exit(main())
