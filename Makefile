# make            builds build/pipeline, its plugins and kernels
# make help       lists everything else

ifeq ($(origin CC),default)
CC = gcc
endif
BUILD   ?= build
PREFIX  ?= /usr/local
OPT     ?= -O2 -g
KERNEL_OPT ?= -O3
SAN     ?=
WARN     = -Wall -Wextra -Wshadow -Wconversion
CFLAGS  += -std=gnu11 $(OPT) $(WARN) -D_GNU_SOURCE -ffp-contract=off -fno-math-errno -fPIC \
           -fstack-protector-strong $(SAN) -MMD -MP
LDFLAGS += $(SAN) -Wl,-z,now,-z,relro,-z,noexecstack
LIBS     = -lyaml -lpcre2-8 -lutf8proc -lpthread -ldl -lm
PLUGIN_CFLAGS = $(CFLAGS) -fvisibility=hidden -Iinclude -Iplugins

# What a plugin links with besides libc; everything of ours reaches it through ft_host.
LIBS_tokenizer-bpe = -lpcre2-8 -lutf8proc
LIBS_tokenizer-unigram = -lpcre2-8 -lutf8proc
LIBS_tokenizer-wordpiece = -lpcre2-8 -lutf8proc
LIBS_data-chatml = -lz -lzstd
LIBS_data-parquet = -lz -lzstd

# Folders of plugins/ whose code a plugin shares with others: it is compiled into each.
SHARED_tokenizer-bpe = tokenizer-common
SHARED_tokenizer-unigram = tokenizer-common
SHARED_tokenizer-wordpiece = tokenizer-common
SHARED_quant-nf4 = quant-common
SHARED_quant-fp4 = quant-common
SHARED_quant-int8 = quant-common
SHARED_quant-mxfp4 = quant-common
SHARED_model-llama = decoder
SHARED_model-qwen = decoder
SHARED_model-phi3 = decoder
SHARED_model-gemma = decoder
SHARED_model-gpt-oss = decoder

