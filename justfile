# `just` lists these; without `just`, copy the commands from here.

default:
    @just --list --unsorted

# What CI runs before the clients: format, lints, documentation, tests, dependencies
check: && deny
    cargo fmt --all --check
    cargo clippy --all-targets -- -D warnings
    RUSTDOCFLAGS='-D warnings' cargo doc --no-deps --document-private-items
    cargo nextest run 2>/dev/null || cargo test --all-targets
    cargo test --doc

# Licences, sources and duplicates of what is depended on
deny:
    cargo deny --all-features check bans licenses sources

# All that CI runs, the foreign clients included
ci:
    .ci/run

# Everything on loopback, with stand-in servers
quickstart *ARGS:
    cargo run --release -- quickstart {{ARGS}}

# A gateway with a config of config/: `just run scenarios/replica-set`
run CONFIG:
    cargo run --release -- serve --config config/{{CONFIG}}.toml

# One client's tests, against the release build: `just client names`
client NAME:
    cargo build --release
    target/clients/venv/bin/python -B tests/clients/{{NAME}}.py

# Review snapshots that changed
snapshots:
    cargo insta test --review
