# albums-twin. The file keeps the name by which Skep's rule knows it.
FROM rust:1.96-bookworm AS build
WORKDIR /src
COPY apps/ .
RUN cargo build --release --locked --package albums-twin && install -D target/release/albums-twin /out/albums-twin

FROM debian:bookworm-slim
COPY --from=build /out/albums-twin /albums-twin
USER 65532:65532
EXPOSE 8002
ENTRYPOINT ["/albums-twin"]
