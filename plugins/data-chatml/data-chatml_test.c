/* data-chatml_test.c -- the built plugin behind a small host of the test's own: rows of every type,
 * what is trained of them under templates of every kind, bad rows, and files of both formats.  The
 * chat templates of known models: data-chatml_known_test.c. */
#include "plugins/data-chatml/test_host.h"

/* ---- templates ------------------------------------------------------------------------------ */

static const char im[] =
    "{% for m in messages %}<|im|>{{ m.role + '\n' + m.content + '<|end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}<|im|>assistant\n{% endif %}";
static const char tail[] =
    "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% else %}{{ eos_token }}{% endif %}";
static const char inst[] =
    "{% for m in messages %}{% if m.role == 'user' %}{{ bos_token + '[Q]' + m.content + '[/Q]' }}"
    "{% else %}{{ ' ' + m.content + ' ' + eos_token }}{% endif %}{% endfor %}";
static const char think[] =
    "{% for m in messages %}{% if m.role == 'user' %}<U>{{ m.content }}{% else %}<A>"
    "{{ m.content.split('</t>')[-1] }}<E>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<A><t>\n' }}{% endif %}";
static const char think_last[] =
    "{% for m in messages %}<{{ m.role }}>{% if m.role == 'assistant' and loop.last %}[why]{% "
    "endif %}"
    "{{ m.content }}<E>\n{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}";
static const char marked[] =
    "{% for m in messages %}{{ '<' + m.role + '>' }}{% if m.role == 'assistant' %}{% generation %}"
    "{{ m.content + '<E>' }}{% endgeneration %}{% else %}{{ m.content + '<E>' }}{% endif %}{% "
    "endfor %}";
static const char tools[] = "{% if tools %}T:{{ tools|tojson }}\n{% endif %}{% for m in messages "
                            "%}<{{ m.role }}>{{ m.content }}"
                            "{% for c in m.tool_calls or [] %}@{{ c.function.name }}{{ "
                            "c.function.arguments|tojson }}{% endfor %}<E>\n"
                            "{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}";
static const char strict[] = "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 "
                             "== 0) %}{{ raise_exception('take turns') }}"
                             "{% endif %}<{{ m.role }}>{{ m.content }}<E>{% endfor %}";

#define CHAT2                                                                                      \
    "{\"messages\": [{\"role\": \"user\", \"content\": \"Q\"}, {\"role\": \"assistant\", "         \
    "\"content\": \"A\"}, "                                                                        \
    "{\"role\": \"user\", \"content\": \"R\"}, {\"role\": \"assistant\", \"content\": \"B\"}]}\n"

/* ---- what is trained ------------------------------------------------------------------------ */

START_TEST(every_reply)
{
    check_row(im, "<|end|>", "type", "auto", CHAT2,
              "<|im|>user\nQ<|end|>\n<|im|>assistant\n{{A<|end|>}}\n<|im|>user\nR<|end|>\n<|im|>"
              "assistant\n{{B<|end|>}}\n");
    check_row(im, "", "type", "messages", CHAT2,
              "<|im|>user\nQ<|end|>\n<|im|>assistant\n{{A<|end|>}}\n<|im|>user\nR<|end|>\n<|im|>"
              "assistant\n{{B<|end|>}}\n");
    check_row(inst, "</s>", "type", "auto", CHAT2, "<s>[Q]Q[/Q]{{ A </s>}}<s>[Q]R[/Q]{{ B </s>}}");
    check_row(tail, "</s>", "type", "auto", CHAT2,
              "<|user|>\nQ<|end|>\n<|assistant|>\n{{A<|end|>}}\n<|user|>\nR<|end|>\n<|assistant|>"
              "\n{{B<|end|>}}\n</s>");
}
END_TEST