CORE_SRC  := $(filter-out core/cli/main.c,$(wildcard core/*/*.c))
CORE_OBJ  := $(CORE_SRC:%.c=$(BUILD)/obj/%.o)
# A folder of plugins/ is a plugin when it holds NAME.c, else code that plugins share.
# WITHOUT="NAME …" leaves plugins out; nothing else needs them.
WITHOUT =
FOLDERS   := $(filter-out $(WITHOUT:%=plugins/%),$(wildcard plugins/*))
PLUGINS   := $(foreach d,$(FOLDERS),$(if $(wildcard $d/$(notdir $d).c),$(notdir $d)))
KERNEL_SRC := $(wildcard kernels/cpu/*.c)
UNIT      := $(patsubst tests/unit/%.c,%,$(wildcard tests/unit/*.c))
PLUGIN_TESTS := $(patsubst %.c,%,$(notdir $(wildcard $(FOLDERS:%=%/*_test.c))))

all: $(BUILD)/pipeline plugins kernels

.PHONY: all plugins kernels help deps demo bench check run-tests unit asan tsan fuzz fuzz-programs format \
        install clean
plugins: $(PLUGINS:%=$(BUILD)/plugins/%.so)

help:
	@echo 'make             build/pipeline, build/plugins/*.so'
	@echo 'make deps        install the Debian packages that are missing (apt, as root or with sudo)'
	@echo 'make demo        everything from a bare clone to a tuned model, and what it learned'
	@echo 'make bench       beside PyTorch + PEFT, ratios into docs/performance.md; QUICK=1: three minutes'
	@echo 'make check       all tests, after installing what they need'
	@echo 'make unit T=json one test program'
	@echo 'make asan        all tests under AddressSanitizer and UBSan; tsan: ThreadSanitizer'
	@echo 'make fuzz        libFuzzer on every reader of files, FUZZ_SECONDS=60 each (needs clang)'
	@echo 'make format      wrap lines above 100 columns (needs clang-format)'
	@echo 'make install     program, plugins and headers under PREFIX (default /usr/local)'
	@echo 'make clean       remove $(BUILD)'
	@echo 'WITHOUT="data-parquet …" leaves plugins out'
	@echo 'CC=clang, BUILD=folder, OPT="-O0 -g" and SAN=-fsanitize=… change how it is built'

# ---- program ---------------------------------------------------------------------------------
$(BUILD)/obj/core/%.o: core/%.c
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) -I. -Iinclude -c $< -o $@

$(BUILD)/libft.a: $(CORE_OBJ)
	@rm -f $@
	ar rcs $@ $^

$(BUILD)/pipeline: $(BUILD)/obj/core/cli/main.o $(BUILD)/libft.a
	$(CC) $(LDFLAGS) -pie $^ $(LIBS) -o $@

# ---- plugins: the public headers alone -------------------------------------------------------
# The loader refuses what others than the owner may write to, whatever the umask was.
.SECONDEXPANSION:
.SECONDARY:
plugin_src = $(filter-out %_test.c,$(foreach d,$(1) $(SHARED_$(1)),$(wildcard plugins/$d/*.c)))
plugin_obj = $(patsubst %.c,$(BUILD)/obj/%.o,$(call plugin_src,$(1)))

$(BUILD)/obj/plugins/%.o: plugins/%.c
	@mkdir -p $(@D)
	$(CC) $(PLUGIN_CFLAGS) -c $< -o $@

$(BUILD)/plugins/%.so: $$(call plugin_obj,$$*)
	@mkdir -p $(@D)
	$(CC) -shared $(LDFLAGS) $^ $(LIBS_$*) -lm -o $@
	@chmod go-w $(@D) $@

# ---- kernels: each file once for every instruction set ---------------------------------------
ISAS := avx512 avx512fma avx2 plain
ISA_avx512 = -mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx512bf16 -mfma -mf16c -mprefer-vector-width=512
ISA_avx512fma = $(ISA_avx512) -DFT_ISA_avx512 -DFT_GEMM_FMA
ISA_avx2   = -mavx2 -mfma -mf16c
ISA_plain  =
kernel_obj = $(patsubst kernels/cpu/%.c,$(BUILD)/obj/kernels/$(1)/%.o,$(or $(SRC_$(1)),$(KERNEL_SRC)))
# Only products differ from avx512.
SRC_avx512fma := $(wildcard kernels/cpu/attention*.c kernels/cpu/experts*.c kernels/cpu/gemm_*.c kernels/cpu/head*.c kernels/cpu/linear*.c kernels/cpu/table.c)

define isa_rule
$(BUILD)/obj/kernels/$(1)/%.o: kernels/cpu/%.c
	@mkdir -p $$(@D)
	$$(CC) $$(PLUGIN_CFLAGS) $$(KERNEL_OPT) $$(ISA_$(1)) -DFT_ISA=$(1) -DFT_ISA_$(1) -c $$< -o $$@
endef
$(foreach i,$(ISAS),$(eval $(call isa_rule,$(i))))

ifneq ($(KERNEL_SRC),)
kernels: $(BUILD)/plugins/kernels-cpu.so
KERNEL_OBJ := $(foreach i,$(ISAS),$(call kernel_obj,$(i)))
$(BUILD)/plugins/kernels-cpu.so: $(KERNEL_OBJ)
	@mkdir -p $(@D)
	$(CC) -shared $(LDFLAGS) $^ -lm -o $@
	@chmod go-w $(@D) $@
endif

# ---- tests -----------------------------------------------------------------------------------
$(BUILD)/tests/unit/%: tests/unit/%.c $(BUILD)/libft.a
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) -I. -Iinclude -Itests $(LDFLAGS) $< $(BUILD)/libft.a -lcheck -lsubunit -lrt $(LIBS) -o $@

define plugin_test_rule
$(BUILD)/tests/plugins/$(basename $(notdir $(1))): $(1) $(BUILD)/libft.a
	@mkdir -p $$(@D)
	$$(CC) $$(CFLAGS) -I. -Iinclude -Itests $$(LDFLAGS) $$< $(BUILD)/libft.a -lcheck -lsubunit -lrt $$(LIBS) -o $$@
endef
$(foreach t,$(wildcard plugins/*/*_test.c),$(eval $(call plugin_test_rule,$(t))))

