# Skep. The kernel programs are built by the compiler that Debian packages for them; setup says what it installs.
FROM rust:1.96-bookworm AS build
WORKDIR /src
COPY . .
RUN cargo xtask build-ebpf && cargo build --release --locked --package skep

FROM debian:bookworm-slim
COPY --from=build /src/target/release/skep /usr/local/bin/skep
ENTRYPOINT ["/usr/local/bin/skep"]