START_TEST(the_last_reply_or_all)
{
    check_row(im, "", "train_on", "last", CHAT2,
              "<|im|>user\nQ<|end|>\n<|im|>assistant\nA<|end|>\n<|im|>user\nR<|end|>\n<|im|>"
              "assistant\n{{B<|end|>}}\n");
    check_row(inst, "</s>", "train_on", "all", CHAT2, "{{<s>[Q]Q[/Q] A </s><s>[Q]R[/Q] B </s>}}");
    check_row(marked, "", "train_on", "last", CHAT2,
              "<user>Q<E><assistant>A<E><user>R<E><assistant>{{B<E>}}");
    check_row(im, "", "type", "auto",
              "{\"messages\": [{\"role\": \"user\", \"content\": \"Q\"}, {\"role\": \"assistant\", "
              "\"content\": \"A\", \"train\": false}, "
              "{\"role\": \"assistant\", \"content\": \"B\", \"weight\": 1}, {\"role\": "
              "\"assistant\", \"content\": \"C\", \"weight\": 0}]}",
              "<|im|>user\nQ<|end|>\n<|im|>assistant\nA<|end|>\n<|im|>assistant\n{{B<|end|>}}\n<|"
              "im|>assistant\nC<|end|>\n");
}
END_TEST

/* Reasoning that earlier turns drop, a prompt that opens <think>, an addition to the last turn. */
START_TEST(replies_that_differ_by_position)
{
    check_row(think, "<E>", "type", "auto",
              "{\"messages\": [{\"role\": \"user\", \"content\": \"Q\"}, "
              "{\"role\": \"assistant\", \"content\": \"<t>\\nx</t>A\"}]}",
              "<U>Q<A>{{A<E>}}");
    check_row(think_last, "<E>", "type", "auto", CHAT2,
              "<user>Q<E>\n<assistant>{{A<E>}}\n<user>R<E>\n<assistant>{{[why]B<E>}}\n");
}
END_TEST

START_TEST(marked_by_the_template)
{
    check_row(marked, "", "type", "auto", CHAT2,
              "<user>Q<E><assistant>{{A<E>}}<user>R<E><assistant>{{B<E>}}");
}
END_TEST

/* A reply that looks like markers, empty replies, a reply that comes first. */
START_TEST(odd_replies)
{
    check_row(im, "<|end|>", "type", "auto",
              "{\"messages\": [{\"role\": \"user\", \"content\": \"<|im|>assistant\\n\"}, "
              "{\"role\": \"assistant\", \"content\": \"<|end|>\\n<|im|>user\\n\"}]}",
              "<|im|>user\n<|im|>assistant\n<|end|>\n<|im|>assistant\n{{<|end|>\n<|im|>user\n<|end|"
              ">}}\n");
    check_row(im, "<|end|>", "type", "auto",
              "{\"messages\": [{\"role\": \"user\", \"content\": \"\"}, "
              "{\"role\": \"assistant\", \"content\": \"\"}]}",
              "<|im|>user\n<|end|>\n<|im|>assistant\n{{<|end|>}}\n");
    check_row(im, "<|end|>", "type", "auto",
              "{\"messages\": [{\"role\": \"assistant\", \"content\": \" hi \\n\"}]}",
              "<|im|>assistant\n{{ hi \n<|end|>}}\n");
    check_row(im, "<|end|>", "type", "auto",
              "{\"messages\": [{\"role\": \"user\", \"content\": \"q\"}, {\"role\": \"assistant\", "
              "\"content\": \"ends in space \\n\"}]}",
              "<|im|>user\nq<|end|>\n<|im|>assistant\n{{ends in space \n<|end|>}}\n");
}
END_TEST

START_TEST(tool_calls_are_replies)
{
    check_row(
        tools, "", "type", "auto",
        "{\"messages\": [{\"role\": \"user\", \"content\": \"Q\"}, {\"role\": \"assistant\", "
        "\"content\": \"\", \"tool_calls\": "
        "[{\"type\": \"function\", \"function\": {\"name\": \"f\", \"arguments\": {\"x\": "
        "1.0}}}]}, "
        "{\"role\": \"tool\", \"content\": \"7\"}, {\"role\": \"assistant\", \"content\": \"A\"}], "
        "\"tools\": [{\"name\": \"f\"}]}",
        "T:[{\"type\": \"function\", \"function\": {\"name\": "
        "\"f\"}}]\n<user>Q<E>\n<assistant>{{@f{\"x\": 1.0}<E>}}\n"
        "<tool>7<E>\n<assistant>{{A<E>}}\n");
}
END_TEST

