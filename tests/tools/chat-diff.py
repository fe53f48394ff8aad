#!/usr/bin/env python3
"""Compares our chat templates with transformers: rendered text, refusals and assistant spans.

    tests/tools/chat-diff.py [--program build/pipeline] [--conversations 200] [--seed 0] TEMPLATE.jinja …

For each template file, conversations are invented (roles in and out of order, system texts, tools and
tool calls, reasoning, lists of parts, empty and odd contents, special tokens inside of text) and given
to `pipeline render` and to transformers' own render_jinja_template, which also says what
{% generation %} marks.  Templates of this script's own (with {% generation %} in loops, macros, nested
conditions, set blocks, and errors raised half way) are always among them.  A difference is another
text, other spans, other words of raise_exception, or one side refusing what the other renders.  Exits 1
when there is any.  Needs transformers and jinja2; no network.
"""
import argparse
import collections
import copy
import json
import os
import random
import subprocess
import sys
import tempfile

os.environ.setdefault("HF_HUB_OFFLINE", "1")
import jinja2  # noqa: E402
from transformers.utils import chat_template_utils  # noqa: E402

OWN = {
    "plain": "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}<e>\n{% endfor %}"
             "{% if add_generation_prompt %}<|assistant|>\n{% endif %}",
    "marked": "{{ bos_token }}{%- for m in messages -%}{%- if m['role'] == 'assistant' -%}<a>"
              "{% generation %}{{ m['content'] }}<e>{% endgeneration %}{%- else -%}<u>{{ m.content | trim }}<e>"
              "{%- endif -%}{%- endfor -%}",
    "marked_space": "{% for m in messages %}\n  {% if m.role == 'assistant' %}\n  {%- generation -%}\n   {{ m.content }} \n"
                    "  {%- endgeneration -%}\n{% else %}[{{ m.role | upper }}] {{ m.content }}{% endif %}\n{% endfor %}",
    "marked_macro": "{% macro turn(m) %}{% if m.role == 'assistant' %}{% generation %}{{ m.content }}{% if m.tool_calls %}"
                    "{{ m.tool_calls | tojson }}{% endif %}{{ eos_token }}{% endgeneration %}{% else %}{{ m.role }}: "
                    "{{ m.content }}{% endif %}{% endmacro %}{% for m in messages %}{{ turn(m) }}\n{% endfor %}",
    "turns": "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
             "{{ raise_exception('roles must take turns: ' ~ m.role ~ ' at ' ~ loop.index0) }}{% endif %}"
             "[{{ m.content }}]{% endfor %}",
    "merged": "{% if messages and messages[0].role == 'system' %}{% set sys = messages[0].content %}{% set rest = messages[1:] %}"
              "{% else %}{% set sys = '' %}{% set rest = messages %}{% endif %}{% for m in rest %}"
              "{% set text = (sys ~ '\\n\\n' ~ m.content) if loop.first and sys else m.content %}"
              "<{{ m.role }}>{{ text | trim }}</{{ m.role }}>{{ '\\n' if not loop.last }}{% endfor %}",
    "tools": "{%- if tools %}TOOLS\n{%- for t in tools %}\n{{ t | tojson(indent=2) }}{%- endfor %}\n{%- endif %}"
             "{%- for m in messages %}{{ '\\n' ~ m.role ~ '>' }}{%- if m.content is string %}{{ m.content }}"
             "{%- elif m.content %}{%- for p in m.content %}{%- if p.type == 'text' %}{{ p.text }}{%- else %}(({{ p.type }}))"
             "{%- endif %}{%- endfor %}{%- endif %}{%- for c in m.tool_calls or [] %}{{ c.function.name }}("
             "{%- for k, v in c.function.arguments | items %}{{ k }}={{ v | tojson }}{{ ', ' if not loop.last }}{%- endfor %})"
             "{%- endfor %}{%- endfor %}",
    "last": "{% set ns = namespace(last=-1) %}{% for m in messages %}{% if m.role == 'user' %}{% set ns.last = loop.index0 %}"
            "{% endif %}{% endfor %}{% for m in messages %}{% if m.role == 'assistant' and loop.index0 > ns.last %}"
            "{% generation %}{{ m.content }}{% endgeneration %}{% elif m.role == 'assistant' %}{{ m.content.split('</think>')[-1] }}"
            "{% else %}{{ m.content }}{% endif %};{% endfor %}",
    "reasoning": "{% for m in messages %}{% if m.reasoning_content %}<think>{{ m.reasoning_content }}</think>{% endif %}"
                 "{% if m.reasoning is defined %}R{% endif %}{% if m.thinking %}T{{ m.thinking }}{% endif %}{{ m.content }}|{% endfor %}",
}
TEXTS = ["", " ", "Hello", "What is 2+2?", "  padded \n", "line\n\nline", "<|im_end|>", "<s>[INST] x [/INST]</s>", "{{ 7*7 }}",
         "{% raise %}", "日本語の文", "e\u0301\u200b👍🏽", "a\tb\r\nc", "<think>\nwhy\n</think>\n\nso", "\"quoted\" \\ 'single'",
         "<b>&amp;</b>", "x" * 300, "0", "\u2028sep", "</tool_call>", "<|start_header_id|>user<|end_header_id|>"]


