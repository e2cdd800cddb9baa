# golang-app. The file keeps the name by which Skep's rule knows it.
FROM golang:1.26-bookworm AS build
WORKDIR /src
COPY apps/golang-app/ .
RUN CGO_ENABLED=0 go build -trimpath -o /out/golang-app .

FROM debian:bookworm-slim
COPY --from=build /out/golang-app /golang-app
USER 65532:65532
EXPOSE 8002
ENTRYPOINT ["/golang-app"]