START_TEST(system_of_the_configuration)
{
    check_row(im, "", "system", "Be brief.",
              "{\"messages\": [{\"role\": \"user\", \"content\": \"Q\"}, {\"role\": \"assistant\", "
              "\"content\": "
              "\"A\"}]}\n{\"messages\": [{\"role\": \"system\", \"content\": \"S\"}, {\"role\": "
              "\"assistant\", \"content\": \"A\"}]}\n",
              "<|im|>system\nBe "
              "brief.<|end|>\n<|im|>user\nQ<|end|>\n<|im|>assistant\n{{A<|end|>}}\n\n---\n"
              "<|im|>system\nS<|end|>\n<|im|>assistant\n{{A<|end|>}}\n");
}
END_TEST

/* ---- types of rows -------------------------------------------------------------------------- */

START_TEST(alpaca_rows)
{
    check_row(im, "", "type", "auto",
              "{\"instruction\": \"I\", \"input\": \"\", \"output\": \"O\"}\n",
              "<|im|>user\nI<|end|>\n<|im|>assistant\n{{O<|end|>}}\n");
    check_row(im, "", "type", "alpaca",
              "{\"instruction\": \"I\", \"input\": \"X\", \"output\": \"O\", \"system\": \"S\", "
              "\"history\": "
              "[[\"q\", \"a\"]]}",
              "<|im|>system\nS<|end|>\n<|im|>user\nq<|end|>\n<|im|>assistant\n{{a<|end|>}}\n"
              "<|im|>user\nI\nX<|end|>\n<|im|>assistant\n{{O<|end|>}}\n");
}
END_TEST

START_TEST(sharegpt_rows)
{
    check_row(
        tools, "", "type", "auto",
        "{\"conversations\": [{\"from\": \"human\", \"value\": \"Q\"}, {\"from\": "
        "\"function_call\", \"value\": "
        "\"{\\\"name\\\": \\\"f\\\", \\\"arguments\\\": {\\\"a\\\": 1}}\"}, {\"from\": "
        "\"observation\", \"value\": \"7\"}, "
        "{\"from\": \"gpt\", \"value\": \"A\"}], \"system\": \"S\", \"tools\": \"[{\\\"name\\\": "
        "\\\"f\\\"}]\"}",
        "T:[{\"type\": \"function\", \"function\": {\"name\": \"f\"}}]\n<system>S<E>\n<user>Q<E>\n"
        "<assistant>{{@f{\"a\": 1}<E>}}\n<tool>7<E>\n<assistant>{{A<E>}}\n");
}
END_TEST

START_TEST(prompt_and_completion)
{
    check_row(im, "</s>", "type", "auto", "{\"prompt\": \"P \", \"completion\": \"C\"}",
              "P {{C</s>}}");
    check_row(im, "</s>", "type", "auto", "{\"prompt\": \"P \", \"completion\": \"C</s>\"}",
              "P {{C</s>}}");
    check_row(im, "", "type", "auto", "{\"prompt\": \"P \", \"completion\": \"C\"}", "P {{C}}");
    check_row(im, "", "type", "prompt_completion",
              "{\"prompt\": [{\"role\": \"user\", \"content\": \"Q\"}, {\"role\": \"assistant\", "
              "\"content\": "
              "\"A\"}, {\"role\": \"user\", \"content\": \"R\"}], \"completion\": [{\"role\": "
              "\"assistant\", \"content\": \"B\"}]}",
              "<|im|>user\nQ<|end|>\n<|im|>assistant\nA<|end|>\n<|im|>user\nR<|end|>\n<|im|>"
              "assistant\n{{B<|end|>}}\n");
}
END_TEST

START_TEST(plain_text)
{
    check_row(im, "</s>", "type", "auto", "{\"text\": \"Once\\nmore\"}", "{{Once\nmore</s>}}");
    check_row(NULL, "</s>", "train_on", "last", "{\"text\": \"a</s>\"}", "{{a</s>}}");
}
END_TEST

