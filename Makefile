# The checks that .ci/run makes; `make check` runs them all in the environment that is active.
.PHONY: check lint types test

check: lint types test

lint:
	ruff check .
	ruff format --check .

# mypy looks for the installed name of cli/, which an editable install maps by an import hook that mypy cannot follow.
types:
	mkdir -p build/typed
	ln -sfn ../../cli build/typed/cascade_clip_cli
	MYPYPATH=build/typed mypy -p cascade_clip -p cascade_clip_cli

test:
	pytest
