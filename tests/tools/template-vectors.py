#!/usr/bin/env python3
"""Writes tests/data/template/{expected,cases}.jsonl: what jinja2 makes of our templates.

    tests/tools/template-vectors.py          (needs jinja2; the environment is template-diff.py's)

expected.jsonl: each template of the folder over each row of rows.jsonl, with and without
add_generation_prompt: {"template", "row", "add_generation_prompt", "text", "spans"} or {…, "error"}:
the words of raise_exception, or "" for any other refusal.  spans: bytes of the assistant's contents
(each is unique in its row), or of what {% generation %} covered.
cases.jsonl: single templates from the list below and, for breadth, from template-diff.py's
generators: {"template", "vars", "text"} or {…, "error"}.
"""
import importlib.util
import json
import os
import random
import re

import jinja2

HERE = os.path.dirname(os.path.abspath(__file__))
DATA = os.path.join(HERE, "..", "data", "template")
spec = importlib.util.spec_from_file_location("template_diff", os.path.join(HERE, "template-diff.py"))
diff = importlib.util.module_from_spec(spec)
spec.loader.exec_module(diff)

OPEN, CLOSE = "\ue000", "\ue001"  # around what {% generation %} rendered


class Marking(diff.Generation):
    def _body(self, caller):
        return OPEN + caller() + CLOSE


MARKING = diff.environment()
MARKING.extensions.clear()
MARKING.add_extension(jinja2.ext.loopcontrols)
MARKING.add_extension(Marking)


def alias(message):
    """A message as transformers hands it on: reasoning under both of its names."""
    found = next((message[k] for k in ("reasoning_content", "thinking", "reasoning")
                  if message.get(k) is not None), None)
    return message if found is None else {"thinking": found, **message, "reasoning_content": found}


def render(env, source, variables):
    try:
        return {"text": env.from_string(source).render(**variables)}
    except jinja2.TemplateError as error:
        return {"error": str(error) if type(error) is jinja2.TemplateError else ""}
    except Exception:
        return {"error": ""}


def spans_of(text, messages, marked):
    out, plain = [], ""
    if marked is not None:
        for part in re.split(f"({OPEN}|{CLOSE})", marked):
            if part == OPEN:
                start = len(plain.encode())
            elif part == CLOSE:
                out.append([start, len(plain.encode())])
            else:
                plain += part
        return out
    for m in messages:
        content = m.get("content")
        if m["role"] != "assistant" or not isinstance(content, str) or not content.strip():
            continue
        for form in (content, content.strip(), content.split("[/think]")[-1].strip()):
            at = text.find(form)
            if at >= 0:
                begin = len(text[:at].encode())
                out.append([begin, begin + len(form.encode())])
                break
    return out


def write_expected():
    rows = [json.loads(line) for line in open(os.path.join(DATA, "rows.jsonl"), encoding="utf-8")]
    with open(os.path.join(DATA, "expected.jsonl"), "w", encoding="utf-8") as f:
        for name in sorted(n for n in os.listdir(DATA) if n.endswith(".jinja")):
            source = open(os.path.join(DATA, name), encoding="utf-8", newline="").read()
            for i, row in enumerate(rows):
                for prompt in (False, True):
                    variables = {"tools": None, "documents": None, "bos_token": "<s>", "eos_token": "</s>",
                                 **row, "messages": [alias(m) for m in row["messages"]],
                                 "add_generation_prompt": prompt}
                    out = {"template": name, "row": i, "add_generation_prompt": prompt,
                           **render(diff.ENV, source, variables)}
                    if "text" in out:
                        marked = None
                        if "{%- generation" in source:
                            marked = render(MARKING, source, variables)["text"]
                        out["spans"] = spans_of(out["text"], row["messages"], marked)
                    f.write(json.dumps(out, ensure_ascii=False) + "\n")


V = {"messages": [{"role": "user", "content": "hi"}], "s": "Grüße, Welt", "n": 7, "f": 1.0, "big": 123456789012345678901234567890,
     "l": ["b", "A", "c"], "d": {"b": 1, "a": [1, 2.5, None, True], "items": 3}, "none_": None}