START_TEST(preference_pairs)
{
    check_row(im, "</s>", "type", "auto",
              "{\"prompt\": \"P\", \"chosen\": \"C\", \"rejected\": \"D\"}",
              "P{{C</s>}} ### P{{D</s>}}");
    check_row(im, "", "type", "auto",
              "{\"chosen\": [{\"role\": \"user\", \"content\": \"Q\"}, {\"role\": \"assistant\", "
              "\"content\": \"C\"}], "
              "\"rejected\": [{\"role\": \"user\", \"content\": \"Q\"}, {\"role\": \"assistant\", "
              "\"content\": \"D\"}]}",
              "<|im|>user\nQ<|end|>\n<|im|>assistant\n{{C<|end|>}}\n ### "
              "<|im|>user\nQ<|end|>\n<|im|>assistant\n{{D<|end|>}}\n");
    check_row(im, "", "type", "preference",
              "{\"conversations\": [{\"from\": \"human\", \"value\": \"Q\"}], \"chosen\": "
              "{\"from\": \"gpt\", "
              "\"value\": \"C\"}, \"rejected\": {\"from\": \"gpt\", \"value\": \"D\"}}",
              "<|im|>user\nQ<|end|>\n<|im|>assistant\n{{C<|end|>}}\n ### "
              "<|im|>user\nQ<|end|>\n<|im|>assistant\n{{D<|end|>}}\n");
    check_row(im, "", "type", "auto",
              "{\"instruction\": \"Q\", \"input\": \"x\", \"chosen\": \"C\", \"rejected\": \"D\"}",
              "<|im|>user\nQ\nx<|end|>\n<|im|>assistant\n{{C<|end|>}}\n ### "
              "<|im|>user\nQ\nx<|end|>\n<|im|>assistant\n{{D<|end|>}}\n");
    check_row(im, "", "type", "auto",
              "{\"prompt\": [{\"role\": \"user\", \"content\": \"Q\"}, {\"role\": \"assistant\", "
              "\"content\": \"X\"}, "
              "{\"role\": \"user\", \"content\": \"R\"}], \"chosen\": [{\"role\": \"assistant\", "
              "\"content\": \"C\"}], \"rejected\": "
              "[{\"role\": \"assistant\", \"content\": \"D\"}]}",
              "<|im|>user\nQ<|end|>\n<|im|>assistant\nX<|end|>\n<|im|>user\nR<|end|>\n<|im|>"
              "assistant\n{{C<|end|>}}\n ### "
              "<|im|>user\nQ<|end|>\n<|im|>assistant\nX<|end|>\n<|im|>user\nR<|end|>\n<|im|>"
              "assistant\n{{D<|end|>}}\n");
}
END_TEST

/* ---- files ---------------------------------------------------------------------------------- */

#define TEXT(x) "{\"text\": \"" x "\"}"

START_TEST(json_and_jsonl)
{
    const char *both = "{{a</s>}}\n---\n{{b]}</s>}}";
    check_row(im, "</s>", "type", "auto", TEXT("a") "\n" TEXT("b]}") "\n", both);
    check_row(im, "</s>", "type", "auto", TEXT("a") "\r\n\n  \n" TEXT("b]}"), both);
    check_row(im, "</s>", "type", "auto", "\xEF\xBB\xBF\n" TEXT("a") "\n" TEXT("b]}"), both);
    check_row(im, "</s>", "type", "auto", "[" TEXT("a") "," TEXT("b]}") "]", both);
    check_row(im, "</s>", "type", "auto",
              "\xEF\xBB\xBF [\n " TEXT(
                  "a") " ,\n{\n\"text\": \"b]}\", \"x\": [\"\\\"\", {\"]\": \"\\\\\"}]\n}\n] \n",
              both);
    check_row(im, "</s>", "type", "auto", "[]", "");
    check_row(im, "</s>", "type", "auto", "", "");
}
END_TEST

static void check_error(const char *key, const char *value, const char *rows, const char *says)
{
    bench b;
    ft_buf got = { 0 };
    char want[700];
    write_rows(row_path, rows);
    setup(&b, strict, "</s>", "path", row_path, key, value, NULL);
    ck_assert_msg(!open_bench(&b), "%s", b.failed);
    read_all(&b, &got);
    snprintf(want, sizeof want, says[0] == ':' ? "%s%s" : "%.0s%s", row_path, says);
    ck_assert_msg(strstr(b.failed, want) != NULL, "wanted %s\ngot    %s", want, b.failed);
    ft_buf_free(&got);
    teardown(&b);
}

