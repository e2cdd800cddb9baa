# One of the demo's Rust services, named by SERVICE.
FROM rust:1.96-bookworm AS build
ARG SERVICE
WORKDIR /src
COPY apps/ .
RUN cargo build --release --locked --package "$SERVICE" && install -D "target/release/$SERVICE" /out/service

FROM debian:bookworm-slim
COPY --from=build /out/service /service
USER 65532:65532
ENTRYPOINT ["/service"]
