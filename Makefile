# The doors of the project; behind them is plain cargo, and one script each in scripts/.

.DEFAULT_GOAL := help
.PHONY: help quickstart test crash bench lint openapi clean

help: ## List the targets
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 18

quickstart: ## Do the main job on a real server and show it, then keep serving (QUICKSTART_EXIT=1: then end)
	@scripts/packages run build
	@programs=$$(scripts/build) && exec scripts/quickstart "$$programs"

test: ## Run everything, on SQLite and on PostgreSQL (a private one, or TEST_POSTGRES_URL)
	@scripts/test

crash: ## Kill the server at 20 random points of its work (CRASH_POINTS, CRASH_SEED) and check what is left
	@tests/tests/crash/run

bench: ## Measure with optimized programs what requests cost, as ratios to stated baselines
	@tests/bench/run

lint: ## Check formatting, clippy and the shell scripts
	@scripts/lint

openapi: ## Write openapi.yaml anew from the code
	@programs=$$(scripts/build) && "$$programs/crownest" openapi >openapi.yaml.new && mv openapi.yaml.new openapi.yaml

clean: ## Remove what was built, and the data of quickstart and tests
	@scripts/postgres stop
	cargo clean
	rm -rf .quickstart .testing