static const struct { const char *type, *rows, *says;
} wrong[] = {
    { "auto", TEXT("a") "\n{\"text\": \"b\n", ":2: string does not end" },
    { "auto", TEXT("a") "\n{\"text\": \"b\"} x\n", ":2: nothing may follow" },
    { "auto", "[" TEXT("a") ",\n{\"text\":\n 01}]", ":3: a number may not start with 0" },
    { "auto", "[" TEXT("a") " " TEXT("b") "]", ":1: nothing may follow" },
    { "auto", "[" TEXT("a") ",\n]", ":2: a row must stand here" },
    { "auto", "[" TEXT("a") ",\n" TEXT("b"), ":2: the array does not end" },
    { "auto", "[" TEXT("a") "]\n1", ":2: nothing may follow the array" },
    { "auto", "{\"text\": \"a\", \"text\": \"b\"}", ":1: duplicate key" },
    { "auto", "[", ":1: a row must stand here" },
    { "auto", "[,{}]", ":1: a row must stand here" },
    { "auto", "5", ":1: a row must be a JSON object" },
    { "auto", "{\"question\": \"a\"}", ":1: its keys are those of no known type" },
    { "auto", "{\"text\": \"a\", \"label\": true}", "(KTO) must have prompt and completion" },
    { "text", "{\"text\": 5}", ":1: text is missing or not a text" },
    { "text", "{\"text\": \"\"}", "" },
    { "messages", "{}", ":1: a list of messages is missing" },
    { "messages", "{\"messages\": 5}", ":1: a list of messages is missing" },
    { "messages", "{\"messages\": [5]}", ":1: message 0 is not an object" },
    { "messages", "{\"messages\": [{\"role\": \"user\", \"content\": \"x\", \"train\": 1}]}",
      "train of message 0 is neither true nor false" },
    { "messages", "{\"messages\": [{\"role\": \"user\", \"content\": \"x\", \"weight\": \"1\"}]}",
      "weight of message 0 is neither 0 nor 1" },
    { "messages", "{\"messages\": [{\"role\": \"user\", \"content\": \"a\"}], \"tools\": 5}",
      "tools is not a list" },
    { "messages", "{\"messages\": [{\"role\": \"user\", \"content\": \"a\"}], \"tools\": [5]}",
      "tool 0 is not an object" },
    { "messages", "{\"messages\": [{\"role\": \"user\", \"content\": \"a\"}], \"kwargs\": []}",
      "kwargs is not an object" },
    { "messages", "{\"messages\": []}", ":1: the conversation is empty" },
    { "messages", "{\"messages\": [{\"content\": \"x\"}]}", ":1: message 0 has no role" },
    { "messages", "{\"messages\": [{\"role\": \"user\"}]}",
      ":1: message 0 has neither content nor tool_calls" },
    { "messages", "{\"messages\": [{\"role\": \"user\", \"content\": 5}]}",
      "is neither text nor a list" },
    { "messages", "{\"messages\": [{\"role\": \"user\", \"content\": \"x\", \"weight\": 0.5}]}",
      "weight of message 0" },
    { "messages", "{\"messages\": [{\"role\": \"user\", \"content\": \"x\"}]}",
      ":1: nothing to train" },
    { "messages", "\n{\"messages\": [{\"role\": \"assistant\", \"content\": \"x\"}]}",
      ":2: take turns" },
    { "messages",
      "{\"messages\": [{\"role\": \"user\", \"content\": [1]}, {\"role\": \"assistant\", "
      "\"content\": \"\"}], \"kwargs\": "
      "{\"bos_token\": \"x\"}}",
      "kwargs may not set bos_token" },
    { "messages", "{\"messages\": [{\"role\": \"user\", \"content\": \"a\"}], \"tools\": \"[{\"}",
      "tools:1" },
    { "alpaca", "{\"instruction\": \"a\", \"output\": null}", ":1: output is missing" },
    { "alpaca", "{\"instruction\": \"a\", \"output\": \"b\", \"history\": [[\"x\"]]}",
      "history 0 is not" },
    { "alpaca", "{\"instruction\": \"a\", \"output\": \"b\", \"history\": 5}",
      "history is not a list" },
    { "alpaca", "{\"instruction\": \"a\", \"output\": \"b\", \"input\": 5}",
      "input is not a text" },
    { "alpaca", "{\"instruction\": \"a\", \"output\": \"b\", \"system\": 5}",
      "system is not a text" },
    { "sharegpt", "{}", "conversations is not a list" },
    { "sharegpt", "{\"conversations\": {}}", "conversations is not a list" },
    { "sharegpt", "{\"conversations\": [], \"system\": 5}", "system is not a text" },
    { "sharegpt", "{\"conversations\": [{\"value\": \"x\"}]}", "turn 0 has no `from`" },
    { "sharegpt", "{\"conversations\": [{\"from\": \"function_call\", \"value\": \"{}\"}]}",
      "turn 0: function_call has no name" },
    { "sharegpt", "{\"conversations\": [{\"from\": \"alien\", \"value\": \"x\"}]}",
      "turn 0 is from \"alien\"" },
    { "sharegpt", "{\"conversations\": [{\"from\": \"human\"}]}", "turn 0 has no `value`" },
    { "sharegpt", "{\"conversations\": [{\"from\": \"function_call\", \"value\": \"f(x)\"}]}",
      "function_call:1:1" },
    { "prompt_completion", "{\"prompt\": \"a\", \"completion\": []}",
      "must be two texts or two lists" },
    { "prompt_completion", "{\"prompt\": [], \"completion\": \"a\"}",
      "must be two texts or two lists" },
    { "prompt_completion", "{\"prompt\": []}", "must be two texts or two lists" },
    { "prompt_completion", "{\"completion\": []}", "must be two texts or two lists" },
    { "preference", "{\"chosen\": \"a\", \"rejected\": \"b\"}", "prompt is missing" },
    { "preference",
      "{\"chosen\": [{\"role\": \"user\", \"content\": \"a\"}, {\"role\": \"assistant\", "
      "\"content\": "
      "\"b\"}], \"rejected\": [{\"role\": \"assistant\", \"content\": \"c\"}]}",
      "begin with no common message" },
    { "preference", "{\"rejected\": \"a\", \"prompt\": \"b\"}",
      "chosen and rejected must both be there" },
    { "preference", "{\"chosen\": \"a\", \"prompt\": \"b\"}",
      "chosen and rejected must both be there" },
};

