# The doors of the project; behind them is plain cargo, and one script each in scripts/.

.DEFAULT_GOAL := help
.PHONY: help quickstart test clients images crash artifacts broker-crash test-microvm oracle bench bench-microvm lint openapi clean

help: ## List the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 18

quickstart: ## Do the main job on a real server and show it, then keep serving (QUICKSTART_EXIT=1: then end)
	@scripts/packages run build
	@programs=$$(scripts/build) && exec scripts/quickstart "$$programs"

test: ## Run everything, on SQLite and on PostgreSQL (a private one, or TEST_POSTGRES_URL)
	@scripts/test

clients: ## Generate clients in Python, TypeScript and Rust from openapi.yaml, and drive them against a server
	@scripts/packages run build clients
	@tests/clients/run

images: ## Build the images of machines from Debian packages and look at what is in them (IMAGES="base python")
	@tests/images/run

crash: ## Kill the server at 20 random points of its work (CRASH_POINTS, CRASH_SEED) and check what is left
	@tests/tests/crash/run

artifacts: ## Pass 2 GiB through a server of 256 MiB, and kill servers that write (ARTIFACT_MIB, ARTIFACT_POINTS)
	@tests/tests/artifacts/run

broker-crash: ## Break the broker 200 times in every way while clients work (BROKER_POINTS, CRASH_SEED)
	@tests/tests/broker/run

test-microvm: ## Test real machines, and the server over them, with the VMM that CROWNEST_CLOUD_HYPERVISOR names (TESTS: a part of a test's name)
	@tests/microvm/run $(TESTS)

oracle: ## Bill a million simulated lifetimes against a second computation (ORACLE_LIFETIMES, ORACLE_SEED)
	@scripts/packages build
	@ORACLE_LIFETIMES=$${ORACLE_LIFETIMES:-1000000} cargo test --locked --release --package billing \
		--test laws -- --nocapture --exact oracle::lifetimes_are_billed_to_the_last_unit

bench: ## Measure with optimized programs what requests cost, as ratios to stated baselines
	@tests/bench/run

bench-microvm: ## Measure machines beside the bare VMM that CROWNEST_CLOUD_HYPERVISOR names (SAMPLES; MEASURES="warm memory")
	@tests/microvm/bench $(SAMPLES) $(MEASURES)

lint: ## Check formatting, clippy and the shell scripts
	@scripts/lint

openapi: ## Write openapi.yaml and openapi.admin.yaml anew from the code
	@programs=$$(scripts/build) && "$$programs/crownest" openapi >openapi.yaml.new && mv openapi.yaml.new openapi.yaml \
		&& "$$programs/crownest" openapi --admin >openapi.yaml.new && mv openapi.yaml.new openapi.admin.yaml

clean: ## Remove what was built, and the data of quickstart and tests
	@scripts/postgres stop
	@scripts/rabbitmq stop
	cargo clean
	rm -rf .quickstart .testing