class Inventor:
    """Conversations from a seed."""

    def __init__(self, rng):
        self.r = rng

    def text(self):
        return self.r.choice(TEXTS) if self.r.random() < 0.8 else " ".join(self.r.choice(TEXTS) for _ in range(3))

    def call(self):
        args = {self.r.choice(["city", "x", "größe"]): self.r.choice(["Rome", 3, 2.5, None, True, ["a"], {"k": "v"}])
                for _ in range(self.r.randint(0, 2))}
        arguments = args if self.r.random() < 0.7 else json.dumps(args)
        call = {"type": "function", "function": {"name": self.r.choice(["get", "look_up"]), "arguments": arguments}}
        if self.r.random() < 0.5:
            call["id"] = "abcdef" + str(self.r.randint(100, 999))
        return call

    def message(self, role):
        m = {"role": role, "content": self.text()}
        if role == "assistant" and self.r.random() < 0.2:
            m["tool_calls"] = [self.call() for _ in range(self.r.randint(1, 2))]
            if self.r.random() < 0.5:
                m["content"] = self.r.choice(["", None])
                if self.r.random() < 0.3:
                    del m["content"]
        if role == "assistant" and self.r.random() < 0.15:
            m[self.r.choice(["reasoning_content", "reasoning", "thinking"])] = self.text()
        if role == "tool" and self.r.random() < 0.5:
            m.update(name="get", tool_call_id="abcdef123")
        if m.get("content") is not None and self.r.random() < 0.06:
            m["content"] = [{"type": "text", "text": self.text()}] * self.r.randint(1, 2)
        return m

    def row(self):
        roles = []
        if self.r.random() < 0.4:
            roles.append(self.r.choice(["system", "system", "developer"]))
        for _ in range(self.r.randint(0, 3)):
            roles += ["user", "assistant"] if self.r.random() < 0.85 else [self.r.choice(["tool", "user", "assistant", "critic"])]
        if self.r.random() < 0.2:
            roles.append("tool")
        row = {"messages": [self.message(x) for x in roles], "add_generation_prompt": self.r.random() < 0.5,
               "bos_token": self.r.choice(["<s>", "<|begin_of_text|>", ""]), "eos_token": self.r.choice(["</s>", "<|im_end|>"]),
               "kwargs": {}}
        if self.r.random() < 0.25:
            row["tools"] = [{"type": "function", "function": {
                "name": "get", "description": "d\"q\" é", "parameters": {"type": "object", "required": ["city"], "properties": {
                    "city": {"type": "string", "description": "where", "enum": ["Rome", "Oslo"]}}}}}]
        if self.r.random() < 0.2:
            row["kwargs"]["enable_thinking"] = self.r.random() < 0.5
        if self.r.random() < 0.2:
            row["kwargs"]["date_string"] = "26 Jul 2024"
        return row


def theirs(source, row):
    """(text, spans or None, error)"""
    marks = "generation" in source and "endgeneration" in source
    variables = {k: row[k] for k in ("bos_token", "eos_token")} | row["kwargs"]
    try:
        text, spans = chat_template_utils.render_jinja_template(
            [copy.deepcopy(row["messages"])], tools=copy.deepcopy(row.get("tools")), chat_template=source,
            return_assistant_tokens_mask=marks, add_generation_prompt=row["add_generation_prompt"], **variables)
        text[0].encode()
    except jinja2.TemplateError as error:
        own = type(error) is jinja2.TemplateError
        return None, None, str(error) if own else ""
    except Exception:  # any Python error is a refusal
        return None, None, ""
    as_bytes = [[len(text[0][:a].encode()), len(text[0][:b].encode())] for a, b in spans[0]] if marks else None
    return text[0], as_bytes, None


def ours(program, path, rows, folder):
    data = os.path.join(folder, "rows.jsonl")
    with open(data, "w", encoding="utf-8") as f:
        f.writelines(json.dumps(r) + "\n" for r in rows)
    p = subprocess.run([program, "render", "--template", path, data], capture_output=True, timeout=600)
    if p.returncode:
        sys.exit(f"{path}: {p.stderr.decode()}")
    return [json.loads(x) for x in p.stdout.decode().split("\n") if x]


def compare(program, path, rows, folder, tally):
    source = open(path, encoding="utf-8", newline="").read()
    for row, got in zip(rows, ours(program, path, rows, folder)):
        text, spans, error = theirs(source, row)
        problem = None
        if (text is None) != ("error" in got):
            problem = "one side refuses"
        elif text is None:
            tally["both refuse"] += 1
            if error and got["error"] != error:
                problem = "other words"
        elif got["text"] != text:
            problem = "other text"
        elif spans is not None and [s for s in got["assistant_spans"] if s[0] < s[1]] != [s for s in spans if s[0] < s[1]]:
            problem = "other spans"
        else:
            tally["same text and spans" if spans is not None else "same text"] += 1
        if problem:
            tally["DIFFERENT"] += 1
            if tally["DIFFERENT"] <= 5:
                print(f"--- {os.path.basename(path)}: {problem}\nrow  {json.dumps(row, ensure_ascii=False)}\n"
                      f"want {text!r} {spans} {error!r}\ngot  {got!r}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", default="build/pipeline")
    parser.add_argument("--conversations", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("templates", nargs="*")
    args = parser.parse_args()
    tally = collections.Counter()
    with tempfile.TemporaryDirectory() as folder:
        paths = list(args.templates)
        for name, source in OWN.items():
            paths.append(os.path.join(folder, name + ".jinja"))
            with open(paths[-1], "w", encoding="utf-8", newline="") as f:
                f.write(source)
        for i, path in enumerate(paths):
            inventor = Inventor(random.Random(f"{args.seed}/{i}"))
            compare(args.program, path, [inventor.row() for _ in range(args.conversations)], folder, tally)
    print(f"{len(paths)} templates, {args.conversations} conversations each: "
          + ", ".join(f"{k} {n}" for k, n in tally.most_common()))
    return 1 if tally["DIFFERENT"] else 0


if __name__ == "__main__":
    sys.exit(main())