START_TEST(bad_rows)
{
    check_error("type", wrong[_i].type, wrong[_i].rows, wrong[_i].says);
}
END_TEST

START_TEST(bad_rows_are_counted)
{
    bench b;
    ft_buf got = { 0 };
    write_rows(row_path,
               TEXT("a") "\n{\n" TEXT("b") "\n{\"text\": 1}\n{\"nothing\": 1}\n" TEXT("c") "\n");
    setup(&b, im, "", "path", row_path, "on_bad_row", "skip", NULL);
    ck_assert_int_eq(open_bench(&b), 0);
    read_all(&b, &got);
    ck_assert_str_eq(got.p, "{{a}}\n---\n{{b}}\n---\n{{c}}");
    ck_assert_int_eq(b.format->skipped(b.self), 3);
    ck_assert_str_eq(b.failed, "");
    ft_buf_free(&got);
    teardown(&b);
}
END_TEST

/* A row beyond the limit is passed over without being kept. */
START_TEST(a_row_too_long)
{
    bench b;
    ft_buf rows = { 0 }, got = { 0 };
    ft_buf_puts(&rows, TEXT("a") "\n{\"text\": \"");
    for (int i = 0; i < 17 << 10; i++) ft_buf_printf(&rows, "%01024d", 0);
    ft_buf_puts(&rows, "\"}\n" TEXT("b") "\n");
    write_rows(row_path, rows.p);
    setup(&b, im, "", "path", row_path, "on_bad_row", "skip", NULL);
    ck_assert_int_eq(open_bench(&b), 0);
    read_all(&b, &got);
    ck_assert_str_eq(got.p, "{{a}}\n---\n{{b}}");
    teardown(&b);
    setup(&b, im, "", "path", row_path, NULL);
    ck_assert_int_eq(open_bench(&b), 0);
    got.n = 0;
    read_all(&b, &got);
    ck_assert_ptr_nonnull(strstr(b.failed, ":2: the row is longer than 16 MiB"));
    teardown(&b);
    ft_buf_free(&rows);
    ft_buf_free(&got);
}
END_TEST