# Fuzzing harnesses, one a reader: linked with the plugin that they are for, and for the tests with a
# main that gives them their seeds (tests/fuzz).
FUZZ := $(filter-out replay,$(basename $(notdir $(wildcard tests/fuzz/*.c))))
FUZZ_PLUGIN_rows = data-chatml
FUZZ_PLUGIN_tokenizer = tokenizer-bpe
FUZZ_PLUGIN_unigram = tokenizer-unigram
FUZZ_PLUGIN_wordpiece = tokenizer-wordpiece
FUZZ_PLUGIN_adapter = lora
FUZZ_PLUGIN_parquet = data-parquet
FUZZ := $(foreach f,$(FUZZ),$(if $(filter $(FUZZ_PLUGIN_$f),$(WITHOUT)),,$f))
fuzz_obj = $(if $(FUZZ_PLUGIN_$(1)),$(call plugin_obj,$(FUZZ_PLUGIN_$(1))))
FUZZ_H := $(wildcard tests/fuzz/*.h)
fuzz_link = $(CC) $(CFLAGS) -I. -Iinclude $(LDFLAGS) $(1) $(filter %.c %.o %.a,$^) \
            $(LIBS_$(FUZZ_PLUGIN_$*)) $(LIBS) -o $@

$(BUILD)/tests/fuzz/%: tests/fuzz/%.c tests/fuzz/replay.c $$(call fuzz_obj,$$*) $(BUILD)/libft.a $(FUZZ_H)
	@mkdir -p $(@D)
	$(call fuzz_link)

$(BUILD)/fuzz/%: tests/fuzz/%.c $$(call fuzz_obj,$$*) $(BUILD)/libft.a $(FUZZ_H)
	@mkdir -p $(@D)
	$(call fuzz_link,-fsanitize=fuzzer)

TESTS := $(UNIT:%=$(BUILD)/tests/unit/%) $(PLUGIN_TESTS:%=$(BUILD)/tests/plugins/%) \
         $(FUZZ:%=$(BUILD)/tests/fuzz/%)

# Plugins for the loader's tests, most of them hostile: one file of tests/data/plugins each.
TEST_PLUGINS := $(patsubst tests/data/plugins/%.c,$(BUILD)/tests/so/%.so,$(wildcard tests/data/plugins/*.c))
$(BUILD)/tests/so/%.so: tests/data/plugins/%.c
	@mkdir -p $(@D)
	$(CC) $(PLUGIN_CFLAGS) -shared $(LDFLAGS) $< -lm -o $@
	@chmod go-w $(@D) $@
$(BUILD)/tests/unit/test_load $(BUILD)/tests/unit/test_isolate $(BUILD)/tests/unit/test_cli \
$(BUILD)/tests/unit/test_hostile $(BUILD)/tests/plugins/merge_refuse_test: $(TEST_PLUGINS)

# What test_step puts before the C library.
$(BUILD)/tests/preload/%.so: tests/preload/%.c
	@mkdir -p $(@D)
	$(CC) $(filter-out -fsanitize%,$(CFLAGS)) -shared $< -o $@
$(BUILD)/tests/unit/test_step: $(BUILD)/tests/preload/count.so

# As many jobs as processors, unless the caller chose a number.
JOBS = $(if $(filter -j%,$(MAKEFLAGS)),,-j$(shell nproc))

# Packages first: without them nothing can be built.  With nothing missing deps asks for no rights.
check:
	@tools/deps build test
	@$(MAKE) $(JOBS) run-tests

# One program's closing line a line; every program runs, and the first failure decides the status.
run-tests: all $(TESTS)
	@BUILD=$(BUILD) tests/run-all $(TESTS)

format:
	@tools/wrap $$(git ls-files 'core/*.[ch]' 'include/*.h' 'kernels/*.[ch]' 'plugins/*.[ch]' 'tests/*.[ch]')

unit: all $(BUILD)/tests/unit/$(T)
	BUILD=$(BUILD) $(BUILD)/tests/unit/$(T)

asan:
	CK_TIMEOUT_MULTIPLIER=10 $(MAKE) BUILD=build-asan OPT="-O1 -g1" KERNEL_OPT=-O1 \
	    SAN="-fsanitize=address,undefined -fno-sanitize-recover=undefined" check
tsan:
	CK_TIMEOUT_MULTIPLIER=20 $(MAKE) BUILD=build-tsan OPT="-O1 -g1" KERNEL_OPT=-O1 SAN="-fsanitize=thread" check

# Every reader from its seeds for FUZZ_SECONDS; FUZZ_ONLY names some of them.
FUZZ_SECONDS = 60
FUZZ_ONLY = $(FUZZ)
fuzz:
	@tools/deps build fuzz
	@$(MAKE) $(JOBS) BUILD=build-fuzz CC=clang OPT="-O1 -g" \
	    SAN="-fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=undefined" fuzz-programs
	@tests/fuzz/run $(FUZZ_SECONDS) $(FUZZ_ONLY)
fuzz-programs: $(FUZZ:%=$(BUILD)/fuzz/%)

# ---- the rest --------------------------------------------------------------------------------
deps:
	tools/deps

DEMO_MODEL = models/smollm2-135m-instruct
DEMO_RUN   = runs/demo
demo:
	@tools/deps build demo
	@tools/fetch-smollm2 $(DEMO_MODEL)
	@$(MAKE) $(JOBS) all
	$(BUILD)/pipeline run pipelines/sft-qlora.yaml output_dir=$(DEMO_RUN)
	@tools/show-demo $(DEMO_RUN)

# Beside what people use: bench/bench.py.  PEER_PYTHON: an interpreter that has it all already.
$(BUILD)/bench/kernels: bench/kernels.c $(BUILD)/libft.a
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) -I. -Iinclude $(LDFLAGS) $< $(BUILD)/libft.a $(LIBS) -o $@

bench: all $(BUILD)/bench/kernels
	@python=$$(QUICK=$(QUICK) bench/setup $(BUILD)) && \
	    "$$python" bench/bench.py $(if $(QUICK),--quick,--write)

install: all
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/lib/pipeline $(DESTDIR)$(PREFIX)/include/ft
	install -m 755 $(BUILD)/pipeline $(DESTDIR)$(PREFIX)/bin/
	install -m 755 $(BUILD)/plugins/*.so $(DESTDIR)$(PREFIX)/lib/pipeline/
	install -m 644 include/ft/*.h $(DESTDIR)$(PREFIX)/include/ft/

clean:
	rm -rf $(BUILD) build-asan build-tsan build-fuzz

-include $(shell find $(BUILD)/obj $(BUILD)/tests -name '*.d' 2>/dev/null)
