# The doors of the project; behind them is plain cargo, and one script each in scripts/.

.DEFAULT_GOAL := help
.PHONY: help quickstart test lint openapi clean

help: ## List the targets
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 18

quickstart: ## Do the main job on a real server and show it, then keep serving (QUICKSTART_EXIT=1: then end)
	@scripts/packages run build
	@programs=$$(scripts/build) && exec scripts/quickstart "$$programs"

test: ## Run everything, on SQLite and on PostgreSQL (a private one, or TEST_POSTGRES_URL)
	@scripts/test

lint: ## Check formatting, clippy and the shell scripts
	@scripts/lint

openapi: ## Write openapi.yaml anew from the code
	@programs=$$(scripts/build) && "$$programs/crownest" openapi >openapi.yaml.new && mv openapi.yaml.new openapi.yaml

clean: ## Remove what was built, and the data of quickstart and tests
	@scripts/postgres stop
	cargo clean
	rm -rf .quickstart .testing