START_TEST(places_groups_and_sides)
{
    bench b;
    ft_sample s;
    uint64_t group;
    write_rows(row_path, "\n" CHAT2 "{\"instruction\": \"Q\", \"output\": \"else\"}\n{\"prompt\": "
                                    "\"Z\", \"completion\": \"B\"}\n");
    write_rows(other_path, TEXT("v"));
    setup(&b, im, "", "path", row_path, "val_path", other_path, NULL);
    ck_assert_int_eq(open_bench(&b), 0);
    ck_assert_int_eq(b.format->next(b.self, &s), 1);
    group = s.group;
    ck_assert_str_eq(s.file, row_path);
    ck_assert(s.line == 2 && s.n_seq == 1 && s.split == FT_SPLIT_TRAIN);
    ck_assert_int_eq(b.format->next(b.self, &s), 1);
    ck_assert_uint_eq(s.group, group); /* the same question in another type of row */
    ck_assert_int_eq(b.format->next(b.self, &s), 1);
    ck_assert_uint_ne(s.group, group);
    ck_assert_int_eq(b.format->next(b.self, &s), 1);
    ck_assert_str_eq(s.file, other_path);
    ck_assert(s.line == 1 && s.split == FT_SPLIT_VAL);
    ck_assert_int_eq(b.format->next(b.self, &s), 0);
    ck_assert_int_eq(b.format->next(b.self, &s), 0);
    teardown(&b);
}
END_TEST

START_TEST(whose_bytes)
{
    bench b;
    ft_sample s;
    write_rows(row_path, CHAT2);
    setup(&b, im, "<|end|>", "path", row_path, NULL);
    ck_assert_int_eq(open_bench(&b), 0);
    ck_assert_int_eq(b.format->next(b.self, &s), 1);
    ck_assert_int_eq(s.split, FT_SPLIT_AUTO);
    for (size_t i = 0; i < s.seq[0].n_span; i++) {
        const ft_span *p = &s.seq[0].span[i];
        size_t n = p->end - p->begin;
        bool data = n == 1 && strchr("QARB", s.seq[0].text[p->begin]);
        ck_assert_int_eq(p->from, data ? FT_FROM_DATA : FT_FROM_TEMPLATE);
        ck_assert_int_eq(p->role, p->turn % 2 ? FT_ROLE_ASSISTANT : FT_ROLE_USER);
        ck_assert(!p->train || p->role == FT_ROLE_ASSISTANT);
    }
    teardown(&b);
}
END_TEST

START_TEST(templates_from_elsewhere)
{
    bench b;
    ft_buf got = { 0 };
    write_rows(row_path, CHAT2);
    setup(&b, NULL, "<|im_end|>", "path", row_path, NULL);
    ck_assert_int_eq(open_bench(&b), 0);
    ck_assert_ptr_nonnull(strstr(b.logged, "written as ChatML"));
    read_all(&b, &got);
    ck_assert_str_eq(got.p, "<|im_start|>user\nQ<|im_end|>\n<|im_start|>assistant\n{{A<|im_end|>}}"
                            "\n<|im_start|>user\nR<|im_end|>\n"
                            "<|im_start|>assistant\n{{B<|im_end|>}}\n");
    teardown(&b);
    write_rows(other_path, inst);
    got.n = 0;
    setup(&b, im, "</s>", "path", row_path, "chat_template", other_path, NULL);
    ck_assert_int_eq(open_bench(&b), 0);
    read_all(&b, &got);
    ck_assert_str_eq(got.p, "<s>[Q]Q[/Q]{{ A </s>}}<s>[Q]R[/Q]{{ B </s>}}");
    ck_assert_str_eq(b.logged, "");
    teardown(&b);
    write_rows(other_path, "\n{% if %}");
    setup(&b, im, "</s>", "path", row_path, "chat_template", other_path, NULL);
    ck_assert_int_ne(open_bench(&b), 0);
    ck_assert_ptr_nonnull(strstr(b.failed, ":2:"));
    teardown(&b);
    ft_buf_free(&got);
}
END_TEST

