# One image with both programs; glibc, because that is what the builder links against.
FROM rust:1.95-bookworm AS build
WORKDIR /waygate
COPY . .
RUN cargo build --release --locked -p waygate-webhook -p waygate-worker -p kubectl-waygate

FROM debian:bookworm-slim
COPY --from=build /waygate/target/release/waygate-webhook /waygate/target/release/waygate-worker /waygate/target/release/kubectl-waygate /usr/local/bin/
