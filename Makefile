# Short commands for people. The build itself is CMake's: see CMakePresets.json.
BUILD   ?= build
JOBS    ?= $(shell nproc)
MODEL   ?= models/gosling
ONESHOT ?=
GAGGLE  := $(BUILD)/bin/gaggle

.DEFAULT_GOAL := build
.PHONY: build run test deps asan tsan fuzz valgrind tidy bench man install deb archive format check-format clean help

build: deps
	@set -f; IFS=' '; set -- $$(tools/cuda-flags.sh); \
	  cmake -S . -B $(BUILD) -G Ninja -DCMAKE_BUILD_TYPE=Release "$$@" $(CMAKE_FLAGS) >$(BUILD)/configure.log 2>&1 \
	  || { cat $(BUILD)/configure.log; exit 1; }
	@cmake --build $(BUILD) -j $(JOBS)

run: build
	@$(GAGGLE) up -m $(MODEL) $(if $(ONESHOT),--oneshot)

test: build
	@tools/run-tests.sh $(BUILD)

deps:
	@mkdir -p $(BUILD)
	@tools/install-deps.sh

asan tsan:
	@cmake --preset $@ && cmake --build --preset $@ -j $(JOBS) && ctest --preset $@

fuzz:
	@tools/fuzz.sh

valgrind:
	@tools/valgrind.sh

tidy:
	@tools/tidy.sh

bench: build
	@$(BUILD)/bin/gaggle-bench-router

man: build
	@cmake --build $(BUILD) --target man && ls $(BUILD)/man/man1

deb:
	@tools/install-deps.sh dpkg-dev
	@cmake --preset package$(if $(CUDA),-cuda) >/dev/null && cmake --build --preset package$(if $(CUDA),-cuda) -j $(JOBS)
	@cd build-package$(if $(CUDA),-cuda) && cpack >cpack.log || { cat cpack.log; exit 1; }
	@ls build-package$(if $(CUDA),-cuda)/packages/*.deb

archive:
	@tools/archive.sh build-archive

install: build
	@cmake --install $(BUILD)

format:
	@git ls-files '*.c' '*.h' '*.cu' '*.cuh' | xargs clang-format -i

check-format:
	@git ls-files '*.c' '*.h' '*.cu' '*.cuh' | xargs clang-format --dry-run --Werror

clean:
	@rm -rf $(BUILD) build-*

help:
	@echo "make run               build, start a router and a worker, answer a first prompt, serve"
	@echo "make run ONESHOT=1     the same, but stop after the answer"
	@echo "make run MODEL=DIR     with a Hugging Face folder of yours"
	@echo "make test              build and run every test"
	@echo "make asan | tsan       the tests under sanitizers"
	@echo "make fuzz              every fuzz target for 60 s"
	@echo "make valgrind          the tests of links and sessions under valgrind"
	@echo "make tidy              clang-tidy over everything"
	@echo "make bench             what the router costs"
	@echo "make man               the man pages, to $(BUILD)/man/man1"
	@echo "make deb               Debian packages of router, worker, client and library; CUDA=1: the GPU's, too"
	@echo "make archive           one folder, and its .tar.xz, that runs where our packages are not: notebooks, clusters"
	@echo "make install           to CMAKE_INSTALL_PREFIX (CMAKE_FLAGS=-D...)"