CASES = [
    "{{ 1.0 }} {{ true }} {{ none }} {{ 1e16 }} {{ 1e-5 }} {{ 0.0001 }} {{ 123456789.123 }} {{ f }}", "{{ big }} {{ big|tojson }} {{ [big] }}",
    "{{ 7 // 2 }} {{ -7 // 2 }} {{ 7 % -3 }} {{ 2 ** 10 }} {{ 2 ** -1 }} {{ 7 / 2 }} {{ -7.5 // 2 }} {{ -7.5 % 2 }}",
    "{{ 1 < 2 < 3 }} {{ 1 < 2 > 3 }} {{ 'a' in 'cat' }} {{ 'x' not in l }} {{ 'b' in d }} {{ 1 == 1.0 == true }}",
    "{{ undefined_ }}|{{ undefined_ is defined }}|{{ d.missing }}|{{ d['missing'] is undefined }}|{{ undefined_|default('x') }}",
    "{{ undefined_.x }}", "{{ none_.x }}|", "{{ none_.x.y }}", "{{ undefined_ + 1 }}", "{{ undefined_() }}", "{{ undefined_[0] }}", "{{ undefined_|length }}{{ undefined_ ~ 'a' }}",
    "{{ d.items }}", "{{ d['items'] }} {{ d.items()|list }} {{ d.get('a') }} {{ d.get('z', 'q') }} {{ d|dictsort }}",
    "{{ d.update({'z': 1}) }}", "{{ l.append(1) }}", "{{ d.update }}|", "{{ ''.__class__ }}|", "{{ ''.__class__.__mro__ }}",
    "{{ l|sort }} {{ l|sort(case_sensitive=true) }} {{ l|sort(reverse=true)|first }} {{ l|map('upper')|join('-') }}",
    "{{ l[::-1] }} {{ l[-1] }} {{ l[9] }}| {{ s[1:3] }} {{ s[::-1] }} {{ s[-4:] }} {{ l[::2] }} {{ (1,2,3)[1:] }}", "{{ l[::0] }}", "{{ l['a':] }}",
    "{{ s|upper }} {{ s|lower }} {{ s|title }} {{ s.title() }} {{ 'ΟΔΟΣ'.lower() }} {{ 'ǆ'|capitalize }} {{ 'ß'.upper() }}",
    "{{ '  x '|trim }}|{{ 'xxaxx'.strip('x') }}|{{ ' a b '.split() }}|{{ 'a,b,,c'.split(',') }}|{{ 'a b c'.rsplit(' ', 1) }}|{{ 'a\nb\r\nc'.splitlines() }}",
    "{{ 'a-b-c'.replace('-', '+', 1) }} {{ 'aaa'.count('a') }} {{ 'abc'.find('c') }} {{ 'äbc'.find('c') }} {{ 'abc'.index('z') }}",
    "{{ '%s is %d, %.2f, %5s|%-5s|%05d %x %r' % (s, n, f, 'a', 'b', 42, 255, 'q') }}", "{{ '%s' % (1, 2) }}", "{{ '%d' % 'a' }}", "{{ '%(a)s' % {'a': 1} }}",
    "{{ '{} {1}'.format(1, 2) }}", "{{ '{0}-{1}-{0} {x.a} {x[b]:>5}|{2:^7}|{3:+.2f}'.format(1, 'b', 'mid', 2.5, x=d) }}", "{{ '{}'.format }}",
    "{{ [1, 2.0, 'a\\'b', none, true, {'k': (1,)}] }}", "{{ {'a': 1, 2: 'b', none: 3.5, true: 4}|tojson }}", "{{ d|tojson(indent=2) }}", "{{ d|tojson(sort_keys=true, separators=[',', ':']) }}",
    "{{ 'é\\u2028<>&\"\\\\'|tojson }} {{ 'é\U0001F600'|tojson(ensure_ascii=true) }} {{ ''|tojson }} {{ [] |tojson }} {{ {}|tojson(indent=1) }}", "{{ undefined_|tojson }}", "{{ {(1,2): 3}|tojson }}",
    "{% for x in l %}{{ loop.index }}/{{ loop.length }}{{ x }}{{ loop.first }}{{ loop.last }}{{ loop.previtem }}{{ loop.nextitem }};{% endfor %}",
    "{% for x in l if x != 'A' %}{{ loop.index0 }}{{ loop.revindex }}{{ loop.length }}{{ x }}{% else %}none{% endfor %}", "{% for x in [] %}{% else %}empty{% endfor %}",
    "{% for x in [1,2,3] %}{% if x == 2 %}{% continue %}{% endif %}{{ x }}{% endfor %}|{% for x in [1,2,3] %}{% if x == 2 %}{% break %}{% endif %}{{ x }}{% endfor %}",
    "{% for x in [1] %}{% break %}{% else %}quirk{% endfor %}", "{% for a, b in d.items() %}{{ a }}={{ b }};{% endfor %}", "{% for a, b in [1] %}{% endfor %}", "{% for a, b in [(1,2,3)] %}{% endfor %}",
    "{% for x in [1,1,2] %}{{ loop.changed(x) }}{{ loop.cycle('a', 'b') }}{{ loop.depth }}{% endfor %}", "{% for x in 5 %}{% endfor %}", "{% break %}", "{% for x in l %}{% generation %}{% break %}{% endgeneration %}{% endfor %}",
    "{% set x = 1 %}{% for i in [1,2] %}{% set x = x + i %}{{ x }}{% endfor %}{{ x }}", "{% set ns = namespace(a=1) %}{% for i in [1,2] %}{% set ns.a = ns.a + i %}{% endfor %}{{ ns.a }}{{ ns.zz is defined }}",
    "{% set ns = namespace() %}{% set ns._x = 1 %}", "{% set d.x = 1 %}", "{% set a, b = 1, 2 %}{{ a }}{{ b }}", "{% set a, b = [1] %}", "{% set x %}a{{ n }}b{% endset %}[{{ x }}]{{ x is string }}", "{% set x | upper | trim %}  ab {% endset %}[{{ x }}]",
    "{% macro f(a, b=2, c=a) %}{{ a }}{{ b }}{{ c }}{% endmacro %}{{ f(1) }}{{ f(1, c=5) }}{{ f(b=1, a=0) }}{{ f() }}", "{% macro f(a) %}{{ a }}{% endmacro %}{{ f(1, 2) }}", "{% macro f(a) %}{{ a }}{% endmacro %}{{ f(z=2) }}",
    "{% macro f() %}{{ varargs }}{{ kwargs }}{% endmacro %}{{ f(1, 2, z=3) }}", "{% macro f(n) %}{{ n }}{% if n %}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(5) }}", "{% macro f() %}{{ y }}{% endmacro %}{% set y = 3 %}{{ f() }}{{ f }}",
    "{% if n > 5 %}a{% elif n %}b{% else %}c{% endif %}{{ 'x' if n > 9 }}|{{ 'x' if n > 9 else 'y' if n else 'z' }}", "{% with a = 1, b = n %}{{ a + b }}{% endwith %}{{ a }}", "{% filter upper %}abc{{ n }}{% endfilter %}",
    "a\n  {% if true %}\n  b\n  {% endif %}\nc\n", "a  {%- if true -%}  b  {%- endif -%}  c", "a\n  {%+ if true +%}\n  b{% endif %}\n", "  {{ 1 }}\n  {# c #}\n  x\n\n", "{% raw %}{{ x }}{% if %}{% endraw %}", "  {%- raw -%}  a  {%- endraw -%} b", "x{#- a -#} y", "{{- 1 -}} \n {{+ 2 }}", "a\r\nb\rc\n\n",
    "{{ 'a' 'b' ~ 1 ~ none }} {{ 'a\\tb\\x41\\u00e9\\n' }} {{ \"it's\" }} {{ 1_000 }} {{ 0x1F }} {{ 0b11 }} {{ 0o17 }} {{ 1.5e3 }}", "{{ '\\q' }}", "{{ 'a' + 1 }}", "{{ 1 + 'a' }}", "{{ l + 'a' }}", "{{ -'a' }}", "{{ 'a' < 1 }}", "{{ 1 / 0 }}", "{{ 1 in 'a' }}", "{{ 1 in 2 }}",
    "{{ 3.7|int }} {{ '42'|int }} {{ '4x'|int(9) }} {{ '0x1f'|int(0, 16) }} {{ ' 12 '|int }} {{ '3.9'|int }} {{ '1_0'|int }} {{ 'x'|float }} {{ '1e3'|float }} {{ true|int }} {{ none|int(5) }}",
    "{{ 2.5|round }} {{ 3.5|round }} {{ 2.675|round(2) }} {{ 42|round }} {{ 1234|round(-2) }} {{ 42.55|round(1, 'floor') }} {{ 42.1|round(0, 'ceil') }} {{ -1.5|abs }}", "{{ [1,2,3]|sum }} {{ [1,5,3]|max }} {{ l|min }} {{ []|first }}| {{ l|last }} {{ [3,1]|unique|list }} {{ [1,'1',1.0,true]|unique|list }}",
    "{{ [1,2,3,4,5]|batch(2)|list }} {{ [1,2,3,4,5]|slice(2)|list }} {{ [1,2]|batch(3, 0)|list }} {{ messages|selectattr('role', 'equalto', 'user')|list|length }} {{ messages|map(attribute='content')|list }} {{ [1,2,3]|reject('odd')|list }}",
    "{{ [{'k': 'b', 'v': 1}, {'k': 'a', 'v': 1}]|sort(attribute='v,k')|map(attribute='k')|join }} {{ [{'k': 1}, {'k': 2}, {'k': 1}]|groupby('k')|list }}", "{% for g in [{'k': 'x'}]|groupby('k') %}{{ g.grouper }}{{ g.list }}{% endfor %}",
    "{{ (l|map('lower'))|length }}", "{{ range(3)|list }} {{ range(5, 0, -2)|list }} {{ range(3) }} {{ range(10)[2:8:3] }}", "{{ range(1000000) }}", "{{ dict(a=1, **{'b': 2}) }} {{ dict([('x', 1)]) }}", "{{ raise_exception('no ' ~ n) }}", "{% if false %}{{ raise_exception('x') }}{% endif %}ok",
    "{{ 'a' is string }} {{ d is mapping }} {{ l is iterable }} {{ s is sequence }} {{ n is number }} {{ true is boolean }} {{ 1 is integer }} {{ 1.0 is float }} {{ none is none }} {{ n is not none }} {{ n is divisibleby 7 }} {{ 1 is in [1] }} {{ raise_exception is callable }}", "{{ 1 is unknown }}", "{% if false %}{{ 1|unknown }}{% endif %}x", "{{ 1|unknown }}", "{% if true %}{{ 1|unknown }}{% endif %}",
    "{{ 'word one two'|wordcount }} {{ 'abc def ghi'|truncate(5) }} {{ 'a\nb\n\nc'|indent(2) }}|{{ 'a\nb'|indent(2, true) }} {{ 'x'|center(5) }}| {{ 'a&<b>'|e }} {{ 'a' ~ ('<b>'|safe) }} {{ '<a>' + ('<b>'|safe) }} {{ ('<b>'|safe)|string + '<' }}",
    "{{ -1|abs }} {{ -(1)|abs }} {{ 2 ** 3 ** 2 }} {{ -2 ** 2 }} {{ not n == 7 }} {{ 1 + 2 ~ 3 * 4 }} {{ 'a' ~ 1 + 2 }}", "{{ (1,) }} {{ () }} {{ (1) }} {{ [1,] }} {{ {'a':1,} }}", "{{ l.0 }} {{ d.a.1 }} {{ d['a'][0] }} {{ messages[0]['content'][0] }} {{ messages[-1].role }}",
    "{% if %}", "{% endif %}", "{% if true %}", "{{ 1", "{{ }}", "{% foo %}", "{{ a b }}", "{{ (1 }}", "{{ 'a }}", "{% for x in l %}", "{# open", "{% raw %}x", "{% set loop = 1 %}{{ loop }}", "{% for x in l %}{% set loop = 1 %}{% endfor %}", "{% set true = 1 %}", "{{ f(a=1, 2) }}",
    "{{ strftime_now('%Y-%m-%d %H:%M:%S %B %a %j') }} {{ strftime_now('%d %b %Y') }}|{{ strftime_now('') }}|{{ strftime_now('%f%z%Z') }}", "{{ s.isalpha() }} {{ '12'.isdigit() }} {{ '½'.isnumeric() }} {{ ' '.isspace() }} {{ 'Ab C'.istitle() }} {{ ''.isalpha() }} {{ 'a1'.isalnum() }}",
    "{{ 'abc'.startswith('ab') }} {{ 'abc'.startswith(('x', 'a')) }} {{ 'abc'.endswith('c', 1) }} {{ 'abc'.startswith('b', 1) }} {{ 'a:b:c'.partition(':') }} {{ 'a:b:c'.rpartition(':') }} {{ 'x'.zfill(3) }} {{ '-5'.zfill(4) }} {{ 'ab'.center(5, '*') }}",
]


def write_cases():
    os.environ["SOURCE_DATE_EPOCH"] = str(diff.EPOCH)
    with open(os.path.join(DATA, "cases.jsonl"), "w", encoding="utf-8") as f:
        def add(source, variables):
            out = render(diff.ENV, source, {"tools": None, "documents": None, **variables})
            if re.search(r" at 0x[0-9a-f]+>", out.get("text", "")):
                out = {"error": ""}  # we refuse to print an object's address
            f.write(json.dumps({"template": source, "vars": variables, **out}, ensure_ascii=False) + "\n")

        for source in CASES:
            add(source, V)
        for seed in range(120):
            kind = ("expr", "stmt", "soup")[seed % 3]
            rng = random.Random(f"{seed}/{kind}")
            source, row = diff.make(rng, kind), diff.rows(rng)[0]
            add(source, {**row["kwargs"], **{k: v for k, v in row.items() if k != "kwargs"}})


write_expected()
write_cases()