/* A template's file that is not there, is a folder, or is too long. */
START_TEST(templates_that_cannot_be_read)
{
    static const char *const says[] = { "cannot be opened", "cannot be read", "longer than 8 MiB" };
    bench b;
    write_rows(row_path, CHAT2);
    write_rows(other_path, "x");
    ck_assert_int_eq(truncate(other_path, (8 << 20) + 1), 0); /* a hole: no disk is used */
    const char *const path[] = { "/nonexistent/t.jinja", "tests", other_path };
    for (int i = 0; i < 3; i++) {
        setup(&b, im, "</s>", "path", row_path, "chat_template", path[i], NULL);
        ck_assert_int_eq(open_bench(&b), FT_EIO);
        ck_assert_msg(strstr(b.failed, path[i]) && strstr(b.failed, says[i]), "%s", b.failed);
        teardown(&b);
    }
}
END_TEST

START_TEST(a_missing_file_and_no_end_of_turn)
{
    bench b;
    ft_buf got = { 0 };
    setup(&b, im, "", "path", "/nonexistent/rows.jsonl", NULL);
    ck_assert_int_eq(open_bench(&b), FT_EIO);
    ck_assert_ptr_nonnull(strstr(b.failed, "/nonexistent/rows.jsonl: No such file"));
    teardown(&b);
    write_rows(row_path, CHAT2 CHAT2);
    setup(&b, "{% for m in messages %}{{ m.role + ': ' + m.content + '\n' }}{% endfor %}", "",
          "path", row_path, NULL);
    ck_assert_int_eq(open_bench(&b), 0);
    read_all(&b, &got);
    ck_assert_ptr_nonnull(strstr(b.logged, "will not learn to stop"));
    ck_assert_ptr_null(
        strstr(strstr(b.logged, "will not learn") + 5, "will not learn")); /* said once */
    teardown(&b);
    ft_buf_free(&got);
}
END_TEST

/* Many rows: the memory of a row is given back, and progress is told. */
START_TEST(many_rows)
{
    bench b;
    ft_sample s;
    ft_buf rows = { 0 };
    int n = 0;
    for (int i = 0; i < 3000; i++)
        ft_buf_printf(&rows, "{\"instruction\": \"q%d\", \"output\": \"%0200d\"}\n", i, i);
    write_rows(row_path, rows.p);
    setup(&b, im, "", "path", row_path, NULL);
    ck_assert_int_eq(open_bench(&b), 0);
    while (b.format->next(b.self, &s) == 1) n++;
    ck_assert_int_eq(n, 3000);
    ck_assert_int_eq(b.progressed, 3000 / 256);
    teardown(&b);
    ft_buf_free(&rows);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("data-chatml");
    TCase *c = tcase_create("data-chatml");
    tcase_add_checked_fixture(c, make_paths, remove_paths);
    tcase_set_timeout(c, 120);
    tcase_add_test(c, every_reply);
    tcase_add_test(c, the_last_reply_or_all);
    tcase_add_test(c, replies_that_differ_by_position);
    tcase_add_test(c, marked_by_the_template);
    tcase_add_test(c, odd_replies);
    tcase_add_test(c, tool_calls_are_replies);
    tcase_add_test(c, system_of_the_configuration);
    tcase_add_test(c, alpaca_rows);
    tcase_add_test(c, sharegpt_rows);
    tcase_add_test(c, prompt_and_completion);
    tcase_add_test(c, plain_text);
    tcase_add_test(c, preference_pairs);
    tcase_add_test(c, json_and_jsonl);
    tcase_add_loop_test(c, bad_rows, 0, sizeof wrong / sizeof *wrong);
    tcase_add_test(c, bad_rows_are_counted);
    tcase_add_test(c, a_row_too_long);
    tcase_add_test(c, places_groups_and_sides);
    tcase_add_test(c, whose_bytes);
    tcase_add_test(c, templates_from_elsewhere);
    tcase_add_test(c, templates_that_cannot_be_read);
    tcase_add_test(c, a_missing_file_and_no_end_of_turn);
    tcase_add_test(c, many_rows);
    suite_add_tcase(s, c);
    return s;
}
